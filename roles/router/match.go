package router

import "gatehouse/store"

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
	blocks []block
}

type group struct {
	queue   string
	members []*sub
}

type block struct {
	cm         int
	n          int
	recipients []byte
}

func (m *match) reset() {
	m.plain = m.plain[:0]
	for i := range m.groups {
		m.groups[i].members = m.groups[i].members[:0]
	}
	m.groups = m.groups[:0]
	m.uses, m.simple, m.blocks = 0, false, nil
}

func (m *match) none() bool { return len(m.plain) == 0 && len(m.groups) == 0 }

func (m *match) add(subs []*sub) {
	for _, s := range subs {
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
		if s.max > 0 || !s.ses.echo {
			return
		}
	}
	for _, s := range m.plain {
		b := m.block(s.ses.cm.index)
		b.recipients = store.AppendRecipient(b.recipients, s.ses.slot, s.ses.gen, s.sid)
		b.n++
	}
	m.simple = true
}

func (m *match) block(cm int) *block {
	for i := range m.blocks {
		if m.blocks[i].cm == cm {
			return &m.blocks[i]
		}
	}
	m.blocks = append(m.blocks, block{cm: cm})
	return &m.blocks[len(m.blocks)-1]
}
