package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSegmentShared(t *testing.T) {
	rw, ro := mapped(t, 3*4096+100)
	rw.mem[3*4096+99] = 7
	if ro.mem[3*4096+99] != 7 || ro.Size() != rw.Size() || ro.Writable() {
		t.Fatal("the reading mapping shows something else")
	}
}

func TestSegmentSealed(t *testing.T) {
	f, err := Create("sealed", 4096)
	check(t, err)
	defer f.Close()
	st, err := f.Stat()
	check(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", st.Mode())
	}
	for _, size := range []int64{0, 1, 8192} {
		if err := f.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Fatalf("resized to %d: %v", size, err)
		}
	}
	if err := f.Chmod(0o700); !errors.Is(err, unix.EPERM) {
		t.Fatalf("made executable: %v", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(err, unix.EPERM) {
		t.Fatalf("sealed further: %v", err)
	}
}

func TestMapRefuses(t *testing.T) {
	f, err := Create("segment", 4096)
	check(t, err)
	defer f.Close()
	for _, size := range []int{-1, 0, 4095, 8192} {
		if _, err := Map(int(f.Fd()), size, true); err == nil {
			t.Errorf("mapped as %d bytes", size)
		}
	}
	ro, err := ReadOnly(f)
	check(t, err)
	defer ro.Close()
	if _, err := Map(int(ro.Fd()), 4096, true); !errors.Is(err, unix.EACCES) {
		t.Errorf("mapped a read-only fd writable: %v", err)
	}
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	check(t, err)
	loose := os.NewFile(uintptr(fd), "unsealed")
	defer loose.Close()
	check(t, loose.Truncate(4096))
	if _, err := Map(fd, 4096, false); err == nil {
		t.Error("mapped a segment without seals")
	}
	if _, err := Map(-1, 4096, false); err == nil {
		t.Error("mapped no fd")
	}
	if _, err := Create("empty", 0); err == nil {
		t.Error("made a segment of no bytes")
	}
}

const intruderEnv = "GATEHOUSE_TEST_INTRUDER"

// intrude runs in a child that holds nothing but a read-only fd 3: it tries
// every way to write that the kernel has and prints what came of each.
func intrude() {
	const fd = 3
	say := func(what string, err error) { fmt.Printf("%s=%v\n", what, err) }
	ro, err := Map(fd, 4096, false)
	say("map-ro", err)
	if err == nil {
		fmt.Printf("read=%d\n", ro.mem[0])
		say("mprotect", unix.Mprotect(ro.mem, unix.PROT_READ|unix.PROT_WRITE))
	}
	_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	say("mmap-rw", err)
	for name, mode := range map[string]int{"open-rdwr": unix.O_RDWR, "open-wronly": unix.O_WRONLY} {
		_, err = unix.Open("/proc/self/fd/3", mode, 0)
		say(name, err)
	}
	_, err = unix.Pwrite(fd, []byte{1}, 0)
	say("pwrite", err)
	say("ftruncate", unix.Ftruncate(fd, 0))
	say("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	say("fchmod", unix.Fchmod(fd, 0o666))
	say("fchown", unix.Fchown(fd, os.Getuid(), os.Getgid()))
	_, err = unix.FcntlInt(fd, unix.F_SETFL, unix.O_RDWR)
	say("setfl", err)
	_, err = unix.Pwrite(fd, []byte{1}, 0)
	say("pwrite-after-setfl", err)
}

// runIntruder returns what intrude printed as user uid.
func runIntruder(t *testing.T, ro *os.File, uid uint32) map[string]string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{intruderEnv + "=1"}
	cmd.ExtraFiles = []*os.File{ro}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	check(t, err)
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		got[k] = v
	}
	return got
}

// The single writer is the kernel's law: another user who holds the reading fd
// reads, and has no way to write.
func TestReaderCannotWrite(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP needs root")
	}
	f, err := Create("segment", 4096)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{42}, 0)
	check(t, err)
	ro, err := ReadOnly(f)
	check(t, err)
	defer ro.Close()
	want := map[string]string{
		"map-ro": "<nil>", "read": "42",
		"mprotect": unix.EACCES.Error(), "mmap-rw": unix.EACCES.Error(),
		"open-rdwr": unix.EACCES.Error(), "open-wronly": unix.EACCES.Error(),
		"pwrite": unix.EBADF.Error(), "ftruncate": unix.EINVAL.Error(), "fallocate": unix.EBADF.Error(),
		"fchmod": unix.EPERM.Error(), "fchown": unix.EPERM.Error(),
		"setfl": "<nil>", "pwrite-after-setfl": unix.EBADF.Error(),
	}
	got := runIntruder(t, ro, 65534)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("uid 65534: %s: %q, want %q", k, got[k], v)
		}
	}
	// The same as the owner: it is the user id that stops the reopening.
	if got := runIntruder(t, ro, 0); got["open-rdwr"] != "<nil>" || got["mmap-rw"] != unix.EACCES.Error() {
		t.Errorf("uid 0: %v", got)
	}
}
