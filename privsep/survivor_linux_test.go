package privsep

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asChild is this process as a child of ours.
func asChild(t *testing.T, id ID) *Child {
	t.Helper()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(fd) })
	at, err := Stat(fd)
	if err != nil {
		t.Fatal(err)
	}
	return &Child{ID: id, PID: os.Getpid(), PidFD: fd, Record: Record{ID: id, PID: os.Getpid(), PidIno: at.Ino, UID: os.Getuid()}}
}

// An orphan listens to the one who means it and may, speaks to nobody meanwhile,
// and has the rules of a running channel afterwards; as often as its parents die.
func TestAdoption(t *testing.T) {
	noLeak(t)
	self := ID{RoleCM, 1}
	path := filepath.Join(t.TempDir(), "door")
	door, err := ListenForHeir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(door)
	poll, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer poll.Close()
	parent, child := channels(t, RoleParent, RoleCM, PhaseRun)
	child.heir = newHeir(&Boot{ID: self, Generation: 3}, door)
	child.heir.owner = os.Getuid()
	for range 3 {
		parent.Close()
		if err := child.Orphan(poll, 7); err != nil || !child.Orphaned() {
			t.Fatal(err)
		}
		if err := child.Send(KindDrained, nil); err != ErrClosed {
			t.Fatalf("spoke to nobody: %v", err)
		}
		wrong, err := asChild(t, self).Claim(path, 4)
		if err != nil {
			t.Fatal(err)
		}
		if child.Adopted(poll, 7, Adopted{}) || !child.Orphaned() {
			t.Fatal("adopted in the name of another process")
		}
		wrong.Close()
		if parent, err = asChild(t, self).Claim(path, 3); err != nil {
			t.Fatal(err)
		}
		if ready, err := poll.Wait(time.Second); err != nil || len(ready) != 1 || ready[0].Token != 7 {
			t.Fatalf("%v %v", ready, err)
		}
		if !child.Adopted(poll, 7, Adopted{Layout: 5, Peers: []uint64{1, 2}}) || child.Orphaned() || child.Phase() != PhaseRun {
			t.Fatal("not adopted")
		}
		var m Message
		var a Adopted
		if err := parent.RecvWait(&m, time.Second); err != nil || a.Parse(m.Payload) != nil {
			t.Fatal(err)
		}
		if a.Version != Version || a.Generation != 3 || a.Layout != 5 || len(a.Peers) != 2 {
			t.Fatalf("%+v", a)
		}
		parent.SetPhase(PhaseRun)
		if err := child.Send(KindDrained, nil); err != nil {
			t.Fatal(err)
		}
		if err := parent.RecvWait(&m, time.Second); err != nil || m.Kind != KindDrained {
			t.Fatalf("%v %v", m.Kind, err)
		}
	}
	parent.Close()
	child.Close()
}

// Somebody of another uid is hung up on, and so is who comes before another.
func TestAdoptionByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "door")
	door, err := ListenForHeir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(door)
	poll, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer poll.Close()
	parent, child := channels(t, RoleParent, RoleRouter, PhaseRun)
	child.heir = newHeir(&Boot{ID: ID{RoleRouter, 0}, Generation: 1}, door)
	child.heir.owner = os.Getuid() + 1
	parent.Close()
	if err := child.Orphan(poll, 7); err != nil {
		t.Fatal(err)
	}
	ch, err := asChild(t, ID{RoleRouter, 0}).Claim(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	if child.Adopted(poll, 7, Adopted{}) {
		t.Fatal("adopted by another uid")
	}
	var m Message
	if err := ch.RecvWait(&m, time.Second); err == nil {
		t.Fatalf("it was told %v", m.Kind)
	}
}

// A channel that was not inherited has no heir.
func TestNoHeir(t *testing.T) {
	_, child := channels(t, RoleParent, RoleRouter, PhaseRun)
	if err := child.Orphan(nil, 0); err != ErrOrphan {
		t.Fatal(err)
	}
}

func TestRecover(t *testing.T) {
	exe := self(t)
	if _, err := Digest(exe); err != nil {
		t.Fatal(err)
	}
	s := startChild(t, exe, Boot{ID: ID{RoleCM, 0}}, Settings{Environment: "idle"})
	s.ready(t)
	for name, c := range map[string]struct {
		change  func(*Record)
		differs string
		err     error
	}{
		"the process": {func(*Record) {}, "", nil},
		"other inode": {func(r *Record) { r.PidIno++ }, "", ErrNoProcess},
		"no process":  {func(r *Record) { r.PID = 0 }, "", ErrNoProcess},
		"start time":  {func(r *Record) { r.StartTime++ }, "start time", nil},
		"uid":         {func(r *Record) { r.UID += 5 }, "uid", nil},
		"executable":  {func(r *Record) { r.Ino++ }, "executable", nil},
		"digest":      {func(r *Record) { r.SHA256[0] ^= 1 }, "digest of the executable", nil},
		"no digest":   {func(r *Record) { r.SHA256 = [32]byte{} }, "", nil},
	} {
		r := s.Record
		c.change(&r)
		got, differs, err := Recover(&r)
		if !errors.Is(err, c.err) || differs != c.differs || (got == nil) != (c.err != nil) {
			t.Errorf("%s: %v, differs %q, %v", name, got, differs, err)
		}
		if got != nil {
			got.Forget()
		}
	}
	c, _, err := Recover(&s.Record)
	if err != nil {
		t.Fatal(err)
	}
	null, err := Stat(null(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.TakeFDs(map[FileID]bool{null: true, {1, 1}: true})
	if err != nil || len(got) != 1 {
		t.Fatalf("%v %v", got, err)
	}
	if id, err := Stat(got[null]); err != nil || id != null {
		t.Errorf("took %v, %v", id, err)
	}
	closeFD(got[null])
	if err := c.Signal(syscall.SIGKILL); err != nil || !c.AwaitEnd(10*time.Second) {
		t.Fatal(err)
	}
	if _, _, err := Recover(&s.Record); !errors.Is(err, ErrNoProcess) {
		t.Errorf("ended, but %v", err)
	}
	c.Forget()
}

func TestTrial(t *testing.T) {
	noLeak(t)
	sh := openExe(t, "/bin/sh")
	out, errs, err := Trial(sh, []string{"sh", "-c", "echo said; echo complained >&2"}, time.Minute)
	if out != "said\n" || errs != "complained\n" || err != nil {
		t.Errorf("%q %q %v", out, errs, err)
	}
	if _, _, err := Trial(sh, []string{"sh", "-c", "exit 3"}, time.Minute); err == nil || err.Error() != "exit 3" {
		t.Errorf("%v", err)
	}
	if out, _, _ := Trial(sh, []string{"sh", "-c", "while :; do echo much; done"}, time.Minute); len(out) != trialOutput {
		t.Errorf("%d bytes", len(out))
	}
	if _, _, err := Trial(sh, []string{"sh", "-c", "read x < /dev/zero"}, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if out, _, _ := Trial(sh, []string{"sh", "-c", "echo $HOME$PATH"}, time.Minute); strings.Contains(out, os.Getenv("HOME")+"/") {
		t.Errorf("it has our environment: %q", out)
	}
}

func TestProgramFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o755: "", 0o700: "", 0o775: "lets others write", 0o757: "lets others write", 0o644: "not executable"} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ProgramFault(f); err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q, %v", mode, got, err)
		}
		f.Close()
	}
}
