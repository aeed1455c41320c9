package privsep

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// ourselves is the record of this process.
func ourselves(t *testing.T) Sender {
	t.Helper()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return Sender{PID: os.Getpid(), PidIno: pidfdInode(fd), UID: os.Getuid(), Before: os.Getuid()}
}

// expecting gives a child's end and a parent's that expects s.
func expecting(t *testing.T, s Sender) (child, parent *Channel) {
	t.Helper()
	child, parent = channels(t, RoleCM, RoleParent, PhaseRun)
	missing, err := Identify(parent.FD())
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Expect(s); err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		t.Logf("this kernel has no %s", m)
	}
	return child, parent
}

func TestExpectTakesTheRightOne(t *testing.T) {
	noLeak(t)
	child, parent := expecting(t, ourselves(t))
	var m Message
	for range 3 {
		if err := child.Send(KindDrained, nil); err != nil {
			t.Fatal(err)
		}
		if err := parent.Recv(&m); err != nil || m.Kind != KindDrained {
			t.Fatalf("%v %v", m.Kind, err)
		}
	}
}

// Each fact alone is enough to be refused.
func TestExpectRefusesEachDifference(t *testing.T) {
	noLeak(t)
	self := ourselves(t)
	for name, change := range map[string]func(*Sender){
		"pid":   func(s *Sender) { s.PID++ },
		"uid":   func(s *Sender) { s.UID++ },
		"pidfd": func(s *Sender) { s.PidIno++ },
	} {
		want := self
		change(&want)
		child, parent := expecting(t, want)
		if err := child.Send(KindDrained, nil); err != nil {
			t.Fatal(err)
		}
		var m Message
		err := parent.Recv(&m)
		var impostor *ImpostorError
		if !errors.As(err, &impostor) || impostor.PID != self.PID || impostor.UID != self.UID || parent.FD() >= 0 || m.Kind != KindNone {
			t.Errorf("%s: %v, fd %d", name, err, parent.FD())
		}
	}
}

// The uid that a child starts with counts until SETUP_DONE and not after.
func TestExpectBeforeAndAfterTheDrop(t *testing.T) {
	s := ourselves(t)
	s.Before, s.UID = s.UID, s.UID+1
	p := packet{told: true, pidfd: true, pid: s.PID, uid: s.Before, pidIno: s.PidIno}
	s.pidfds = true
	if err := s.check(&p, PhaseSetup); err != nil {
		t.Errorf("in setup: %v", err)
	}
	if err := s.check(&p, PhaseRun); err == nil {
		t.Error("root after the drop was taken")
	}
	p.uid = s.UID
	p.pidfd = false
	if err := s.check(&p, PhaseRun); err == nil {
		t.Error("a message without a pidfd was taken")
	}
}

// A process that has the socket and a message that is right in every byte is
// still another process.
func TestExpectRefusesAChildWithTheSocket(t *testing.T) {
	noLeak(t)
	child, parent := expecting(t, ourselves(t))
	frame, err := child.out.seal(nil, PhaseRun, KindDrained, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(child.FD())
	if err != nil {
		t.Fatal(err)
	}
	sock := os.NewFile(uintptr(fd), "socket")
	cmd := exec.Command("cat")
	cmd.Stdin, cmd.Stdout = bytes.NewReader(frame), sock
	err = cmd.Run()
	sock.Close()
	if err != nil {
		t.Fatal(err)
	}
	var m Message
	var impostor *ImpostorError
	if err := parent.Recv(&m); !errors.As(err, &impostor) || parent.FD() >= 0 {
		t.Fatalf("%v", err)
	}
	if impostor.PID != cmd.Process.Pid {
		t.Errorf("says pid %d, it was %d", impostor.PID, cmd.Process.Pid)
	}
}

// Credentials can be claimed, not forged: with root the kernel passes on
// whatever pid is there, and the pidfd tells.
func TestExpectRefusesClaimedCredentials(t *testing.T) {
	noLeak(t)
	want := ourselves(t)
	want.PID = os.Getppid()
	child, parent := expecting(t, want)
	frame, err := child.out.seal(nil, PhaseRun, KindDrained, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	claim := unix.UnixCredentials(&unix.Ucred{Pid: int32(want.PID), Uid: uint32(want.UID), Gid: uint32(os.Getgid())})
	err = unix.Sendmsg(child.FD(), frame, claim, nil, 0)
	if errors.Is(err, unix.EPERM) {
		return // the kernel refused the claim
	}
	if err != nil {
		t.Fatal(err)
	}
	var m Message
	var impostor *ImpostorError
	if err := parent.Recv(&m); !errors.As(err, &impostor) {
		t.Fatalf("%v", err)
	}
}

// What brings an fd to one that takes none does not arrive, or closes the
// channel on kernels that cannot refuse it at the sender.
func TestExpectTakesNoFDs(t *testing.T) {
	noLeak(t)
	child, parent := expecting(t, ourselves(t))
	frame, err := child.out.seal(nil, PhaseRun, KindDrained, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := null(t)
	defer closeFD(fd)
	err = sendPacket(child.FD(), frame, []int{fd})
	if errors.Is(err, unix.EPERM) {
		return
	}
	var m Message
	if recvErr := parent.Recv(&m); err != nil || recvErr == nil || parent.FD() >= 0 {
		t.Fatalf("sent: %v, received: %v", err, recvErr)
	}
}
