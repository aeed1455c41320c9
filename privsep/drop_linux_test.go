package privsep

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	testUID = 61190
	testGID = 61191
)

// childDrop has threads before and after, groups and an inheritable capability
// to lose, and then tries what a role must not be able to do.
func childDrop(boot *Boot, _ *Channel, _ *Logger, s *Settings) error {
	if err := taint(); err != nil {
		return fmt.Errorf("taint: %w", err)
	}
	threads(8)
	if err := EmptyRoot(s.Broker); err != nil {
		return err
	}
	if err := Drop(boot.UID, boot.GID); err != nil {
		return err
	}
	threads(8)
	if taskDir != nil {
		return errors.New("task directory kept open")
	}
	if err := Drop(boot.UID+1, boot.GID+1); err == nil {
		return errors.New("dropped twice")
	}
	return noWayOut()
}

// taint gives every thread to come groups and an inheritable capability.
func taint() error {
	runtime.LockOSThread() // new threads copy the one that makes them
	if err := syscall.Setgroups([]int{4, 20, 27}); err != nil {
		return err
	}
	hdr := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(hdr, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable = 1 << unix.CAP_CHOWN
	if err := unix.Capset(hdr, &data[0]); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_CHOWN, 0, 0)
}

func noWayOut() error {
	tries := map[string]func() error{
		"open":     func() error { _, err := os.Open("/etc/passwd"); return err },
		"open ..":  func() error { _, err := os.Open("../../../../etc/passwd"); return err },
		"proc":     func() error { _, err := os.ReadDir("/proc"); return err },
		"create":   func() error { return os.WriteFile("/x", nil, 0o600) },
		"mkdir":    func() error { return os.Mkdir("/x", 0o700) },
		"chroot":   func() error { return syscall.Chroot("/") },
		"setuid":   func() error { return syscall.Setuid(0) },
		"setgid":   func() error { return syscall.Setgid(0) },
		"groups":   func() error { return syscall.Setgroups([]int{0}) },
		"kill 1":   func() error { return syscall.Kill(1, 0) },
		"exec":     func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"sethost":  func() error { return syscall.Sethostname([]byte("x")) },
		"own exe":  func() error { _, err := os.Open("/proc/self/exe"); return err },
		"own root": func() error { _, err := os.ReadDir("/proc/self/root/etc"); return err },
	}
	for name, try := range tries {
		if try() == nil {
			return fmt.Errorf("%s works after the drop", name)
		}
	}
	return nil
}

func TestDrop(t *testing.T) {
	needRoot(t)
	root := filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	id := ID{RoleCM, 0}
	s := startChild(t, pure(t), Boot{ID: id, UID: testUID, GID: testGID}, Settings{Environment: "drop", Broker: root})
	s.ready(t)
	p, err := ReadPosture(s.PID)
	if err != nil || p.dropped(testUID, testGID) != nil || p.Threads < 17 {
		t.Fatalf("%+v %v", p, err)
	}
	// Not dumpable: its own uid may not look inside.
	st, err := os.Stat(fmt.Sprintf("/proc/%d/environ", s.PID))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Fatalf("environ belongs to uid %d, %v", st.Sys().(*syscall.Stat_t).Uid, err)
	}
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/root", s.PID)); err != nil || at != root {
		t.Fatalf("root is %q, %v", at, err)
	}
	checkChildFDs(t, fmt.Sprintf("/proc/%d/fd", s.PID))
}

// With cgo Go cannot reach every thread: Drop must say so, not go on.
func childDropCgo(boot *Boot, _ *Channel, _ *Logger, _ *Settings) error {
	if err := Drop(boot.UID, boot.GID); !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("drop: %v", err)
	}
	if err := NoNewPrivs(); !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("no_new_privs: %v", err)
	}
	return nil
}

func TestDropFailsClosedWithCgo(t *testing.T) {
	needRoot(t)
	if !isCgo() {
		t.Skip("SKIP needs a binary with cgo: go test -race")
	}
	startChild(t, self(t), Boot{ID: ID{RoleCM, 0}, UID: testUID, GID: testGID}, Settings{Environment: "drop cgo"}).ready(t)
}

func childNoNewPrivs(*Boot, *Channel, *Logger, *Settings) error {
	threads(4)
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 1 {
		return fmt.Errorf("dumpable before: %d, %v", n, err)
	}
	if err := NoNewPrivs(); err != nil {
		return err
	}
	threads(4)
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		return fmt.Errorf("dumpable after: %d, %v", n, err)
	}
	return nil
}

func TestNoNewPrivs(t *testing.T) {
	s := startChild(t, pure(t), Boot{ID: ID{RoleRouter, 0}}, Settings{Environment: "no new privs"})
	s.ready(t)
	p, err := ReadPosture(s.PID)
	if err != nil || !p.Uniform || !p.NoNewPrivs || p.Threads < 9 || int(p.UID) != os.Getuid() {
		t.Fatalf("%+v %v", p, err)
	}
}

func TestDropRefusesNobody(t *testing.T) {
	for _, ids := range [][2]int{{0, 0}, {0, 5}, {5, 0}, {-1, 5}, {5, -1}, {noID, 5}, {5, noID}} {
		if err := Drop(ids[0], ids[1]); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v: %v", ids, err)
		}
	}
}

// A root that is not safe is refused before anything changes.
func TestEmptyRootRefuses(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o775); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{open, link, file, filepath.Join(dir, "none"), dir} {
		if err := EmptyRoot(d); err == nil {
			t.Fatalf("%s taken as root", d)
		}
	}
	if _, err := os.Stat("/proc/self"); err != nil || taskDir != nil {
		t.Fatalf("something changed: %v", err)
	}
}

func TestPostureOfOurselves(t *testing.T) {
	p, err := ReadPosture(os.Getpid())
	if err != nil || p.Threads == 0 || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() {
		t.Fatalf("%+v %v", p, err)
	}
	if _, err := ReadPosture(1 << 30); err == nil || !strings.Contains(err.Error(), "/proc/") {
		t.Fatalf("a process that is not: %v", err)
	}
}
