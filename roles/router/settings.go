package router

import "gatehouse/privsep"

// settings takes over what may change, at once: nothing of it ends a session.
// What clients are told of it waits until no batch is under way.
func (r *router) settings(m *privsep.Message) error {
	old := r.cfg.Live
	if err := r.cfg.Live.Parse(m.Payload); err != nil {
		return err
	}
	r.cfg.MostPayload = max(r.cfg.MostPayload, old.MostPayload)
	r.cfg.MostControlLine = max(r.cfg.MostControlLine, old.MostControlLine)
	r.setMost()
	r.log.SetLevel(r.cfg.LogLevel)
	r.greeting = newGreetings(r.cfg)
	r.news = r.news || r.cfg.MaxPayload != old.MaxPayload
	return nil
}

// setMost: what is in force is part of what ever was.
func (r *router) setMost() {
	r.cfg.MostPayload = max(r.cfg.MostPayload, r.cfg.MaxPayload)
	r.cfg.MostControlLine = max(r.cfg.MostControlLine, r.cfg.MaxControlLine)
}

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

// tooBig and tooLong tell of what a cm sends that no limit has ever allowed. The
// parent tells the router of a new limit before the cms, so one that allows it
// is here already, though perhaps unread.
func (r *router) tooBig(n uint32) bool {
	if int64(n) > int64(r.cfg.MostPayload) {
		r.hear()
	}
	return int64(n) > int64(r.cfg.MostPayload)
}

func (r *router) tooLong(n int) bool {
	if n > r.cfg.MostControlLine {
		r.hear()
	}
	return n > r.cfg.MostControlLine
}

// hear reads what the parent has said, in the middle of a batch.
func (r *router) hear() {
	if err := r.fromParent(); err != nil {
		r.exit(err)
	}
}
