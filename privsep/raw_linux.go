package privsep

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The one file of this package with unsafe. Two things have no wrapper:
// system calls that do not tell the Go scheduler, which costs more than the
// call itself on the message path (BenchmarkRawRead, BenchmarkPaced), and a
// capset on every thread. A raw call holds its processor while it lasts, so
// none here may block, but for rawEpollWait's bound.

// RawRead is read(2) on a non-blocking fd; b must not be empty.
func RawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// RawWrite is write(2) on a non-blocking fd; b must not be empty. A socket
// whose peer is gone raises SIGPIPE, which Go ignores for fds above 2.
func RawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

// Iovec is one piece of a RawWritev: Base points to its first byte, SetLen
// sets its length.
type Iovec = unix.Iovec

// RawWritev is writev(2) on a non-blocking fd; iov has 1 to 1024 pieces.
func RawWritev(fd int, iov []Iovec) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	return int(n), errno
}

// rawEpollWait is epoll_wait(2) of at most ms milliseconds, with the processor
// held: keep ms small and not negative.
func rawEpollWait(epfd int, events []unix.EpollEvent, ms int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(ms), 0, 0)
	return int(n), errno
}

// dropCapabilities empties the effective, permitted and inheritable sets of
// every thread; unix.Capset would do it for one. ENOTSUP in a cgo binary.
func dropCapabilities() error {
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := new([2]unix.CapUserData)
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0)
	runtime.KeepAlive(hdr)
	runtime.KeepAlive(data)
	if errno != 0 {
		return errno
	}
	return nil
}
