package dispatcher

import (
	"time"

	"gatehouse/privsep"
)

// limiter is a token bucket per address.
type limiter struct {
	rate    float64 // tokens per second, 0: no limit
	burst   float64
	buckets map[privsep.Origin]bucket
}

type bucket struct {
	tokens float64
	at     int64
}

// bucketLimit bounds the addresses remembered. Beyond it the full buckets, which
// say nothing, are dropped.
const bucketLimit = 1 << 16

func newLimiter(rate, burst int) *limiter {
	l := &limiter{buckets: make(map[privsep.Origin]bucket)}
	l.set(rate, burst)
	return l
}

// set changes the limits. Who has used up his share has still done so.
func (l *limiter) set(rate, burst int) {
	if burst < 1 {
		burst = max(rate, 1)
	}
	l.rate, l.burst = float64(rate), float64(burst)
}

// allow takes a token of addr at time now (ns).
func (l *limiter) allow(addr privsep.Origin, now int64) bool {
	if l.rate == 0 {
		return true
	}
	b, ok := l.buckets[addr]
	if !ok {
		if len(l.buckets) >= bucketLimit {
			l.sweep(now)
		}
		b = bucket{tokens: l.burst, at: now}
	}
	b.tokens = l.filled(b, now)
	b.at = now
	ok = b.tokens >= 1
	if ok {
		b.tokens--
	}
	l.buckets[addr] = b
	return ok
}

func (l *limiter) filled(b bucket, now int64) float64 {
	return min(b.tokens+l.rate*time.Duration(now-b.at).Seconds(), l.burst)
}

// sweep forgets the addresses whose bucket is full; if that is not enough, an
// arbitrary eighth, so that a flood of addresses cannot make it a cost per
// connection.
func (l *limiter) sweep(now int64) {
	for a, b := range l.buckets {
		if l.filled(b, now) >= l.burst {
			delete(l.buckets, a)
		}
	}
	n := len(l.buckets) - bucketLimit*7/8
	for a := range l.buckets {
		if n--; n < 0 {
			return
		}
		delete(l.buckets, a)
	}
}
