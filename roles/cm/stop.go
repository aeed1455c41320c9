package cm

import (
	"gatehouse/privsep"
	"gatehouse/store"
)

// stop.go is the end of the broker: no more is read from clients, what had been
// read is routed, what is routed is delivered; what is not when time is up is
// reported. Senders of what was not routed have had no PONG for it, and have none
// when their connections end.

// finish ends the connections once all is delivered that they, or those of other
// cms, had sent; or when time is up.
func (m *cm) finish() bool {
	m.takeRest()
	if !m.drained && m.allRouted() {
		m.drained = m.parent.Send(privsep.KindDrained, nil) == nil
	}
	switch {
	case m.leaving && m.allRouted() && m.delivered():
	case m.now < m.stopBy:
		return false
	default:
		m.report(m.unrouted())
	}
	m.endAll(reasonShutdown)
	m.publish()
	return true
}

// allRouted tells whether nothing that was read is left here that is not routed:
// no bytes, no record, no connection on its way to another cm or from it.
func (m *cm) allRouted() bool {
	d := &m.departing
	if !m.routed() || m.out.Pending() || m.arriving.moved != nil || d.to != nil && d.asked+len(d.queue) > 0 {
		return false
	}
	for _, c := range m.conns {
		if c != nil && (c.has(flagArriving) || c.unparsed()) {
			return false
		}
	}
	return true
}

// unparsed tells whether c has sent what was read and is no record yet.
func (c *conn) unparsed() bool {
	return !c.has(flagFailed|flagClosing|flagLogin) && (len(c.rest) > 0 || c.has(flagWaiting) || c.tls != nil && c.tls.state == tlsOpen && c.tls.more)
}

// takeRest goes on with what was read before the end began: it had to wait for
// ring, arena or a turn. From sockets nothing is taken.
func (m *cm) takeRest() {
	for _, c := range m.conns {
		if m.full {
			return
		}
		if c == nil || c.has(flagHeld|flagWaiting|flagDeparting|flagArriving) || !c.unparsed() {
			continue
		}
		c.flags &^= flagPaced
		if len(c.rest) > 0 {
			m.parseRest(c)
			m.requeue(c)
		} else {
			m.readSealed(c) // opens what there is, and no more
		}
	}
}

// routed tells whether all that was published to the router has been routed.
func (m *cm) routed() bool {
	_, unread := m.out.Lag()
	return unread == 0 && len(m.backlog) == 0
}

// delivered tells whether all that was routed here has reached the clients'
// hosts: a connection that is closed with bytes unread takes with it what is
// still in the socket.
func (m *cm) delivered() bool {
	all := m.in.Backlog() == 0
	for _, c := range m.conns { // each of them, since their time runs from the first look
		if c != nil && !c.securing() && m.undelivered(c) {
			all = false
		}
	}
	return all
}

// undelivered tells whether there is something for a client that it may still
// take. What a Unix socket has taken is the peer's already. One that sends no
// more may be gone, with bytes on their way that nobody will ever take.
func (m *cm) undelivered(c *conn) bool {
	switch {
	case c.has(flagArriving) || c.pending() > 0:
		return true
	case c.has(flagUnix) || privsep.Unsent(c.fd) == 0:
		return false
	case c.has(flagEOF):
		return m.taking(c) || m.progressing(c)
	}
	return true
}

// reportMost bounds the connections that get a line of their own.
const reportMost = 100

// report says of each connection what is lost of what it sent or would have got,
// and of all together: messages sent, of which those in the ring are given; messages
// to it since it had last had all, of which it may have the first, and the bytes that
// its host has not taken.
func (m *cm) report(unrouted map[store.Conn]int) {
	lines, readers, senders, sent, left := 0, 0, 0, 0, 0
	line := func(event string, c *conn, n, bytes int) {
		if lines++; lines <= reportMost {
			m.log.Warn(event, privsep.Int(privsep.KeyCID, int64(c.uid)), privsep.Int(privsep.KeyN, int64(n)), privsep.Int(privsep.KeyBytes, int64(bytes)))
		}
	}
	for _, c := range m.conns {
		if c == nil || c.securing() || c.has(flagArriving) {
			continue
		}
		if n := unrouted[c.ref()]; n > 0 || c.unparsed() {
			if c.has(flagWaiting) {
				n++
			}
			senders, sent = senders+1, sent+n
			line("messages not routed", c, n, len(c.rest))
		}
		if m.undelivered(c) {
			bytes := c.pending()
			if !c.has(flagUnix | flagArriving) {
				bytes += privsep.Unsent(c.fd)
			}
			readers, left = readers+1, left+bytes
			line("messages not delivered", c, int(c.sent.msgs-c.clear), bytes)
		}
	}
	if senders > 0 {
		m.log.Error("stopped before all was routed", privsep.Int(privsep.KeyN, int64(sent)))
	}
	if readers > 0 {
		m.log.Error("stopped before all was delivered", privsep.Int(privsep.KeyN, int64(readers)), privsep.Int(privsep.KeyBytes, int64(left)))
	}
}

// unrouted counts the messages of each connection that the router has not taken.
func (m *cm) unrouted() map[store.Conn]int {
	lost := map[store.Conn]int{}
	count := func(rec []byte) {
		if store.Kind(rec) == store.KindPub && m.pub.Parse(rec) == nil {
			lost[m.pub.Conn]++
		}
	}
	m.out.Unread(count)
	for _, rec := range m.backlog {
		count(rec)
	}
	return lost
}
