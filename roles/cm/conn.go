package cm

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// conn is one client connection. An idle one holds no buffer.
type conn struct {
	fd   int
	slot uint32
	gen  uint32
	uid  uint64

	parser wire.Parser
	body   *pendingBody // message whose payload is not complete
	rest   []byte       // read but not parsed, since that had to wait
	out    *output      // unsent output, nil when there is none
	tls    *tlsConn     // nil for plaintext
	own    *ownLimits   // nil: those that all have
	login  []byte       // its CONNECT, while the router has not accepted it

	flags      connFlags
	pings      uint8
	lastIn     int64  // loop time, ns
	lastOut    int64  // last time the socket took bytes, or its peer did
	unsent     int    // in the socket when last looked at
	clear      uint64 // sent.msgs when there was no output left
	row        *store.ColumnRow
	in, sent   traffic
	deadline   int64 // of the first operation or of lingering, 0: none
	lingerLeft int
}

type connFlags uint32

const (
	flagReadable   connFlags = 1 << iota // may have bytes to read
	flagQueued                           // is in the ready list
	flagBlocked                          // the socket takes no more for now
	flagDirty                            // is in the dirty list
	flagHeld                             // the router asked not to read
	flagHeaders                          // announced headers in CONNECT
	flagFailed                           // sent nonsense; no more is parsed
	flagClosing                          // close when the output is written
	flagLingering                        // output shut down, waiting for the peer's end
	flagCongested                        // the router was told
	flagEOF                              // the peer will send no more
	flagConnected                        // has sent its first complete operation
	flagWaiting                          // a complete payload waits for room in the arena
	flagWide                             // has been sent more than a small chunk at once
	flagUnix                             // is a Unix socket
	flagOpened                           // the router knows it, or will: OPEN is in the ring
	flagDeparting                        // has asked to move to another process
	flagArriving                         // is on its way here, without a socket yet
	flagPaced                            // has sent as much as it may for now
	flagLogin                            // waits for the router to accept its CONNECT
	flagAdmitted                         // which it has done
	flagSubscriber                       // has subscribed, or may have before it came here
	flagSystem                           // is the console's, who is no client
)

func (c *conn) has(f connFlags) bool { return c.flags&f != 0 }

// traffic counts in private memory; showIn and showOut copy it to the connection's row.
type traffic struct{ msgs, bytes uint64 }

// showIn and showOut write the connection's row, once per batch: its words cost more than
// counting does.
func (c *conn) showIn() {
	c.row.InMsgs.Store(c.in.msgs)
	c.row.InBytes.Store(c.in.bytes)
	c.showBusy()
}

func (c *conn) showOut() {
	c.row.OutMsgs.Store(c.sent.msgs)
	c.row.OutBytes.Store(c.sent.bytes)
	c.showBusy()
}

func (c *conn) showBusy() {
	suite := uint16(0)
	if c.tls != nil {
		suite = c.tls.suite
	}
	c.row.SetBusy(uint64(c.pending()), uint64(max(c.lastIn, 0))/uint64(time.Second), suite)
}

// pendingBody is a message whose payload arrives in several reads.
type pendingBody struct {
	headerLen int32
	size      int
	subject   []byte
	reply     []byte
	buf       []byte
}

func (c *conn) ref() store.Conn { return store.Conn{Slot: c.slot, Gen: c.gen} }

// reasons of a connection's end, as they stand in RecClosed and in the log.
const (
	reasonEOF uint8 = iota
	reasonError
	reasonRouter
	reasonSlow
	reasonStale
	reasonShutdown
	reasonTLS   // no handshake
	reasonMoved // on its way from another process
	reasonKicked
)

var reasonNames = [...]string{"eof", "error", "router", "slow_consumer", "stale", "shutdown", "tls", "moved", "kicked"}

// accept takes over a connection that the dispatcher handed to this cm.
func (m *cm) accept(h *privsep.ConnHandoff, fd int) {
	if int(h.Slot) >= len(m.conns) || m.conns[h.Slot] != nil {
		m.log.Error("handoff refused", privsep.Int(privsep.KeyCID, int64(h.UID)), privsep.Str(privsep.KeyReason, "slot in use"))
		privsep.CloseFD(fd)
		return
	}
	c := &conn{fd: fd, slot: h.Slot, gen: uint32(h.UID), uid: h.UID, lastIn: m.now, lastOut: m.now}
	if !h.TLS { // of such a one the workshop is told first
		if err := m.watch(c); err != nil {
			m.log.Error("handoff refused", privsep.Int(privsep.KeyCID, int64(h.UID)), privsep.Err(err))
			privsep.CloseFD(fd)
			m.release(int(h.Slot), h.UID)
			return
		}
	}
	if h.Unix {
		c.flags |= flagUnix
	}
	if h.System {
		c.flags |= flagSystem
	}
	c.row = m.columns.Row(int(h.Slot))
	c.row.UID.Store(h.UID)
	c.showIn()
	c.showOut()
	m.conns[h.Slot] = c
	m.live++
	m.countSystem(c, 1)
	if h.TLS {
		m.secure(c, h)
	} else {
		if m.cfg.Auth {
			m.await(c, m.cfg.AuthTimeout)
		}
		m.queue(c)
		m.open(c, h)
	}
}

// countSystem counts the connections of the console, which are none of clients.
func (m *cm) countSystem(c *conn, n int) {
	if c.has(flagSystem) {
		m.system += n
	}
}

// open greets the client of a new connection, or has the router do it.
func (m *cm) open(c *conn, h *privsep.ConnHandoff) {
	c.flags |= flagOpened
	rec := &m.recOpen
	*rec = store.RecOpen{Conn: c.ref(), UID: h.UID, Listener: h.Listener, Addr: h.Addr, Port: h.Port, Unix: h.Unix, TLS: h.TLS,
		Challenge: m.supply.number(h)}
	if rec.Challenge == 0 {
		m.must(rec)
	} else {
		m.whenever(rec)
		m.welcome(c, h) // which may lead to more to be said of c
	}
}

// lookup returns the connection that an instruction means, nil if it has ended.
func (m *cm) lookup(slot, gen uint32) *conn {
	if int(slot) >= len(m.conns) {
		return nil
	}
	if c := m.conns[slot]; c != nil && c.gen == gen {
		return c
	}
	return nil
}

// fail reports a protocol error. The router answers it in its turn and has the
// connection closed; until then nothing more is read.
func (m *cm) fail(c *conn, code wire.Code) {
	c.flags |= flagFailed
	m.dropBody(c)
	c.rest = nil
	c.forgetLogin()
	m.malformed++
	m.must(&store.RecFail{Conn: c.ref(), Code: uint8(code)})
}

// close ends a connection for good. One that has asked to move has said its last
// here: its successor finds out by itself what is wrong with it.
func (m *cm) close(c *conn, reason uint8) {
	if m.conns[c.slot] != c {
		return
	}
	if c.has(flagDeparting) {
		c.flags |= flagBlocked
		return
	}
	if c.has(flagArriving) {
		m.missed(c.uid)
	}
	m.farewell(c)
	m.conns[c.slot] = nil
	m.live--
	m.countSystem(c, -1)
	m.dropBody(c)
	m.dropOutput(c)
	c.rest = nil
	c.forgetLogin()
	c.flags |= flagFailed
	m.release(int(c.slot), c.uid)
	if c.fd >= 0 && (c.tls == nil || !m.endTLS(c)) {
		privsep.CloseFD(c.fd)
	}
	if closed := (&store.RecClosed{Conn: c.ref(), Reason: reason}); c.has(flagSubscriber) {
		m.must(closed) // others may notice
	} else if c.has(flagOpened) {
		m.whenever(closed)
	}
	if reason == reasonSlow {
		m.slow++
	}
	if reason == reasonSlow || reason == reasonStale || reason == reasonKicked {
		m.log.Info("connection ended", privsep.Int(privsep.KeyCID, int64(c.uid)), privsep.Str(privsep.KeyReason, reasonNames[reason]))
	}
}

// release tells the dispatcher that the place of a connection is free.
func (m *cm) release(slot int, uid uint64) {
	row := m.columns.Row(slot)
	row.ClosedUID.Store(uid)
	row.UID.Store(0)
	m.columns.Counters().Closed.Add(1)
}

// queue puts a connection on the list of those to read from.
func (m *cm) queue(c *conn) {
	c.flags |= flagReadable
	if !c.has(flagQueued) {
		c.flags |= flagQueued
		m.ready = append(m.ready, c)
	}
}
