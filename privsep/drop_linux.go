package privsep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// taskDir is our own /proc/self/task, opened by EmptyRoot, after which there is
// no /proc, for Drop's proof. Drop closes it: an open directory outside the
// root is a way out of it.
var taskDir *os.Root

// EmptyRoot makes directory dir the root and working directory. dir must be
// root's, writable by root alone, and empty. Needs root; Drop must follow.
func EmptyRoot(dir string) error {
	d, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := emptyAndRoots(d); err != nil {
		return fmt.Errorf("empty root %s: %w", dir, err)
	}
	if taskDir == nil {
		if taskDir, err = os.OpenRoot("/proc/self/task"); err != nil {
			return err
		}
	}
	// By the open directory, not by name: what was checked is what is used.
	if err := d.Chdir(); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return fmt.Errorf("chroot %s: %w", dir, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return nil
}

// emptyAndRoots checks an open directory; what only root may write into stays
// empty.
func emptyAndRoots(d *os.File) error {
	st, err := d.Stat()
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != 0 || st.Mode().Perm()&0o022 != 0 {
		return errors.New("others than root may write there")
	}
	if _, err := d.ReadDir(1); err != io.EOF {
		return errors.New("not empty")
	}
	return nil
}

// Drop gives up root for good: bounding set, groups, gid, uid, capabilities,
// new privileges by exec, being dumped or traced by its own uid. Then it
// proves it on every thread, and that there is no way back. On any error the
// process is in no defined state and must exit. ENOTSUP: built with cgo, where
// Go cannot reach every thread.
func Drop(uid, gid int) error {
	if uid <= 0 || gid <= 0 || int64(uid) >= noID || int64(gid) >= noID {
		return fmt.Errorf("drop to uid %d gid %d: %w", uid, gid, syscall.EINVAL)
	}
	task, err := tasks()
	if err != nil {
		return err
	}
	defer task.Close()
	steps := []struct {
		name string
		do   func() error
	}{
		{"bounding set", dropBounding},
		{"ambient set", dropAmbient},
		{"setgroups", func() error { return syscall.Setgroups(nil) }},
		{"setresgid", func() error { return syscall.Setresgid(gid, gid, gid) }},
		{"setresuid", func() error { return syscall.Setresuid(uid, uid, uid) }},
		{"capset", dropCapabilities},
		{"no_new_privs", noNewPrivs},
		{"dumpable", notDumpable},
		{"proof", func() error { return proveDropped(task, uint32(uid), uint32(gid)) }},
		{"regain", cannotRegain},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("drop privileges: %s: %w", s.name, err)
		}
	}
	return nil
}

// NoNewPrivs is what works without root: no exec gains anything, nobody of the
// same uid traces us or reads our memory; proved on every thread. ENOTSUP:
// built with cgo.
func NoNewPrivs() error {
	if err := noNewPrivs(); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := notDumpable(); err != nil {
		return fmt.Errorf("dumpable: %w", err)
	}
	task, err := tasks()
	if err != nil {
		return err
	}
	defer task.Close()
	p, err := readTasks(task.FS())
	if err != nil {
		return fmt.Errorf("no_new_privs: proof: %w", err)
	}
	if !p.Uniform || !p.NoNewPrivs {
		return fmt.Errorf("no_new_privs: %w: %+v", errUnproved, p)
	}
	return nil
}

// tasks gives our own task directory; the caller closes it.
func tasks() (*os.Root, error) {
	if taskDir != nil {
		d := taskDir
		taskDir = nil
		return d, nil
	}
	return os.OpenRoot("/proc/self/task")
}

// proveDropped holds every thread's posture against what Drop promised. One
// that was ending when the rest changed is waited for.
func proveDropped(task *os.Root, uid, gid uint32) error {
	for end := time.Now().Add(endingWait); ; time.Sleep(time.Millisecond) {
		p, err := readTasks(task.FS())
		if err != nil {
			return err
		}
		if p.Uniform || time.Now().After(end) {
			return p.dropped(uid, gid)
		}
	}
}

// allThreads does prctl(option, a2) on every thread; unix.Prctl does it on one.
func allThreads(option, a2 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, option, a2, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func dropBounding() error { return limitBounding(0) }

func dropAmbient() error { return allThreads(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL) }

func noNewPrivs() error { return allThreads(unix.PR_SET_NO_NEW_PRIVS, 1) }

// notDumpable acts on the address space, which all threads share.
func notDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		return errUnproved
	}
	return nil
}

// cannotRegain tries each way back and wants EPERM.
func cannotRegain() error {
	const same = -1
	tries := []error{
		syscall.Setresuid(same, 0, same),
		syscall.Setuid(0),
		syscall.Setresgid(same, 0, same),
		syscall.Setgid(0),
		syscall.Setgroups([]int{0}),
		allThreads(unix.PR_CAPBSET_DROP, unix.CAP_CHOWN),
	}
	for i, err := range tries {
		if err != syscall.EPERM {
			return fmt.Errorf("%w: way %d: %v", errUnproved, i, err)
		}
	}
	return nil
}
