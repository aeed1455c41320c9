package cm

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
	"gatehouse/store"
)

// Main is a connection manager's life, step by step. It returns nil when it was
// told to stop and has drained.
func Main() error {
	runtime.LockOSThread()

	// Still root: the channel, the settings, the shared memory.
	boot, parent, err := privsep.Inherit()
	if err != nil {
		return err
	}
	set, err := privsep.ReadSetup(parent)
	if err != nil {
		return err
	}
	m, err := newCM(boot, set, parent)
	if err != nil {
		return err
	}
	m.alone = true
	privsep.OthersGiveWay() // messages, which are this thread's, go before handshakes

	// Empty root, own uid, no capability, no new privileges; proved.
	if boot.UID != 0 {
		if err := privsep.EmptyRoot(set.Settings.Root); err != nil {
			return err
		}
		if err := privsep.Drop(boot.UID, boot.GID); err != nil {
			return err
		}
	} else if err := privsep.NoNewPrivs(); err != nil {
		return err
	}

	// From here on: the sockets that are handed over, and nothing else.
	walls, err := sandbox.Enter(privsep.RoleCM, sandbox.Options{OwnUID: boot.UID != 0, Trap: set.Settings.Trap})
	if err != nil {
		return err
	}
	m.walls = walls
	if err := privsep.Announce(parent, walls); err != nil {
		return err
	}
	return m.run()
}

// Run is the rest of Main for a role that shares its process with what stands
// in for its parent, and so has nothing to give up. It leaves its channel to
// the caller.
func Run(boot *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) error {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	m, err := newCM(boot, set, parent)
	if err != nil {
		return err
	}
	defer m.poll.Close()
	defer m.closeTLS()
	if err := privsep.Announce(parent, privsep.Sandbox{}); err != nil {
		return err
	}
	return m.run()
}

// maxConnect bounds a CONNECT line: certificate chains travel in it.
const maxConnect = 64 << 10

func newCM(boot *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) (*cm, error) {
	cfg := &set.Settings
	m := &cm{
		index: boot.ID.Index, generation: boot.Generation, cfg: cfg, parent: parent, log: privsep.NewLogger(parent),
		limits: limitsOf(cfg),
		small:  pool{size: smallChunk, limit: smallLimit}, large: pool{size: chunkSize, limit: largeLimit},
		bell: -1, conns: make([]*conn, cfg.Places()), rbuf: make([]byte, readSize),
		slowEvery: slowEvery(cfg),
	}
	m.log.SetLevel(cfg.LogLevel)
	// What is live is small and what is thrown away is smaller: collect late.
	debug.SetGCPercent(400)
	var err error
	if m.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := m.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	if err := m.newTLS(); err != nil {
		return nil, err
	}
	if err := m.mapRings(set, boot.Generation); err != nil {
		return nil, err
	}
	if err := m.mapArenas(set, boot.Generation); err != nil {
		return nil, err
	}
	m.takeOver(boot.Generation)
	return m, nil
}

// takeOver reports the connections of an earlier process of this cm as gone.
func (m *cm) takeOver(generation uint64) {
	m.readClock()
	c := m.columns.Counters()
	for _, row := range m.columns.Used() {
		if row.UID.Load() != 0 {
			row.ClosedUID.Store(row.UID.Load())
			row.UID.Store(0)
			c.Closed.Add(1)
		}
	}
	m.inMsgs, m.inBytes = c.InMsgs.Load(), c.InBytes.Load()
	m.outMsgs, m.outBytes = c.OutMsgs.Load(), c.OutBytes.Load()
	m.slow, m.malformed = c.SlowConsumers.Load(), c.Malformed.Load()
	m.must(&store.RecReset{Generation: generation})
}

// mapRings opens the rings to and from the router. What an earlier process left
// in them is not believed, whatever it died of: this one begins where the router
// stands, when that has done with the one before.
func (m *cm) mapRings(set *privsep.Setup, generation uint64) error {
	var segs [4]*store.Segment
	for i, k := range []privsep.SegmentKind{privsep.SegRingUpData, privsep.SegRingUpHead,
		privsep.SegRingDownData, privsep.SegRingDownHead} {
		var err error
		if segs[i], err = privsep.TakeSegment(set, k, m.index, store.Map); err != nil {
			return err
		}
	}
	columns, err := privsep.TakeSegment(set, privsep.SegConnColumns, m.index, store.MapUsed)
	if err != nil {
		return err
	}
	if m.out, err = store.NewProducer(segs[0], segs[1]); err != nil {
		return err
	}
	if m.in, err = store.NewConsumer(segs[2], segs[3]); err != nil {
		return err
	}
	if m.columns, err = store.NewConnColumns(columns, m.cfg.Places()); err != nil || generation <= 1 {
		return err
	}
	for end := time.Now().Add(routerWait); m.out.Closed() < generation-1; time.Sleep(routerLook) {
		if time.Now().After(end) {
			return fmt.Errorf("the router has not done with process %d of cm/%d", generation-1, m.index)
		}
	}
	m.out.Restart()
	m.in.Restart()
	return nil
}

// How long and how often a new process looks for the router's word on the one
// before it: within the time that it has to get ready.
const (
	routerWait = 8 * time.Second
	routerLook = 500 * time.Microsecond
)

func (m *cm) mapArenas(set *privsep.Setup, generation uint64) error {
	var own *store.Segment
	var returns []*store.Returns
	slots := store.Slots(m.cfg.Arena)
	for i := range m.cfg.CMs {
		body, err := privsep.TakeSegment(set, privsep.SegArena, i, store.Map)
		if err != nil {
			return err
		}
		if i == m.index {
			own = body
		}
		words, err := privsep.TakeSegment(set, privsep.SegReturns, i, store.Map)
		if err != nil {
			return err
		}
		view, err := store.NewArenaView(i, body, m.cfg.Arena)
		if err != nil {
			return err
		}
		r, err := store.NewReturns(words, m.cfg.CMs, slots)
		if err != nil {
			return err
		}
		m.views, returns = append(m.views, view), append(returns, r)
	}
	m.returns = returns[m.index]
	if generation > 1 {
		m.returns.Clear()
	}
	words, err := privsep.TakeSegment(set, privsep.SegNamed, m.index, store.Map)
	if err != nil {
		return err
	}
	named, err := store.NewNamed(words, slots)
	if err != nil {
		return err
	}
	m.arena, err = store.NewArena(m.index, own, m.cfg.Arena, named, returns)
	return err
}

// newBell takes the doorbell to a router.
func (m *cm) newBell(msg *privsep.Message) error {
	var d privsep.DoorbellEnd
	if err := d.Parse(msg.Payload); err != nil {
		return err
	}
	if m.bell >= 0 {
		m.poll.Del(m.bell)
		privsep.CloseFD(m.bell)
	}
	m.bell, m.wakes = msg.FDs[0], 0
	if err := m.poll.Add(m.bell, tokenBell, privsep.In|privsep.Edge); err != nil {
		return err
	}
	m.ring() // what was rung before it was there may be lost
	return nil
}

// endAll ends all connections, also those on their way to another process.
func (m *cm) endAll(reason uint8) (n int64) {
	for _, c := range m.conns {
		if c != nil {
			m.remain(c)
			m.close(c, reason)
			n++
		}
	}
	return n
}

// newPeer takes a channel that connections come in on: from the dispatcher, or
// from the process that this one replaces.
func (m *cm) newPeer(msg *privsep.Message) error {
	var p privsep.Peer
	if err := p.Parse(msg.Payload); err != nil {
		msg.CloseFDs()
		return err
	}
	switch p.ID.Role {
	case privsep.RoleDispatcher:
	case privsep.RoleCM:
		return m.newPredecessor(&p, msg.FDs[0])
	default:
		msg.CloseFDs()
		return privsep.ErrShape
	}
	// What the dispatcher before it had handed over is taken first, to its last
	// message: it has ended. Then the new one may know.
	fd := msg.FDs[0]
	m.fromDispatcher()
	if m.disp != nil {
		m.dropDispatcher()
	}
	m.columns.Counters().Dispatcher.Store(p.Generation)
	m.disp = privsep.NewChannel(fd, privsep.RoleCM, privsep.RoleDispatcher, p.Key)
	m.disp.SetPhase(privsep.PhaseRun)
	return m.poll.Add(m.disp.FD(), tokenDispatcher, privsep.In)
}
