package router

import (
	"gatehouse/privsep"
	"gatehouse/store"
)

// This file moves sessions from a cm that is replaced to the one in its place.
// The parent says which to which (CM_RETIRE); the old cm says when (MOVE), for
// its own sessions alone.

// retire takes note of a cm that is to be left by its connections, and tells those
// that cannot move that they had better go: a client by TLS knows how to.
func (r *router) retire(m *privsep.Message) error {
	var c privsep.CMRetire
	if err := c.Parse(m.Payload); err != nil {
		return err
	}
	if c.CM >= len(r.links) || c.To >= len(r.links) || c.CM == c.To {
		return privsep.ErrShape
	}
	l := r.links[c.CM]
	if l.process != c.Generation {
		return nil // it has ended meanwhile
	}
	if l.successor == nil {
		r.leaving = append(r.leaving, l)
	}
	l.successor = r.links[c.To]
	return nil
}

// warnStaying sends the lame-duck INFO to the TLS clients of a cm.
func (r *router) warnStaying(l *link) {
	for _, s := range l.sessions {
		if s != nil && s.tls && s.protocol1 {
			r.buf = r.greeting.of(s).leaving.append(r.buf[:0], s)
			r.send(s, r.buf, 0)
		}
	}
}

// move gives a session to the successor of its cm. ARRIVING is the first that the
// successor hears of the connection, MOVED the last that the old one does.
func (r *router) move(l *link, rec []byte) error {
	var c store.RecMove
	if err := c.Parse(rec); err != nil {
		return err
	}
	s := l.session(c.Conn)
	if s == nil {
		return nil // ended; the cm is about to hear that
	}
	to := l.successor
	if s.tls || to != nil && int(c.To) != to.index {
		return store.ErrCorrupt
	}
	a := store.InsArriving{Conn: s.conn(), Flags: s.arriving(), UID: s.uid}
	if n := store.Framed(a.Size()) + store.Framed(new(store.InsSession).Size()); to != nil && !to.out.Fits(n, r.size.most) {
		r.await(to, n)
	}
	// A new router may not have been told yet. Whoever has the slot there has
	// closed and not been heard yet.
	if to == nil || !to.heard() || r.left(to) || to.session1(s.slot) != nil {
		r.tell(s, &store.InsMoved{Conn: s.conn(), Flags: store.MovedNot})
		return nil
	}
	to.out.Commit(a.Put(r.room(to, a.Size())))
	r.tell(s, &store.InsMoved{Conn: s.conn()})
	r.resettle(s, to)
	if s.admitted && (r.cfg.Auth || s.prof.limits != (limits{})) {
		r.tellLimits(s)
	}
	return nil
}

// arriving is what the new cm must know before the connection is there.
func (s *session) arriving() (flags uint8) {
	for flag, is := range map[uint8]bool{store.ArrivingHeaders: s.headers, store.ArrivingHeld: s.heldBy > 0, store.ArrivingCongested: s.congested} {
		if is {
			flags |= flag
		}
	}
	return flags
}
