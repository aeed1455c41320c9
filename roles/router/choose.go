package router

import (
	"gatehouse/store"
	"gatehouse/wire"
)

// modeOf returns the messaging mode of a message. What its headers say beside that is
// in facts.
func (r *router) modeOf(p *store.RecPub) (store.Mode, error) {
	f := &r.facts
	if r.faced {
		*f, r.faced = store.Facts{}, false
	}
	if len(p.Facts) > 0 {
		r.faced = true
		if err := f.Parse(p.Facts); err != nil {
			return 0, err
		}
	}
	switch {
	case wire.Direct(p.Subject):
		return store.ModeDirect, nil
	case f.Mode == store.ModeDirect:
		f.Bad = store.BadMode
	case f.Mode == store.ModeSession && len(f.Session) == 0:
		f.Bad = store.BadSession
	case f.Mode >= store.ModeSession:
		return f.Mode, nil
	}
	if len(p.Reply) == 0 || f.Mode == store.ModeBroadcast {
		return store.ModeBroadcast, nil
	}
	return store.ModeSemaphore, nil
}

// looks tells whether recipients must be looked at one by one: the message is not for
// everybody who has subscribed.
func (r *router) looks(s *session, p *store.RecPub) bool {
	return len(r.facts.ToType)+len(r.facts.ToOrganisation) > 0 || len(p.Reply) > 0 && s.prof.choosy
}

// suits tells whether a message is for a subscriber, when it has to be looked at.
func (r *router) suits(s *session, p *store.RecPub, t *sub) bool {
	if t.ses.console {
		return true
	}
	w, f := t.ses.who, &r.facts
	if w == nil {
		w = &nobodyKnown
	}
	if len(f.ToType) > 0 && !(w.known && string(f.ToType) == w.kind) || len(f.ToOrganisation) > 0 && string(f.ToOrganisation) != w.organisation {
		return false
	}
	if len(p.Reply) == 0 || !s.prof.choosy {
		return true
	}
	types, orgs := s.prof.requestTypes, s.prof.requestOrgs
	return (len(types) == 0 || w.vouched && contains(types, w.kind)) && (len(orgs) == 0 || contains(orgs, w.organisation))
}

var nobodyKnown who

// collect fills the links' recipient lists, notes who of them has to answer or may,
// and returns how many there are.
func (r *router) collect(s *session, p *store.RecPub, m *match, how store.Mode, look bool) int {
	asks := len(p.Reply) > 0
	all := asks && how >= store.ModeFanout // plain subscriptions, too, have to answer
	n := 0
	if m.simple && !look && !all {
		n = r.collectBlocks(m)
	} else {
		for _, t := range m.plain {
			if t.ses == s && !s.echo || look && !r.suits(s, p, t) {
				continue
			}
			r.address(t)
			n++
			if all || asks && t.ses.prof.responses != 0 {
				r.expect(t, all)
			}
		}
	}
	for i := range m.groups {
		n += r.collectGroup(s, p, &m.groups[i], how, look)
	}
	return n
}

func (r *router) collectBlocks(m *match) (n int) {
	for i := range m.blocks {
		b := &m.blocks[i]
		l := r.links[b.cm]
		if b.stamped {
			l.stamped = append(l.stamped, b.recipients...)
		} else {
			l.to = append(l.to, b.recipients...)
		}
		n += b.n
	}
	for _, t := range m.plain {
		t.delivered++
	}
	return n
}

// collectGroup is collect for a queue group: one member, of a fanout all.
func (r *router) collectGroup(s *session, p *store.RecPub, g *group, how store.Mode, look bool) int {
	asks := len(p.Reply) > 0
	if how >= store.ModeFanout {
		n := 0
		for _, t := range g.members {
			if t.ses == s && !s.echo || look && !r.suits(s, p, t) {
				continue
			}
			r.address(t)
			n++
			if asks {
				r.expect(t, true)
			}
		}
		return n
	}
	var t *sub
	switch how {
	case store.ModeBroadcast:
		t = r.pick(s, p, g.members, look)
	case store.ModeSemaphore:
		t = r.least(s, p, g.members, look)
	case store.ModeSession:
		t = r.serve(s, p, g, look)
	}
	if t == nil {
		return 0
	}
	r.address(t)
	if asks && (how != store.ModeBroadcast || t.ses.prof.responses != 0) {
		r.expect(t, how != store.ModeBroadcast)
	}
	return 1
}

// expect notes that a recipient of the message at hand has to answer, or may.
func (r *router) expect(t *sub, owed bool) {
	r.requests.members = append(r.requests.members, member{t.ses, owed, t.ses.prof.responses})
}

// pick takes one member of a queue group at random; a sender without echo is
// passed over.
func (r *router) pick(s *session, p *store.RecPub, members []*sub, look bool) *sub {
	if len(members) == 0 {
		return nil
	}
	i := 0
	if len(members) > 1 {
		r.rnd ^= r.rnd << 13
		r.rnd ^= r.rnd >> 7
		r.rnd ^= r.rnd << 17
		i = int(r.rnd % uint64(len(members)))
	}
	if s.echo && !look {
		return members[i]
	}
	for range members {
		if t := members[i]; (t.ses != s || s.echo) && (!look || r.suits(s, p, t)) {
			return t
		}
		if i++; i == len(members) {
			i = 0
		}
	}
	return nil
}

// least takes the member of a queue group that owes the fewest answers for its weight,
// the new one counted in; of those alike the one whose turn was the longest ago.
func (r *router) least(s *session, p *store.RecPub, members []*sub, look bool) (best *sub) {
	var load, weight uint64
	for _, t := range members {
		if t.ses == s && !s.echo || look && !r.suits(s, p, t) {
			continue
		}
		l, w := uint64(t.ses.load())+1, t.ses.prof.weight
		if best == nil || l*weight < load*w || l*weight == load*w && t.turn < best.turn {
			best, load, weight = t, l, w
		}
	}
	if best != nil {
		r.turn++
		best.turn = r.turn
	}
	return best
}
