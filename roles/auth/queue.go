package auth

import (
	"encoding/binary"
	"slices"
	"time"

	"gatehouse/privsep"
)

// queue is who waits for a check, and what is remembered of where logins came from.
// Addresses have turns, and within an address its lanes.
type queue struct {
	limits  *privsep.LoginSettings
	sources map[privsep.Origin]*source
	turn    [numClasses][]*source // with somebody waiting
	lanes   int
	bytes   int // of what waits
	waiting int
}

// originOf is an address as far as it stands for one party. At Unix sockets it is the
// uid of the process.
func originOf(l *privsep.Login) privsep.Origin {
	if !l.Unix {
		return privsep.OriginOf(l.Addr)
	}
	o := privsep.Origin{8: 1} // which is no /64
	binary.LittleEndian.PutUint32(o[12:], l.Process.UID)
	return o
}

// source is one address.
type source struct {
	failures failures
	running  int
	bytes    int // of what waits
	lanes    map[uint64]*lane
	turn     [numClasses][]*lane // with somebody waiting
}

// lane is one who logs in at one address: attempts with the same kind and name.
type lane struct {
	streak  streak
	running int
	waiting []*attempt
}

// mostBytes bounds what waits here: a cm has the same once, and the router, too.
const mostBytes = 64 << 20

func newQueue(limits *privsep.LoginSettings) *queue {
	return &queue{limits: limits, sources: make(map[privsep.Origin]*source)}
}

// add takes an attempt in. It returns one that is not looked at, if there is such a
// one, and why: this one, or one that gives way to it.
func (q *queue) add(t *attempt, now time.Time) (*attempt, privsep.Reason) {
	s := q.sources[t.origin]
	if s == nil {
		if len(q.sources) >= mostSources {
			q.forget()
		}
		s = &source{lanes: make(map[uint64]*lane)}
		q.sources[t.origin] = s
	}
	l := s.lanes[t.who]
	if l == nil {
		l = new(lane)
	}
	if reason := q.unseen(s, l, now); reason != privsep.ReasonNone {
		return t, reason
	}
	if s.lanes[t.who] == nil {
		s.lanes[t.who] = l
		q.lanes++
	}
	t.source, t.lane = s, l
	c := t.class
	if len(s.turn[c]) == 0 {
		q.turn[c] = append(q.turn[c], s)
	}
	if len(l.waiting) == 0 {
		s.turn[c] = append(s.turn[c], l)
	}
	l.waiting = append(l.waiting, t)
	q.count(s, t, 1)
	if q.bytes > mostBytes {
		return q.yield(), privsep.ReasonCrowded
	}
	return nil, privsep.ReasonNone
}

func (q *queue) count(s *source, t *attempt, n int) {
	s.bytes += n * t.size
	q.bytes += n * t.size
	q.waiting += n
}

// next gives the attempt of a class whose turn it is, nil if there is none that may
// run now. With a reason it is not to be looked at.
func (q *queue) next(c class, now time.Time) (*attempt, privsep.Reason) {
	for range len(q.turn[c]) {
		s := q.turn[c][0]
		q.turn[c] = q.turn[c][1:]
		t, reason := q.of(s, c, now)
		if len(s.turn[c]) > 0 {
			q.turn[c] = append(q.turn[c], s)
		}
		if t != nil {
			return t, reason
		}
	}
	return nil, privsep.ReasonNone
}

// of gives the attempt of one address whose turn it is.
func (q *queue) of(s *source, c class, now time.Time) (*attempt, privsep.Reason) {
	for range len(s.turn[c]) {
		l := s.turn[c][0]
		s.turn[c] = s.turn[c][1:]
		reason := q.unseen(s, l, now)
		t := l.waiting[0]
		ready := reason != privsep.ReasonNone || q.mayRun(s, l, now)
		if ready {
			l.waiting[0], l.waiting = nil, l.waiting[1:]
			q.count(s, t, -1)
		}
		if len(l.waiting) > 0 {
			s.turn[c] = append(s.turn[c], l)
		}
		if ready {
			return t, reason
		}
	}
	return nil, privsep.ReasonNone
}

// began and ended bracket a check.
func (q *queue) began(t *attempt) {
	t.source.running++
	t.lane.running++
}

func (q *queue) ended(t *attempt, ok bool, now time.Time) {
	q.paused(t)
	if ok {
		t.lane.streak.succeeded()
		return
	}
	if t.checker.class == looking { // it has guessed nothing, and others of its uid are not to suffer for it
		return
	}
	t.source.failures.add(q.limits, now)
	t.lane.streak.failed(q.limits, now)
}

// paused ends a check that says nothing of the client, or not all yet.
func (q *queue) paused(t *attempt) {
	t.source.running--
	t.lane.running--
}

// drop empties the queue and returns what waited: all of it, or what came before a
// time.
func (q *queue) drop(before time.Time) (dropped []*attempt) {
	if q.waiting == 0 {
		return nil
	}
	for _, s := range q.sources {
		for c := range s.turn {
			for _, l := range s.turn[c] {
				l.waiting = slices.DeleteFunc(l.waiting, func(t *attempt) bool {
					late := before.IsZero() || t.came.Before(before)
					if late {
						q.count(s, t, -1)
						dropped = append(dropped, t)
					}
					return late
				})
			}
			s.turn[c] = slices.DeleteFunc(s.turn[c], func(l *lane) bool { return len(l.waiting) == 0 })
		}
	}
	for c := range q.turn {
		q.turn[c] = slices.DeleteFunc(q.turn[c], func(s *source) bool { return len(s.turn[c]) == 0 })
	}
	return dropped
}

// yield takes out the newest attempt of the address that has most waiting.
func (q *queue) yield() *attempt {
	var most *source
	for c := range q.turn {
		for _, s := range q.turn[c] {
			if most == nil || s.bytes > most.bytes {
				most = s
			}
		}
	}
	var last *lane
	var of class
	for c := range most.turn {
		for _, l := range most.turn[c] {
			if last == nil || l.newest().After(last.newest()) {
				last, of = l, class(c)
			}
		}
	}
	n := len(last.waiting) - 1
	t := last.waiting[n]
	last.waiting[n], last.waiting = nil, last.waiting[:n]
	q.count(most, t, -1)
	if n == 0 {
		most.turn[of] = slices.DeleteFunc(most.turn[of], func(l *lane) bool { return l == last })
	}
	if len(most.turn[of]) == 0 {
		q.turn[of] = slices.DeleteFunc(q.turn[of], func(s *source) bool { return s == most })
	}
	return t
}

func (l *lane) newest() time.Time { return l.waiting[len(l.waiting)-1].came }
