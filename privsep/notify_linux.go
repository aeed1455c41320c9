package privsep

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// OpenNotify opens the way to a service manager's notification socket, as
// NOTIFY_SOCKET names it: a path, or an abstract name after "@".
func OpenNotify(address string) (int, error) {
	if len(address) < 2 || address[0] != '/' && address[0] != '@' {
		return -1, fmt.Errorf("notification socket %q: neither a path nor an abstract name", address)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("notification socket %s: %w", address, err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("notification socket %s: %w", address, err)
	}
	return fd, nil
}

// Notify tells the service manager; it never waits for it.
func Notify(fd int, state string) error {
	return unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
}

// Monotonic is the kernel's monotonic clock: the same for every process of this
// host, and never set back.
func Monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // EFAULT and EINVAL cannot be
	}
	return time.Duration(t.Nano())
}
