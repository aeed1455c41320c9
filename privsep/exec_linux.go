package privsep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handoverEnv names the memfd in which a parent finds what the one before it in
// the same process has left: "FD:SIZE".
const handoverEnv = "GATEHOUSE_HANDOVER"

// maxHandover bounds it in bytes.
const maxHandover = 16 << 20

// ExecInPlace goes on as another program in this same process, with the same
// arguments: state and the fds of keep are there for it. It returns only with an
// error, and then nothing has changed.
func ExecInPlace(exe *os.File, state []byte, keep []int) error {
	fd, err := Parcel("handover", state)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	keep = append(keep[:len(keep):len(keep)], fd)
	defer func() { _ = onExec(keep, unix.FD_CLOEXEC) }()
	if err := onExec(keep, 0); err != nil {
		return err
	}
	conn, err := exe.SyscallConn()
	if err != nil {
		return err
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d:%d", handoverEnv, fd, len(state)))
	ctlErr := conn.Control(func(n uintptr) {
		err = syscall.Exec("/proc/self/fd/"+strconv.Itoa(int(n)), os.Args, env)
	})
	return fmt.Errorf("exec %s: %w", exe.Name(), errors.Join(err, ctlErr))
}

func onExec(fds []int, flag int) error {
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			return fmt.Errorf("fcntl F_SETFD %d: %w", fd, err)
		}
	}
	return nil
}

// Handover takes what was left for this process, nil if nothing was.
func Handover() ([]byte, error) {
	text, ok := os.LookupEnv(handoverEnv)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(handoverEnv)
	var fd, size int
	if _, err := fmt.Sscanf(text, "%d:%d", &fd, &size); err != nil || fd < childFD || size <= 0 || size > maxHandover {
		return nil, fmt.Errorf("%s: %w", handoverEnv, ErrShape)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_WRITE == 0 {
		return nil, fmt.Errorf("%s: %w", handoverEnv, ErrShape)
	}
	defer closeFD(fd)
	return ReadParcel(fd, size)
}

// timerSlack is how late a timer of ours may be.
const timerSlack = time.Millisecond

// RelaxTimers lets the kernel be late with timers by up to timerSlack, in all threads
// that there will be and in all children. The Go runtime has a thread that looks after
// the others every 20 us for as long as something happens; with a handful of processes
// for each message and hardly 50 us of slack that thread alone took a tenth of a small
// machine. It is there before we are, and only for itself may a thread say so: so the
// program is executed once more. It returns where that is done, or cannot be.
func RelaxTimers() {
	slack := func() int { n, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); return n }
	if slack() >= int(timerSlack) {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) == nil && slack() >= int(timerSlack) {
		_ = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
}

// Inherited is a child of ours from before an exec: pidfd and memory are what
// was kept of it. ErrNoProcess: it is not, or has ended.
func Inherited(r *Record, pidfd, memory int, ownNetwork bool) (*Child, error) {
	c := &Child{ID: r.ID, PID: r.PID, PidFD: pidfd, Record: *r, OwnNetwork: ownNetwork, adopted: true}
	if memory >= 0 {
		c.memory = os.NewFile(uintptr(memory), "smaps_rollup")
	}
	id, err := Stat(pidfd)
	if err != nil || id.Ino != r.PidIno {
		c.Forget()
		return nil, ErrNoProcess
	}
	if c.Ended() {
		if _, err := c.Wait(); err != nil {
			c.Forget()
		}
		return nil, ErrNoProcess
	}
	return c, nil
}

// MemoryFD is what MemoryUse reads, -1: nothing.
func (c *Child) MemoryFD() int {
	if c.memory == nil {
		return -1
	}
	return int(c.memory.Fd())
}

// OpenProgram opens a binary that is to be executed. One that we may execute and not
// read, as that of the packages for whoever is not root, has no Digest.
func OpenProgram(path string) (*os.File, error) {
	exe, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrPermission) {
		return os.OpenFile(path, unix.O_PATH, 0)
	}
	return exe, err
}

// ProgramFault names what of an executable file lets others decide what runs, ""
// if nothing does.
func ProgramFault(exe *os.File) (string, error) {
	st, err := exe.Stat()
	if err != nil {
		return "", err
	}
	uid := OwnerUID(st)
	switch {
	case !st.Mode().IsRegular():
		return "not a regular file", nil
	case uid != 0 && uid != os.Geteuid():
		return fmt.Sprintf("belongs to uid %d", uid), nil
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("mode %#o lets others write", st.Mode().Perm()), nil
	case st.Mode().Perm()&0o111 == 0:
		return "not executable", nil
	}
	return "", nil
}

const (
	trialOutput = 4 << 10 // bytes of each stream that are looked at
	trialCPU    = 60      // seconds
)

// Trial runs a program for at most timeout, in our working directory, and gives
// what it writes. An error says how it ended; stderr why, perhaps.
func Trial(exe *os.File, args []string, timeout time.Duration) (stdout, stderr string, err error) {
	out, err := newPipe()
	if err != nil {
		return "", "", err
	}
	defer out.close()
	errs, err := newPipe()
	if err != nil {
		return "", "", err
	}
	defer errs.close()
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", "", fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer closeFD(null)
	program, err := dupAbove(exe, max(null, out.w, errs.w)+32)
	if err != nil {
		return "", "", err
	}
	defer closeFD(program)
	c := &Child{PidFD: -1}
	c.PID, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", program), args, &syscall.ProcAttr{
		Env:   cleanEnv(),
		Files: []uintptr{uintptr(null), uintptr(out.w), uintptr(errs.w)},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &c.PidFD},
	})
	if err != nil {
		return "", "", err
	}
	if c.PidFD < 0 {
		c.abandon()
		return "", "", fmt.Errorf("pidfd: %w", syscall.ENOSYS)
	}
	_ = unix.Prlimit(c.PID, unix.RLIMIT_CPU, &unix.Rlimit{Cur: trialCPU, Max: trialCPU}, nil) // timeout bounds it, too
	out.closeWriter()
	errs.closeWriter()
	return c.watch(out, errs, timeout)
}

// watch reads a trial's output up to its end.
func (c *Child) watch(out, errs *pipe, timeout time.Duration) (stdout, stderr string, err error) {
	end := time.Now().Add(timeout)
	done := make(chan string)
	go func() { done <- errs.read(end) }()
	stdout = out.read(end)
	stderr = <-done
	late := !c.AwaitEnd(max(time.Until(end), 0))
	if late {
		_ = c.Signal(syscall.SIGKILL)
		c.AwaitEnd(timeout)
	}
	how, err := c.Wait()
	switch {
	case late:
		return stdout, stderr, os.ErrDeadlineExceeded
	case err != nil:
		return stdout, stderr, err
	case how != "exit 0":
		return stdout, stderr, errors.New(how)
	}
	return stdout, stderr, nil
}

// pipe has its reading end in the Go runtime's poller.
type pipe struct {
	r *os.File
	w int
}

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		closeFD(fds[0])
		closeFD(fds[1])
		return nil, err
	}
	return &pipe{os.NewFile(uintptr(fds[0]), "pipe"), fds[1]}, nil
}

func (p *pipe) read(end time.Time) string {
	_ = p.r.SetReadDeadline(end)
	b, _ := io.ReadAll(io.LimitReader(p.r, trialOutput))
	p.r.Close()
	return string(b)
}

func (p *pipe) closeWriter() {
	if p.w >= 0 {
		closeFD(p.w)
		p.w = -1
	}
}

func (p *pipe) close() {
	p.closeWriter()
	p.r.Close()
}
