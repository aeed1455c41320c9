package router

import (
	"sync/atomic"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// This file is what the router shows to those who watch: its figures, and a row for each
// connection. Nothing here is ever read again but by the next router, which goes on with
// it; so it needs no journal.

// watch is the segment, and what stood there last.
type watch struct {
	shown *store.Sessions

	sessions, subs, inserts, messages, delivered, violations uint64
	added                                                    uint64 // subscriptions, ever

	ringsAt time.Duration // when rings were looked at last
	filled  bool          // and something was in them
}

// batch is when one began.
type batch struct {
	messages uint64
	at       time.Duration
}

func (r *router) beginBatch() batch { return batch{r.messages, time.Since(r.began)} }

// endBatch counts one, if it had messages, and shows what has changed.
func (r *router) endBatch(b batch, busy bool) {
	if n := r.messages - b.messages; n > 0 {
		now := time.Since(r.began)
		c := r.watch.shown.Counters()
		c.BatchMessages.Observe(n)
		c.BatchTime.Observe(uint64(now - b.at))
		b.at = now
	}
	r.showFigures()
	if w := &r.watch; b.at-w.ringsAt >= ringsTime || w.filled && !busy {
		w.ringsAt = b.at
		r.showRings()
	}
}

// ringsTime is the least time between two looks at how full the rings are, while there
// are messages.
const ringsTime = 100 * time.Millisecond

func (r *router) showRings() {
	r.watch.filled = false
	for i, l := range r.links {
		up := l.in.Backlog()
		_, down := l.out.Lag()
		fill := &r.watch.shown.Counters().Rings[i]
		fill.Up.Store(up)
		fill.Down.Store(down)
		r.watch.filled = r.watch.filled || up+down > 0
	}
}

func (r *router) showFigures() {
	w := &r.watch
	c := w.shown.Counters()
	open := 0
	for _, l := range r.links {
		open += l.open
	}
	show := func(word *atomic.Uint64, last *uint64, now uint64) {
		if *last != now {
			*last = now
			word.Store(now)
		}
	}
	show(&c.Sessions, &w.sessions, uint64(open-r.consoles))
	show(&c.Subscriptions, &w.subs, uint64(r.index.count))
	show(&c.Inserts, &w.inserts, w.added)
	show(&c.Messages, &w.messages, r.messages)
	show(&c.Delivered, &w.delivered, r.delivered)
	show(&c.Violations, &w.violations, r.violations)
}

// row is a session's, nil if it shows in none: a cm that was taken over may speak of
// connections that the dispatcher has not given to it.
func (r *router) row(s *session) *store.SessionRow {
	if !s.shown {
		return nil
	}
	row := r.watch.shown.Row(int(s.slot))
	if row.UID() != s.uid {
		return nil // its slot is another cm's connection's by now
	}
	return row
}

// show begins a session's row.
func (r *router) show(s *session) {
	if at, ok := r.placeOf(s); !ok || at.System || at.UID != s.uid || int(at.CM) != s.cm.index {
		return
	}
	s.shown = true
	i := store.SessionInfo{UID: s.uid, TLS: s.tls, Admitted: s.admitted, Subscriptions: uint32(len(s.subs))}
	if s.who != nil {
		i.User = s.who.user
		if s.who.kind != "" {
			i.Name = s.who.kind + "/" + s.who.instance
		}
	}
	r.watch.shown.Row(int(s.slot)).Set(&i)
}

// placeOf is what the dispatcher says of a session's slot.
func (r *router) placeOf(s *session) (store.ConnInfo, bool) {
	row := r.table.Row(int(s.slot))
	if row == nil {
		return store.ConnInfo{}, false
	}
	return row.Get()
}

// showClient notes what a client says of itself.
func (r *router) showClient(s *session, opts *wire.Connect) {
	row := r.row(s)
	if row == nil {
		return
	}
	if i, ok := row.Get(); ok {
		i.Name, i.Lang, i.Version = opts.Name, opts.Lang, opts.Version
		row.Set(&i)
	}
}

// showAdmitted notes who a client is.
func (r *router) showAdmitted(s *session) {
	row := r.row(s)
	if row == nil {
		return
	}
	if i, ok := row.Get(); ok {
		i.Admitted, i.Subscriptions, i.User = s.admitted, uint32(len(s.subs)), ""
		if s.who != nil {
			i.User = s.who.user
		}
		row.Set(&i)
	}
}

// showSubs notes how many subscriptions a session has.
func (r *router) showSubs(s *session) {
	if row := r.row(s); row != nil {
		row.SetSubscriptions(len(s.subs))
	}
}

func (r *router) showEnd(s *session) {
	if row := r.row(s); row != nil {
		row.Clear()
		s.shown = false
	}
}

// showAll goes on with the figures and rows of the router before.
func (r *router) showAll() {
	c := r.watch.shown.Counters()
	r.watch.added, r.violations = c.Inserts.Load(), c.Violations.Load()
	for _, l := range r.links {
		for _, s := range l.sessions {
			if s == nil {
				continue
			}
			old, ok := r.watch.shown.Row(int(s.slot)).Get()
			r.show(s)
			if row := r.row(s); row != nil && ok && old.UID == s.uid {
				old.Admitted, old.Subscriptions = s.admitted, uint32(len(s.subs))
				row.Set(&old)
			}
		}
	}
}

// countVerdict counts what becomes of logins.
func (r *router) countVerdict(v *privsep.Verdict) {
	word := &r.watch.shown.Counters().Logins
	if !v.OK {
		word = &r.watch.shown.Counters().Refused[v.Reason]
	}
	word.Store(word.Load() + 1)
}
