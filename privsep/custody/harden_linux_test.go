package custody

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Harden cannot be undone, so a child does it.
const hardenEnv = "CUSTODY_HARDEN"

func TestHarden(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), hardenEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func hardenChild(string) error {
	before := status("VmRSS")
	missing, err := Harden()
	if err != nil {
		return err
	}
	fmt.Printf("VmRSS %s before, %s after; VmLck %s; missing: %q\n", before, status("VmRSS"), status("VmLck"), missing)
	if err := hardened(missing); err != nil {
		return err
	}
	// The heap must be able to grow, and the key to be had, whoever reads it.
	var keep [][]byte
	for range 100 {
		keep = append(keep, make([]byte, 1<<20))
	}
	m, err := NewMemory(5000)
	if err != nil {
		return err
	}
	copy(m.Bytes(), "secret")
	if os.Geteuid() == 0 {
		id := &identity{uid: keyUser, gid: keyUser}
		grow := func() error {
			for range 100 {
				keep = append(keep, make([]byte, 1<<20))
			}
			return nil
		}
		if err := id.as(grow); err != nil {
			return err
		}
	}
	fmt.Printf("VmRSS %s with %d MiB of heap untouched\n", status("VmRSS"), len(keep))
	return m.Close()
}

// hardened holds the process against what Harden says.
func hardened(missing []string) error {
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); n != 0 || err != nil {
		return fmt.Errorf("dumpable is %d, %v", n, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Max != 0 {
		return fmt.Errorf("core limit is %+v, %v", core, err)
	}
	named := slices.ContainsFunc(missing, func(s string) bool { return strings.HasPrefix(s, "memory is not locked") })
	if locked := status("VmLck") != "0 kB"; locked == named {
		return fmt.Errorf("locked: %s, missing: %q", status("VmLck"), missing)
	}
	for _, m := range missing {
		if m == "" || strings.ToLower(m[:1]) != m[:1] || strings.Contains(m, "\n") {
			return fmt.Errorf("missing: %q is no phrase", m)
		}
	}
	if Erases() == slices.ContainsFunc(missing, func(s string) bool { return strings.Contains(s, "not erased") }) {
		return errors.New("missing and Erases differ")
	}
	return nil
}

// status is one line of /proc/self/status.
func status(name string) string {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "missing"
}

// Where the kernel has no memfd_secret, the rest is the same.
func TestMemoryFallback(t *testing.T) {
	real := memfdSecret
	defer func() { memfdSecret = real }()
	for _, refusal := range []error{unix.ENOSYS, unix.EPERM} {
		memfdSecret = func(int) (int, error) { return -1, refusal }
		k := opened(t, 1)
		if k.Memory() != KindLocked {
			t.Errorf("%v: %s", refusal, k.Memory())
		}
		TestMemoryCloseErases(t)
	}
	TestReleaseAdopt(t)
	TestAdoptRefuses(t)
}

func TestMemory(t *testing.T) {
	m, err := NewMemory(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kind %s", m.Kind())
	b := m.Bytes()
	if len(b) != os.Getpagesize() {
		t.Errorf("%d bytes", len(b))
	}
	if n := slices.IndexFunc(b, func(c byte) bool { return c != 0 }); n >= 0 {
		t.Errorf("byte %d is not zero", n)
	}
	b[0] = 1
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if m.Bytes() != nil {
		t.Error("bytes of closed memory")
	}
	for _, size := range []int{0, -1, maxMemory + 1} {
		if _, err := NewMemory(size); err == nil {
			t.Errorf("memory of %d bytes", size)
		}
	}
}

// Close erases: whoever has the same memory mapped sees zeros.
func TestMemoryCloseErases(t *testing.T) {
	m, fd, err := newMemory(100)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	view, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(view)
	copy(m.Bytes()[50:], "secret")
	if string(view[50:56]) != "secret" {
		t.Fatal("not the same memory")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if n := slices.IndexFunc(view, func(c byte) bool { return c != 0 }); n >= 0 {
		t.Errorf("byte %d is not zero after Close", n)
	}
}
