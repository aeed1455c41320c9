package dispatcher

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func address(n uint64) (a [16]byte) {
	binary.BigEndian.PutUint64(a[8:], n)
	return a
}

func TestLimiterOff(t *testing.T) {
	l := newLimiter(0, 0)
	for range 1000 {
		if !l.allow(address(1), 0) {
			t.Fatal("refused without a limit")
		}
	}
	if len(l.buckets) != 0 {
		t.Fatal("addresses are remembered for nothing")
	}
}

// Law: in no stretch of time does an address get more than burst, and rate for
// its length; and whoever keeps to the rate is never refused.
func TestLimiterLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, burst := rapid.IntRange(1, 1000).Draw(t, "rate"), rapid.IntRange(0, 50).Draw(t, "burst")
		l := newLimiter(rate, burst)
		if burst == 0 {
			burst = rate
		}
		pace := time.Second/time.Duration(rate) + time.Microsecond
		now, calm := int64(1), int64(1)
		var taken []int64
		for _, d := range rapid.SliceOfN(rapid.Int64Range(0, int64(2*pace)), 0, 200).Draw(t, "waits") {
			now += d
			if l.allow(address(1), now) {
				taken = append(taken, now)
			}
			for ; calm <= now; calm += int64(pace) {
				if !l.allow(address(2), calm) {
					t.Fatalf("refused at the rate, %v", time.Duration(calm))
				}
			}
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				most := float64(burst) + float64(rate)*time.Duration(taken[j]-taken[i]).Seconds() + 1e-6
				if n := j - i + 1; float64(n) > most {
					t.Fatalf("%d in %v, at most %.3f", n, time.Duration(taken[j]-taken[i]), most)
				}
			}
		}
	})
}

// The first ones pass up to the burst, the next when its time has come.
func TestLimiterBurst(t *testing.T) {
	l := newLimiter(2, 3)
	for i := range 5 {
		if got := l.allow(address(1), 1); got != (i < 3) {
			t.Fatalf("connection %d: %v", i, got)
		}
	}
	if !l.allow(address(2), 1) {
		t.Fatal("another address pays for the first")
	}
	later := int64(1 + time.Second/2)
	if !l.allow(address(1), later) || l.allow(address(1), later) {
		t.Fatal("half a second is worth one connection")
	}
	if l.allow(address(1), later+int64(time.Second/2)-2) {
		t.Fatal("too early")
	}
	for i := range 5 {
		if got := l.allow(address(1), later+int64(time.Hour)); got != (i < 3) {
			t.Fatalf("connection %d after an hour: %v", i, got)
		}
	}
}

// Addresses that have not come for long are forgotten first, and there are
// never more than bucketLimit.
func TestLimiterBounded(t *testing.T) {
	l := newLimiter(1, 1)
	for n := range uint64(bucketLimit - 1) {
		l.allow(address(n+2), 1)
	}
	soon := int64(2 * time.Second)
	if !l.allow(address(1), soon) || l.allow(address(1), soon) {
		t.Fatal("burst of one")
	}
	l.allow(address(1<<40), soon) // one too many: all but the two of now go
	if len(l.buckets) != 2 || l.allow(address(1), soon) {
		t.Fatalf("%d addresses are left; or the wrong ones", len(l.buckets))
	}
	for n := range uint64(3 * bucketLimit) { // all at once: none is full
		l.allow(address(n+1<<41), soon)
		if len(l.buckets) > bucketLimit {
			t.Fatalf("%d addresses", len(l.buckets))
		}
	}
}
