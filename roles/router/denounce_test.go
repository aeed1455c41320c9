package router

import (
	"testing"
	"time"

	"gatehouse/privsep"
)

// Each thing that is not permitted is in the audit log or counted there, whether the
// parent reads or not; there is room for what cannot wait; and what is not said costs
// nothing.
func TestViolationsAreCounted(t *testing.T) {
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	key := privsep.NewKey()
	to := privsep.NewChannel(mine, privsep.RoleRouter, privsep.RoleParent, key)
	parent := privsep.NewChannel(theirs, privsep.RoleParent, privsep.RoleRouter, key)
	defer to.Close()
	defer parent.Close()
	to.SetPhase(privsep.PhaseRun)
	parent.SetPhase(privsep.PhaseRun)
	r := &router{cfg: new(privsep.Settings), parent: to, log: privsep.NewLogger(to)}
	r.cfg.Audit = true
	r.log.SetLevel(privsep.LevelError)
	lines, all := 0, int64(0)
	read := func() {
		for m := new(privsep.Message); parent.Recv(m) == nil; lines++ {
			if m.Kind != privsep.KindAudit {
				continue
			}
			l, err := privsep.DecodeLog(m.Payload)
			if err != nil {
				t.Fatal(err)
			}
			all += 1 + int64(l.Dropped)
			for _, f := range l.Fields {
				if f.Key == privsep.KeyN {
					all += f.Int
				}
			}
		}
	}
	subject := make([]byte, 4096)
	const connections, each = denouncedMost + 100, 3
	for uid := range uint64(connections) {
		for range each {
			r.violation(&session{uid: uid}, "publish", subject)
		}
	}
	fault := privsep.CMFault{CM: 1, Reason: privsep.FaultCorrupt, Generation: 1}
	if err := to.Send(privsep.KindCMFault, fault.Append(nil)); err != nil { // it is said once
		t.Errorf("a fault: %v", err)
	}
	read()
	if lines == 0 || lines >= denouncedMost {
		t.Fatalf("%d lines", lines)
	}
	if n := testing.AllocsPerRun(10, func() { r.violation(&session{uid: 1}, "publish", subject) }); n > 0 {
		t.Errorf("one that is not said makes %v objects", n)
	}
	r.denounced.since = time.Time{}
	<-time.After(100 * time.Millisecond) // auditPace
	r.violation(&session{uid: 1}, "publish", subject)
	read()
	if all != int64(r.violations) {
		t.Errorf("%d of %d violations are in %d lines", all, r.violations, lines)
	}
}
