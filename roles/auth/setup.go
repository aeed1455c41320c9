package auth

import (
	"hash/maphash"
	"runtime"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
)

// Main is auth's life, step by step. It returns only with an error or when it was
// told to stop, or no new parent has come.
func Main() error {
	runtime.LockOSThread()

	// Still root: the channel, the settings, the users.
	boot, parent, err := privsep.Inherit()
	if err != nil {
		return err
	}
	set, err := privsep.ReadSetup(parent)
	if err != nil {
		return err
	}
	a, err := newAuth(set, parent)
	if err != nil {
		return err
	}
	privsep.Yield() // messages go before logins

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

	// From here on: arithmetic, and two channels.
	walls, err := sandbox.Enter(privsep.RoleAuth, sandbox.Options{OwnUID: boot.UID != 0, Trap: set.Settings.Trap})
	if err != nil {
		return err
	}
	a.walls = walls
	if err := a.learn(set); err != nil {
		return err
	}
	if err := privsep.Announce(parent, walls); err != nil {
		return err
	}
	return a.run()
}

// Run is the rest of Main for a role that shares its process with what stands
// in for its parent, and so has nothing to give up. It leaves its channel to
// the caller.
func Run(_ *privsep.Boot, set *privsep.Setup, parent *privsep.Channel) error {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	a, err := newAuth(set, parent)
	if err != nil {
		return err
	}
	defer a.poll.Close()
	if err := a.learn(set); err != nil {
		return err
	}
	if err := privsep.Announce(parent, privsep.Sandbox{}); err != nil {
		return err
	}
	return a.run()
}

func newAuth(set *privsep.Setup, parent *privsep.Channel) (*auth, error) {
	a := &auth{cfg: &set.Settings, parent: parent, log: privsep.NewLogger(parent), seed: maphash.MakeSeed()}
	a.log.SetLevel(a.cfg.LogLevel)
	a.processors = runtime.GOMAXPROCS(0)
	a.useProcessors()
	a.queue = newQueue(&a.cfg.Login)
	var err error
	if a.poll, err = privsep.NewPoller(); err != nil {
		return nil, err
	}
	if err := a.poll.Add(parent.FD(), tokenParent, privsep.In); err != nil {
		return nil, err
	}
	if a.bell, a.done.bell, err = privsep.Doorbell(); err != nil {
		return nil, err
	}
	a.dialer.bell = a.done.bell
	a.witness.bell = a.done.bell
	return a, a.poll.Add(a.bell, tokenDone, privsep.In)
}

// useProcessors gives each hash one of Go's processors for itself: a goroutine of its length
// is interrupted every 10 ms only, and signatures would have to wait for that. The kernel
// divides what processors there really are by shorter turns.
func (a *auth) useProcessors() {
	if n := a.processors + a.cfg.Login.Hashes; n != runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(n)
	}
}

// learn takes what the setup says of users and of who vouches for them: revocation
// lists are files of others, so nobody reads them before the walls are up.
func (a *auth) learn(set *privsep.Setup) error {
	a.approve(set.Approval)
	a.issuers = set.Issuers
	a.directory, a.directoryCA = set.Directory, set.CA
	return a.setUsers(set.Users)
}
