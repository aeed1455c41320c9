package router

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// Every kind that a cm may send has a handler, and no other has.
func TestHandlersAreTheCMsKinds(t *testing.T) {
	for k := range 256 {
		kind := store.RecKind(k)
		want := store.NewRecord(kind) != nil && kind < store.KindDeliver
		if got := k < len(handlers) && handlers[k] != nil; got != want {
			t.Errorf("%d %v: handler %v, want %v", k, kind, got, want)
		}
	}
}

// No member of a queue group is left out or preferred, wherever it is.
func TestQueueIsFair(t *testing.T) {
	const members, each = 5, 1000
	g := newRig(t, nil)
	g.start(t)
	sender := g.open(0, 9, 9, "")
	for i := range uint32(members) {
		c := g.open(int(i%2), i, i+1, "")
		g.sub(int(i%2), c, []string{"a", "*", ">"}[i%3], "q", "1")
	}
	count := map[store.Conn]int{}
	for seq := range uint64(members * each) {
		g.put(0, &store.RecPub{Conn: sender, Seq: seq + 1, HeaderLen: -1, Subject: []byte("a")})
		g.route()
		for cm := range g.cms {
			for _, r := range g.take(cm) {
				for _, to := range g.recipients(cm, r.(*store.InsDeliver)) {
					count[to.conn]++
				}
			}
		}
	}
	if len(count) != members {
		t.Fatalf("%d members got something", len(count))
	}
	for c, n := range count {
		if n < each*8/10 || n > each*12/10 {
			t.Errorf("%v got %d of %d", c, n, members*each)
		}
	}
}

// Only clients that asked for news are told that the broker leaves, and the
// parent when they have been.
func TestLameDuck(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.open(0, 1, 1, "")
	c := g.open(1, 2, 2, `,"protocol":1`)
	g.r.stopping = true
	g.check(g.r.between())
	if got := g.take(0); len(got) > 0 {
		t.Errorf("a client of protocol 0 is told %+v", got)
	}
	got := g.take(1)
	if len(got) != 1 {
		t.Fatalf("%d instructions", len(got))
	}
	if ins := got[0].(*store.InsSend); ins.Conn != c || ins.Flags != 0 || !strings.Contains(string(ins.Data), `"ldm":true`) {
		t.Errorf("%+v", ins)
	}
	var m privsep.Message
	if err := g.parent.Recv(&m); err != nil || m.Kind != privsep.KindDrained {
		t.Errorf("parent hears %v, %v", m.Kind, err)
	}
}

// A cm whose ring is full is waited for, and reported every stall_timeout;
// what it missed comes when it drains, whole and in order.
func TestStalledCM(t *testing.T) {
	const subs, messages = 1500, 8
	g := newRig(t, func(s *privsep.Settings) { s.Ring, s.StallTimeout = 128<<10, time.Millisecond })
	child, parent, err := g.mem.Child(privsep.ID{Role: privsep.RoleRouter})
	g.check(err)
	ended := make(chan error, 1)
	go func() { ended <- Run(child.Boot, child.Setup, child.Parent) }()
	wait := func(want privsep.Kind) (m privsep.Message) {
		for m.Kind != want {
			g.check(parent.RecvWait(&m, 10*time.Second))
		}
		return m
	}
	wait(privsep.KindSetupDone)
	parent.SetPhase(privsep.PhaseRun)
	bell, far, err := privsep.Doorbell()
	g.check(err)
	g.check(parent.Send(privsep.KindDoorbell, (&privsep.DoorbellEnd{CM: 0, Generation: 1}).Append(nil), far))

	c := store.Conn{Slot: 1, Gen: 1}
	g.put(0, &store.RecOpen{Conn: c})
	g.put(0, &store.RecConnect{Conn: c, JSON: []byte(`{"verbose":false}`)})
	for i := range subs {
		for !g.cms[0].Out.Put(&store.RecSub{Conn: c, Subject: []byte("a"), SID: fmt.Appendf(nil, "%020d", i)}) {
			g.cms[0].Out.Publish()
			privsep.Ring(bell)
		}
	}
	for seq := range uint64(messages) {
		g.put(0, &store.RecPub{Conn: c, Seq: seq + 1, HeaderLen: -1, Subject: []byte("a")})
	}
	g.cms[0].Out.Publish()
	privsep.Ring(bell)
	for range 2 { // again and again
		m := wait(privsep.KindCMFault)
		var f privsep.CMFault
		if err := f.Parse(m.Payload); err != nil || f.CM != 0 || f.Reason != privsep.FaultStalled {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	seq, n := uint64(1), 0
	for seq <= messages {
		for _, r := range g.take(0) {
			ins, ok := r.(*store.InsDeliver)
			if !ok {
				continue // INFO
			}
			if ins.Seq != seq {
				t.Fatalf("body %d, want %d", ins.Seq, seq)
			}
			n += len(g.recipients(0, ins))
			if ins.Flags&store.DeliverMore == 0 {
				if n != subs {
					t.Fatalf("body %d: %d recipients", seq, n)
				}
				seq, n = seq+1, 0
			}
		}
		privsep.Ring(bell)
	}
	parent.Close()
	if err := <-ended; !errors.Is(err, privsep.ErrOrphan) {
		t.Fatal(err)
	}
}

// Law: whatever a cm writes into its ring, the router neither panics nor says
// anything that another cm cannot parse, and other cms' sessions stay.
func FuzzRecord(f *testing.F) {
	files, _ := filepath.Glob("testdata/fuzz/FuzzRecord/*")
	if len(files) < 5 {
		f.Fatalf("%d seed files, want 5 or more", len(files))
	}
	for kind := store.KindOpen; kind <= store.KindStuck; kind++ {
		r := store.NewRecord(kind)
		b := make([]byte, r.Size())
		r.Put(b)
		f.Add(b, b)
	}
	g := newRig(f, nil)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		g.start(t)
		g.open(0, 0, 0, `,"protocol":1`)
		other := g.open(1, 1, 1, "")
		g.sub(1, other, ">", "", "1")
		g.sub(1, other, "*", "q", "2")
		for _, rec := range [][]byte{a, b, a} {
			if room := g.cms[0].Out.Reserve(len(rec)); room != nil {
				g.cms[0].Out.Commit(copy(room, rec))
			}
			g.route()
			for cm := range g.cms {
				for _, r := range g.take(cm) {
					if ins, ok := r.(*store.InsDeliver); ok {
						g.recipients(cm, ins)
					}
				}
			}
		}
		g.put(1, &store.RecPing{Conn: other})
		g.route()
		if got := g.take(1); len(got) != 1 || string(got[0].(*store.InsSend).Data) != wire.Pong {
			t.Fatalf("the other cm's session answers %+v", got)
		}
	})
}
