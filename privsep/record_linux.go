package privsep

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fileState changes whenever a file's content does.
type fileState struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// digests keeps the SHA-256 of the executables, by fileState: a restart must
// not wait for megabytes to be read again.
var digests sync.Map

// stateOf says which file exe is.
func stateOf(exe *os.File) (fileState, error) {
	conn, err := exe.SyscallConn()
	if err != nil {
		return fileState{}, err
	}
	var st unix.Stat_t
	if ctlErr := conn.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); ctlErr != nil {
		return fileState{}, ctlErr
	}
	if err != nil {
		return fileState{}, fmt.Errorf("executable: %w", err)
	}
	return fileState{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// setExecutable records which file exe is, and what it holds if Digest has
// looked.
func (r *Record) setExecutable(exe *os.File) error {
	state, err := stateOf(exe)
	if err != nil {
		return err
	}
	r.Dev, r.Ino = state.dev, state.ino
	if sum, ok := digests.Load(state); ok {
		r.SHA256 = sum.([sha256.Size]byte)
	}
	return nil
}

// Digest gives the SHA-256 of an executable, which takes a tenth of a second
// where the processor has no help for it. Records made afterwards have it.
func Digest(exe *os.File) (sum [sha256.Size]byte, err error) {
	state, err := stateOf(exe)
	if err != nil {
		return sum, err
	}
	if known, ok := digests.Load(state); ok {
		return known.([sha256.Size]byte), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(exe, 0, state.size)); err != nil {
		return sum, fmt.Errorf("executable: %w", err)
	}
	h.Sum(sum[:0])
	digests.Store(state, sum)
	return sum, nil
}

// Nice values: one at which a process has a tenth of another's share of a processor,
// and one at which it has a third.
const (
	background = 10
	yielding   = 5
)

// Background lowers the priority of the calling thread, which must be locked
// to its goroutine: for work that nobody waits for.
func Background() {
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), background) // only slower for others if it fails
}

// Yield lowers the priority of the whole process, for good: for work that somebody
// waits for, but that many others must not. Threads that come later take it from the
// one that makes them.
func Yield() {
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, yielding)
}

// GiveWay has the threads of the process preempt nobody when they wake, for good: for
// work that must not come between messages. They are on time where a processor is idle,
// and else have their turn. Threads that come later take it from the one that makes them.
// It changes nothing of a policy that somebody has chosen for the broker (chrt(1),
// systemd.exec(5)). Source: SCHED_BATCH, sched(7).
func GiveWay() { giveWay() }

// OthersGiveWay is GiveWay for all threads but the calling one, which must be locked to
// its goroutine.
func OthersGiveWay() {
	if before := giveWay(); before != nil {
		before.Runtime = 0                  // a share of time, of the policies that have one
		_ = unix.SchedSetAttr(0, before, 0) // only slower for us if it fails
	}
}

// giveWay returns what the calling thread had, or nil where nothing has changed.
func giveWay() (before *unix.SchedAttr) {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL || rawSchedule(unix.SCHED_BATCH) != 0 {
		return nil
	}
	return attr
}

// StartedAt gives the time of a start in clock ticks since boot.
func StartedAt(ticks uint64) time.Time {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Time{} // EFAULT and EINVAL cannot be
	}
	return time.Now().Add(time.Duration(ticks)*clockTick - time.Duration(t.Nano()))
}

// StartTime gives when process pid started, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	n, err := statFields(pid, 22)
	return n[0], err
}

// CPUTime gives what processor time process pid has used.
func CPUTime(pid int) time.Duration {
	n, err := statFields(pid, 14, 15)
	if err != nil {
		return 0
	}
	return time.Duration(n[0]+n[1]) * clockTick
}

// clockTick: USER_HZ is 100 on every processor that Go knows.
const clockTick = 10 * time.Millisecond

// statFields reads two fields at most of /proc/PID/stat.
func statFields(pid int, which ...int) (values [2]uint64, err error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	b, err := os.ReadFile(path)
	if err != nil {
		return values, err
	}
	// Field 2 is the name in brackets and may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	for i, n := range which {
		if len(fields) <= n-3 {
			return values, fmt.Errorf("%s: %w", path, syscall.EINVAL)
		}
		if values[i], err = strconv.ParseUint(string(fields[n-3]), 10, 64); err != nil {
			return [2]uint64{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return values, nil
}
