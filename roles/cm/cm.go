package cm

import (
	"io"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

type cm struct {
	index      int
	generation uint64 // of this process
	alone      bool   // has the process to itself
	orphan     orphan
	walls      privsep.Sandbox
	cfg        *privsep.Settings
	limits     wire.Limits
	parent     *privsep.Channel
	disp       *privsep.Channel // nil before the dispatcher is known
	log        *privsep.Logger
	poll       *privsep.Poller

	// The rings to and from the router, and the doorbell both ways.
	out   *store.Producer
	in    *store.Consumer
	bell  int
	wakes int

	arena   *store.Arena
	views   []*store.ArenaView // of every cm's arena, by index
	returns *store.Returns
	columns *store.ConnColumns
	waited  waitedFor
	pace    paced
	supply  supply
	quiet   unhurried

	conns   []*conn // by slot
	live    int
	system  int     // of these
	ready   []*conn // to be read from
	spare   []*conn
	dirty   []*conn // to be written to
	waiting []*conn // with a deadline
	behind  []*conn // readers whose senders wait

	hurry   bool     // what was said to the router must not wait for the batch
	full    bool     // ring or arena: no reading
	ahead   bool     // of the router: no reading
	backlog [][]byte // records that had no room
	stalls  [fullArena + 1]uint64

	now                int64 // ns, taken once per round
	lastShown          int64
	shownMsgs          uint64 // then, of both directions
	shownBytes         uint64
	shownLive          int
	nextFast, nextSlow int64
	slowEvery          time.Duration
	stopping           bool // no more is read
	drained            bool // the parent was told that all of it is routed
	leaving            bool // so is what the others had read
	stopBy             int64

	inMsgs, inBytes, outMsgs, outBytes, slow, malformed uint64

	tls       tlsSide
	departing departure
	arriving  arrivals

	// Scratch space of the message path.
	rbuf  []byte
	head  []byte
	frame wire.Frame
	pub   store.RecPub
	asked wire.Facts
	facts []byte
	block []byte
	told  []byte
	// The same of new connections.
	handoff    privsep.ConnHandoff
	recOpen    store.RecOpen
	recConnect store.RecConnect
	// ownLimits are the parser's for a connection that has its own.
	ownLimits wire.Limits
	ins       store.InsDeliver
	msg       privsep.Message

	small   pool
	large   pool
	outputs []*output
	bodies  []*pendingBody
}

const (
	tokenParent = iota
	tokenDispatcher
	tokenBell
	tokenTLS
	tokenSuccessor
	tokenPredecessor
	tokenConn // + slot
)

var clock = time.Now()

func (m *cm) readClock() { m.now = int64(time.Since(clock)) }

// run is the cm's life: instructions, output, input, and sleep when there is
// nothing of it.
func (m *cm) run() error {
	for round := 0; ; round++ {
		m.readClock()
		worked, err := m.instructions()
		if err != nil {
			return err
		}
		m.flushDirty()
		if m.full {
			m.arena.Reclaim()
			m.resume()
		}
		m.unpace()
		if m.mayRead(round) {
			worked = m.readReady() || worked
		}
		m.arrive()
		m.depart()
		m.publish()
		m.tick()
		if err := m.fromHandshakes(); err != nil {
			return err
		}
		if m.stopping && m.finish() || m.retired() {
			return nil
		}
		if worked && round%8 != 0 {
			continue
		}
		if err := m.wait(worked); err != nil {
			return err
		}
	}
}

// What may be under way between here and the router before reading pauses, in
// bytes of the rings. Short queues keep bodies in the processor's cache and
// latency low; these are long enough to keep both sides busy.
const (
	upLimit   = 256 << 10
	downLimit = 64 << 10
)

// mayRead tells whether clients are read from in this round: not while ring or
// arena are full or the router is far behind, and seldom while much waits to be
// delivered.
func (m *cm) mayRead(round int) bool {
	m.ahead = false
	switch {
	case len(m.ready) == 0 || m.full || m.stopping:
		return false
	case round%4 != 0 && m.in.Backlog() > downLimit:
		return false
	}
	_, unread := m.out.Lag()
	m.ahead = unread > upLimit
	return !m.ahead
}

// publish makes the round visible to the router.
func (m *cm) publish() {
	m.showTotals()
	ring := false
	if m.hurried() {
		m.quiet.by = 0
		ring = m.out.Publish()
	}
	if m.in.Release() || ring {
		m.ring()
	}
}

func (m *cm) ring() {
	if m.bell >= 0 {
		privsep.Ring(m.bell)
	}
}

// wait looks for events; it sleeps only if nothing is left to do.
func (m *cm) wait(worked bool) error {
	var timeout time.Duration
	switch {
	case worked || m.arriving.more || m.out.Pending() && m.hurried() || len(m.ready) > 0 && !m.full && !m.stopping && !m.ahead:
	case !m.in.Sleep():
	case m.full:
		// Room in the ring is rung for; room in the arena is looked for.
		timeout = time.Millisecond
		if len(m.backlog) > 0 && m.out.WantSpace(len(m.backlog[0])) {
			timeout = 0
		}
	case m.stopping:
		timeout = time.Millisecond
	case m.ahead && m.out.WantDrained(upLimit/2):
	default:
		m.showRest()
		timeout = m.timeout()
	}
	ready, err := m.tls.counter.finished.wait(m.poll, timeout)
	if err != nil {
		return err
	}
	m.in.Awake()
	m.readClock()
	for _, e := range ready {
		if err := m.event1(e); err != nil {
			return err
		}
	}
	return nil
}

func (m *cm) event1(e privsep.Ready) error {
	switch e.Token {
	case tokenParent:
		if m.parent.Orphaned() {
			m.heard()
			return nil
		}
		return m.fromParent()
	case tokenDispatcher:
		m.fromDispatcher()
		return nil
	case tokenBell:
		if m.wakes++; m.wakes >= privsep.DrainEvery || e.Hup {
			m.wakes = 0
			privsep.DrainBell(m.bell)
		}
		return nil
	case tokenTLS:
		m.tls.counter.finished.heard()
		return nil
	case tokenSuccessor:
		m.successorEvent(e)
		return nil
	case tokenPredecessor:
		m.predecessorEvent(e)
		return nil
	}
	c := m.conns[e.Token-tokenConn]
	switch {
	case c == nil:
		return nil
	case c.securing():
		m.securingEvent(c, e)
		m.flushDirty()
		return nil
	}
	if e.Hup {
		c.flags |= flagEOF
	}
	if e.In || e.Hup {
		m.queue(c)
	}
	if e.Out && c.has(flagBlocked) {
		c.flags &^= flagBlocked
		m.touch(c)
		m.flushDirty()
	}
	return nil
}

// fromDispatcher takes over connections. A dispatcher that breaks the protocol
// loses its channel, the connections stay.
func (m *cm) fromDispatcher() {
	for m.disp != nil {
		err := m.disp.Recv(&m.msg)
		if err == privsep.ErrAgain {
			return
		}
		h := &m.handoff
		if err == nil {
			err = h.Parse(m.msg.Payload)
		}
		if err != nil {
			if err != io.EOF {
				m.log.Error("channel closed", privsep.Str(privsep.KeyPeer, "dispatcher"), privsep.Err(err))
			}
			m.dropDispatcher()
			return
		}
		m.accept(h, m.msg.FDs[0])
	}
}

func (m *cm) dropDispatcher() {
	m.poll.Del(m.disp.FD())
	m.disp.Close()
	m.disp = nil
}

func (m *cm) fromParent() error {
	for {
		err := m.parent.Recv(&m.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			return m.lost()
		case err != nil:
			return err
		}
		if err := m.handle(&m.msg); err != nil {
			return err
		}
	}
}

func (m *cm) handle(msg *privsep.Message) error {
	switch msg.Kind {
	case privsep.KindDoorbell:
		return m.newBell(msg)
	case privsep.KindPeer:
		return m.newPeer(msg)
	case privsep.KindRetire:
		return m.retire(msg)
	case privsep.KindStatsGet:
		m.arena.Reclaim() // else what is free but not yet needed would count as used
		bytes, bodies := m.arena.Used()
		return privsep.AnswerStats(m.parent, msg, privsep.RoleStats{
			Connections: uint64(m.live - m.system), InMsgs: m.inMsgs, OutMsgs: m.outMsgs, InBytes: m.inBytes,
			OutBytes: m.outBytes, SlowConsumers: m.slow, Malformed: m.malformed, ArenaUsed: bytes, ArenaBodies: bodies,
			Handshakes: m.tls.done, HandshakesFailed: m.tls.failed,
		})
	case privsep.KindCertificate:
		return m.takeCertificate(msg)
	case privsep.KindKey:
		return m.takeKey(msg)
	case privsep.KindSigned:
		return m.takeSigned(msg)
	case privsep.KindSettings:
		return m.settings(msg)
	case privsep.KindKick:
		return m.kick(msg)
	case privsep.KindShutdown:
		var s privsep.Shutdown
		if err := s.Parse(msg.Payload); err != nil {
			return err
		}
		m.leaving = m.stopping
		m.stopping, m.stopBy = true, m.now+int64(s.Drain)
	}
	return nil
}

// shown is the least time between two looks at the counters in shared memory.
const shown = 100 * time.Millisecond

// showTotals copies the counters to where the console and the dispatcher read
// them.
func (m *cm) showTotals() {
	if m.now-m.lastShown >= int64(shown) {
		m.show()
	}
}

// showRest does so before a sleep, if anything has changed since.
func (m *cm) showRest() {
	if m.lastShown == 0 || m.shownMsgs != m.inMsgs+m.outMsgs || m.shownLive != m.live || m.shownBytes != m.inBytes+m.outBytes {
		m.show()
	}
}

func (m *cm) show() {
	m.lastShown, m.shownLive = m.now, m.live
	m.shownMsgs, m.shownBytes = m.inMsgs+m.outMsgs, m.inBytes+m.outBytes
	c := m.columns.Counters()
	c.Epoch.Store(uint64(clock.UnixNano()))
	c.Open.Store(uint64(m.live - m.system))
	c.InMsgs.Store(m.inMsgs)
	c.InBytes.Store(m.inBytes)
	c.OutMsgs.Store(m.outMsgs)
	c.OutBytes.Store(m.outBytes)
	c.SlowConsumers.Store(m.slow)
	c.Malformed.Store(m.malformed)
	c.RingFull.Store(m.stalls[fullRing])
	c.ArenaFull.Store(m.stalls[fullArena])
}
