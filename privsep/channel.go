package privsep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Errors that do not close the channel.
var (
	// ErrAgain: nothing to receive, or no room to send; wait for the fd.
	ErrAgain = errors.New("privsep: would block")
	// ErrClosed: this end was closed before.
	ErrClosed = errors.New("privsep: channel is closed")
	// ErrInFlight: this user has too many fds lying unread in sockets. The
	// fd does not tell when that has passed.
	ErrInFlight = errors.New("privsep: too many fds in flight")
)

// Channel is one end of a line between two processes: whole messages, in
// order, each authenticated and held against the rules before anything decodes
// it. Nothing blocks but the Wait variants. Send may be called by any goroutine,
// all else by one.
type Channel struct {
	sending sync.Mutex
	fd      int // -1 once closed
	phase   Phase
	in, out direction
	sender  *Sender // nil: whoever has the key
	peers   uint64  // how often this end was adopted
	heir    *heir   // nil: whose end is the end
	rbuf    []byte
	wbuf    []byte
}

// NewChannel makes a channel of fd, which it owns from now on: a non-blocking
// CLOEXEC packet socket whose other end NewChannel(_, peer, self, key) holds.
func NewChannel(fd int, self, peer Role, key Key) *Channel {
	return &Channel{
		fd:    fd,
		phase: PhaseBoot,
		in:    newDirection(key, peer, self),
		out:   newDirection(key, self, peer),
		rbuf:  make([]byte, headerSize+largest(peer, self)),
	}
}

// FD gives the socket for a Poller, -1 when closed.
func (c *Channel) FD() int { return c.fd }

// Peer gives the role at the other end.
func (c *Channel) Peer() Role { return c.in.from }

// Phase gives the phase that messages are held against.
func (c *Channel) Phase() Phase { return c.phase }

// SetPhase goes on to phase p. There is no way back: an earlier one is ignored.
func (c *Channel) SetPhase(p Phase) {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.phase = max(c.phase, p)
}

// Close closes the socket. Further calls are harmless.
func (c *Channel) Close() {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.fd >= 0 {
		closeFD(c.fd)
		c.fd = -1
	}
}

// Message is a received message.
type Message struct {
	Kind    Kind
	Payload []byte // valid until the channel's next Recv
	FDs     []int  // the receiver's now, CLOEXEC; as many as the kind's rule says
}

// CloseFDs closes what the receiver has no use for.
func (m *Message) CloseFDs() {
	closeFDs(m.FDs)
	m.FDs = m.FDs[:0]
}

// Send sends one message, if the rules permit it in this phase; the fds stay
// the caller's. Errors: ErrAgain and ErrInFlight (nothing was sent), io.EOF
// (the peer is gone; what it had sent can still be received), ErrClosed,
// *PermitError. None of them closes the channel.
func (c *Channel) Send(k Kind, payload []byte, fds ...int) error {
	_, err := c.SendTo(k, payload, fds...)
	return err
}

// SendTo is Send that tells to which peer, by the number of Adoptions before it.
func (c *Channel) SendTo(k Kind, payload []byte, fds ...int) (peer uint64, err error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.fd < 0 {
		return c.peers, ErrClosed
	}
	b, err := c.out.seal(c.wbuf, c.phase, k, payload, len(fds))
	if err != nil {
		return c.peers, err
	}
	c.wbuf = b
	if err := sendPacket(c.fd, b, fds); err != nil {
		return c.peers, err
	}
	c.out.sent(k)
	return c.peers, nil
}

// Adoptions tells how often this end was adopted.
func (c *Channel) Adoptions() uint64 {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.peers
}

// Recv takes the next message. ErrAgain: there is none. io.EOF: the peer is
// gone and everything it sent has been taken. ErrClosed: closed before. On any
// other error (*PermitError, *ImpostorError, ErrShape, ErrTruncated, ErrForged, ErrReplayed, or
// the kernel's) the peer is wrong or hostile, every fd that came along has been
// closed, and so has the channel. m is zero on error.
func (c *Channel) Recv(m *Message) error {
	m.Kind, m.Payload, m.FDs = KindNone, nil, m.FDs[:0]
	if c.fd < 0 {
		return ErrClosed
	}
	p := packet{fds: m.FDs, identify: c.sender != nil}
	err := recvPacket(c.fd, c.rbuf, &p)
	if err == ErrAgain || err == io.EOF {
		return err
	}
	if err == nil && c.sender != nil {
		err = c.sender.check(&p, c.phase)
	}
	if err == nil {
		m.Kind, m.Payload, err = c.in.open(c.rbuf[:p.n], c.phase, len(p.fds))
	}
	if err != nil {
		closeFDs(p.fds)
		c.Close()
		return err
	}
	m.FDs = p.fds
	return nil
}

// RecvWait is Recv that waits up to timeout for a message, for setup; below 0
// it waits for ever. Out of time is os.ErrDeadlineExceeded; the channel stays.
func (c *Channel) RecvWait(m *Message, timeout time.Duration) error {
	return c.wait("receive from", false, timeout, func() error { return c.Recv(m) })
}

// SendWait is Send that waits up to timeout for room, for setup.
func (c *Channel) SendWait(timeout time.Duration, k Kind, payload []byte, fds ...int) error {
	return c.wait("send to", true, timeout, func() error { return c.Send(k, payload, fds...) })
}

// SendPaced is SendWait for one of many messages: it waits until the peer has read
// most of those before, so that there is always room for what cannot wait.
func (c *Channel) SendPaced(timeout time.Duration, k Kind, payload []byte, fds ...int) error {
	return c.wait("send to", true, timeout, func() error {
		if c.fd >= 0 && !c.Roomy() {
			return ErrAgain
		}
		return c.Send(k, payload, fds...)
	})
}

// Roomy tells whether the peer has read most of what was sent: for one of many messages
// that need not come.
func (c *Channel) Roomy() bool { return roomy(c.fd) }

// wait repeats try until it says something else than ErrAgain.
func (c *Channel) wait(verb string, out bool, timeout time.Duration, try func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		if err := try(); err != ErrAgain {
			return err
		}
		left := time.Duration(-1)
		if timeout >= 0 {
			if left = time.Until(deadline); left <= 0 {
				return fmt.Errorf("%s %v: %w", verb, c.Peer(), os.ErrDeadlineExceeded)
			}
		}
		if err := waitFD(c.fd, out, left); err != nil {
			return fmt.Errorf("%s %v: %w", verb, c.Peer(), err)
		}
	}
}

// packet is what one receive brought. What the kernel says of its sender
// (SCM_CREDENTIALS, SCM_PIDFD) belongs here beside the fds.
type packet struct {
	n   int // bytes
	fds []int

	// Who sent it, if that was asked for: told by the kernel.
	identify    bool
	told, pidfd bool
	pid, uid    int
	pidIno      uint64
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		closeFD(fd)
	}
}
