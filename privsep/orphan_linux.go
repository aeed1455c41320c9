package privsep

import (
	"os"

	"golang.org/x/sys/unix"
)

// heir is what a child has for the day on which its parent dies: a socket at
// which a new one asks for it.
type heir struct {
	id         ID
	generation uint64
	owner      int // uid that a parent must have
	fd         int // listens
	caller     int // has connected and not yet said ADOPT, -1: nobody
}

func newHeir(boot *Boot, fd int) *heir {
	h := &heir{id: boot.ID, generation: boot.Generation, fd: fd, caller: -1}
	if boot.UID == 0 { // without root all are one user
		h.owner = os.Geteuid()
	}
	return h
}

// Orphan is what a child does when its channel to the parent has ended: it
// closes it and has poll tell, by token, of a new parent. ErrOrphan: there can be
// none, and the child ends.
func (c *Channel) Orphan(poll *Poller, token uint64) error {
	if c.heir == nil {
		return ErrOrphan
	}
	if c.fd >= 0 {
		poll.Del(c.fd)
		c.Close()
	}
	return poll.Add(c.heir.fd, token, In)
}

// Orphaned tells whether there is no parent, to any goroutine. Send says ErrClosed
// then.
func (c *Channel) Orphaned() bool {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.fd < 0
}

// Adopted hears who is at the door of an orphan. True: there is a new parent,
// which has been told facts, and the channel is in PhaseRun again. What somebody
// else says there is worth no error.
func (c *Channel) Adopted(poll *Poller, token uint64, facts Adopted) bool {
	h := c.heir
	h.accept(poll, token)
	if h.caller < 0 {
		return false
	}
	var p packet
	err := recvPacket(h.caller, c.rbuf, &p)
	if err == ErrAgain {
		return false
	}
	closeFDs(p.fds)
	var a *Adopt
	var in direction
	if err == nil {
		a, in, err = adoption(c.rbuf[:p.n], len(p.fds), h.id, h.generation)
		clear(c.rbuf[:p.n])
	}
	if err != nil {
		h.hangUp(poll)
		return false
	}
	facts.Version, facts.Generation = Version, h.generation
	c.rekey(h.caller, a.Key, in)
	h.caller = -1
	if c.Send(KindAdopted, facts.Append(nil)) != nil { // gone already
		poll.Del(c.fd)
		c.Close()
		return false
	}
	c.SetPhase(PhaseRun)
	poll.Del(h.fd)
	return true
}

// accept takes who has connected. The last one counts, so that who connects and
// says nothing keeps nobody away.
func (h *heir) accept(poll *Poller, token uint64) {
	for {
		fd, _, errno := Accept(h.fd)
		if errno == unix.EINTR || errno == unix.ECONNABORTED {
			continue
		}
		if errno != 0 {
			return
		}
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Uid) != h.owner {
			closeFD(fd)
			continue
		}
		h.hangUp(poll)
		if poll.Add(fd, token, In) != nil {
			closeFD(fd)
			continue
		}
		h.caller = fd
	}
}

func (h *heir) hangUp(poll *Poller) {
	if h.caller >= 0 {
		poll.Del(h.caller)
		closeFD(h.caller)
		h.caller = -1
	}
}

// rekey makes fd, which the poller watches already, the channel's socket.
func (c *Channel) rekey(fd int, key Key, in direction) {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.fd, c.phase = fd, PhaseAdopt
	c.peers++
	c.in, c.out = in, newDirection(key, in.to, in.from)
}
