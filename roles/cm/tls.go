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
	watched bool // in the loop's poller

	from *privsep.ConnHandoff // until the handshake is over
	hs   *handshake           // while the workshop has the socket
	conn *tls.Conn            // afterwards

	suite uint16 // of conn

	left   []byte // sealed, but the socket was full; off of it is written
	off    int
	kept   []byte // read, but the round was over; nil: none
	more   bool   // conn may hold what is not opened
	ended  bool   // the client's close_notify has come
	closed bool   // ours has been said
}

// tlsState is how far a connection has come. With handshake_first it begins
// shaking; else the router's INFO goes out before.
//
//	new --INFO--> greeting --written--> shaking --> open
type tlsState uint8

const (
	tlsNew      tlsState = iota // waits for INFO
	tlsGreeting                 // INFO is being written
	tlsShaking                  // the workshop has the socket
	tlsOpen
	tlsOver // without ever having been open
)

// tlsSide is the cm's part in TLS, all the loop's but for counter and shops.
type tlsSide struct {
	untidy  int64 // when a released key was used last, 0: all is swept
	tidied  int64
	counter counter
	shops   []*workshop
	begun   uint64 // handshakes, each with its token
	spare   []*handshake
	cred    *credential // nil: none yet, handshakes wait
	next    *credential // waits for its key
	key     releasedKey // waits for its certificate
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
	m.tls.sealed = pool{size: sealedSize, limit: sealedLimit}
	if err := m.tls.counter.finished.init(); err != nil {
		return err
	}
	for range m.workshops() {
		w, err := newWorkshop(&m.tls.counter, newAsking(m.parent, m.cfg.TLS.SignRate))
		if err != nil {
			return err
		}
		m.tls.shops = append(m.tls.shops, w)
	}
	return m.poll.Add(m.tls.counter.finished.near, tokenTLS, privsep.In|privsep.Edge)
}

// workshops is how many there are. Where the parent signs, it does its share
// beside the one; where the key is here two keep two processors busy. Only one
// may ask the parent: it keeps the pace.
func (m *cm) workshops() int {
	if m.cfg.Release {
		return min(runtime.GOMAXPROCS(0), 2)
	}
	return 1
}

// startShops has all of them work, with the first connection.
func (m *cm) startShops() error {
	for _, w := range m.tls.shops {
		if err := w.start(); err != nil {
			return err
		}
	}
	return nil
}

// leastShop gives the workshop with the fewest handshakes.
func (m *cm) leastShop() *workshop {
	least := m.tls.shops[0]
	for _, w := range m.tls.shops[1:] {
		if w.load < least.load {
			least = w
		}
	}
	return least
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
	m.await(c, m.cfg.AuthTimeout)
	if m.cfg.TLS.HandshakeFirst {
		m.shake(c)
	} else {
		m.open(c, h)
	}
}

// greet notes what is INFO of the output: nothing else goes out in the clear.
func (c *conn) greet(n int) {
	if c.tls != nil && c.tls.state == tlsNew {
		c.tls.state, c.tls.plain = tlsGreeting, n
	}
}

// watch has the loop told of c's socket.
func (m *cm) watch(c *conn) error {
	err := m.poll.Add(c.fd, tokenConn+uint64(c.slot), privsep.In|privsep.Out|privsep.Edge)
	if c.tls != nil {
		c.tls.watched = err == nil
	}
	return err
}

// securingEvent goes on with INFO, which alone the loop waits for before c is
// open.
func (m *cm) securingEvent(c *conn, e privsep.Ready) {
	if e.Hup {
		c.flags |= flagEOF
	}
	if e.Out && c.has(flagBlocked) {
		c.flags &^= flagBlocked
		m.touch(c)
	}
}

// shake gives c's socket to the workshop. Whatever the client sends is its
// event from here on, not the loop's.
func (m *cm) shake(c *conn) {
	t, w := c.tls, m.leastShop()
	if t.watched {
		t.watched = false
		_ = m.poll.Del(c.fd)
	}
	err := m.startShops()
	if err == nil {
		m.tls.begun++
		h := &handshake{c: c, fd: c.fd, token: m.tls.begun, from: t.from, shop: w}
		t.state, t.hs = tlsShaking, h
		w.load++
		w.box.put(errand{what: errandBegin, h: h}) // before the socket's first event, which wakes
		err = w.poll.Add(h.fd, h.token, privsep.In|privsep.Edge)
	}
	if err != nil {
		m.tls.failed++
		m.complain(t.from, err)
		m.close(c, reasonTLS)
	}
}

// stopHandshake has the workshop end it; the socket stays until it has.
func (m *cm) stopHandshake(h *handshake) {
	h.gone = true
	h.shop.box.post(errand{what: errandStop, h: h})
}

// fromHandshakes takes what the workshop has for the loop.
func (m *cm) fromHandshakes() error {
	finished := m.tls.counter.finished.take(m.tls.spare)
	for _, h := range finished {
		if h == nil {
			return m.tls.counter.failure()
		}
		h.shop.load--
		if h.released {
			m.tls.untidy = m.now
		}
		if h.gone {
			privsep.CloseFD(h.fd)
			continue
		}
		h.c.tls.hs = nil
		if h.err == nil {
			h.err = m.watch(h.c)
		}
		if h.err != nil {
			m.handshakeFailed(h.c, h.err)
		} else {
			m.opened(h.c, h)
		}
	}
	if finished != nil {
		clear(finished)
		m.tls.spare = finished
	}
	return nil
}

// opened takes over a connection whose handshake is over.
func (m *cm) opened(c *conn, h *handshake) {
	t := c.tls
	under := h.conn.NetConn().(*transport)
	under.hs, under.rec = nil, &m.tls.rec
	from := t.from
	t.state, t.conn, t.from = tlsOpen, h.conn, nil
	t.suite = h.conn.ConnectionState().CipherSuite
	m.tls.done++
	if !m.cfg.Auth {
		c.deadline = 0
	}
	c.flags &^= flagBlocked
	c.lastIn, c.lastOut = m.now, m.now
	if m.cfg.TLS.HandshakeFirst {
		m.open(c, from)
	}
	t.more = true // what came with the client's last message
	m.queue(c)
	m.touch(c)
}

// handshakeFailed ends a connection that did not get to TLS. Clients know a
// bare close; an alert may have gone before it, and is waited for to arrive.
func (m *cm) handshakeFailed(c *conn, err error) {
	t := c.tls
	m.tls.failed++
	m.complain(t.from, err)
	if _, broken := err.(syscall.Errno); broken || err == io.EOF || err == errSilent || !t.watched && m.watch(c) != nil {
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

// endTLS gives back what a connection that ends has of TLS. True: the
// workshop still has the socket, which is closed after it.
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
	for _, w := range m.tls.shops {
		w.close()
	}
	for _, h := range m.tls.counter.finished.take(nil) {
		if h != nil {
			privsep.CloseFD(h.fd)
		}
	}
	m.tls.counter.finished.close()
	for _, cred := range []*credential{m.tls.cred, m.tls.next} {
		if cred != nil && cred.key != nil {
			_ = cred.key.Close()
		}
	}
	if m.tls.key != nil {
		_ = m.tls.key.Close()
	}
}
