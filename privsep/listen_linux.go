package privsep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is the listen queue asked for; the kernel cuts it to somaxconn.
const backlog = 4096

// ListenTCP opens a listening socket, and says where, for port 0. It is never
// an MPTCP one, which would pass by Landlock's rules. Accepted sockets inherit
// TCP_NODELAY from it.
func ListenTCP(addr netip.AddrPort) (int, netip.AddrPort, error) {
	domain := unix.AF_INET6
	if addr.Addr().Unmap().Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, addr, err
	}
	got, err := bindTCP(fd, domain, addr)
	if err != nil {
		closeFD(fd)
		return -1, addr, err
	}
	return fd, got, nil
}

func bindTCP(fd, domain int, addr netip.AddrPort) (netip.AddrPort, error) {
	var sa unix.Sockaddr
	if domain == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().Unmap().As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
		// [::] serves both families, as Go and nats-server have it.
		v6only := 1
		if addr.Addr().IsUnspecified() {
			v6only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only); err != nil {
			return addr, err
		}
	}
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)); err != nil {
		return addr, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return addr, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return addr, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return addr, err
	}
	return addrOf(name), nil
}

// ListenUnix opens a listening Unix socket with the given mode. A socket file
// that nobody listens on any more is replaced, one that is served is not.
func ListenUnix(path string, mode os.FileMode) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	sa := &unix.SockaddrUnix{Name: path}
	err = unix.Bind(fd, sa)
	// A file that is no socket refuses connections too, and is not ours to remove.
	if err == unix.EADDRINUSE && isSocket(path) && unix.Connect(fd, sa) == unix.ECONNREFUSED {
		if err = os.Remove(path); err == nil {
			err = unix.Bind(fd, sa)
		}
	}
	if err == nil {
		if err = os.Chmod(path, mode); err == nil {
			err = unix.Listen(fd, backlog)
		}
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// Waiting tells whether somebody waits to be accepted.
func Waiting(fd int) bool {
	is, err := pollNow(fd, unix.POLLIN)
	return err == nil && is != 0
}

// Accept takes a connection; addr is zero for a Unix socket.
func Accept(fd int) (int, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrInet6
	nfd, errno := rawAccept(fd, &sa)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], sa.Port)
	addr := netip.AddrFrom16(sa.Addr).Unmap()
	switch sa.Family {
	case unix.AF_INET: // as sockaddr_in, whose address is where the other has flowinfo
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], sa.Flowinfo)
		addr = netip.AddrFrom4(ip)
	case unix.AF_INET6:
	default:
		return nfd, netip.AddrPort{}, 0
	}
	return nfd, netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port[:])), 0
}

func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// PeerIsOwner tells whether the other end of a Unix connection was opened by
// root or by our own uid.
func PeerIsOwner(fd int) bool {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (c.Uid == 0 || int(c.Uid) == os.Geteuid())
}

// WriteAll writes b to a non-blocking socket, for at most timeout.
func WriteAll(fd int, b []byte, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for len(b) > 0 {
		n, errno := RawWrite(fd, b)
		switch errno {
		case 0:
			b = b[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			left := time.Until(deadline)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			if err := waitFD(fd, true, left); err != nil {
				return err
			}
		default:
			return errno
		}
	}
	return nil
}

// Unsent is how many bytes of those written to a socket its peer's host has not
// taken yet.
func Unsent(fd int) int {
	n, _ := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return n
}

// Lock takes the lock of an open file without waiting for it.
func Lock(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// OwnerUID gives the uid that a file belongs to, -1 if the system does not say.
func OwnerUID(st os.FileInfo) int {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid)
	}
	return -1
}
