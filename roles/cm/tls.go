package cm

import (
	"crypto/tls"
	"io"
	"net/netip"
	"runtime"
	"syscall"
	"time"

	"gatehouse/privsep"
)

// tlsConn is what a connection of a TLS listener has beside a plaintext one.
type tlsConn struct {
	state   tlsState
	plain   int  // bytes of INFO still to be written before the handshake
	touched bool // the client has sent something, or ended

	from *privsep.ConnHandoff // until the handshake is over
	hs   *handshake           // while it runs
	conn *tls.Conn            // afterwards

	left   []byte // sealed, but the socket was full; off of it is written
	off    int
	kept   []byte // read, but the round was over; nil: none
	more   bool   // conn may hold what is not opened
	ended  bool   // the client's close_notify has come
	closed bool   // ours has been said
}

// tlsState is how far a connection has come. With handshake_first it begins
// armed; else the router's INFO goes out before.
//
//	new --INFO--> greeting --written--> armed --bytes--> lined --> shaking --> open
type tlsState uint8

const (
	tlsNew      tlsState = iota // waits for INFO
	tlsGreeting                 // INFO is being written
	tlsArmed                    // waits for the client's first byte
	tlsLined                    // waits for a certificate, or for others' handshakes
	tlsShaking                  // the goroutine has the socket
	tlsOpen
	tlsOver // without ever having been open
)

// tlsSide is the cm's part in TLS, all the loop's but for shop.
type tlsSide struct {
	untidy  int64 // when a released key was used last, 0: all is swept
	tidied  int64
	shop    *workshop
	door    *doorman
	rung    int // edges of the bell since it was read
	bells   [2]int
	cred    *credential // nil: none yet, handshakes wait
	next    *credential // waits for its key
	key     releasedKey // waits for its certificate
	line    []*conn     // whose handshakes wait
	running int
	asking  *asking
	rec     records
	sealed  pool
	cipher  []byte // as read from a socket
	clear   []byte // opened

	keyNumber    uint32
	done, failed uint64
	complaints   privsep.Pace
	mute         uint64 // log lines left out
}

// newTLS makes what handshakes need to reach the loop. It makes sockets, so it
// is done before the sandbox.
func (m *cm) newTLS() error {
	near, far, err := privsep.Doorbell()
	if err != nil {
		return err
	}
	m.tls.bells = [2]int{near, far}
	m.tls.sealed = pool{size: sealedSize, limit: sealedLimit}
	m.tls.asking = newAsking(m.parent, m.cfg.TLS.SignRate)
	m.tls.shop = &workshop{bell: far, turns: make(chan struct{}, runtime.GOMAXPROCS(0)), jobs: make(chan *handshake)}
	if m.tls.door, err = newDoorman(); err != nil {
		return err
	}
	return m.poll.Add(near, tokenTLS, privsep.In|privsep.Edge)
}

// securing tells whether c is on its way to TLS.
func (c *conn) securing() bool { return c.tls != nil && c.tls.state < tlsOpen }

// pending is what waits to be written, in bytes.
func (c *conn) pending() int {
	n := 0
	if c.out != nil {
		n = c.out.size
	}
	if c.tls != nil {
		n += len(c.tls.left) - c.tls.off
	}
	return n
}

// secure makes c a TLS connection to be.
func (m *cm) secure(c *conn, h *privsep.ConnHandoff) {
	from := *h
	c.tls = &tlsConn{from: &from}
	if m.cfg.TLS.HandshakeFirst {
		c.tls.state = tlsArmed
	}
	m.await(c, m.cfg.AuthTimeout)
}

// greet notes what is INFO of the output: nothing else goes out in the clear.
func (c *conn) greet(n int) {
	if c.tls != nil && c.tls.state == tlsNew {
		c.tls.state, c.tls.plain = tlsGreeting, n
	}
}

// securingEvent passes readiness on to whoever waits for it.
func (m *cm) securingEvent(c *conn, e privsep.Ready) {
	t := c.tls
	if e.Hup {
		c.flags |= flagEOF
	}
	if e.In || e.Hup {
		t.touched = true
	}
	switch t.state {
	case tlsGreeting:
		if e.Out && c.has(flagBlocked) {
			c.flags &^= flagBlocked
			m.touch(c)
		}
	case tlsArmed:
		m.lineUp(c)
	case tlsShaking:
		m.tls.door.send(errand{h: t.hs, what: errandReady})
	}
}

// lineUp starts the handshake once the client has begun: who is silent costs
// no goroutine.
func (m *cm) lineUp(c *conn) {
	if !c.tls.touched {
		return
	}
	c.tls.state = tlsLined
	m.tls.line = append(m.tls.line, c)
	m.startHandshakes()
}

func (m *cm) startHandshakes() {
	s := &m.tls
	for len(s.line) > 0 && s.cred != nil && s.running < maxHandshakes {
		c := s.line[0]
		s.line[0] = nil
		s.line = s.line[1:]
		if m.conns[c.slot] == c && c.tls.state == tlsLined {
			m.startHandshake(c)
		}
	}
	if len(s.line) == 0 {
		s.line = nil
	}
}

func (m *cm) startHandshake(c *conn) {
	s, t := &m.tls, c.tls
	h := &handshake{c: c, fd: c.fd, cred: s.cred, from: t.from, workshop: s.shop, asking: s.asking,
		ready: make(chan struct{}, 1), stop: make(chan struct{}), signed: make(chan []byte, 1)}
	h.conn = tls.Server(&transport{hs: h, rec: &s.rec}, s.cred.config)
	t.state, t.hs = tlsShaking, h
	s.cred.users++
	s.running++
	s.shop.wg.Add(1)
	s.door.send(errand{h: h, what: errandBegin})
}

// stopHandshake has the goroutine end; the socket stays until it has.
func (m *cm) stopHandshake(h *handshake) {
	m.tls.asking.forget(h)
	close(h.stop)
	m.poll.Del(h.fd)
}

// bellRung only wakes the loop; fromHandshakes follows in its next round.
func (m *cm) bellRung() {
	if m.tls.rung++; m.tls.rung >= privsep.DrainEvery {
		m.tls.rung = 0
		privsep.DrainBell(m.tls.bells[0])
	}
}

// fromHandshakes takes what the goroutines have for the loop.
func (m *cm) fromHandshakes() {
	if !m.tls.shop.posted.Load() {
		return
	}
	finished, requests := m.tls.shop.collect()
	m.tls.asking.later(requests)
	for _, h := range finished {
		m.tls.running--
		if h.cred.key != nil {
			m.tls.untidy = m.now
		}
		h.cred.users--
		h.cred.release()
		switch {
		case h.stopped:
			privsep.CloseFD(h.fd)
		case h.err != nil:
			h.c.tls.hs = nil
			m.handshakeFailed(h.c, h.err)
		default:
			m.opened(h.c, h)
		}
	}
	m.startHandshakes()
}

// opened takes over a connection whose handshake is over.
func (m *cm) opened(c *conn, h *handshake) {
	t := c.tls
	h.transport().hs = nil
	from := t.from
	t.state, t.conn, t.hs, t.from = tlsOpen, h.conn, nil, nil
	m.tls.done++
	c.deadline = 0
	c.flags &^= flagBlocked
	c.lastIn, c.lastOut = m.now, m.now
	if m.cfg.TLS.HandshakeFirst {
		m.open(c, from)
	}
	t.more = true // what came with the client's last message
	m.queue(c)
	m.touch(c)
}

func (h *handshake) transport() *transport { return h.conn.NetConn().(*transport) }

// handshakeFailed ends a connection that did not get to TLS. Clients know a
// bare close; an alert may have gone before it, and is waited for to arrive.
func (m *cm) handshakeFailed(c *conn, err error) {
	t := c.tls
	m.tls.failed++
	m.complain(t.from, err)
	if _, broken := err.(syscall.Errno); broken || err == io.EOF || err == errSilent {
		m.close(c, reasonTLS)
		return
	}
	t.state = tlsOver
	c.flags |= flagFailed | flagClosing
	m.dropOutput(c)
	m.linger(c)
}

const complaintsMost = 10 // a second

// complain logs why a handshake failed, as long as there are few: who sends
// nonsense must not drown what else there is to say.
func (m *cm) complain(from *privsep.ConnHandoff, err error) {
	s := &m.tls
	if !s.complaints.Take(complaintsMost, time.Now()) {
		s.mute++
		return
	}
	addr := netip.AddrPortFrom(netip.AddrFrom16(from.Addr).Unmap(), from.Port)
	m.log.Info("handshake failed", privsep.Int(privsep.KeyCID, int64(from.UID)), privsep.Str(privsep.KeyAddr, addr.String()),
		privsep.Err(err), privsep.Int(privsep.KeyN, int64(s.mute)))
	s.mute = 0
}

// endTLS gives back what a connection that ends has of TLS. True: a goroutine
// still has the socket, which is closed after it.
func (m *cm) endTLS(c *conn) bool {
	m.dropLeft(c)
	c.tls.kept = nil
	if c.tls.hs == nil {
		return false
	}
	m.stopHandshake(c.tls.hs)
	return true
}

// closeTLS ends all handshakes and gives back what they stood on, for a cm that
// does not end with its process.
func (m *cm) closeTLS() {
	for _, c := range m.conns {
		if c != nil && c.tls != nil && c.tls.hs != nil {
			m.stopHandshake(c.tls.hs)
		}
	}
	m.tls.shop.wg.Wait()
	m.tls.door.close()
	close(m.tls.shop.jobs)
	finished, _ := m.tls.shop.collect()
	for _, h := range finished {
		privsep.CloseFD(h.fd)
	}
	for _, cred := range []*credential{m.tls.cred, m.tls.next} {
		if cred != nil && cred.key != nil {
			_ = cred.key.Close()
		}
	}
	if m.tls.key != nil {
		_ = m.tls.key.Close()
	}
	for _, fd := range m.tls.bells {
		privsep.CloseFD(fd)
	}
}
