package router

import (
	"math"
	"time"

	"gatehouse/wire"
)

// age.go ends connections that are as old as their profile allows (max_age). Clients
// log in anew by themselves, and what has become of them meanwhile shows: that a
// directory has them no more, a list has revoked their certificate.

// aging is what is known of who is to end by age.
type aging struct {
	some bool  // some profile in force has a max_age
	next int64 // of the clock: nobody is due before
}

const (
	ageMost  = 256  // connections that end at a time
	ageEvery = 1000 // ms between two looks at all of them
)

// watchAges follows profiles that are new: when who is due is to be found out.
func (r *router) watchAges() {
	r.ages = aging{}
	for _, f := range r.profiles {
		r.ages.some = r.ages.some || f.maxAge > 0
	}
}

// ageFrom has a session looked at in time, which begins or has another profile.
func (r *router) ageFrom(s *session) {
	if s.due = 0; s.prof.maxAge > 0 {
		r.ages.next = min(r.ages.next, r.dueBy(s))
	}
}

// dueBy is when a session must have ended, in ms of the clock. In the last tenth of its
// time it is another moment for each connection: those that came together do not all
// come back together.
func (r *router) dueBy(s *session) int64 {
	if s.due == 0 {
		most := s.prof.maxAge.Milliseconds()
		s.due = r.clock() + most - r.ageOf(s) - int64(s.uid*0x9e3779b97f4a7c15>>1)%(most/10)
	}
	return s.due
}

// ageOf is how long ago a connection was accepted, in ms, as the dispatcher says; of one
// that it says nothing of, 0.
func (r *router) ageOf(s *session) int64 {
	row, ok := r.table.Row(int(s.slot)).Get()
	if !ok || row.UID != s.uid || row.Accepted == 0 {
		return 0
	}
	return max(time.Since(time.Unix(0, row.Accepted)).Milliseconds(), 0)
}

// endAged ends whose time is up.
func (r *router) endAged() {
	if !r.ages.some || r.clock() < r.ages.next {
		return
	}
	now, ended, next := r.clock(), 0, int64(math.MaxInt64)
	for _, l := range r.links {
		for _, s := range l.sessions {
			switch {
			case s == nil || !s.admitted || s.prof.maxAge == 0:
			case r.dueBy(s) > now:
				next = min(next, s.due)
			case ended == ageMost:
				r.ages.next = now
				return
			default:
				ended++
				r.outOfTurn(s, func() { r.fail(s, wire.CodeUserExpired) })
			}
		}
	}
	r.ages.next = max(next, now+ageEvery)
}
