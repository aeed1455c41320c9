package parent

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"gatehouse/privsep"
)

// A child of which the kernel does not confirm what it says is named with what
// differs: this test process has nothing of what a role must have.
func TestUnconfined(t *testing.T) {
	p := &parent{cfg: Defaults(), root: true}
	c := &child{id: privsep.ID{Role: privsep.RoleRouter}, proc: &privsep.Child{PID: os.Getpid()}}
	got := p.unconfined(c)
	for _, want := range []string{"uid ", "gid ", "seccomp mode 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not tell of %s", got, want)
		}
	}
	p.root = false
	if got := p.unconfined(c); strings.Contains(got, "uid") || !strings.Contains(got, "seccomp mode 0") {
		t.Errorf("without root: %q", got)
	}
	c.proc.PID = 1 << 30
	if got := p.unconfined(c); !strings.Contains(got, "/proc/") {
		t.Errorf("a process that is not there: %q", got)
	}
}

func TestExplain(t *testing.T) {
	c := &child{id: privsep.ID{Role: privsep.RoleCM, Index: 3}}
	if got := c.explain("signal " + syscall.SIGSYS.String()); !strings.Contains(got, "that role cm may not make") || !strings.Contains(got, `privsep.seccomp = "trap"`) {
		t.Errorf("%q", got)
	}
	if got := c.explain("signal killed"); got != "signal killed" {
		t.Errorf("%q", got)
	}
}

func TestMissing(t *testing.T) {
	c := &child{id: privsep.ID{Role: privsep.RoleRouter}, proc: &privsep.Child{}, walls: privsep.Sandbox{Missing: privsep.MissingMDWE}}
	if got := strings.Join(c.missing(true), ","); got != "mdwe,network namespace" {
		t.Errorf("%s", got)
	}
	if got := strings.Join(c.missing(false), ","); got != "mdwe" {
		t.Errorf("without root: %s", got)
	}
}
