package privsep

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrOrphan ends a role whose parent is gone.
var ErrOrphan = errors.New("privsep: the parent is gone")

// CheckBuild refuses a binary with cgo, in which Go cannot make a promise for
// every thread.
func CheckBuild() error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	if errno == syscall.ENOTSUP {
		return errors.New("this binary was built with cgo and cannot drop privileges on every thread; build it with CGO_ENABLED=0")
	}
	return nil
}

// CheckKernel tries what the roles stand on and names what is missing.
func CheckKernel() error {
	fd, err := unix.MemfdCreate("gatehouse-check", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return fmt.Errorf("kernel: memfd_create with MFD_NOEXEC_SEAL (Linux 6.3): %w", err)
	}
	closeFD(fd)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("kernel: pidfd_open (Linux 5.3): %w", err)
	}
	closeFD(pidfd)
	return nil
}

// RaiseFileLimit raises the soft limit of open files, which every role
// inherits, to the hard one.
func RaiseFileLimit() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("getrlimit nofile: %w", err)
	}
	l.Cur = l.Max
	// Through syscall: it tells the Go runtime, which would otherwise restore
	// the old limit in children.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Cur, Max: l.Max}); err != nil {
		return fmt.Errorf("setrlimit nofile %d: %w", l.Cur, err)
	}
	return nil
}

// PSS gives our own or, to who may trace it, another process's proportional set size in bytes, 0 if the kernel does
// not say: what it uses alone, and its share of what it shares.
func PSS(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0
	}
	return parsePSS(b)
}

func parsePSS(rollup []byte) uint64 {
	for line := range bytes.Lines(rollup) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			f := bytes.Fields(rest)
			if len(f) != 2 {
				return 0
			}
			kb, _ := strconv.ParseUint(string(f[0]), 10, 53)
			return kb << 10
		}
	}
	return 0
}

// RemoveSocket removes a socket file, and nothing that is not one.
func RemoveSocket(path string) {
	if isSocket(path) {
		os.Remove(path)
	}
}

func isSocket(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode()&os.ModeSocket != 0
}
