package router

import "gatehouse/store"

// affinity is a session of the messaging mode of that name: what its sender asks under
// one id, on one subject, goes to the same member of a queue group.
type affinity struct {
	key   string // see appendKey
	queue string
	from  *session
	by    *session // nil: has gone, which the next request is told
	used  int64    // ms of the router's clock

	also           *affinity // of the same key, for another queue group
	next, prev     *affinity // of all, by use
	nextBy, prevBy *affinity // of by's
}

// affinities are all of them, by their last use.
type affinities struct {
	first, last *affinity
	bytes       int // that a snapshot of them takes
}

// appendKey makes the key of affinities among those of their sender. No id has a zero
// byte in it.
func appendKey(dst, id, subject []byte) []byte {
	return append(append(append(dst, id...), 0), subject...)
}

// bind adds an affinity that its sender does not have.
func (x *affinities) bind(a *affinity) {
	b := a.from.busy()
	if b.holds == nil {
		b.holds = make(map[string]*affinity, 1)
	}
	a.also = b.holds[a.key]
	b.holds[a.key] = a
	if a.by != nil {
		w := a.by.busy()
		if a.nextBy = w.serves; w.serves != nil {
			w.serves.prevBy = a
		}
		w.serves = a
		w.load++
	}
	x.bytes += a.footprint()
	x.append(a)
}

func (x *affinities) append(a *affinity) {
	a.next, a.prev = nil, x.last
	if x.last != nil {
		x.last.next = a
	} else {
		x.first = a
	}
	x.last = a
}

func (x *affinities) cut(a *affinity) {
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		x.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	} else {
		x.last = a.prev
	}
}

// use notes that an affinity was used.
func (x *affinities) use(a *affinity, now int64) {
	a.used = now
	if x.last != a {
		x.cut(a)
		x.append(a)
	}
}

// unbind ends an affinity.
func (x *affinities) unbind(a *affinity) {
	x.widow(a)
	first := a.from.work.holds[a.key]
	switch {
	case first != a:
		for first.also != a {
			first = first.also
		}
		first.also = a.also
	case a.also != nil:
		a.from.work.holds[a.key] = a.also
	default:
		delete(a.from.work.holds, a.key)
	}
	x.cut(a)
	x.bytes -= a.footprint()
}

// widow: the member of an affinity has gone.
func (x *affinities) widow(a *affinity) {
	if a.by == nil {
		return
	}
	w := a.by.work
	if a.prevBy != nil {
		a.prevBy.nextBy = a.nextBy
	} else {
		w.serves = a.nextBy
	}
	if a.nextBy != nil {
		a.nextBy.prevBy = a.prevBy
	}
	w.load--
	a.by, a.nextBy, a.prevBy = nil, nil, nil
}

// leave: a session has gone, which was sender of some and member of others.
func (x *affinities) leave(s *session) {
	if s.work == nil {
		return
	}
	for _, a := range s.work.holds {
		for ; a != nil; a = a.also {
			x.unbind(a)
		}
	}
	for s.work.serves != nil {
		x.widow(s.work.serves)
	}
}

// held returns the affinities that a request in the mode session goes by, one for each
// queue group that it has gone to.
func (r *router) held(s *session, p *store.RecPub) *affinity {
	if s.work == nil {
		return nil
	}
	r.key = appendKey(r.key[:0], r.facts.Session, p.Subject)
	return s.work.holds[string(r.key)]
}

// affinity returns the first of a key, nil if there is none.
func (s *session) affinity(key string) *affinity {
	if s.work == nil {
		return nil
	}
	return s.work.holds[key]
}

// in returns the member's subscription in a match, nil if it has none any more.
func (a *affinity) in(m *match) *sub {
	for i := range m.groups {
		if g := &m.groups[i]; g.queue == a.queue {
			return a.among(g.members)
		}
	}
	return nil
}

func (a *affinity) among(members []*sub) *sub {
	for _, t := range members {
		if t.ses == a.by {
			return t
		}
	}
	return nil
}

// ofQueue returns the one for a queue group.
func (a *affinity) ofQueue(queue string) *affinity {
	for ; a != nil; a = a.also {
		if a.queue == queue {
			return a
		}
	}
	return nil
}

// goesOn tells whether the members that a request in the mode session goes by are all
// there, and may still get it. If not, the affinities with those that do not end, and the
// sender is told.
func (r *router) goesOn(s *session, p *store.RecPub, m *match, look bool) bool {
	gone := r.ending[:0]
	for a := r.held(s, p); a != nil; a = a.also {
		if t := a.in(m); t == nil || look && !r.suits(s, p, t) {
			gone = append(gone, a)
		}
	}
	for i, a := range gone {
		r.unbind(a)
		gone[i] = nil
	}
	r.ending = gone[:0]
	return len(gone) == 0
}

// maxQueues bounds the queue groups of a subject in which a session has a member of its own:
// they are looked through for each of its messages. In others it has whoever is least busy.
const maxQueues = 64

// count returns how many there are of one key.
func (a *affinity) count() (n int) {
	for ; a != nil; a = a.also {
		n++
	}
	return n
}

// binding is an affinity that the message at hand begins.
type binding struct {
	queue string
	by    *session
}

// serve chooses a member of a queue group for a request in the mode session.
func (r *router) serve(s *session, p *store.RecPub, g *group, look bool) *sub {
	if a := r.held(s, p).ofQueue(g.queue); a != nil {
		r.affinities.use(a, r.clock())
		return a.among(g.members)
	}
	t := r.least(s, p, g.members, look)
	if t != nil {
		r.binds = append(r.binds, binding{g.queue, t.ses})
	}
	return t
}

// settleDown notes what a message in the mode session has begun or ended.
func (r *router) settleDown(s *session, p *store.RecPub) {
	switch {
	case r.facts.End:
		for a := r.held(s, p); a != nil; a = r.held(s, p) {
			r.unbind(a)
		}
	case len(r.binds) > 0:
		key := string(appendKey(r.key[:0], r.facts.Session, p.Subject))
		room := max(maxQueues-r.held(s, p).count(), 0)
		for _, b := range r.binds[:min(len(r.binds), room)] {
			a := &affinity{key: key, queue: b.queue, from: s, by: b.by, used: r.clock()}
			if r.hasRoomFor(a.footprint()) {
				r.bind(a)
			}
		}
	}
	clear(r.binds)
	r.binds = r.binds[:0]
}
