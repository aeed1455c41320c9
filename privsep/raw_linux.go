package privsep

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The one file of this package with unsafe. These have no wrapper:
// system calls that do not tell the Go scheduler, which costs more than the
// call itself on the message path (BenchmarkRawRead, BenchmarkPaced), a getsockopt
// of many values, a capset or a scheduling policy on every thread, and seccomp(2).
// A raw call holds its processor while it lasts, so none here may block, but for
// rawEpollWait's bound.

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

// rawAccept is accept4(2) on a non-blocking fd. The peer's address is cut to
// what sa has room for, which is enough for either kind of IP.
func rawAccept(fd int, sa *unix.RawSockaddrInet6) (int, syscall.Errno) {
	size := uint32(unix.SizeofSockaddrInet6)
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(sa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
	return int(n), errno
}

// rawSendmsg is sendmsg(2) on a non-blocking socket, of b, which must not be empty, and
// fds, at most maxFDs of them (SCM_RIGHTS, unix(7)).
func rawSendmsg(fd int, b []byte, fds []int) syscall.Errno {
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1}
	var control [rightsSize / 8]uint64
	if len(fds) > 0 {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control))
		h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
		h.SetLen(unix.CmsgLen(4 * len(fds)))
		for i, fd := range fds {
			*(*int32)(unsafe.Add(unsafe.Pointer(&control), unix.CmsgLen(4*i))) = int32(fd)
		}
		msg.Control = (*byte)(unsafe.Pointer(&control))
		msg.SetControllen(unix.CmsgSpace(4 * len(fds)))
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return errno
}

// rightsSize has room for maxFDs, in bytes: a header and they, rounded up.
const rightsSize = unix.SizeofCmsghdr + (4*maxFDs+7)&^7

// rawRecvmsg is recvmsg(2) on a non-blocking socket, into b and oob, which must not be
// empty; fds that come are CLOEXEC.
func rawRecvmsg(fd int, b, oob []byte) (n, oobn, flags int, errno syscall.Errno) {
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &oob[0]}
	msg.SetControllen(len(oob))
	r, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	return int(r), int(msg.Controllen), int(msg.Flags), errno
}

// rawSchedule is sched_setscheduler(2) on every thread, with the policy's only priority.
func rawSchedule(policy int) syscall.Errno {
	var priority int32
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, uintptr(policy), uintptr(unsafe.Pointer(&priority)))
	return errno
}

// rawPeerGroups is getsockopt(2) of SO_PEERGROUPS, and gives the number of groups.
func rawPeerGroups(fd int, groups []uint32) (int, syscall.Errno) {
	size := uint32(4 * len(groups))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	return int(size / 4), errno
}

// dropCapabilities empties the effective, permitted and inheritable sets of
// every thread.
func dropCapabilities() error { return setCapabilities(0) }

// setCapabilities makes set the effective and permitted capabilities of every
// thread, and none inheritable; unix.Capset would do it for one thread. ENOTSUP
// in a cgo binary.
func setCapabilities(set uint64) error {
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := new([2]unix.CapUserData)
	for i := range data {
		data[i].Effective = uint32(set >> (32 * i))
		data[i].Permitted = data[i].Effective
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0)
	runtime.KeepAlive(hdr)
	runtime.KeepAlive(data)
	if errno != 0 {
		return errno
	}
	return nil
}

// SetFilter puts a seccomp program on every thread of this process, for good.
// no_new_privs must be set; prog must not be empty.
func SetFilter(prog []unix.SockFilter) error {
	p := &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	tid, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(p)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if tid != 0 {
		return fmt.Errorf("seccomp: thread %d has a filter of its own", tid)
	}
	return nil
}
