package cm

import (
	"syscall"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// Output memory comes in two sizes: many connections with a message each need
// little, one with a stream gets large writes. flushAt is the output that is
// written before the batch is over.
const (
	smallChunk = 2 << 10
	chunkSize  = 64 << 10
	flushAt    = 4 * chunkSize
	largeLimit = 64 // chunks kept for reuse
	smallLimit = 2048
)

// output is what a connection has still to be sent, in chunks from a pool.
type output struct {
	chunks [][]byte
	off    int // sent of the first chunk
	size   int // unsent bytes in all
}

// write3 appends up to three pieces to the connection's output.
func (m *cm) write3(c *conn, a, b, d []byte) { m.write4(c, a, b, d, nil) }

// write4 appends up to four pieces to the connection's output.
func (m *cm) write4(c *conn, a, b, d, e []byte) {
	o := m.outputOf(c)
	n := len(a) + len(b) + len(d) + len(e)
	last := len(o.chunks) - 1
	if ch := o.chunks[last]; n <= cap(ch)-len(ch) {
		ch = append(ch, a...)
		ch = append(ch, b...)
		ch = append(ch, d...)
		o.chunks[last] = append(ch, e...)
	} else {
		m.widen(c, o)
		m.spill(o, a)
		m.spill(o, b)
		m.spill(o, d)
		m.spill(o, e)
	}
	m.grown(c, o, n)
}

// writeMsg appends a message, in place where the last chunk has room.
func (m *cm) writeMsg(c *conn, subject, sid, reply []byte, headerLen int, body []byte) {
	o := m.outputOf(c)
	last := len(o.chunks) - 1
	ch := o.chunks[last]
	if msgOverhead+len(subject)+len(sid)+len(reply)+len(body) > cap(ch)-len(ch) {
		m.head = wire.AppendMsg(m.head[:0], subject, sid, reply, headerLen, len(body))
		m.write3(c, m.head, body, crlf)
		return
	}
	n := len(ch)
	ch = wire.AppendMsg(ch, subject, sid, reply, headerLen, len(body))
	ch = append(ch, body...)
	ch = append(ch, crlf...)
	o.chunks[last] = ch
	m.grown(c, o, len(ch)-n)
}

// writeParts is writeMsg for a message whose headers lie elsewhere than the rest.
func (m *cm) writeParts(c *conn, subject, sid, reply, headers, payload []byte) {
	m.head = wire.AppendMsg(m.head[:0], subject, sid, reply, len(headers), len(headers)+len(payload))
	m.head = append(m.head, headers...)
	m.write3(c, m.head, payload, crlf)
}

// msgOverhead bounds what a message needs beside its texts and body: the verb,
// blanks, two numbers and two line ends.
const msgOverhead = 48

func (m *cm) grown(c *conn, o *output, n int) {
	o.size += n
	m.touch(c)
	switch {
	case o.size >= flushAt && !c.has(flagBlocked):
		m.flush(c)
	case o.size > m.pendingMost(c)/8 && !c.has(flagCongested):
		m.pressure(c)
	}
}

// widen exchanges a first small chunk for a large one.
func (m *cm) widen(c *conn, o *output) {
	if ch := o.chunks[0]; len(o.chunks) == 1 && cap(ch) < chunkSize {
		c.flags |= flagWide
		o.chunks[0] = append(m.large.get(), ch[o.off:]...)
		o.off = 0
		m.small.put(ch)
	}
}

// spill appends b over as many chunks as it takes.
func (m *cm) spill(o *output, b []byte) {
	for len(b) > 0 {
		last := len(o.chunks) - 1
		ch := o.chunks[last]
		n := min(len(b), cap(ch)-len(ch))
		if n == 0 {
			o.chunks = append(o.chunks, m.large.get())
			continue
		}
		o.chunks[last] = append(ch, b[:n]...)
		b = b[n:]
	}
}

func (m *cm) touch(c *conn) {
	if !c.has(flagDirty) {
		c.flags |= flagDirty
		m.dirty = append(m.dirty, c)
	}
}

// flushDirty writes each connection's output of this batch, in one write where
// the socket takes it.
func (m *cm) flushDirty() {
	for i := 0; i < len(m.dirty); i++ {
		c := m.dirty[i]
		m.dirty[i] = nil
		c.flags &^= flagDirty
		if m.conns[c.slot] == c {
			m.flush(c)
		}
	}
	m.dirty = m.dirty[:0]
}

// flush writes until the output is gone or the socket is full.
func (m *cm) flush(c *conn) {
	if c.tls != nil {
		m.flushSealed(c)
		return
	}
	o := c.out
	for o != nil && o.size > 0 && !c.has(flagBlocked) {
		b := o.chunks[0][o.off:]
		n, errno := privsep.RawWrite(c.fd, b)
		switch errno {
		case 0:
			c.lastOut = m.now
			m.advance(o, n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			c.flags |= flagBlocked
		default:
			m.close(c, reasonError)
			return
		}
	}
	if o == nil || o.size == 0 {
		m.flushed(c)
	}
	m.pressure(c)
}

// flushed is for a connection without output.
func (m *cm) flushed(c *conn) {
	m.dropOutput(c)
	c.clear = c.sent.msgs
	if c.has(flagClosing) && !c.has(flagLingering|flagArriving) {
		m.linger(c)
	}
}

// advance takes n bytes of the first chunk off the output.
func (m *cm) advance(o *output, n int) {
	o.size -= n
	o.off += n
	if o.off < len(o.chunks[0]) {
		return
	}
	if len(o.chunks) == 1 {
		return // dropOutput sees how much it was
	}
	m.free(o.chunks[0])
	o.chunks[0] = nil
	o.chunks, o.off = o.chunks[1:], 0
}

// pressure looks at a connection that does not take its output: one that still
// reads makes its senders wait, one that has stopped is cut off.
func (m *cm) pressure(c *conn) {
	c.showOut()
	if c.has(flagDeparting) {
		return // the router takes no more words on it from here
	}
	size, limit := c.pending(), m.pendingMost(c)
	if c.has(flagCongested) {
		if size <= limit/16 {
			m.relieve(c)
		}
	} else if size > limit/8 && m.progressing(c) {
		c.flags |= flagCongested
		m.behind = append(m.behind, c)
		m.must(&store.RecCongested{Conn: c.ref()})
		m.hurry = true // the router must know before much more is written
	}
	if c.has(flagCongested) {
		limit = m.outputMost(c)
	}
	if size > limit {
		m.close(c, reasonSlow)
	}
}

// outputMost is what a reader that makes its senders wait may have unsent: also
// what was under way when they were stopped.
func (m *cm) outputMost(c *conn) int { return m.pendingMost(c) + m.cfg.CMs*m.cfg.Arena }

// progressing tells whether the socket took bytes lately.
func (m *cm) progressing(c *conn) bool { return m.now-c.lastOut < int64(stopGrace) }

func (m *cm) relieve(c *conn) {
	c.flags &^= flagCongested
	m.must(&store.RecRelieved{Conn: c.ref()})
}

// outputOf gives a connection's output, a new one if it has none: wide where
// the last one had to become so.
func (m *cm) outputOf(c *conn) *output {
	if c.out != nil {
		return c.out
	}
	if n := len(m.outputs); n > 0 {
		c.out = m.outputs[n-1]
		m.outputs = m.outputs[:n-1]
	} else {
		c.out = new(output)
	}
	if c.has(flagWide) {
		c.out.chunks = append(c.out.chunks, m.large.get())
	} else {
		c.out.chunks = append(c.out.chunks, m.small.get())
	}
	return c.out
}

// dropOutput gives a connection's output memory back.
func (m *cm) dropOutput(c *conn) {
	o := c.out
	if o == nil {
		return
	}
	c.out = nil
	if len(o.chunks) == 1 && o.off+len(o.chunks[0]) < smallChunk/2 {
		c.flags &^= flagWide
	}
	for i, ch := range o.chunks {
		m.free(ch)
		o.chunks[i] = nil
	}
	*o = output{chunks: o.chunks[:0]}
	if len(m.outputs) < smallLimit {
		m.outputs = append(m.outputs, o)
	}
}

// pool keeps chunks of one size for reuse.
type pool struct {
	size, limit int
	chunks      [][]byte
}

func (p *pool) get() []byte {
	if n := len(p.chunks); n > 0 {
		ch := p.chunks[n-1]
		p.chunks = p.chunks[:n-1]
		return ch
	}
	return make([]byte, 0, p.size)
}

func (p *pool) put(ch []byte) {
	if len(p.chunks) < p.limit {
		p.chunks = append(p.chunks, ch[:0])
	}
}

func (m *cm) free(ch []byte) {
	switch cap(ch) {
	case smallChunk:
		m.small.put(ch)
	case chunkSize:
		m.large.put(ch)
	case sealedSize:
		m.tls.sealed.put(ch)
	}
}
