package router

import (
	"crypto/rand"
	"encoding/binary"
	"runtime"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
	"gatehouse/store"
	"gatehouse/wire"
)

// Main is the router's life, step by step. It returns only with an error or
// when the parent has gone.
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

func newRouter(set *privsep.Setup, parent *privsep.Channel) (*router, error) {
	r := &router{
		cfg: &set.Settings, parent: parent, log: privsep.NewLogger(parent),
		index: newIndex(), greeting: newGreetings(&set.Settings), names: make(map[string]string),
		refused: make(map[wire.Code]uint64),
	}
	r.log.SetLevel(set.Settings.LogLevel)
	var seed [8]byte
	rand.Read(seed[:])
	r.rnd = binary.LittleEndian.Uint64(seed[:]) | 1
	var err error
	if r.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := r.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	for i := range set.Settings.CMs {
		p, err := mapPlace(set, i)
		if err != nil {
			return nil, err
		}
		r.places = append(r.places, p)
	}
	return r, nil
}

// place is the shared memory with one cm.
type place struct{ upData, upHead, downData, downHead, named, returns *store.Segment }

func mapPlace(set *privsep.Setup, i int) (p place, err error) {
	for kind, seg := range map[privsep.SegmentKind]**store.Segment{
		privsep.SegRingUpData: &p.upData, privsep.SegRingUpHead: &p.upHead, privsep.SegRingDownData: &p.downData,
		privsep.SegRingDownHead: &p.downHead, privsep.SegNamed: &p.named, privsep.SegReturns: &p.returns} {
		if *seg, err = privsep.TakeSegment(set, kind, i, store.Map); err != nil {
			return place{}, err
		}
	}
	return p, nil
}

// begin takes up the words of the router as the process before has left them. It
// follows the parent's first word on a cm: until then that process may still be
// there, and this one has written nothing.
func (r *router) begin() error {
	for i, p := range r.places {
		l, err := newLink(r.cfg, i, &p)
		if err != nil {
			return err
		}
		r.links = append(r.links, l)
	}
	return nil
}

func newLink(cfg *privsep.Settings, i int, p *place) (*link, error) {
	l := &link{index: i, bell: -1, slots: cfg.MaxConnections}
	var err error
	if l.in, err = store.NewConsumer(p.upData, p.upHead); err != nil {
		return nil, err
	}
	if l.out, err = store.NewProducer(p.downData, p.downHead); err != nil {
		return nil, err
	}
	slots := store.Slots(cfg.Arena)
	if l.named, err = store.NewNamed(p.named, slots); err != nil {
		return nil, err
	}
	if l.returns, err = store.NewReturns(p.returns, cfg.CMs, slots); err != nil {
		return nil, err
	}
	l.seq, l.before = l.named.Last(), l.in.Published()
	return l, nil
}
