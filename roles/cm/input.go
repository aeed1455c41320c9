package cm

import (
	"errors"
	"syscall"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

const (
	readSize  = 64 << 10
	directMin = 8 << 10 // payload bytes from which on reading goes straight into the arena
)

// readReady reads once from every connection on the ready list; those with more
// stay on it. It stops early when ring or arena are full.
func (m *cm) readReady() bool {
	list := m.ready
	m.ready = m.spare[:0]
	worked := false
	for i, c := range list {
		list[i] = nil
		c.flags &^= flagQueued
		if m.full {
			m.requeue(c)
			continue
		}
		if m.conns[c.slot] == c {
			worked = m.readOne(c) || worked
		}
	}
	m.spare = list[:0]
	return worked
}

func (m *cm) requeue(c *conn) {
	if c.has(flagReadable) && !c.has(flagQueued) {
		c.flags |= flagQueued
		m.ready = append(m.ready, c)
	}
}

// readOne takes what the socket has, once.
func (m *cm) readOne(c *conn) bool {
	switch {
	case c.has(flagLingering):
		m.discard(c)
		return false
	case c.has(flagFailed):
		return false // the router's answer closes it
	case c.has(flagHeld | flagPaced | flagLogin):
		return false // queued again when that ends
	case c.securing() || c.has(flagDeparting|flagArriving):
		return false
	case len(c.rest) > 0:
		m.parseRest(c)
		m.requeue(c)
		return true
	case c.tls != nil:
		return m.readSealed(c)
	}
	buf, direct := m.rbuf, false
	if c.body != nil && c.parser.Remaining() >= directMin {
		buf, direct = c.body.room(), true
	}
	n, errno := privsep.RawRead(c.fd, buf)
	if errno != 0 {
		m.readError(c, errno)
		return false
	}
	if n == 0 {
		m.ended(c)
		return true
	}
	if n < len(buf) && !c.has(flagEOF) {
		c.flags &^= flagReadable // edge-triggered: a short read emptied the socket
	}
	c.lastIn, c.pings = m.now, 0
	m.inBytes += uint64(n)
	c.in.bytes += uint64(n)
	if direct {
		c.body.buf = c.body.buf[:len(c.body.buf)+n]
		c.parser.Skip(n)
	} else {
		m.parse(c, buf[:n])
	}
	c.showIn()
	m.requeue(c)
	return true
}

// ended acts on the end of a client's stream. What the client had asked before
// is answered first, so the router has the connection closed unless nothing of
// it can be under way.
func (m *cm) ended(c *conn) {
	c.flags |= flagEOF
	if m.routed() && !m.urgent() && m.in.Backlog() == 0 {
		m.close(c, reasonEOF)
		return
	}
	c.flags |= flagFailed
	m.dropBody(c)
	m.must(&store.RecFail{Conn: c.ref(), Code: uint8(wire.CodeBareClose)})
}

func (m *cm) readError(c *conn, errno syscall.Errno) {
	switch errno {
	case syscall.EAGAIN:
		c.flags &^= flagReadable
	case syscall.EINTR:
		m.requeue(c)
	default:
		m.close(c, reasonError)
	}
}

// parse turns bytes into records. What cannot be taken now, since ring or arena
// are full or the client is not to be heard, is kept for later.
func (m *cm) parse(c *conn, b []byte) {
	if left := m.parseNow(c, b); len(left) > 0 {
		c.rest = append([]byte(nil), left...)
	}
}

// parseRest goes on with what parse has kept.
func (m *cm) parseRest(c *conn) {
	rest := c.rest
	c.rest = nil
	if left := m.parseNow(c, rest); len(left) > 0 {
		c.rest = left
	}
}

// parseNow returns what is left of b.
func (m *cm) parseNow(c *conn, b []byte) []byte {
	f, lim := &m.frame, m.limitsFor(c)
	for len(b) > 0 && !c.has(flagFailed) {
		if m.full || c.has(flagPaced|flagLogin) {
			c.flags |= flagReadable
			return b
		}
		n, ev, err := c.parser.Next(b, lim, f)
		if err != nil {
			m.fail(c, codeOf(err))
			return nil
		}
		if b = b[n:]; ev == wire.Message {
			m.message(c, f)
		} else {
			m.event(c, ev, f)
		}
	}
	if !c.has(flagConnected) && c.deadline == 0 && c.parser.Started() {
		m.await(c, m.cfg.AuthTimeout)
	}
	return nil
}

func codeOf(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return wire.CodeBareClose
}

func (m *cm) event(c *conn, ev wire.Event, f *wire.Frame) {
	switch ev {
	case wire.Control:
		m.control(c, f)
	case wire.MessageStart:
		m.messageStart(c, f)
	case wire.MessagePart, wire.MessageEnd:
		c.body.buf = append(c.body.buf, f.Body...)
		if ev == wire.MessageEnd {
			m.messageEnd(c)
		}
	}
}

// message is the fast path: line and payload came in one read.
func (m *cm) message(c *conn, f *wire.Frame) {
	if wire.Special(f.Subject) && wire.Broker(f.Subject) {
		m.ask(c, f.Subject, f.Reply, f.Body[max(f.HeaderLen, 0):])
		return
	}
	var facts []byte
	if f.HeaderLen > 0 {
		f.Body, f.HeaderLen, facts = m.readHeaders(f.Body, f.HeaderLen)
		f.Size = len(f.Body)
	}
	h, buf, ok := m.arena.Alloc(f.Size)
	if !ok {
		m.messageStart(c, f)
		m.messageEnd(c)
		return
	}
	copy(buf, f.Body)
	m.emitPub(c, h, int32(f.HeaderLen), f.Subject, f.Reply, facts)
}

func (m *cm) emitPub(c *conn, h store.Handle, headerLen int32, subject, reply, facts []byte) {
	m.inMsgs++
	c.in.msgs++
	c.flags |= flagConnected
	p := &m.pub
	p.Conn, p.Seq, p.Off, p.Len, p.HeaderLen = c.ref(), h.Seq, h.Off, h.Len, headerLen
	p.Subject, p.Reply, p.Facts = subject, reply, facts
	if c.own != nil {
		m.pay(c)
	}
	if b := m.place(p.Size()); b != nil {
		m.out.Commit(p.Put(b))
		return
	}
	m.keep(p)
}

// ask passes on a message to the broker itself.
func (m *cm) ask(c *conn, subject, reply, body []byte) {
	m.inMsgs++
	c.in.msgs++
	c.flags |= flagConnected
	if c.own != nil {
		m.pay(c)
	}
	r := &store.RecAsk{Conn: c.ref(), Subject: subject, Reply: reply, Body: body}
	if r.Long = len(body) > store.MaxAsk; r.Long {
		r.Body = nil
	}
	m.must(r)
}

// messageStart begins a payload that is not complete. It is collected in
// private memory, which grows with what arrives: in the arena, whose bodies are
// freed in order, a client that stops in the middle would hold everybody's.
func (m *cm) messageStart(c *conn, f *wire.Frame) {
	b := m.newBody()
	b.headerLen, b.size = int32(f.HeaderLen), f.Size
	b.subject = append(b.subject[:0], f.Subject...)
	b.reply = append(b.reply[:0], f.Reply...)
	b.buf = append(b.buf[:0], f.Body...)
	c.body = b
}

// messageEnd hands a complete payload to the router. One for which the arena
// has no room stops all reading until it has.
func (m *cm) messageEnd(c *conn) {
	b := c.body
	if wire.Broker(b.subject) {
		m.ask(c, b.subject, b.reply, b.buf[max(b.headerLen, 0):])
		m.dropBody(c)
		return
	}
	var facts []byte
	if b.headerLen > 0 {
		var n int
		b.buf, n, facts = m.readHeaders(b.buf, int(b.headerLen))
		b.headerLen, b.size = int32(n), len(b.buf)
	}
	h, buf, ok := m.arena.Alloc(len(b.buf))
	if !ok {
		c.flags |= flagWaiting | flagReadable
		m.setFull(fullArena)
		return
	}
	copy(buf, b.buf)
	m.emitPub(c, h, b.headerLen, b.subject, b.reply, facts)
	m.dropBody(c)
}

// room gives the free part of a body's buffer to read into, at least directMin
// bytes or what is missing.
func (b *pendingBody) room() []byte {
	if free := cap(b.buf) - len(b.buf); free < min(directMin, b.size-len(b.buf)) {
		bigger := make([]byte, len(b.buf), min(max(2*cap(b.buf), readSize), b.size))
		copy(bigger, b.buf)
		b.buf = bigger
	}
	return b.buf[len(b.buf):min(cap(b.buf), b.size)]
}

const (
	bodyPool    = 32
	bodyPoolMax = 256 << 10 // larger buffers are not kept
)

func (m *cm) newBody() *pendingBody {
	if n := len(m.bodies); n > 0 {
		b := m.bodies[n-1]
		m.bodies = m.bodies[:n-1]
		return b
	}
	return new(pendingBody)
}

func (m *cm) dropBody(c *conn) {
	c.flags &^= flagWaiting
	if c.body != nil && len(m.bodies) < bodyPool && cap(c.body.buf) <= bodyPoolMax {
		m.bodies = append(m.bodies, c.body)
	}
	c.body = nil
}

// control passes on an operation without payload.
func (m *cm) control(c *conn, f *wire.Frame) {
	switch f.Op {
	case wire.OpPong, wire.OpIgnored:
	case wire.OpPing:
		m.must(&store.RecPing{Conn: c.ref()})
	case wire.OpSub:
		c.flags |= flagSubscriber
		m.must(&store.RecSub{Conn: c.ref(), Subject: f.Subject, Queue: f.Queue, SID: f.SID})
	case wire.OpUnsub:
		m.must(&store.RecUnsub{Conn: c.ref(), SID: f.SID, Max: uint32(min(f.Max, 1<<32-1))})
	case wire.OpConnect:
		m.connect(c, f.Arg)
	}
	c.flags |= flagConnected
}

// connect passes CONNECT on; all that the cm itself wants of it is whether
// messages with headers may follow and be sent.
func (m *cm) connect(c *conn, arg []byte) {
	opts := wire.DefaultConnect()
	opts.Headers = c.has(flagHeaders)
	if opts.Merge(arg) == nil {
		c.parser.SetHeaders(opts.Headers)
		c.flags &^= flagHeaders
		if opts.Headers {
			c.flags |= flagHeaders
		}
	}
	m.recConnect = store.RecConnect{Conn: c.ref(), Chain: m.chain(c), JSON: arg}
	m.must(&m.recConnect)
	if m.cfg.Auth {
		m.awaitLogin(c, arg)
	}
}

// place returns room for a record of n bytes in the ring, nil when it must wait.
func (m *cm) place(n int) []byte {
	if len(m.backlog) > 0 {
		return nil
	}
	return m.out.Reserve(n)
}

// must emits a record. When the ring is full it is kept and reading stops.
func (m *cm) must(r store.Record) {
	if b := m.place(r.Size()); b != nil {
		m.out.Commit(r.Put(b))
		return
	}
	m.keep(r)
}

// keep puts a record aside that had no room.
func (m *cm) keep(r store.Record) {
	rec := make([]byte, r.Size())
	r.Put(rec)
	m.backlog = append(m.backlog, rec)
	m.setFull(fullRing)
}

// why reading has stopped
const (
	fullRing = iota + 1
	fullArena
)

func (m *cm) setFull(why int) {
	if !m.full {
		m.full = true
		m.stalls[why]++
	}
}

// resume tries to get going again after ring or arena were full.
func (m *cm) resume() {
	for len(m.backlog) > 0 {
		k := m.backlog[0]
		b := m.out.Reserve(len(k))
		if b == nil {
			return
		}
		m.out.Commit(copy(b, k))
		m.backlog[0] = nil
		m.backlog = m.backlog[1:]
	}
	m.backlog = nil
	m.full = false
	for _, c := range m.ready {
		if c.has(flagWaiting) && !c.has(flagDeparting) && m.conns[c.slot] == c {
			m.messageEnd(c)
			if m.full {
				return
			}
		}
	}
}
