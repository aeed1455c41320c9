package privsep

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Where a child finds its channel to the parent, and the socket at which a new
// parent may ask for it.
const (
	childFD = 3
	AdoptFD = 4
)

// Inherit is a child's first act: it takes the channel at fd 3 and what
// listens at fd 4, and waits for BOOT. The channel it returns is in PhaseSetup. ErrNotChild: started by hand.
func Inherit() (*Boot, *Channel, error) {
	id, err := childID(os.Args)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range []int{childFD, AdoptFD} {
		if !isChannel(fd) {
			return nil, nil, ErrNotChild
		}
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, nil, fmt.Errorf("channel: %w", err)
		}
	}
	nameThreads()
	// The key is not known yet: a channel under no key waits, and bootstrap
	// makes the real direction from what comes.
	c := NewChannel(childFD, id.Role, RoleParent, Key{})
	boot, err := c.inherit(id)
	if err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("boot: %w", err)
	}
	c.heir = newHeir(boot, AdoptFD)
	return boot, c, nil
}

// inherit receives BOOT and re-keys c with it.
func (c *Channel) inherit(id ID) (*Boot, error) {
	var p packet
	err := c.wait("receive from", false, bootWait, func() error { return recvPacket(c.fd, c.rbuf, &p) })
	if err != nil {
		closeFDs(p.fds)
		return nil, err
	}
	boot, in, err := bootstrap(c.rbuf[:p.n], len(p.fds), id)
	clear(c.rbuf[:p.n])
	if err != nil {
		closeFDs(p.fds)
		return nil, err
	}
	c.in, c.out = in, newDirection(boot.Key, id.Role, RoleParent)
	c.SetPhase(PhaseSetup)
	return boot, nil
}

// isChannel reports whether fd is a packet socket of the Unix kind.
func isChannel(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return false
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && typ == unix.SOCK_SEQPACKET
}

// nameThreads gives every thread the name that top and pkill show: after an
// exec of /proc/self/fd/N it would be N. A thread has the name of the one that
// began it, so all have it once a look finds no other. Only a name, so errors do
// not matter.
func nameThreads() {
	const name = "gatehouse"
	for other := true; other; {
		other = false
		tasks, _ := os.ReadDir("/proc/self/task")
		for _, t := range tasks {
			path := "/proc/self/task/" + t.Name() + "/comm"
			if has, err := os.ReadFile(path); err == nil && string(has) != name+"\n" {
				other = os.WriteFile(path, []byte(name), 0) == nil
			}
		}
	}
}
