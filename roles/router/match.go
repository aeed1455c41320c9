package router

import (
	"slices"

	"gatehouse/store"
)

// match is the answer of the index for one subject: the plain subscriptions
// and, by queue name alone, the members of each queue group.
type match struct {
	epoch  uint64 // 0: no longer true
	plain  []*sub
	groups []group

	// blocks are the plain recipients encoded per cm, ready to be copied into
	// an instruction. They are built at the second use and only while no plain
	// subscription needs a look of its own (max, no echo).
	uses   int
	simple bool
	single bool // and all recipients are in one block
	partly bool // somebody does not get all that it has subscribed to
	blocks []block
}

type group struct {
	queue   string
	members []*sub
}

type block struct {
	cm         int
	stamped    bool // its recipients are told who sent the message
	n          int
	recipients []byte
}

func (m *match) reset() {
	m.plain = m.plain[:0]
	for i := range m.groups {
		m.groups[i].members = m.groups[i].members[:0]
	}
	m.groups = m.groups[:0]
	m.uses, m.simple, m.single, m.partly, m.blocks = 0, false, false, false, nil
}

// all returns all subscriptions.
func (m *match) all() []*sub {
	all := slices.Clone(m.plain)
	for i := range m.groups {
		all = append(all, m.groups[i].members...)
	}
	return all
}

// weed takes those out whose profile denies them the subject.
func (m *match) weed(subject []byte) {
	m.cut(func(t *sub) bool { return t.partly && anyMatches(t.ses.prof.subscribe.deny, subject) })
}

// cut takes subscriptions out.
func (m *match) cut(out func(*sub) bool) {
	m.plain = slices.DeleteFunc(m.plain, out)
	for i := range m.groups {
		m.groups[i].members = slices.DeleteFunc(m.groups[i].members, out)
	}
	m.groups = slices.DeleteFunc(m.groups, func(g group) bool { return len(g.members) == 0 })
}

func (m *match) none() bool { return len(m.plain) == 0 && len(m.groups) == 0 }

func (m *match) add(subs []*sub) {
	for _, s := range subs {
		m.partly = m.partly || s.partly
		if s.queue == "" {
			m.plain = append(m.plain, s)
			continue
		}
		m.join(s)
	}
}

func (m *match) join(s *sub) {
	for i := range m.groups {
		if m.groups[i].queue == s.queue {
			m.groups[i].members = append(m.groups[i].members, s)
			return
		}
	}
	if n := len(m.groups); n < cap(m.groups) {
		m.groups = m.groups[:n+1] // keeps the member list of an earlier use
		m.groups[n].queue = s.queue
		m.groups[n].members = append(m.groups[n].members[:0], s)
		return
	}
	m.groups = append(m.groups, group{queue: s.queue, members: []*sub{s}})
}

// prepare counts a use of a kept match and encodes its blocks when they pay.
func (m *match) prepare() {
	m.uses++
	if m.uses != 2 {
		return
	}
	for _, s := range m.plain {
		if s.max > 0 || !s.ses.echo || s.ses.prof.responses != 0 {
			return
		}
	}
	for _, s := range m.plain {
		b := m.block(s.ses.cm.index, s.ses.stamped())
		b.recipients = store.AppendRecipient(b.recipients, s.ses.slot, s.ses.gen, s.sid)
		b.n++
	}
	m.simple = true
	m.single = len(m.blocks) == 1 && len(m.groups) == 0
}

func (m *match) block(cm int, stamped bool) *block {
	for i := range m.blocks {
		if b := &m.blocks[i]; b.cm == cm && b.stamped == stamped {
			return b
		}
	}
	m.blocks = append(m.blocks, block{cm: cm, stamped: stamped})
	return &m.blocks[len(m.blocks)-1]
}
