package router

import "gatehouse/privsep"

// settings takes over what may change, at once: nothing of it ends a session or
// changes what room a record needs. What clients are told of it waits until no
// batch is under way.
func (r *router) settings(m *privsep.Message) error {
	old := r.cfg.Live
	if err := r.cfg.Live.Parse(m.Payload); err != nil {
		return err
	}
	r.cfg.MostPayload = max(r.cfg.MostPayload, old.MostPayload)
	if r.next != nil {
		r.profiles, r.next = r.next, nil
		r.judging = true
	}
	r.judging = r.judging || old.AnonymousProfile != r.cfg.AnonymousProfile
	r.setMost()
	r.log.SetLevel(r.cfg.LogLevel)
	r.greeting = newGreetings(r.cfg)
	r.greetAnew()
	r.news = r.news || r.cfg.MaxPayload != old.MaxPayload
	if r.cfg.Auth != old.Auth { // nobody has to wait any more, or has been asked
		r.logins.review, r.logins.due = true, true
	}
	return nil
}

// setMost: what is in force is part of what ever was.
func (r *router) setMost() { r.cfg.MostPayload = max(r.cfg.MostPayload, r.cfg.MaxPayload) }

// tellNews sends an INFO to the clients that asked for such news. Those that have
// not had their second one yet get this in it.
func (r *router) tellNews() {
	for _, l := range r.links {
		for _, s := range l.sessions {
			if s != nil && s.protocol1 && s.knowsInfo {
				r.buf = r.greeting.of(s).connected.append(r.buf[:0], s)
				r.send(s, r.buf, 0)
			}
		}
	}
}

// tooBig tells of a body that no max_payload has ever allowed. The parent tells
// the router of a new one before the cms, so if it allows the body it is here
// already, though perhaps unread.
func (r *router) tooBig(n uint32) bool {
	if int64(n) > int64(r.cfg.MostPayload) && !r.parent.Orphaned() {
		if err := r.fromParent(); err != nil {
			r.exit(err)
		}
	}
	return int64(n) > int64(r.cfg.MostPayload)
}
