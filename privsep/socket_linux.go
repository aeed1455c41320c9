package privsep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// maxFDs is how many fds one message may bring at most; the rules say how many
// it must. More than there is room for come as MSG_CTRUNC.
const maxFDs = 2

// controlSize has room for maxFDs, and for what SO_PASSCRED and SO_PASSPIDFD
// would add, in bytes.
const controlSize = rightsSize + unix.SizeofCmsghdr + (unix.SizeofUcred+7)&^7 + unix.SizeofCmsghdr + 8

// Socketpair makes the two ends of a channel, CLOEXEC and non-blocking.
func Socketpair() (a, b int, err error) {
	return pair(unix.SOCK_SEQPACKET)
}

// Doorbell makes the two ends of a doorbell, CLOEXEC and non-blocking: a byte
// written at one end wakes whoever waits at the other.
func Doorbell() (a, b int, err error) {
	return pair(unix.SOCK_STREAM)
}

// Connection makes the two ends of a connection, as clients have one by a Unix socket.
func Connection() (a, b int, err error) {
	return pair(unix.SOCK_STREAM)
}

func pair(typ int) (a, b int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	return fds[0], fds[1], nil
}

// NonBlocking reports whether reading and writing fd never waits: for one that
// another role has sent.
func NonBlocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

func closeFD(fd int) { unix.Close(fd) }

// sendPacket sends b and fds as one packet or not at all.
func sendPacket(fd int, b []byte, fds []int) error {
	if len(fds) > maxFDs {
		return fmt.Errorf("send: %d fds", len(fds))
	}
	for {
		switch errno := rawSendmsg(fd, b, fds); errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS:
			return ErrAgain
		case unix.ETOOMANYREFS:
			return ErrInFlight
		case unix.EPIPE, unix.ECONNRESET:
			return io.EOF
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
}

// recvPacket receives one packet into b and appends its fds to p.fds. It says
// io.EOF when the peer is gone, or sent a packet without a byte, which no
// channel does; where senders are asked for (Identify) that is ErrShape. On
// other errors but ErrAgain p.fds is what must be closed.
func recvPacket(fd int, b []byte, p *packet) error {
	var oob [controlSize]byte
	n, oobn, flags, err := recvmsg(fd, b, oob[:])
	if err != nil {
		return err
	}
	p.n = n
	if err := p.control(oob[:oobn]); err != nil {
		return err
	}
	switch {
	case n == 0 && p.told: // an end has no sender
		return ErrShape
	case n == 0:
		closeFDs(p.fds)
		p.fds = p.fds[:0]
		return io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return ErrTruncated
	}
	return nil
}

func recvmsg(fd int, b, oob []byte) (n, oobn, flags int, err error) {
	reset := false
	for {
		n, oobn, flags, errno := rawRecvmsg(fd, b, oob)
		switch {
		case errno == 0:
			return n, oobn, flags, nil
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return 0, 0, 0, ErrAgain
		case errno == unix.ECONNRESET && !reset:
			// Said once when the peer went without reading everything. What
			// it had sent, a last log line, lies behind that error.
			reset = true
			continue
		case errno == unix.ECONNRESET:
			return 0, 0, 0, io.EOF
		}
		return 0, 0, 0, fmt.Errorf("receive: %w", errno)
	}
}

// control takes the control messages apart. The kernel wrote them, but the
// peer chose which: what is not asked for is ErrShape.
func (p *packet) control(oob []byte) error {
	var stray bool
	for len(oob) > 0 {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return ErrTruncated
		}
		oob = rest
		switch {
		case hdr.Level == unix.SOL_SOCKET && hdr.Type == unix.SCM_RIGHTS:
			for ; len(data) >= 4; data = data[4:] {
				p.fds = append(p.fds, int(int32(binary.NativeEndian.Uint32(data))))
			}
		case p.identify && hdr.Level == unix.SOL_SOCKET && hdr.Type == unix.SCM_CREDENTIALS && len(data) >= unix.SizeofUcred:
			p.told = true
			p.pid = int(int32(binary.NativeEndian.Uint32(data)))
			p.uid = int(int32(binary.NativeEndian.Uint32(data[4:])))
		case p.identify && hdr.Level == unix.SOL_SOCKET && hdr.Type == unix.SCM_PIDFD && len(data) >= 4:
			p.pidfd, p.pidIno = true, pidfdInode(int(int32(binary.NativeEndian.Uint32(data))))
		default:
			stray = true // go on: fds may follow, and must be closed
		}
	}
	if stray {
		return ErrShape
	}
	return nil
}

// waitFD waits until fd can be written (out) or read, or timeout has passed;
// below 0 it waits for ever. It may return early.
func waitFD(fd int, out bool, timeout time.Duration) error {
	events := int16(unix.POLLIN)
	if out {
		events = unix.POLLOUT
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, milliseconds(timeout))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	return nil
}

// roomy tells whether a socket is writable as poll means it: no more than a quarter
// of its buffer is taken (unix_writable), or the peer is gone.
func roomy(fd int) bool {
	is, err := pollNow(fd, unix.POLLOUT)
	return is != 0 || err != nil
}

// pollNow gives what poll(2) says of an fd, 0 for none of the events, without waiting:
// even so a signal interrupts it.
func pollNow(fd int, events int16) (revents int16, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err = unix.Poll(p, 0); err != unix.EINTR {
			return p[0].Revents, err
		}
	}
}

// milliseconds rounds up, so that a timeout is never cut short into a busy loop.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, 1<<30))
}
