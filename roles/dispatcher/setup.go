package dispatcher

import (
	"runtime"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
	"gatehouse/store"
	"gatehouse/tickets"
)

// Main is the dispatcher's life, step by step. It returns only with an error or
// when it was told to stop, or no new parent has come.
func Main() error {
	runtime.LockOSThread()

	// Still root: the channel, the settings, listeners and shared memory.
	boot, parent, err := privsep.Inherit()
	if err != nil {
		return err
	}
	set, err := privsep.ReadSetup(parent)
	if err != nil {
		return err
	}
	d, err := newDispatcher(boot, set, parent)
	if err != nil {
		return err
	}
	privsep.GiveWay() // messages go before new connections

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

	// From here on: accept, and hand over.
	walls, err := sandbox.Enter(privsep.RoleDispatcher, sandbox.Options{OwnUID: boot.UID != 0, Trap: set.Settings.Trap})
	if err != nil {
		return err
	}
	d.walls = walls
	if err := privsep.Announce(parent, walls); err != nil {
		return err
	}
	return d.run()
}

// Run is the rest of Main for a role that shares its process with what stands
// in for its parent, and so has nothing to give up. It leaves its channel to
// the caller.
func Run(boot *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) error {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	d, err := newDispatcher(boot, set, parent)
	if err != nil {
		return err
	}
	defer d.poll.Close()
	if err := privsep.Announce(parent, privsep.Sandbox{}); err != nil {
		return err
	}
	return d.run()
}

func newDispatcher(boot *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) (*dispatcher, error) {
	cfg := &set.Settings
	d := &dispatcher{
		cfg: cfg, parent: parent, log: privsep.NewLogger(parent), generation: boot.Generation,
		// Known to the parent too, which made the channel's key.
		key:        tickets.HandoffKey(boot.Key.Derive(tickets.HandoffPurpose)),
		rate:       newLimiter(cfg.ConnectRate, cfg.ConnectBurst),
		cms:        make([]cmPeer, cfg.CMs),
		complaints: make(map[string]complaint),
	}
	d.maker = tickets.NewMaker(d.key)
	d.uptime = int64(privsep.Monotonic())
	d.readClock()
	d.uptime -= d.now
	d.log.SetLevel(cfg.LogLevel)
	var err error
	if d.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := d.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	for _, l := range set.Listeners {
		d.listeners = append(d.listeners, newListener(&l.Listener, l.FD))
	}
	return d, d.mapTable(set)
}

func (d *dispatcher) mapTable(set *privsep.Setup) error {
	rows := d.cfg.Places()
	seg, err := privsep.TakeSegment(set, privsep.SegConnTable, 0, store.Map)
	if err != nil {
		return err
	}
	if d.table, err = store.NewConnTable(seg, rows); err != nil {
		return err
	}
	for i := range d.cfg.CMs {
		seg, err := privsep.TakeSegment(set, privsep.SegConnColumns, i, store.Map)
		if err != nil {
			return err
		}
		c, err := store.NewConnColumns(seg, rows)
		if err != nil {
			return err
		}
		d.columns = append(d.columns, c)
	}
	return nil
}
