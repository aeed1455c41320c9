package cm

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/wire"
)

const (
	// stopGrace is how long a reader that is behind may take no bytes before it
	// counts as stopped, and its senders no longer wait for it.
	stopGrace  = 250 * time.Millisecond
	lingerTime = time.Second
	lingerMax  = 1 << 20 // bytes thrown away while lingering
	fastTick   = 50 * time.Millisecond
	slowTick   = time.Second
)

// await gives a connection a deadline; all deadlines are looked at by tick.
func (m *cm) await(c *conn, d time.Duration) {
	c.deadline = m.now + int64(d)
	m.waiting = append(m.waiting, c)
}

// tick does what time demands: short deadlines often, keepalive once a second.
func (m *cm) tick() {
	if m.now < m.nextFast {
		return
	}
	m.nextFast = m.now + int64(fastTick)
	m.deadlines()
	m.tidy()
	m.stopped()
	m.stuck()
	m.bereft()
	if m.now >= m.nextSlow {
		m.nextSlow = m.now + int64(m.slowEvery)
		m.keepalive()
	}
}

// timeout is how long the loop may sleep: for ever if nothing waits for time.
func (m *cm) timeout() time.Duration {
	next := int64(-1)
	if m.live > 0 {
		next = max(m.nextSlow, m.nextFast) // tick does nothing before
	}
	if (len(m.waiting)+len(m.behind) > 0 || m.tls.untidy != 0) && (next < 0 || m.nextFast < next) {
		next = m.nextFast
	}
	if t := m.moveTimeout(); t > 0 && (next < 0 || m.now+t < next) {
		next = m.now + t
	}
	if at := max(m.orphan.next, m.nextFast); m.orphan.next != 0 && (next < 0 || at < next) {
		next = at
	}
	if at := m.pace.next; at != 0 && (next < 0 || at < next) {
		next = at
	}
	if at := m.quiet.by; at != 0 && (next < 0 || at < next) {
		next = at
	}
	if next < 0 {
		return -1
	}
	return max(time.Duration(next-m.now), 0)
}

func (m *cm) deadlines() {
	keep := m.waiting[:0]
	for _, c := range m.waiting {
		switch {
		case m.conns[c.slot] != c || c.deadline == 0:
		case c.has(flagDeparting):
			keep = append(keep, c)
		case m.inTime(c) && !c.has(flagLingering):
			c.deadline = 0
		case m.now < c.deadline:
			keep = append(keep, c)
		case c.has(flagLingering):
			m.close(c, reasonRouter)
		case c.securing():
			m.handshakeFailed(c, errSilent)
		default:
			c.deadline = 0
			m.fail(c, wire.CodeAuthTimeout)
		}
	}
	clear(m.waiting[len(keep):])
	m.waiting = keep
}

// inTime tells whether a connection has done what it has auth_timeout for: sent an
// operation, or logged in where clients must.
func (m *cm) inTime(c *conn) bool {
	return c.has(flagConnected|flagWaiting) && (!m.cfg.Auth || c.has(flagAdmitted))
}

// stopped lets the senders of a reader go on that has caught up, ended or
// stopped altogether.
func (m *cm) stopped() {
	keep := m.behind[:0]
	for _, c := range m.behind {
		if m.conns[c.slot] != c || !c.has(flagCongested) {
			continue
		}
		if c.has(flagDeparting | flagArriving) {
			keep = append(keep, c)
			continue
		}
		if m.taking(c); m.progressing(c) {
			keep = append(keep, c)
			continue
		}
		m.relieve(c)
	}
	clear(m.behind[len(keep):])
	m.behind = keep
}

// taking notes whether the peer has taken bytes since the last look. The socket
// itself is writable again only when much of it is empty, which with a slow
// reader takes seconds.
func (m *cm) taking(c *conn) bool {
	n := privsep.Unsent(c.fd)
	if n == c.unsent {
		return false
	}
	c.unsent, c.lastOut = n, m.now
	return true
}

// keepalive asks the silent for a sign of life, and ends those that gave none
// or take nothing.
func (m *cm) keepalive() {
	silent, stuck := int64(m.cfg.PingInterval), int64(m.cfg.WriteDeadline)
	for _, c := range m.conns {
		switch {
		case c == nil || c.has(flagLingering|flagDeparting|flagArriving) || c.securing():
		case c.has(flagBlocked) && m.now-c.lastOut > stuck && !m.taking(c):
			m.close(c, reasonSlow)
		case m.now-c.lastIn < silent*int64(c.pings+1) || c.has(flagHeld|flagPaced|flagLogin|flagFailed|flagReadable) || len(c.rest) > 0:
		case int(c.pings) >= m.cfg.PingMax:
			m.fail(c, wire.CodeStale)
		default:
			c.pings++
			m.write3(c, pingBytes, nil, nil)
		}
	}
}

var pingBytes = []byte(wire.Ping)

// linger ends the output, then waits a moment for the peer to end its own: an
// immediate close with bytes unread would reset the connection and take the
// error text with it.
func (m *cm) linger(c *conn) {
	if c.has(flagEOF) || !c.has(flagFailed) {
		m.close(c, reasonRouter)
		return
	}
	c.flags |= flagLingering
	c.lingerLeft = lingerMax
	m.farewell(c)
	privsep.ShutdownWrite(c.fd)
	m.await(c, lingerTime)
	m.queue(c)
}

func (m *cm) discard(c *conn) {
	n, errno := privsep.RawRead(c.fd, m.rbuf)
	c.lingerLeft -= n
	switch {
	case errno != 0:
		m.readError(c, errno)
	case n == 0 || c.lingerLeft <= 0:
		m.close(c, reasonRouter)
	default:
		m.queue(c)
	}
}
