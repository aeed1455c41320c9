package router

import (
	"crypto/rand"
	"net/netip"

	"gatehouse/store"
	"gatehouse/tickets"
)

// supply.go is what a cm greets clients with by itself: the INFO of each way to connect,
// and challenges, which are the router's all the same. It says with each connection which
// one that has got; the router takes them in their order, each once, so that nobody gets
// one that somebody else has had, whatever the cm does. A cm without a supply asks.

// supply is about one process of a cm. What a router that follows needs of it is in the
// journal.
type supply struct {
	secret tickets.Challenges
	maker  *tickets.ChallengeMaker // of that secret, nil: none so far
	used   uint64                  // number of the last challenge that a connection has got
	given  uint64                  // of the last that the cm has been told
	due    bool                    // it is to be told more
	knows  bool                    // the greetings that are in force
}

// A challenge is as long here as there.
var _ [tickets.ChallengeLen - store.ChallengeLen]struct{}
var _ [store.ChallengeLen - tickets.ChallengeLen]struct{}

// newSupply begins anywhere, so that numbers of another supply are none of this one.
func newSupply() supply {
	var b [8]byte
	rand.Read(b[:])
	s := supply{secret: tickets.NewChallenges(), used: le.Uint64(b[:]) >> 2}
	s.given = s.used
	return s
}

// take tells whether a connection may have challenge number n, and that is used then. A
// cm has been told no more than so many at a time, by whichever router.
func (s *supply) take(n uint64) bool {
	if n-s.used-1 >= store.MaxChallenges {
		return false
	}
	s.used, s.given = n, max(s.given, n)
	return true
}

// appendChallenge appends challenge number n.
func (s *supply) appendChallenge(dst []byte, n uint64) []byte {
	if s.maker == nil {
		s.maker = s.secret.Maker()
	}
	return s.maker.Append(dst, n)
}

// supplied tells whether the process of a cm has a supply of this router's or of one that
// it knows all of: it has said which process it is since.
func (l *link) supplied() bool { return l.generation != 0 }

// challengeOf is the challenge of a connection: the n-th of the cm's, or for 0 a fresh
// one; "" if it can have no such.
func (r *router) challengeOf(l *link, n uint64) string {
	r.supplyFor(l)
	switch {
	case n == 0:
		return tickets.Challenge()
	case !l.supplied() || !l.supply.take(n):
		return ""
	}
	r.text = l.supply.appendChallenge(r.text[:0], n)
	return string(r.text)
}

// supplyFor has a cm told what it lacks, between two batches. One that has not said which
// process it is does not get anything.
func (r *router) supplyFor(l *link) {
	s := &l.supply
	if l.supplied() && l.generation == l.process && (!s.knows || s.given-s.used < store.MaxChallenges/2) {
		s.due, r.supplying = true, true
	}
}

// greetAnew is for greetings that have changed.
func (r *router) greetAnew() {
	for _, l := range r.links {
		l.supply.knows = false
		r.supplyFor(l)
	}
}

// supplyAll tells the cms what they lack.
func (r *router) supplyAll() {
	r.supplying = false
	for _, l := range r.links {
		s := &l.supply
		if !s.due {
			continue
		}
		s.due = false
		if !l.heard() {
			continue // its next process begins anew
		}
		r.makeRoom(l)
		if !s.knows {
			s.knows = true
			r.tellGreetings(l)
		}
		r.tellChallenges(l)
	}
}

func (r *router) tellGreetings(l *link) {
	for way := range store.NumWays {
		s := &session{cm: l, tls: way == store.WayTLS}
		if s.admitted = !r.cfg.Auth; way != store.WayUnix {
			s.client = netip.IPv4Unspecified()
		}
		r.assume(s)
		r.provide(l, &store.InsGreeting{Way: way, Parts: r.greeting.of(s).first})
	}
}

func (r *router) tellChallenges(l *link) {
	s := &l.supply
	ins := store.InsChallenges{First: s.given + 1, Texts: r.text[:0]}
	for s.given < s.used+store.MaxChallenges {
		s.given++
		ins.Texts = s.appendChallenge(ins.Texts, s.given)
	}
	r.text = ins.Texts
	if len(ins.Texts) > 0 {
		r.provide(l, &ins)
	}
}

func (r *router) provide(l *link, ins store.Record) {
	l.out.Commit(ins.Put(r.room(l, ins.Size())))
}
