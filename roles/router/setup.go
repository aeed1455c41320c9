package router

import (
	"crypto/rand"
	"encoding/binary"
	"runtime"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
	"gatehouse/store"
	"gatehouse/wire"
)

// Main is the router's life, step by step. It returns only with an error or
// when it was told to stop, or no new parent has come.
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
	r, err := newRouter(set, parent)
	if err != nil {
		return err
	}

	mortal(boot.Generation)

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

	// From here on: no new files, no sockets, nothing of another role's.
	walls, err := sandbox.Enter(privsep.RoleRouter, sandbox.Options{OwnUID: boot.UID != 0, Trap: set.Settings.Trap})
	if err != nil {
		return err
	}
	r.walls = walls
	if err := privsep.Announce(parent, walls); err != nil {
		return err
	}
	return r.run()
}

// Run is the rest of Main for a role that shares its process with what stands
// in for its parent, and so has nothing to give up. It leaves its channel to
// the caller.
func Run(_ *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) error {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	r, err := newRouter(set, parent)
	if err != nil {
		return err
	}
	defer r.poll.Close()
	if err := privsep.Announce(parent, privsep.Sandbox{}); err != nil {
		return err
	}
	return r.run()
}

// newRouter gets a router ready, which writes nothing into shared memory yet but
// the headers of new segments: see takeOver.
func newRouter(set *privsep.Setup, parent *privsep.Channel) (*router, error) {
	r := &router{
		at:  nobody,
		cfg: &set.Settings, parent: parent, log: privsep.NewLogger(parent),
		index: newIndex(), requests: newRequests(), profiles: newSet(set.Profiles), greeting: newGreetings(&set.Settings),
		names: make(map[string]string), refused: make(map[wire.Code]uint64), began: time.Now(),
	}
	r.log.SetLevel(set.Settings.LogLevel)
	r.setMost()
	r.watchAges()
	r.epoch = int64(privsep.Uptime())
	var seed [8]byte
	rand.Read(seed[:])
	r.rnd = binary.LittleEndian.Uint64(seed[:]) | 1
	var err error
	r.logins.setMarks(set.Marks)
	if r.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := r.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	for i := range set.Settings.CMs {
		l, err := newLink(set, i)
		if err != nil {
			return nil, err
		}
		r.links = append(r.links, l)
	}
	seg, err := privsep.TakeSegment(set, privsep.SegConnTable, 0, store.Map)
	if err != nil {
		return nil, err
	}
	if r.table, err = store.NewConnTable(seg, r.cfg.Places()); err != nil {
		return nil, err
	}
	seg, err = privsep.TakeSegment(set, privsep.SegSessions, 0, store.Map)
	if err != nil {
		return nil, err
	}
	if r.watch.shown, err = store.NewSessions(seg, r.cfg.Places()); err != nil {
		return nil, err
	}
	seg, err = privsep.TakeSegment(set, privsep.SegState, 0, store.Map)
	if err != nil {
		return nil, err
	}
	if r.state, err = store.NewState(seg, r.cfg.Journal, r.cfg.CMs); err != nil {
		return nil, err
	}
	r.size = newSizes(r.cfg, &r.state.Journal)
	r.redo.Links = make([]store.Mark, len(r.links))
	return r, nil
}

func newLink(set *privsep.Setup, i int) (*link, error) {
	l := &link{index: i, bell: -1, slots: set.Settings.Places()}
	var segs [6]*store.Segment
	var err error
	for k, kind := range []privsep.SegmentKind{privsep.SegRingUpData, privsep.SegRingUpHead, privsep.SegRingDownData,
		privsep.SegRingDownHead, privsep.SegNamed, privsep.SegReturns} {
		if segs[k], err = privsep.TakeSegment(set, kind, i, store.Map); err != nil {
			return nil, err
		}
	}
	if l.in, err = store.NewConsumer(segs[0], segs[1]); err != nil {
		return nil, err
	}
	if l.out, err = store.NewProducer(segs[2], segs[3]); err != nil {
		return nil, err
	}
	slots := store.Slots(set.Settings.Arena)
	if l.named, err = store.NewNamed(segs[4], slots); err != nil {
		return nil, err
	}
	if l.returns, err = store.NewReturns(segs[5], set.Settings.CMs, slots); err != nil {
		return nil, err
	}
	return l, nil
}
