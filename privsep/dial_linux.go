package privsep

import (
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Connect makes a socket that is not waited for and begins to connect it: whether that
// succeeds is seen when it is written to.
func Connect(to netip.AddrPort) (fd int, err error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if a := to.Addr().Unmap(); a.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000},
	} {
		if err = unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.Connect(fd, sa)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
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
