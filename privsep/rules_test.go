package privsep

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite goldens")

// formatRules is the golden's text: frozen values, one line a row, and for each kind
// what a payload of it comes to, so that none changes unnoticed.
func formatRules() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d\n", Version)
	for i := range rules {
		r := &rules[i]
		fmt.Fprintf(&b, "%d %s from=%v to=%v phase=%v fds=%d max=%d once=%v rate=%d\n",
			r.kind, r.name, r.from, r.to, r.phases, r.fds, r.max, r.once, r.rate)
	}
	all := samples()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		text := all[k].Append(nil)
		fmt.Fprintf(&b, "payload %v %d bytes %x\n", k, len(text), sha256.Sum256(text))
	}
	return b.String()
}

func TestRulesGolden(t *testing.T) {
	path := filepath.Join("testdata", "kinds.ok")
	got := formatRules()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the role protocol changed: raise Version, then -update\ngot:\n%s\nwant:\n%s", got, want)
	}
}

func TestRulesShape(t *testing.T) {
	names := map[string]Kind{}
	rows := map[string]bool{}
	for k := KindNone + 1; k < numKinds; k++ {
		if strings.HasPrefix(k.String(), "kind(") {
			t.Errorf("kind %d has no row", k)
		}
	}
	for i := range rules {
		r := &rules[i]
		if have, ok := names[r.name]; ok && have != r.kind || r.kind == KindNone || r.kind >= numKinds {
			t.Errorf("%s: bad kind or name of another", r.name)
		}
		names[r.name] = r.kind
		if r.kind.String() != r.name {
			t.Errorf("%s: also called %v", r.name, r.kind)
		}
		if r.max > MaxPayload || r.fds > 1 || r.phases == 0 {
			t.Errorf("%s: sizes have bounds: %+v", r.name, *r)
		}
		// A frame that comes back verifies where both ends are of one role: who
		// sends on such a channel must take nothing there.
		if oneWay := r.kind == KindMoveConn || r.kind == KindMoveBytes; !oneWay && r.from&r.to != 0 {
			t.Errorf("%s: no sender may be its own receiver: %+v", r.name, *r)
		}
		for from := range Role(16) {
			for to := range Role(16) {
				key := fmt.Sprint(r.kind, from, to)
				if r.from.has(from) && r.to.has(to) {
					if rows[key] {
						t.Errorf("%v from %v to %v has two rows", r.kind, from, to)
					}
					rows[key] = true
				}
			}
		}
	}
}

// cell is one (kind, from, to, phase) of the golden.
type cell struct {
	kind     Kind
	from, to Role
	phase    Phase
}

type limits struct {
	fds, max int
	once     bool
}

// goldenCells reads what is permitted from the golden, not from the code.
func goldenCells(t *testing.T) map[cell]limits {
	b, err := os.ReadFile(filepath.Join("testdata", "kinds.ok"))
	if err != nil {
		t.Fatal(err)
	}
	cells := map[cell]limits{}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		if strings.HasPrefix(line, "payload ") {
			continue
		}
		var kind Kind
		var l limits
		var name, from, to, phases string
		line = strings.NewReplacer("from=", "", "to=", "", "phase=", "", "fds=", "", "max=", "", "once=", "").Replace(line)
		if _, err := fmt.Sscan(line, &kind, &name, &from, &to, &phases, &l.fds, &l.max, &l.once); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, f := range strings.Split(from, ",") {
			for _, o := range strings.Split(to, ",") {
				for _, p := range strings.Split(phases, ",") {
					cells[cell{kind, roleNamed(t, f), roleNamed(t, o), phaseNamed(t, p)}] = l
				}
			}
		}
	}
	return cells
}

func roleNamed(t *testing.T, name string) Role {
	for r, n := range roleNames {
		if n == name && r != 0 {
			return Role(r)
		}
	}
	t.Fatalf("no role %q", name)
	return 0
}

func phaseNamed(t *testing.T, name string) Phase {
	for i, n := range phaseNames {
		if n == name {
			return 1 << i
		}
	}
	t.Fatalf("no phase %q", name)
	return 0
}

// Law: Permit lets exactly the golden's cells pass, with exactly their limits,
// for every kind, role and phase value there is and some that there are not.
func TestPermitEveryCell(t *testing.T) {
	cells := goldenCells(t)
	passed := 0
	for k := range numKinds + 3 {
		for from := range numRoles + 2 {
			for to := range numRoles + 2 {
				for p := range 256 {
					c := cell{k, from, to, Phase(p)}
					l, allowed := cells[c]
					if got := Permit(k, from, to, c.phase, 0, l.fds) == nil; got != allowed {
						t.Fatalf("%+v: permitted %v, golden says %v", c, got, allowed)
					}
					if allowed {
						passed++
						checkLimits(t, c, l)
					}
				}
			}
		}
	}
	if passed != len(cells) || passed == 0 {
		t.Fatalf("%d cells passed, golden has %d", passed, len(cells))
	}
}

func checkLimits(t *testing.T, c cell, l limits) {
	t.Helper()
	for _, try := range []struct {
		size, fds int
		reason    string
	}{
		{l.max, l.fds, ""},
		{l.max + 1, l.fds, "size"},
		{-1, l.fds, "size"},
		{1 << 40, l.fds, "size"},
		{0, l.fds + 1, "fds"},
		{0, l.fds - 1, "fds"},
		{0, 253, "fds"},
	} {
		err := Permit(c.kind, c.from, c.to, c.phase, try.size, try.fds)
		if try.reason == "" && err == nil {
			continue
		}
		var pe *PermitError
		if !errors.As(err, &pe) || pe.Reason != try.reason || pe.Error() == "" {
			t.Fatalf("%+v size %d fds %d: %v, want reason %q", c, try.size, try.fds, err, try.reason)
		}
	}
}

func TestPermitReasons(t *testing.T) {
	for _, c := range []struct {
		kind     Kind
		from, to Role
		phase    Phase
		reason   string
	}{
		{KindNone, RoleParent, RoleCM, PhaseRun, "kind"},
		{numKinds, RoleParent, RoleCM, PhaseRun, "kind"},
		{KindConnHandoff, RoleCM, RoleDispatcher, PhaseRun, "direction"},
		{KindConnHandoff, RoleDispatcher, RoleCM, PhaseSetup, "phase"},
		{KindConnHandoff, RoleDispatcher, RoleCM, PhaseRun | PhaseDrain, "phase"},
	} {
		err := Permit(c.kind, c.from, c.to, c.phase, 0, 1)
		var pe *PermitError
		if !errors.As(err, &pe) || pe.Reason != c.reason || pe.From != c.from || pe.To != c.to {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestKindsTo(t *testing.T) {
	got := fmt.Sprint(KindsTo(RoleParent))
	if got != "[SETUP_DONE LOG STATS CM_FAULT SIGN DRAINED ADOPTED RETIRING AUTH_FAULT TICKET_SIGN DIAL INSPECT TLS_SIGN STATUS_GET SYSTEM_GET AUDIT KICKED]" {
		t.Errorf("the parent takes %s", got)
	}
	if ks := KindsTo(RoleNone); ks != nil {
		t.Errorf("nobody is sent %v", ks)
	}
}

func TestID(t *testing.T) {
	for s, want := range map[string]ID{
		"parent": {RoleParent, 0}, "dispatcher": {RoleDispatcher, 0}, "router": {RoleRouter, 0},
		"cm/0": {RoleCM, 0}, "cm/63": {RoleCM, 63}, "cm/1023": {RoleCM, 1023},
	} {
		if id, err := ParseID(s); err != nil || id != want || id.String() != s {
			t.Errorf("%s: %v %v", s, id, err)
		}
	}
	for _, s := range []string{"", "none", "cm", "cm/", "cm/00", "cm/+1", "cm/-1", "cm/1024", "cm/x", "cm/1/2",
		"router/0", "router/1", "Router", "role(9)", " router", "cm/99999999999999999999"} {
		if id, err := ParseID(s); err == nil || id != (ID{}) {
			t.Errorf("%q taken as %v", s, id)
		}
	}
}
