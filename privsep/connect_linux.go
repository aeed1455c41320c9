package privsep

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Signs of life of a connection outwards: a peer that is gone is known within half a
// minute.
const (
	userTimeout  = 30 * time.Second
	keepIdle     = 15 // seconds, as the next
	keepInterval = 5
	keepCount    = 3
)

// ConnectTCP begins a connection, never one of MPTCP, which would pass by Landlock's
// rules. Connected says when there is one; fd is the caller's in any case but an
// error.
func ConnectTCP(addr netip.AddrPort) (fd int, err error) {
	domain := unix.AF_INET6
	if addr.Addr().Unmap().Is4() {
		domain = unix.AF_INET
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepCount},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout / time.Millisecond)},
	} {
		if err = unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			break
		}
	}
	if err == nil {
		if _, err = Connected(fd, addr); err == nil {
			return fd, nil
		}
	}
	closeFD(fd)
	return -1, err
}

// Connected tells whether a connection that was begun is there. An error is why there
// will be none.
func Connected(fd int, addr netip.AddrPort) (bool, error) {
	var sa unix.Sockaddr
	if ip := addr.Addr().Unmap(); ip.Is4() {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	}
	for {
		switch err := unix.Connect(fd, sa); err {
		case nil, unix.EISCONN:
			return true, nil
		case unix.EINPROGRESS, unix.EALREADY:
			return false, nil
		case unix.EINTR:
		default:
			return false, err
		}
	}
}

// Errno is the number of a system call's error, EIO for any other.
func Errno(err error) uint16 {
	var n syscall.Errno
	if errors.As(err, &n) && n > 0 && n < 1<<16 {
		return uint16(n)
	}
	return uint16(unix.EIO)
}

// ErrnoError is the error with that number.
func ErrnoError(n uint16) error { return syscall.Errno(n) }

// Stream is a socket whose reads and writes wait until a deadline. It owns the fd.
func Stream(fd int) *os.File { return os.NewFile(uintptr(fd), "socket") }

// Caller is who has opened a connection to a Unix socket, as the kernel knows it.
type Caller struct {
	PID, UID, GID int
	Groups        []uint32 // the others
}

// CallerOf says who has opened a connection.
func CallerOf(fd int) (*Caller, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("so_peercred: %w", err)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return nil, fmt.Errorf("so_peergroups: %w", err)
	}
	return &Caller{PID: int(cred.Pid), UID: int(cred.Uid), GID: int(cred.Gid), Groups: groups}, nil
}

// maxGroups is how many other groups of a caller are looked at: far more than anybody
// has, and who has more is not let in.
const maxGroups = 1024

func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, maxGroups)
	n, errno := rawPeerGroups(fd, groups)
	if errno != 0 {
		return nil, errno
	}
	return slices.Clone(groups[:n]), nil
}

// TellSenders has the kernel say who sends what comes in on the connections that a
// listening Unix socket takes from now on (ReadFrom).
func TellSenders(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fmt.Errorf("so_passcred: %w", err)
	}
	return nil
}

// ReadFrom reads from a connection of such a socket, and says which process sent it.
// Descriptors that come along are closed.
func ReadFrom(fd int, b []byte) (n, pid, uid int, errno syscall.Errno) {
	oob := make([]byte, controlSize)
	n, oobn, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		errno, _ = err.(syscall.Errno)
		return 0, 0, 0, errno
	}
	p := packet{identify: true, uid: -1}
	err = p.control(oob[:oobn])
	closeFDs(p.fds)
	if err != nil || !p.told {
		return n, 0, -1, 0
	}
	return n, p.pid, p.uid, 0
}

// PeekFrom gives what there is to be read from a connection, and leaves it there.
func PeekFrom(fd int, b []byte) (n int, errno syscall.Errno) {
	n, _, _, _, err := unix.Recvmsg(fd, b, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	errno, _ = err.(syscall.Errno)
	return max(n, 0), errno
}

// PassOn sends a connection, of which the sender keeps its own descriptor, and a word on
// it by one end of a Socketpair.
func PassOn(way, fd int, word byte) syscall.Errno {
	_, err := unix.SendmsgN(way, []byte{word}, unix.UnixRights(fd), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	errno, _ := err.(syscall.Errno)
	return errno
}

// TakeOver receives what PassOn has sent. EOF: nothing comes by this way any more. What is
// not one connection that was accepted at the Unix socket of that path, and whose reads do
// not wait, is closed, and the descriptor -1: the other end may be hostile.
func TakeOver(way int, path string) (fd int, word byte, err error) {
	b, oob := make([]byte, 2), make([]byte, controlSize)
	n, oobn, _, _, err := unix.Recvmsg(way, b, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR,
		err == unix.ECONNRESET: // said once, of what the other end had not read: what it had sent is still to come
		return -1, 0, ErrAgain
	case err != nil:
		return -1, 0, err
	case n == 0 && oobn == 0:
		return -1, 0, io.EOF
	}
	var p packet
	if p.control(oob[:oobn]) != nil || n != 1 || len(p.fds) != 1 || !NonBlocking(p.fds[0]) || !acceptedAt(p.fds[0], path) {
		closeFDs(p.fds)
		return -1, 0, nil
	}
	return p.fds[0], b[0], nil
}

// acceptedAt tells whether fd is a connection of that path: it has the one of the socket
// that it was accepted at. From that one, which has it too, nothing can be read.
func acceptedAt(fd int, path string) bool {
	if _, errno := PeekFrom(fd, make([]byte, 1)); errno == unix.EINVAL {
		return false
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	local, ok := sa.(*unix.SockaddrUnix)
	return ok && local.Name == path
}

// HungUp tells whether the other end of a connection is closed, and not its sending
// side alone.
func HungUp(fd int) bool {
	is, err := pollNow(fd, 0)
	return err == nil && is&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}
