package cm

import (
	"io"
	"syscall"
	"time"

	"gatehouse/privsep"
)

const (
	recordMax    = 16 << 10 // plaintext of a TLS record (RFC 8446, 5.1)
	sealOverhead = 64       // beside it, more than any cipher suite of crypto/tls needs
	// sealedSize has room for a chunk in records.
	sealedSize  = chunkSize + (chunkSize/recordMax+1)*sealOverhead
	sealedLimit = 32 // buffers kept for reuse
	// openTime is how long one connection's records may take of a round: a
	// readful of large ones takes a tenth of it, one of key updates would take
	// twenty times as long.
	openTime   = 2 * time.Millisecond
	answersMax = 64 // key updates answered for one readful
)

// readSealed takes what the socket of a TLS connection has, once.
func (m *cm) readSealed(c *conn) bool {
	t := c.tls
	if t.ended {
		m.ended(c)
		return true
	}
	in, more := t.kept, t.more
	t.kept, t.more = nil, false
	if !more {
		n, errno := privsep.RawRead(c.fd, m.cipherBuf())
		if errno != 0 {
			m.readError(c, errno)
			return false
		}
		if n == 0 {
			m.ended(c)
			return true
		}
		in = m.tls.cipher[:n]
		if n < len(m.tls.cipher) && !c.has(flagEOF) {
			c.flags &^= flagReadable // edge-triggered: a short read emptied the socket
		}
	}
	b, err := m.unseal(c, in)
	if m.conns[c.slot] != c {
		return true
	}
	c.lastIn, c.pings = m.now, 0
	m.inBytes += uint64(len(b))
	c.in.bytes += uint64(len(b))
	m.parse(c, b)
	c.showIn()
	switch {
	case err == io.EOF:
		t.ended = true
		c.flags |= flagReadable
	case err != nil:
		m.close(c, reasonError)
		return true
	case t.more:
		c.flags |= flagReadable
	}
	m.requeue(c)
	return true
}

func (m *cm) cipherBuf() []byte {
	if m.tls.cipher == nil {
		m.tls.cipher = make([]byte, readSize)
		// A readful, and the record whose beginning came before.
		m.tls.clear = make([]byte, readSize+recordMax)
	}
	return m.tls.cipher
}

// unseal opens the records that in completes. err is io.EOF when the client has
// said that it ends; any other has ended the connection's TLS.
func (m *cm) unseal(c *conn, in []byte) (b []byte, err error) {
	m.cipherBuf()
	s, t := &m.tls, c.tls
	s.rec.in = in
	n, start := 0, time.Now()
	for round := 1; ; round++ {
		var k int
		k, err = t.conn.Read(s.clear[n:])
		n += k
		if err != nil {
			break
		}
		if n == len(s.clear) || round%16 == 0 && time.Since(start) > openTime {
			t.more = true
			t.kept = append([]byte(nil), s.rec.in...)
			break
		}
	}
	s.rec.in = nil
	if err == errBlock {
		err = nil
	}
	if len(s.rec.out) > 0 {
		m.answer(c)
	}
	return s.clear[:n], err
}

// answer writes what crypto/tls itself has to say: alerts, key updates.
func (m *cm) answer(c *conn) {
	s, t := &m.tls, c.tls
	switch {
	case len(s.rec.out) > answersMax*sealOverhead || len(t.left) > 2*sealedSize:
		s.rec.out = s.rec.out[:0]
		m.close(c, reasonError)
	case t.left != nil:
		t.left = append(t.left, s.rec.out...)
		s.rec.out = s.rec.out[:0]
	default:
		m.sendSealed(c)
	}
}

// flushSealed is flush for a TLS connection: output is sealed only when the
// socket has taken all that was sealed before.
func (m *cm) flushSealed(c *conn) {
	t := c.tls
	if t.state != tlsOpen {
		m.flushGreeting(c)
		return
	}
	for !c.has(flagBlocked) && m.conns[c.slot] == c {
		switch {
		case t.left != nil:
			m.writeLeft(c)
		case c.out != nil && c.out.size > 0:
			m.seal(c)
		default:
			m.flushed(c)
			m.pressure(c)
			return
		}
	}
	if m.conns[c.slot] == c {
		m.pressure(c)
	}
}

// seal writes the first chunk of the output.
func (m *cm) seal(c *conn) {
	o := c.out
	b := o.chunks[0][o.off:]
	if len(m.tls.rec.out) == 0 && cap(m.tls.rec.out) < sealedSize {
		m.tls.rec.out = m.tls.sealed.get()
	}
	if _, err := c.tls.conn.Write(b); err != nil {
		m.tls.rec.out = m.tls.rec.out[:0]
		m.close(c, reasonError)
		return
	}
	m.advance(o, len(b))
	m.sendSealed(c)
}

// sendSealed writes what has been sealed; what the socket does not take stays
// with the connection.
func (m *cm) sendSealed(c *conn) {
	s, t := &m.tls, c.tls
	t.left, t.off, s.rec.out = s.rec.out, 0, nil
	m.writeLeft(c)
	if t.left == nil || m.conns[c.slot] != c {
		return
	}
	if rest := t.left[t.off:]; len(rest) <= smallChunk {
		all := t.left
		t.left, t.off = append(m.small.get(), rest...), 0
		m.free(all)
	}
}

// writeLeft writes until all is written or the socket is full.
func (m *cm) writeLeft(c *conn) {
	t := c.tls
	for t.off < len(t.left) {
		n, errno := privsep.RawWrite(c.fd, t.left[t.off:])
		switch errno {
		case 0:
			t.off += n
			c.lastOut = m.now
		case syscall.EINTR:
		case syscall.EAGAIN:
			c.flags |= flagBlocked
			return
		default:
			m.close(c, reasonError)
			return
		}
	}
	m.dropLeft(c)
}

// dropLeft gives the memory of what is written back.
func (m *cm) dropLeft(c *conn) {
	t := c.tls
	if t.left == nil {
		return
	}
	if m.tls.rec.out == nil && cap(t.left) == sealedSize {
		m.tls.rec.out = t.left[:0]
	} else {
		m.free(t.left)
	}
	t.left, t.off = nil, 0
}

// flushGreeting writes INFO, after which the client begins the handshake.
func (m *cm) flushGreeting(c *conn) {
	t := c.tls
	if !c.securing() {
		return
	}
	for t.state == tlsGreeting && t.plain > 0 && !c.has(flagBlocked) {
		b := c.out.chunks[0][c.out.off:]
		n, errno := privsep.RawWrite(c.fd, b[:min(len(b), t.plain)])
		switch errno {
		case 0:
			t.plain -= n
			c.lastOut = m.now
			m.advance(c.out, n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			c.flags |= flagBlocked
			if !t.watched && m.watch(c) != nil {
				m.close(c, reasonError)
				return
			}
		default:
			m.close(c, reasonError)
			return
		}
	}
	switch {
	case c.has(flagClosing) && t.plain == 0:
		m.close(c, reasonRouter)
	case t.state == tlsGreeting && t.plain == 0:
		if c.out.size == 0 {
			m.dropOutput(c)
		}
		c.showOut()
		m.shake(c)
	}
}

// farewell says close_notify, if the socket takes it.
func (m *cm) farewell(c *conn) {
	t := c.tls
	if t == nil || t.state != tlsOpen || t.closed || t.left != nil || c.has(flagBlocked) {
		return
	}
	t.closed = true
	if t.conn.CloseWrite() == nil && len(m.tls.rec.out) > 0 {
		privsep.RawWrite(c.fd, m.tls.rec.out)
	}
	m.tls.rec.out = m.tls.rec.out[:0]
}
