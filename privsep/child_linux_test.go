package privsep

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStartGivesExactlyThis(t *testing.T) {
	noLeak(t)
	t.Setenv("SECRET", "of the parent")
	t.Setenv("GOGC", "77")
	exe := self(t)
	if _, err := Digest(exe); err != nil { // else the record has none
		t.Fatal(err)
	}
	s := startChild(t, exe, Boot{ID: ID{RoleCM, 3}}, Settings{Environment: "idle"})
	s.ready(t)
	proc := fmt.Sprintf("/proc/%d/", s.PID)

	read := func(name string) string {
		b, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("cmdline"); got != "gatehouse: cm/3\x00-x\x00cm/3\x00" {
		t.Errorf("cmdline %q", got)
	}
	if got := read("comm"); got != "gatehouse\n" {
		t.Errorf("comm %q", got)
	}
	if got := read("environ"); strings.Contains(got, "SECRET") || !strings.Contains(got, "GOGC=77\x00") {
		t.Errorf("environ %q", got)
	}
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != "/" {
		t.Errorf("cwd %q %v", cwd, err)
	}
	if sid, err := unix.Getsid(s.PID); err != nil || sid != s.PID {
		t.Errorf("session %d, pid %d, %v", sid, s.PID, err)
	}
	checkChildFDs(t, proc+"fd")
	checkRecord(t, s, exe)
}

// checkChildFDs wants 0..3 as they should be, and else only what the Go runtime
// opened for itself.
func checkChildFDs(t *testing.T, dir string) {
	t.Helper()
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := os.Readlink("/proc/self/fd/2")
	have := map[string]string{}
	for _, fd := range fds {
		have[fd.Name()], _ = os.Readlink(filepath.Join(dir, fd.Name()))
	}
	if have["0"] != os.DevNull || have["1"] != os.DevNull || have["2"] != ours || !strings.HasPrefix(have["3"], "socket:") || !strings.HasPrefix(have["4"], "socket:") {
		t.Errorf("fds 0 to 4: %v", have)
	}
	for fd, target := range have {
		if len(fd) == 1 && fd <= "4" || strings.HasPrefix(target, "anon_inode:[event") {
			continue
		}
		t.Errorf("fd %s is %s", fd, target)
	}
}

func checkRecord(t *testing.T, s *started, exe *os.File) {
	t.Helper()
	var st, pid unix.Stat_t
	if err := unix.Fstat(int(exe.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(s.PidFD, &pid); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, exe); err != nil {
		t.Fatal(err)
	}
	start, err := StartTime(s.PID)
	if err != nil {
		t.Fatal(err)
	}
	want := Record{ID: s.ID, PID: s.PID, StartTime: start, UID: os.Getuid(), PidIno: pid.Ino,
		Dev: uint64(st.Dev), Ino: st.Ino, SHA256: [32]byte(h.Sum(nil))}
	if s.Record != want || start == 0 {
		t.Errorf("record %+v\nwant %+v", s.Record, want)
	}
}

// What runs is the file that was opened at start, replaced or deleted since.
func TestStartAfterReplacement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse")
	copyFile(t, "/proc/self/exe", path)
	exe := openExe(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	startChild(t, exe, Boot{ID: ID{RoleRouter, 0}}, Settings{Environment: "idle"}).ready(t)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The executable's fd may lie anywhere, also where the child puts its own.
func TestStartWhereverTheFDs(t *testing.T) {
	noLeak(t)
	f := self(t)
	ours, low := socketpair(t)
	defer closeFD(ours)
	// Far above the rest, so that the fork's own pipe lies below.
	theirs, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 200)
	defer closeFD(low) // stands for the door
	if err != nil {
		t.Fatal(err)
	}
	for at := theirs + 1; at < theirs+4; at++ {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, at)
		if err != nil || fd != at {
			t.Fatal(fd, err)
		}
		exe := os.NewFile(uintptr(at), "exe")
		c, err := Start(exe, ID{RoleCM, 0}, theirs, low)
		exe.Close()
		if err != nil {
			t.Fatalf("executable at fd %d, channel at %d: %v", at, theirs, err)
		}
		if err := c.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = waitFD(c.PidFD, false, -1)
		if status, err := c.Wait(); err != nil || status != "signal killed" || c.PidFD != -1 {
			t.Fatalf("%s %v", status, err)
		}
	}
	closeFD(theirs)
}

func TestStartRefuses(t *testing.T) {
	noLeak(t)
	exe := self(t)
	for _, id := range []ID{{}, {RoleParent, 0}, {RoleRouter, 1}, {RoleCM, -1}, {numRoles, 0}} {
		if c, err := Start(exe, id, 5, 5); err == nil {
			t.Errorf("started %v: %+v", id, c)
		}
	}
	if _, err := Start(exe, ID{RoleCM, 0}, 2, 5); err == nil {
		t.Error("started with stderr as channel")
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if c, err := Start(openExe(t, text), ID{RoleCM, 0}, null(t), null(t)); err == nil || !strings.Contains(err.Error(), "start cm/0") {
		t.Errorf("started a text: %+v %v", c, err)
	}
}

func TestChildStatus(t *testing.T) {
	noLeak(t)
	s := startChild(t, self(t), Boot{ID: ID{RoleAuth, 0}}, Settings{Environment: "idle"})
	s.ready(t)
	if status, err := s.Wait(); err != ErrAgain {
		t.Fatalf("still there: %q %v", status, err)
	}
	if status := s.end(t); status != "exit 0" {
		t.Fatalf("ended by %q", status)
	}
	if err := s.Signal(syscall.SIGTERM); err == nil {
		t.Fatal("signalled the dead")
	}
	s = startChild(t, self(t), Boot{ID: ID{RoleAuth, 0}}, Settings{Environment: "exit 3"})
	if status := s.end(t); status != "exit 3" {
		t.Fatalf("ended by %q", status)
	}
}

// A role that nobody started says so.
func TestInheritByHand(t *testing.T) {
	for _, args := range [][]string{{ChildFlag, "cm/0"}, {ChildFlag, "parent"}, {ChildFlag, "nonsense"}, {ChildFlag}} {
		var out bytes.Buffer
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Stderr = &out
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != 2 || out.String() != ErrNotChild.Error()+"\n" {
			t.Errorf("%v: %v, %q", args, err, out.String())
		}
	}
}

// Law: a child obeys nothing but a BOOT for itself.
func TestInheritRefuses(t *testing.T) {
	noLeak(t)
	key := NewKey()
	for name, send := range map[string]func(t *testing.T, h *hostile){
		"other role": func(t *testing.T, h *hostile) {
			h.send(t, h.frame(KindBoot, (&Boot{ID: ID{RoleCM, 1}, Key: key}).Append(nil), 0))
		},
		"other kind": func(t *testing.T, h *hostile) { h.send(t, h.frame(KindSetupEnd, nil, 0)) },
		"with fd": func(t *testing.T, h *hostile) {
			h.send(t, h.frame(KindBoot, (&Boot{ID: ID{RoleCM, 0}, Key: key}).Append(nil), 1), null(t))
		},
		"noise": func(t *testing.T, h *hostile) { h.send(t, bytes.Repeat([]byte{1}, 100)) },
		"end":   func(t *testing.T, h *hostile) { _ = unix.Shutdown(h.fd, unix.SHUT_WR) },
	} {
		ours, theirs := socketpair(t)
		door := someDoor(t)
		c, err := Start(self(t), ID{RoleCM, 0}, theirs, door)
		closeFD(theirs)
		closeFD(door)
		if err != nil {
			t.Fatal(err)
		}
		send(t, &hostile{ours, newDirection(key, RoleParent, RoleCM)})
		_ = waitFD(c.PidFD, false, -1)
		if status, err := c.Wait(); err != nil || status != "exit 2" {
			t.Errorf("%s: %q %v", name, status, err)
		}
		closeFD(ours)
	}
}

// CloseRange marks what we ourselves inherited. Run in a copy of ourselves,
// for it is meant for the whole process.
func TestCloseRange(t *testing.T) {
	noLeak(t)
	fd := null(t)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 300) // not CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(high)
	if err := CloseRange(); err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(uintptr(high), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Fatalf("flags %d, %v", flags, err)
	}
}

func TestCleanEnv(t *testing.T) {
	t.Setenv("LD_PRELOAD", "x.so")
	procs := fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0))
	t.Setenv("GOTRACEBACK", "all")
	t.Setenv("GODEBUG", "madvdontneed=1")
	env := cleanEnv()
	if !slices.Contains(env, "GODEBUG="+noFiles+",madvdontneed=1") || !slices.Contains(env, procs) || !slices.Contains(env, "GOTRACEBACK=all") {
		t.Errorf("%q", env)
	}
	for _, e := range env {
		if key, _, _ := strings.Cut(e, "="); key != "GODEBUG" && key != "GOMAXPROCS" && !slices.Contains(keptEnv, key) {
			t.Errorf("%q passed on", e)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	exe := self(b)
	for b.Loop() {
		s := startChild(b, exe, Boot{ID: ID{RoleCM, 0}}, Settings{Environment: "idle"})
		s.ready(b)
		s.end(b)
	}
}
