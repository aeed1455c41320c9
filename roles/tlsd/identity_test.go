package tlsd

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// overseer stands in for the parent that looks at callers.
type overseer struct {
	answers chan privsep.Inspected // but for their ids; whoever is asked without one says nothing
	asked   chan privsep.Inspect
}

// oversee has the rig's callers be looked at.
func (r *rig) oversee() *overseer {
	r.t.Helper()
	a, b, err := privsep.Socketpair()
	must(r.t, err)
	key := privsep.NewKey()
	mine := privsep.NewChannel(a, privsep.RoleTLSD, privsep.RoleParent, key)
	parent := privsep.NewChannel(b, privsep.RoleParent, privsep.RoleTLSD, key)
	mine.SetPhase(privsep.PhaseRun)
	parent.SetPhase(privsep.PhaseRun)
	r.hub.parent.mu.Lock()
	r.hub.parent.parent = mine
	r.hub.parent.mu.Unlock()
	o := &overseer{make(chan privsep.Inspected, 1), make(chan privsep.Inspect, 10)}
	go func() {
		var m privsep.Message
		for mine.RecvWait(&m, -1) == nil {
			if err := r.hub.parent.inspected(&m); err != nil {
				r.t.Error(err)
			}
		}
	}()
	go func() {
		var m privsep.Message
		for parent.RecvWait(&m, -1) == nil {
			var q privsep.Inspect
			if err := q.Parse(m.Payload); err != nil {
				r.t.Error(err)
			}
			o.asked <- q
			select {
			case seen := <-o.answers:
				seen.ID = q.ID
				parent.Send(privsep.KindInspected, seen.Append(nil))
			default:
			}
		}
		parent.Close() // the end of both
	}()
	r.t.Cleanup(func() { privsep.ShutdownWrite(a); privsep.ShutdownWrite(b) })
	return o
}

// A right of a program is that program's, and not its user's.
func TestByExecutable(t *testing.T) {
	if lacks := privsep.CheckPeerProcess(); lacks != "" {
		t.Skip("SKIP needs " + lacks)
	}
	r := newRig(t)
	o := r.oversee()
	to := r.serve(echoLines)
	me := uint32(os.Getuid())
	by := func(path string) []privsep.TLSGrant {
		return []privsep.TLSGrant{{To: privsep.GrantUID, ID: me, Executable: path}}
	}
	r.policy("a", to, func(p *privsep.TLSPolicyText) { p.Open = by("/bin/a") })
	r.policy("reads", to, func(p *privsep.TLSPolicyText) { p.Read = by("/bin/b") })
	r.policy("others", to, func(p *privsep.TLSPolicyText) {
		p.Open = append(p.Open, privsep.TLSGrant{To: privsep.GrantUID, ID: me + 1, Executable: "/bin/a"})
	})
	runs := func(paths ...string) privsep.Inspected {
		return privsep.Inspected{Sight: privsep.Sight{Start: 1, Dev: 1, Ino: 1, Link: "/bin/a", Executables: paths}}
	}
	reason := func(why privsep.Reason) privsep.Inspected { return privsep.Inspected{Reason: why} }
	for _, step := range []struct {
		session string
		seen    privsep.Inspected
		asked   bool
		want    protocol.Code
	}{
		{"a", runs("/bin/b"), true, protocol.Refused},
		{"a", runs(), true, protocol.Refused},
		{"a", reason(privsep.ReasonProcessGone), true, protocol.Refused},
		{"a", reason(privsep.ReasonCrowded), true, protocol.Late},
		{"a", runs("/bin/a", "/bin/b"), true, protocol.OK},
		{"a", runs("/bin/b"), true, protocol.Refused}, // though its own user has opened it
		{"a", runs("/bin/a"), true, protocol.OK},
		{"reads", runs(), true, protocol.OK}, // opens, as everybody of this uid
		{"others", runs(), false, protocol.OK},
		{"unnamed", runs("/bin/a"), false, protocol.Refused},
	} {
		if step.asked {
			o.answers <- step.seen
		}
		if got := r.asks("CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: " + step.session + "\nMode: framed\nFrame: line\n\n"); got != step.want {
			t.Errorf("%s, %+v: %d, want %d", step.session, step.seen, got, step.want)
		}
		select {
		case q := <-o.asked:
			if !step.asked || q.File || int(q.PID) != os.Getpid() || q.UID != me || q.PidIno == 0 {
				t.Errorf("%s: asked for %+v", step.session, q)
			}
		default:
			if step.asked {
				t.Errorf("%s: nobody looked", step.session)
			}
		}
	}
	o.answers <- runs("/bin/b")
	if got := r.asks("ATTACH a GATEHOUSE-TLS/1\n\n"); got != protocol.NoSession { // who may not need not know
		t.Errorf("attaches: %d", got)
	}
}

// Whom nobody looks at is told so in time, and may come again; it keeps others of its
// user waiting, and nobody else.
func TestUnseen(t *testing.T) {
	r := newRig(t)
	o := r.oversee()
	to := r.serve(echoLines)
	r.policy("s", to, func(p *privsep.TLSPolicyText) { p.Open[0].Executable = "/bin/a" })
	r.policy("free", to, nil)
	waiting := make(chan error, uidLooks)
	for range uidLooks {
		go func() {
			_, err := r.dial(to, client.Options{Session: "s", Timeout: time.Second})
			waiting <- err
		}()
		<-o.asked
	}
	late := func(err error) {
		if e, ok := err.(*client.Error); !ok || e.Code != protocol.Late {
			t.Errorf("not late: %v", err)
		}
	}
	_, err := r.dial(to, client.Options{Session: "s", Timeout: 50 * time.Millisecond})
	late(err)
	if len(o.asked) > 0 {
		t.Error("the parent was asked for one more at the same time")
	}
	c := r.mustDial(to, client.Options{Session: "free"})
	must(t, ask(c, "meanwhile"))
	must(t, c.Close())
	for range uidLooks {
		late(<-waiting)
	}
}

// What one parent has not answered the next one is asked.
func TestAsksAgain(t *testing.T) {
	k := newAsking(privsep.NewChannel(-1, privsep.RoleTLSD, privsep.RoleParent, privsep.Key{}))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := make(chan privsep.Inspected, 1)
	go func() {
		p, err := k.inspect(ctx, privsep.Process{PID: 1, PidIno: 1})
		if err != nil {
			t.Error(err)
		}
		seen <- p
	}()
	id := uint64(0)
	for id == 0 {
		k.mu.Lock()
		for n, q := range k.sent {
			if q.unsent {
				id = n
			}
		}
		k.mu.Unlock()
	}
	k.again()
	answer := privsep.Inspected{ID: id, Sight: privsep.Sight{Start: 1, Executables: []string{"/bin/a"}}}
	for range 2 { // the second one is nobody's
		must(t, k.inspected(&privsep.Message{Payload: answer.Append(nil)}))
	}
	if p := <-seen; !slices.Equal(p.Executables, []string{"/bin/a"}) {
		t.Errorf("%+v", p)
	}
}
