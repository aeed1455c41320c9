package auth

import (
	"time"

	"gatehouse/privsep"
)

// failures is a bucket of an address: failed logins that are not forgotten yet.
type failures struct {
	n  float64
	at time.Time
}

func (f *failures) now(l *privsep.LoginSettings, now time.Time) float64 {
	return max(0, f.n-float64(l.FailureRate)*now.Sub(f.at).Seconds())
}

func (f *failures) add(l *privsep.LoginSettings, now time.Time) {
	f.n, f.at = f.now(l, now)+1, now
}

// left is how many more may fail before the address is not looked at.
func (f *failures) left(l *privsep.LoginSettings, now time.Time) int {
	return int(float64(l.FailureBurst) - f.now(l, now))
}

// streak is what is known of one who logs in at one address.
type streak struct {
	failures int       // in a row
	until    time.Time // then he is looked at again
	known    bool      // he has logged in from there
}

const (
	freeFailures = 3 // that have no consequence
	firstBackoff = time.Second
)

func (s *streak) succeeded() { *s = streak{known: true} }

func (s *streak) failed(l *privsep.LoginSettings, now time.Time) {
	s.failures++
	if n := s.failures - freeFailures; n >= 0 {
		s.until = now.Add(min(firstBackoff<<min(n, 20), l.Backoff))
	}
}

// unseen tells why somebody is not looked at now.
func (q *queue) unseen(s *source, l *lane, now time.Time) privsep.Reason {
	switch {
	case now.Before(l.streak.until):
		return privsep.ReasonBackoff
	case !l.streak.known && s.failures.left(q.limits, now) < 1:
		return privsep.ReasonRate
	}
	return privsep.ReasonNone
}

// mayRun tells whether a check may begin beside those that run: should all of them
// fail, no more have failed than may. Who is known and has not failed since costs
// nothing.
func (q *queue) mayRun(s *source, l *lane, now time.Time) bool {
	if l.streak.known {
		return l.streak.failures == 0 || l.running == 0
	}
	return s.running < s.failures.left(q.limits, now) && l.running < max(1, freeFailures-l.streak.failures)
}

// What is remembered at most, and for how long.
const (
	mostSources = 1 << 16
	mostLanes   = 1 << 17
	remembered  = 10 * time.Minute // a lane after it could have been looked at again
	lookAt      = 64               // addresses that are looked at to find one to forget
)

// sweep forgets what has nothing to be remembered for and, if that leaves too many
// lanes, all that are not known.
func (q *queue) sweep(now time.Time) {
	for at, s := range q.sources {
		for who, l := range s.lanes {
			if !l.busy() && !l.streak.known && (q.lanes > mostLanes || now.Sub(l.streak.until) > remembered) {
				delete(s.lanes, who)
				q.lanes--
			}
		}
		if len(s.lanes) == 0 && s.failures.now(q.limits, now) == 0 {
			delete(q.sources, at)
		}
	}
}

// forget makes room for an address: of some, in no order, it drops the one that has
// not failed for longest.
func (q *queue) forget() {
	var oldest privsep.Origin
	var since time.Time
	looked, found := 0, false
	for at, s := range q.sources {
		if looked++; looked > lookAt {
			break
		}
		if !s.busy() && (!found || s.failures.at.Before(since)) {
			oldest, since, found = at, s.failures.at, true
		}
	}
	if found {
		q.lanes -= len(q.sources[oldest].lanes)
		delete(q.sources, oldest)
	}
}

// busy tells whether somebody waits or is being checked.
func (s *source) busy() bool {
	for c := range s.turn {
		if len(s.turn[c]) > 0 {
			return true
		}
	}
	return s.running > 0
}

func (l *lane) busy() bool { return l.running > 0 || len(l.waiting) > 0 }
