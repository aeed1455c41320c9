package hostile

import (
	"testing"

	"gatehouse/privsep"
	"gatehouse/testdata/tree"
)

// TestDrain sends every kind from every role once the broker has been told to
// stop: what is refused then ends its sender, and the broker ends in order.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, k := range kinds() {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			p := plan{Stage: stageDrain, Do: "cell", N: int(k)}
			jobs := map[string]job{}
			plans := map[string][]plan{}
			for _, role := range []string{"dispatcher", "router", "auth", "tlsd", "console", "cm/0"} {
				id, err := privsep.ParseID(role)
				must(t, err)
				j := cellJob(id.Role.String(), stageDrain, k)
				if k == privsep.KindSign && id.Role == privsep.RoleCM {
					j.kind, j.reason = "SIGN", "key_use" // no TLS here
				}
				jobs[role], plans[role] = j, []plan{p}
			}
			b := startBroker(t, settings{plans: plans, logins: true, shares: true, watched: true})
			b.stop(0)
			for role, j := range jobs {
				j.drained(t, b, role)
			}
		})
	}
}

// drained holds the log against a job that was done while the broker stopped.
func (j *job) drained(t *testing.T, b *broker, role string) {
	t.Helper()
	pid := b.villain(role, 0)
	refusals := b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Security() })
	ends := b.log.Where(func(l *tree.Line) bool {
		return l.PID() == pid && (l.Str("message") == "role ended" || l.Str("message") == "role died")
	})
	want := 0
	if j.reason != "" {
		want = 1
	}
	if len(refusals) != want || want == 1 && (refusals[0].Str("reason") != j.reason || refusals[0].Str("kind") != j.kind) {
		t.Errorf("%s: refused by %v, want kind %q, reason %q", role, refusals, j.kind, j.reason)
	}
	// It may have left by itself before it was killed.
	if len(ends) != 1 || want == 0 && ends[0].Str("reason") != "exit 0" {
		t.Errorf("%s: ended by %v", role, ends)
	}
}

// TestStopWithoutRouter: a router that offends when it is told to stop is ended
// and replaced, since the cms have to finish with one, and all end in order.
func TestStopWithoutRouter(t *testing.T) {
	t.Parallel()
	p := plan{Stage: stageStop, Do: "cell", N: int(privsep.KindPeer)}
	b := startBroker(t, settings{cms: 2, plans: map[string][]plan{"router": {p}}})
	b.stop(0)
	j := cellJob("router", stageRun, privsep.KindPeer)
	j.drained(t, b, "router")
	for _, l := range b.log.Where(func(l *tree.Line) bool { return l.Str("message") == "role ended" && l.PID() != b.villain("router", 0) }) {
		if l.Str("reason") != "exit 0" {
			t.Errorf("%s", l.Text)
		}
	}
}
