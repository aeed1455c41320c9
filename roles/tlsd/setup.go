package tlsd

import (
	"runtime"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
)

// Main is tlsd's life, step by step. It returns only with an error or when it was told
// to stop, or no new parent has come.
func Main() error {
	runtime.LockOSThread()

	// Still root: the channel, the settings, the socket for callers, the policies.
	boot, parent, err := privsep.Inherit()
	if err != nil {
		return err
	}
	set, err := privsep.ReadSetup(parent)
	if err != nil {
		return err
	}
	t, err := newTLSD(boot, set, parent)
	if err != nil {
		return err
	}
	privsep.GiveWay() // messages go before callers, and callers before what is done for them

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

	// From here on: callers, and connections to the ports of the configuration.
	walls, err := sandbox.Enter(privsep.RoleTLSD, sandbox.Options{OwnUID: boot.UID != 0, Trap: set.Settings.Trap, Connect: set.Settings.TLSPorts})
	if err != nil {
		return err
	}
	t.walls = walls
	t.hub.setPolicies(set.Policies) // certificates are files of others: read behind the walls
	if err := privsep.Announce(parent, walls); err != nil {
		return err
	}
	runtime.UnlockOSThread() // the loop is one goroutine among many
	return t.run()
}

// Run is the rest of Main for a role that shares its process with what stands in for
// its parent, and so has nothing to give up. It leaves its channel to the caller.
func Run(boot *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) error {
	t, err := newTLSD(boot, set, parent)
	if err != nil {
		return err
	}
	defer t.poll.Close()
	t.hub.setPolicies(set.Policies)
	if err := privsep.Announce(parent, privsep.Sandbox{}); err != nil {
		return err
	}
	return t.run()
}

func newTLSD(boot *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) (*tlsd, error) {
	t := &tlsd{cfg: &set.Settings, parent: parent, listener: -1}
	log := privsep.NewJournal(parent)
	log.SetLevel(t.cfg.LogLevel)
	t.hub = newHub(t.cfg.TLSD, log, newAsking(parent), newShards(boot.ID.Index, len(set.Shards)+1))
	var err error
	if t.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := t.poll.Share(); err != nil {
		return nil, err
	}
	if err := t.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	if t.bell, t.hub.bell, err = privsep.Doorbell(); err != nil {
		return nil, err
	}
	if err := t.poll.Add(t.bell, tokenBell, privsep.In); err != nil {
		return nil, err
	}
	for _, l := range set.Listeners {
		t.listener, t.path = l.FD, l.Address
	}
	if t.listener < 0 {
		return nil, privsep.ErrShape
	}
	for _, f := range set.Shards {
		if err := t.shard(f); err != nil {
			return nil, err
		}
	}
	return t, nil
}
