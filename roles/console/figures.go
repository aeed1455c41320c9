package console

import (
	"gatehouse/privsep"
	"gatehouse/store"
)

// figures are the router's.
type figures struct {
	Sessions      uint64            `json:"sessions"`
	Subscriptions uint64            `json:"subscriptions"`
	Messages      uint64            `json:"messages"`
	Delivered     uint64            `json:"delivered"`
	Violations    uint64            `json:"permission_violations"`
	Logins        uint64            `json:"logins"`
	Refused       map[string]uint64 `json:"logins_refused"` // by reason
	BatchMessages histogram         `json:"batch_messages"`
	BatchTime     histogram         `json:"batch_nanoseconds"`
}

// histogram has in place i how many values were up to 1<<i and in no place before.
type histogram struct {
	Sum     uint64   `json:"sum"`
	Count   uint64   `json:"count"`
	Buckets []uint64 `json:"buckets"`
}

func histogramOf(h *store.Histogram) (g histogram) {
	g.Sum = h.Sum.Load()
	for i := range h.Buckets {
		n := h.Buckets[i].Load()
		g.Buckets = append(g.Buckets, n)
		g.Count += n
	}
	return g
}

func (v *view) figures() *figures {
	c := v.sessions.Counters()
	f := &figures{Sessions: c.Sessions.Load(), Subscriptions: c.Subscriptions.Load(), Messages: c.Messages.Load(), Delivered: c.Delivered.Load(),
		Violations: c.Violations.Load(), Logins: c.Logins.Load(), Refused: map[string]uint64{},
		BatchMessages: histogramOf(&c.BatchMessages), BatchTime: histogramOf(&c.BatchTime)}
	for i := range c.Refused {
		if n := c.Refused[i].Load(); n > 0 {
			f.Refused[privsep.Reason(i).String()] += n
		}
	}
	return f
}
