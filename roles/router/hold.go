package router

import "gatehouse/store"

// holdFor stops reading from a sender that feeds a reader which is behind but
// still reading; the reader's relief or end lets it go on.
func (r *router) holdFor(s *session, p *store.RecPub, m *match, look bool) {
	r.holdAll(s, p, m.plain, look)
	for i := range m.groups {
		r.holdAll(s, p, m.groups[i].members, look)
	}
}

func (r *router) holdAll(s *session, p *store.RecPub, readers []*sub, look bool) {
	for _, t := range readers {
		if t.ses.congested && (!look || r.suits(s, p, t)) {
			r.holdOne(s, t.ses)
		}
	}
}

func (r *router) holdOne(s, reader *session) {
	if s == reader {
		return
	}
	for _, h := range reader.holds {
		if h == s {
			return
		}
	}
	reader.holds = append(reader.holds, s)
	if s.heldBy++; s.heldBy == 1 {
		r.tellSoon(s, true)
	}
}

func (r *router) relieve(reader *session) {
	if !reader.congested {
		return
	}
	reader.congested = false
	r.congested--
	for i, s := range reader.holds {
		reader.holds[i] = nil
		if s.heldBy--; s.heldBy == 0 && !s.ended {
			r.tellSoon(s, false)
		}
	}
	reader.holds = nil
}

// notice is what a session's cm is told after the record that led to it: it is not
// of that record's output, and a new router makes it void (InsNewRouter).
type notice struct {
	s    *session
	hold bool
}

func (r *router) tellSoon(s *session, hold bool) {
	r.later, r.due = append(r.later, notice{s, hold}), true
}

func (r *router) tellLater() {
	for i := 0; i < len(r.later); i++ {
		switch n := r.later[i]; {
		case n.s.ended:
		case n.hold:
			r.tell(n.s, &store.InsHold{Conn: n.s.conn()})
		default:
			r.tell(n.s, &store.InsResume{Conn: n.s.conn()})
		}
	}
	clear(r.later)
	r.later = r.later[:0]
}
