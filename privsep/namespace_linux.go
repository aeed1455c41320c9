package privsep

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// forkIsolated is forkExec into empty network and IPC namespaces for a role
// that needs neither, if we are root. Where the kernel makes none the child
// starts in ours.
func forkIsolated(exe *os.File, id ID, fds [2]int, pidfd *int) (pid int, err error) {
	if !id.Role.Isolated() || os.Geteuid() != 0 {
		return forkExec(exe, id, fds, pidfd, 0)
	}
	pid, err = forkExec(exe, id, fds, pidfd, unix.CLONE_NEWNET|unix.CLONE_NEWIPC)
	for _, refused := range []error{unix.EPERM, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, refused) {
			return forkExec(exe, id, fds, pidfd, 0)
		}
	}
	return pid, err
}

// look takes what only can be seen of a child before it drops its privileges,
// after which it takes CAP_SYS_PTRACE: its network namespace and its memory
// use.
func (c *Child) look() error {
	ours, err := netNamespace("self")
	if err != nil {
		return err
	}
	theirs, err := netNamespace(strconv.Itoa(c.PID))
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return nil // it runs what we cannot read, and only root could have given it one
	}
	if err != nil {
		return err
	}
	c.OwnNetwork = ours != theirs
	// A memory figure is worth no child: without it MemoryUse says 0.
	c.memory, _ = os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", c.PID))
	return nil
}

// netNamespace identifies the network namespace of a process.
func netNamespace(pid string) (id [2]uint64, err error) {
	var st unix.Stat_t
	path := "/proc/" + pid + "/ns/net"
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, syscall.ENOENT) { // a kernel without such namespaces
			return id, nil
		}
		return id, fmt.Errorf("%s: %w", path, err)
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, nil
}

// MemoryUse gives the child's proportional set size in bytes, 0 if the kernel
// does not say.
func (c *Child) MemoryUse() uint64 {
	if c.memory == nil {
		return 0
	}
	b := make([]byte, 4096)
	n, _ := c.memory.ReadAt(b, 0)
	return parsePSS(b[:n])
}
