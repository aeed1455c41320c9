package console

import (
	"runtime"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
)

// Main is the console's life, step by step. It returns only with an error or when it was
// told to stop, or no new parent has come.
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
	c, err := newConsole(set, parent)
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

	// From here on: accept, and answer.
	walls, err := sandbox.Enter(privsep.RoleConsole, sandbox.Options{OwnUID: boot.UID != 0, Trap: set.Settings.Trap})
	if err != nil {
		return err
	}
	c.walls = walls
	if err := privsep.Announce(parent, walls); err != nil {
		return err
	}
	return c.run()
}

// Run is the rest of Main for a role that shares its process with what stands in for its
// parent, and so has nothing to give up. It leaves its channel to the caller.
func Run(_ *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) error {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	c, err := newConsole(set, parent)
	if err != nil {
		return err
	}
	defer c.poll.Close()
	if err := privsep.Announce(parent, privsep.Sandbox{}); err != nil {
		return err
	}
	return c.run()
}

func newConsole(set *privsep.Setup, parent *privsep.Channel) (*console, error) {
	c := &console{cfg: &set.Settings, parent: parent, listeners: map[uint16]*listener{}}
	c.log = journal{privsep.NewJournal(parent)}
	c.log.SetLevel(c.cfg.LogLevel)
	c.word = newWord(parent)
	var err error
	if c.view, err = newView(set); err != nil {
		return nil, err
	}
	c.subs = new(subs)
	page, err := newPage()
	if err != nil {
		return nil, err
	}
	c.server = newServer(c.view, c.word, c.subs, c.log, page, c.cfg)
	if c.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := c.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	if c.bell, c.server.bell, err = privsep.Doorbell(); err != nil {
		return nil, err
	}
	if err := c.poll.Add(c.bell, tokenBell, privsep.In); err != nil {
		return nil, err
	}
	for _, l := range set.Listeners {
		if err := c.listenAt(&l.Listener, l.FD); err != nil {
			return nil, err
		}
	}
	return c, nil
}
