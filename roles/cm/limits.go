package cm

import (
	"time"

	"gatehouse/store"
	"gatehouse/wire"
)

// ownLimits are a connection's where its profile has some: the rest is 0.
type ownLimits struct {
	payload, pending int   // bytes
	every            int64 // ns from one message to the next, in the long run
	// paid is the time up to which its messages are paid for. It may be ahead of
	// the clock by what a client may send at once: the messages of a second.
	paid int64
}

const (
	paceBurst = int64(time.Second)
	// paceStep is the least that a client that was stopped has earned when it is
	// read from again, so that one with a high rate does not wake the loop for
	// each message.
	paceStep = int64(10 * time.Millisecond)
)

// paced are the connections that wait for time to pass before they are read from.
type paced struct {
	conns []*conn
	next  int64 // loop time at which the first may be, 0: none waits
}

// session takes the router's word on a connection: that its CONNECT was accepted,
// and its limits. What has begun goes on under the limit that it began with.
func (m *cm) session(rec []byte) error {
	var s store.InsSession
	if err := s.Parse(rec); err != nil {
		return err
	}
	c := m.lookup(s.Slot, s.Gen)
	if c == nil {
		return nil
	}
	m.limit(c, &s)
	if s.Flags&store.SessionOpen != 0 {
		c.flags |= flagAdmitted
		m.endLogin(c)
	}
	return nil
}

func (m *cm) limit(c *conn, s *store.InsSession) {
	if s.MaxPayload == 0 && s.MaxPending == 0 && s.Rate == 0 {
		c.own = nil
	} else {
		own := &ownLimits{payload: int(s.MaxPayload), pending: int(s.MaxPending)}
		if s.Rate > 0 {
			own.every = max(int64(time.Second)/int64(s.Rate), 1)
		}
		if c.own != nil {
			own.paid = min(c.own.paid, m.now+paceBurst)
		}
		c.own = own
	}
	m.goOnReading(c) // or be stopped under the new rate
}

// limitsFor are the limits that a connection's bytes are parsed under. No payload
// may be above what all may send: the router would take it for this cm's fault.
func (m *cm) limitsFor(c *conn) *wire.Limits {
	if c.own == nil || c.own.payload == 0 {
		return &m.limits
	}
	m.ownLimits = m.limits
	m.ownLimits.Payload = min(m.limits.Payload, c.own.payload)
	return &m.ownLimits
}

// pendingMost is max_pending of a connection.
func (m *cm) pendingMost(c *conn) int {
	if c.own == nil || c.own.pending == 0 {
		return m.cfg.MaxPending
	}
	return c.own.pending
}

// pay takes the price of one message, and stops reading from who cannot afford the
// next one. At the end of the broker what was read is taken all the same.
func (m *cm) pay(c *conn) {
	own := c.own
	if own.every == 0 {
		return
	}
	own.paid = max(own.paid, m.now) + own.every
	if own.paid+own.every <= m.now+paceBurst || c.has(flagPaced) || m.stopping {
		return
	}
	c.flags |= flagPaced
	m.pace.conns = append(m.pace.conns, c)
	if at := own.affords(); m.pace.next == 0 || at < m.pace.next {
		m.pace.next = at
	}
}

// affords is when a client that was stopped may be read from again.
func (l *ownLimits) affords() int64 { return l.paid + max(l.every, paceStep) - paceBurst }

// unpace goes on with those who have waited long enough.
func (m *cm) unpace() {
	p := &m.pace
	if p.next == 0 || m.now < p.next {
		return
	}
	p.next = 0
	keep := p.conns[:0]
	for _, c := range p.conns {
		switch {
		case m.conns[c.slot] != c || !c.has(flagPaced):
		case c.own.affords() > m.now:
			keep = append(keep, c)
			if at := c.own.affords(); p.next == 0 || at < p.next {
				p.next = at
			}
		default:
			m.goOnReading(c)
		}
	}
	clear(p.conns[len(keep):])
	p.conns = keep
}

// goOnReading ends a connection's wait for time to pass.
func (m *cm) goOnReading(c *conn) {
	if c.has(flagPaced) {
		c.flags &^= flagPaced
		m.queue(c)
	}
}
