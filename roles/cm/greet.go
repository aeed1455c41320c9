package cm

import (
	"net/netip"
	"strconv"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// greet.go greets clients as soon as they are here, with what the router has given for
// that: INFO, and challenges in their order, each for one connection. The router hears
// which one that was, with or before the first that the client says; it alone wakes
// nobody. Where there is nothing to greet with the router is asked, and greets.

// supply is what there is to greet with.
type supply struct {
	greetings  [store.NumWays][4][]byte // without parts: unknown yet
	challenges []byte                   // one after the other
	next       uint64                   // number of the first of them
}

// lazyTime is how long the router may not know of a connection that has said nothing.
const lazyTime = 50 * time.Millisecond

// greeting takes the INFO for one way to connect.
func (m *cm) greeting(rec []byte) error {
	var g store.InsGreeting
	if err := g.Parse(rec); err != nil {
		return err
	}
	text := make([]byte, 0, len(rec))
	for i, p := range g.Parts {
		text = append(text, p...)
		m.supply.greetings[g.Way][i] = text[len(text)-len(p):]
	}
	return nil
}

// takeChallenges takes those that are not known yet: a new router says again what the
// one before it may have said.
func (m *cm) takeChallenges(rec []byte) error {
	var c store.InsChallenges
	if err := c.Parse(rec); err != nil {
		return err
	}
	s := &m.supply
	end := s.next + s.left()
	if s.next == 0 || c.First > end {
		s.next, s.challenges, end = c.First, nil, c.First
	}
	known := min(end-c.First, uint64(len(c.Texts)/store.ChallengeLen))
	if s.challenges = append(s.challenges, c.Texts[known*store.ChallengeLen:]...); s.left() > store.MaxChallenges {
		return store.ErrCorrupt
	}
	return nil
}

// left is how many challenges there are.
func (s *supply) left() uint64 { return uint64(len(s.challenges) / store.ChallengeLen) }

// number is that of the challenge for the next connection, 0: the router is to greet it.
func (s *supply) number(h *privsep.ConnHandoff) uint64 {
	if h.System || s.greetings[wayOf(h)][0] == nil || len(s.challenges) == 0 {
		return 0
	}
	return s.next
}

func wayOf(h *privsep.ConnHandoff) store.Way {
	switch {
	case h.Unix:
		return store.WayUnix
	case h.TLS:
		return store.WayTLS
	}
	return store.WayTCP
}

// welcome greets the client of a connection, with the next challenge.
func (m *cm) welcome(c *conn, h *privsep.ConnHandoff) {
	s := &m.supply
	parts := &s.greetings[wayOf(h)]
	b := strconv.AppendUint(append(m.head[:0], parts[0]...), h.UID, 10)
	b = append(b, parts[1]...)
	if !h.Unix {
		b = netip.AddrFrom16(h.Addr).Unmap().AppendTo(b)
	}
	b = append(append(b, parts[2]...), s.challenges[:store.ChallengeLen]...)
	b = append(b, parts[3]...)
	s.challenges = s.challenges[store.ChallengeLen:]
	s.next++
	c.greet(len(b))
	m.head = b
	m.write3(c, b, nil, nil)
}

// unhurried is what the router need not be woken for.
type unhurried struct {
	end uint64 // of it in the ring, if nothing else is behind it
	by  int64  // when it is to be known all the same
}

// whenever puts a record that wakes nobody.
func (m *cm) whenever(r store.Record) {
	urgent := m.urgent()
	if m.must(r); urgent || len(m.backlog) > 0 {
		return
	}
	if m.quiet.end = m.out.Position(); m.quiet.by == 0 {
		m.quiet.by = m.now + int64(lazyTime)
	}
}

// lazy tells whether all that is in the ring and not published may wait.
func (m *cm) lazy() bool {
	q := &m.quiet
	return q.by != 0 && m.out.Position() == q.end
}

// urgent tells whether some of it may not.
func (m *cm) urgent() bool { return m.out.Pending() && !m.lazy() }

// hurried tells whether there is something that does not wait, or what could has waited
// long enough. The router gives more challenges when it knows of those that have been
// used, and makes room in a ring when it knows what is in it.
func (m *cm) hurried() bool {
	return !m.lazy() || m.now >= m.quiet.by || m.stopping || m.full || m.supply.left() < store.MaxChallenges/2
}
