package privsep

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childKeep gives up what a parent does not need, tries what it cannot do any
// more, and drops all the same afterwards.
func childKeep(boot *Boot, _ *Channel, _ *Logger, s *Settings) error {
	threads(8)
	asked := 0
	set, err := Keep(
		Need{unix.CAP_SYS_PTRACE, func() bool { asked++; return true }},
		Need{unix.CAP_DAC_READ_SEARCH, func() bool { asked++; _, err := os.Stat(s.Broker); return err == nil }})
	if err != nil {
		return err
	}
	threads(8)
	if set&^kept != 1<<unix.CAP_DAC_READ_SEARCH || asked != 2 {
		return fmt.Errorf("kept %v after %d questions", CapabilityNames(set), asked)
	}
	p, err := ReadPosture(os.Getpid())
	if err != nil || !p.Uniform || !p.NoNewPrivs || p.CapBnd != set || p.CapPrm != set {
		return fmt.Errorf("%+v %v", p, err)
	}
	if err := os.Chown(s.Environment, 1, 1); err == nil {
		return errors.New("chown works")
	}
	for _, try := range []error{allThreads(unix.PR_CAPBSET_DROP, unix.CAP_CHOWN), Drop(boot.UID, boot.GID)} {
		if try != nil {
			return try
		}
	}
	return nil
}

func TestKeep(t *testing.T) {
	needRoot(t)
	closed := t.TempDir() // another user's, behind which we can look only with a capability
	if err := errors.Join(os.Chmod(closed, 0o700), os.Chown(closed, testUID, testGID), os.Mkdir(closed+"/run", 0o755)); err != nil {
		t.Fatal(err)
	}
	s := startChild(t, pure(t), Boot{ID: ID{RoleRouter, 0}, UID: testUID, GID: testGID}, Settings{Environment: "keep", Broker: closed + "/run"})
	s.ready(t)
	if p, err := ReadPosture(s.PID); err != nil || p.dropped(testUID, testGID) != nil {
		t.Fatalf("%+v %v", p, err)
	}
}

func childKeepCgo(*Boot, *Channel, *Logger, *Settings) error {
	if _, err := Keep(); !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("keep: %v", err)
	}
	return nil
}

func TestKeepFailsClosedWithCgo(t *testing.T) {
	needRoot(t)
	if !isCgo() {
		t.Skip("SKIP needs a binary with cgo: go test -race")
	}
	startChild(t, self(t), Boot{ID: ID{RoleRouter, 0}}, Settings{Environment: "keep cgo"}).ready(t)
}

func TestCapabilityNames(t *testing.T) {
	if got := CapabilityNames(1<<unix.CAP_CHOWN | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_CHECKPOINT_RESTORE | 1<<63); !slices.Equal(got, []string{"chown", "sys_admin", "checkpoint_restore", "63"}) {
		t.Errorf("%q", got)
	}
	if got := CapabilityNames(kept); len(got) != bits.OnesCount64(kept) {
		t.Errorf("%q", got)
	}
}

// A role that needs no network has none, but for its own; one that does shares
// ours. Both tell how much memory they use, also after they have dropped.
func TestStartIsolated(t *testing.T) {
	needRoot(t)
	noLeak(t)
	for _, role := range []Role{RoleRouter, RoleAuth} {
		s := startChild(t, pure(t), Boot{ID: ID{role, 0}}, Settings{Environment: "no new privs"})
		s.ready(t)
		ours, _ := os.Readlink("/proc/self/ns/net")
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", s.PID))
		if err != nil || (ours != theirs) != role.Isolated() || s.OwnNetwork != role.Isolated() {
			t.Errorf("%v: ours %s, its %s, %v; OwnNetwork %v", role, ours, theirs, err, s.OwnNetwork)
		}
		if s.MemoryUse() == 0 {
			t.Errorf("%v: no memory use", role)
		}
		s.end(t)
		if s.MemoryUse() != 0 {
			t.Errorf("%v: uses memory after its end", role)
		}
	}
}

func TestMissingNames(t *testing.T) {
	if len(missingNames) != bits.Len16(uint16(allMissing)) || allMissing.String() != "landlock,mdwe,rlimits,landlock-ports" || Missing(0).String() != "" {
		t.Errorf("%q", allMissing.String())
	}
}
