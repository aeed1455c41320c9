package router

import (
	"bytes"

	"gatehouse/wire"
)

// sub is one subscription of a session.
type sub struct {
	ses       *session
	subject   string
	queue     string // "" for a plain subscription
	sid       []byte
	max       uint64 // 0: no limit
	delivered uint64
	turn      uint64 // when it was last chosen out of its queue group
	pos       int    // place in its node's list
	partly    bool   // its profile denies some of its subjects
}

// node is one level of the subject tree. The subscriptions that end here are in
// subs, those that end in '>' below here in rest.
type node struct {
	next map[string]*node
	star *node
	subs []*sub
	rest []*sub
}

func (n *node) empty() bool {
	return len(n.next) == 0 && n.star == nil && len(n.subs) == 0 && len(n.rest) == 0
}

// index finds the subscriptions of a subject. The tree is the truth; cache and
// seen only make it fast.
type index struct {
	root  node
	count int

	// epoch is raised when a change may concern any cached match.
	epoch uint64
	cache map[string]*match
	// seen admits a subject to the cache at its second sight, so that the
	// subjects of replies, each used once, do not flush it.
	seen [1024]uint32
}

const (
	cacheLimit = 8192 // cached matches
	scanLimit  = 64   // up to here a wildcard change looks for what it concerns, else all go
)

func newIndex() *index { return &index{epoch: 1, cache: make(map[string]*match)} }

// insert adds a subscription whose subject is valid.
func (x *index) insert(s *sub) {
	n, last := &x.root, false
	rest := s.subject
	for !last {
		var tok string
		tok, rest, last = cutToken(rest)
		if tok == ">" && last {
			s.pos = len(n.rest)
			n.rest = append(n.rest, s)
			break
		}
		n = n.child(tok)
		if last {
			s.pos = len(n.subs)
			n.subs = append(n.subs, s)
		}
	}
	x.count++
	x.changed(s.subject)
}

func (n *node) child(tok string) *node {
	if tok == "*" {
		if n.star == nil {
			n.star = &node{}
		}
		return n.star
	}
	c := n.next[tok]
	if c == nil {
		c = &node{}
		if n.next == nil {
			n.next = make(map[string]*node, 1)
		}
		n.next[tok] = c
	}
	return c
}

// remove takes out a subscription that was inserted, and the nodes that are
// empty without it.
func (x *index) remove(s *sub) {
	if x.root.remove(s, s.subject) {
		x.count--
		x.changed(s.subject)
	}
}

func (n *node) remove(s *sub, rest string) bool {
	tok, rest, last := cutToken(rest)
	if tok == ">" && last {
		return dropSub(&n.rest, s)
	}
	c := n.star
	if tok != "*" {
		c = n.next[tok]
	}
	if c == nil {
		return false
	}
	var ok bool
	if last {
		ok = dropSub(&c.subs, s)
	} else {
		ok = c.remove(s, rest)
	}
	if c.empty() {
		if tok == "*" {
			n.star = nil
		} else {
			delete(n.next, tok)
		}
	}
	return ok
}

func dropSub(list *[]*sub, s *sub) bool {
	l := *list
	if s.pos >= len(l) || l[s.pos] != s {
		return false
	}
	end := len(l) - 1
	l[s.pos] = l[end]
	l[s.pos].pos = s.pos
	l[end] = nil
	*list = l[:end]
	if end == 0 {
		*list = nil
	}
	return true
}

// changed voids the cached matches that a change of this subject concerns.
func (x *index) changed(subject string) {
	if literal(subject) {
		x.evict(subject)
		return
	}
	if len(x.cache) > scanLimit {
		x.forget()
		return
	}
	for cached := range x.cache {
		if wire.Match([]byte(subject), []byte(cached)) {
			x.evict(cached)
		}
	}
}

// forget voids all cached matches.
func (x *index) forget() {
	x.epoch++
	clear(x.cache)
}

func (x *index) evict(subject string) {
	if m := x.cache[subject]; m != nil {
		m.epoch = 0
		delete(x.cache, subject)
	}
}

// lookup returns who gets a message of this subject. The result is good until
// the next change of the index or the next lookup; it may be kept (see current)
// where kept is true.
func (x *index) lookup(subject []byte, scratch *match) (m *match, kept bool) {
	if m := x.cache[string(subject)]; m != nil {
		return m, true
	}
	h := hash(subject)
	if x.seen[h%uint32(len(x.seen))] != h {
		x.seen[h%uint32(len(x.seen))] = h
		scratch.reset()
		x.find(subject, scratch)
		return scratch, false
	}
	if len(x.cache) >= cacheLimit {
		x.shrink()
	}
	m = &match{epoch: x.epoch}
	x.find(subject, m)
	x.cache[string(subject)] = m
	return m, true
}

// current tells whether a kept match still holds.
func (x *index) current(m *match) bool { return m != nil && m.epoch == x.epoch }

// shrink drops a quarter of the cache, in the map's own random order.
func (x *index) shrink() {
	n := cacheLimit / 4
	for cached := range x.cache {
		x.evict(cached)
		if n--; n == 0 {
			return
		}
	}
}

// hash is FNV-1a.
func hash(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// find appends the subscriptions that match subject to m.
func (x *index) find(subject []byte, m *match) {
	switch {
	case emptyToken(subject):
	case wire.Direct(subject):
		x.root.literal(subject, m)
	case wire.System(subject):
		x.root.find(subject, m)
		m.cut(func(t *sub) bool { return !t.ses.console })
	default:
		x.root.find(subject, m)
	}
	if m.partly {
		m.weed(subject)
	}
}

// literal is find for a subject that wildcards do not match.
func (n *node) literal(rest []byte, m *match) {
	for more := true; more; {
		var tok []byte
		tok, rest, more = bytes.Cut(rest, []byte{'.'})
		if n = n.next[string(tok)]; n == nil {
			return
		}
	}
	m.add(n.subs)
}

func (n *node) find(rest []byte, m *match) {
	m.add(n.rest)
	i := bytes.IndexByte(rest, '.')
	tok := rest
	if i >= 0 {
		tok = rest[:i]
	}
	c := n.next[string(tok)]
	if i < 0 {
		if c != nil {
			m.add(c.subs)
		}
		if n.star != nil {
			m.add(n.star.subs)
		}
		return
	}
	if c != nil {
		c.find(rest[i+1:], m)
	}
	if n.star != nil {
		n.star.find(rest[i+1:], m)
	}
}

// emptyToken tells whether some token of a published subject is empty; such a
// subject matches nobody, not even '>'.
func emptyToken(s []byte) bool {
	if len(s) == 0 || s[0] == '.' || s[len(s)-1] == '.' {
		return true
	}
	for {
		i := bytes.IndexByte(s, '.')
		if i < 0 {
			return false
		}
		if s[i+1] == '.' {
			return true
		}
		s = s[i+1:]
	}
}

func cutToken(s string) (tok, rest string, last bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == '.' {
			return s[:i], s[i+1:], false
		}
	}
	return s, "", true
}

// literal tells whether no token of a valid subject is a wildcard.
func literal(s string) bool {
	for last := false; !last; {
		var tok string
		tok, s, last = cutToken(s)
		if tok == "*" || tok == ">" {
			return false
		}
	}
	return true
}
