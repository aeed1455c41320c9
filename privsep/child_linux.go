package privsep

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// keptEnv is what a child's environment takes from the parent's as it is.
var keptEnv = []string{"GOGC", "GOMEMLIMIT", "GOTRACEBACK"}

// CloseRange marks every fd above stderr as closed on exec: the parent's first
// act, for what whoever started it left open.
func CloseRange() error {
	err := unix.CloseRange(childFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return nil
}

// Start runs executable exe as component id: a fresh exec in a session of its
// own, working directory /, with nothing open but fd as 3, adopt as 4,
// /dev/null as 0 and 1, and our stderr. Both fds stay the caller's, who closes
// them: while fd is open here, the end of the child is not seen on the channel. exe is what runs even
// if its file has been replaced since it was opened.
func Start(exe *os.File, id ID, fd, adopt int) (*Child, error) {
	if !id.valid() || !id.Role.child() || min(fd, adopt) < childFD {
		return nil, fmt.Errorf("start %v: %w", id, syscall.EINVAL)
	}
	rec := Record{ID: id, UID: os.Getuid()}
	err := rec.setExecutable(exe)
	if err != nil {
		return nil, fmt.Errorf("start %v: %w", id, err)
	}
	c := &Child{ID: id, PidFD: -1, Record: rec}
	if c.PID, err = forkIsolated(exe, id, [2]int{fd, adopt}, &c.PidFD); err != nil {
		return nil, fmt.Errorf("start %v: %w", id, err)
	}
	if err = c.record(); err == nil {
		err = c.look()
	}
	if err != nil {
		c.abandon()
		return nil, fmt.Errorf("start %v: %w", id, err)
	}
	return c, nil
}

func forkExec(exe *os.File, id ID, fds [2]int, pidfd *int, namespaces uintptr) (int, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer closeFD(null)
	// The child moves its fds to 0..4 before the exec, and itself uses a few
	// numbers behind the highest: the executable's must be clear of both.
	least := max(null, fds[0], fds[1]) + 32
	exeFD, err := dupAbove(exe, least)
	if err != nil {
		return 0, err
	}
	defer closeFD(exeFD)
	return syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", exeFD), childArgs(id), &syscall.ProcAttr{
		Dir:   "/",
		Env:   cleanEnv(),
		Files: []uintptr{uintptr(null), uintptr(null), 2, uintptr(fds[0]), uintptr(fds[1])},
		// A session of its own: what is typed at the parent's terminal is not
		// for the child. No Pdeathsig: children outlive their parent.
		Sys: &syscall.SysProcAttr{Setsid: true, PidFD: pidfd, Cloneflags: namespaces},
	})
}

// dupAbove gives a copy of f's fd that is at least least.
func dupAbove(f *os.File, least int) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctlErr := conn.Control(func(have uintptr) {
		fd, err = unix.FcntlInt(have, unix.F_DUPFD_CLOEXEC, least)
	})
	if ctlErr != nil {
		return -1, ctlErr
	}
	if err != nil {
		return -1, fmt.Errorf("dup executable: %w", err)
	}
	return fd, nil
}

// noFiles stops the Go runtime from keeping files of its cgroup open to follow
// the CPU quota: the child takes the parent's GOMAXPROCS, which has seen it.
const noFiles = "containermaxprocs=0"

func cleanEnv() []string {
	debug := noFiles
	if v := os.Getenv("GODEBUG"); v != "" {
		debug += "," + v
	}
	env := []string{"GODEBUG=" + debug, fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0))}
	for _, key := range keptEnv {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return env
}

// Child is a started component, for the process that started it.
type Child struct {
	ID
	PID    int
	PidFD  int    // readable once the child has ended; -1 after Wait
	Record Record // UID is ours until the caller, who assigns one, sets it

	OwnNetwork bool     // has a network namespace that is not ours
	adopted    bool     // another process started it
	memory     *os.File // its smaps_rollup, nil if there is none to read
}

// record completes c.Record with what the kernel says of the new process.
func (c *Child) record() error {
	if c.PidFD < 0 {
		return fmt.Errorf("pidfd: %w", syscall.ENOSYS)
	}
	var st unix.Stat_t
	if err := unix.Fstat(c.PidFD, &st); err != nil {
		return fmt.Errorf("pidfd: %w", err)
	}
	start, err := StartTime(c.PID)
	if err != nil {
		return err
	}
	c.Record.PID, c.Record.StartTime, c.Record.PidIno = c.PID, start, st.Ino
	return nil
}

// abandon ends and reaps a child that Start cannot hand out.
func (c *Child) abandon() {
	// Not reaped yet, so the pid cannot be anybody else's.
	_ = syscall.Kill(c.PID, syscall.SIGKILL)
	_, _ = syscall.Wait4(c.PID, nil, 0, nil)
	if c.PidFD >= 0 {
		closeFD(c.PidFD)
	}
	c.memory.Close()
}

// Signal sends sig to exactly this process, never to a successor of its pid.
func (c *Child) Signal(sig syscall.Signal) error {
	if err := unix.PidfdSendSignal(c.PidFD, sig, nil, 0); err != nil {
		return fmt.Errorf("signal %v: %w", c.ID, err)
	}
	return nil
}

// Wait takes leave of a child whose PidFD polled readable, closes PidFD, and
// says how the child ended: "exit 2", "signal killed". ErrAgain: it has not.
func (c *Child) Wait() (string, error) {
	var ws syscall.WaitStatus
	stranger := false
	for {
		pid, err := syscall.Wait4(c.PID, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if stranger = err == syscall.ECHILD && c.adopted; stranger {
			break // whoever waits for it knows how it ended
		}
		if err != nil {
			return "", fmt.Errorf("wait for %v: %w", c.ID, err)
		}
		if pid == 0 {
			return "", ErrAgain
		}
		break
	}
	closeFD(c.PidFD)
	c.PidFD = -1
	c.memory.Close()
	if stranger {
		return "ended", nil
	}
	if ws.Signaled() {
		return "signal " + ws.Signal().String(), nil
	}
	return fmt.Sprintf("exit %d", ws.ExitStatus()), nil
}
