package router

import (
	"fmt"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// retires names cm/1 as the successor of cm/0, as the parent does.
func (g *rig) retires() { g.retire(0, 1) }

func (g *rig) retire(cm, to int) {
	g.t.Helper()
	m := privsep.CMRetire{CM: cm, Generation: g.r.links[cm].process, To: to}
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindCMRetire, Payload: m.Append(nil)}))
	g.check(g.r.between())
	g.r.commit()
}

// answer is the one MOVED among instructions.
func (g *rig) answer(got []store.Record) *store.InsMoved {
	g.t.Helper()
	var found *store.InsMoved
	for _, r := range got {
		if m, ok := r.(*store.InsMoved); ok {
			if found != nil {
				g.t.Fatalf("answered twice")
			}
			found = m
		}
	}
	if found == nil {
		g.t.Fatalf("no answer among %d instructions", len(got))
	}
	return found
}

// A session goes with its subscriptions; what is sent to it afterwards goes to the
// new cm, after the word that it comes, and nothing about it to the old one.
func TestMove(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	a := g.open(0, 1, 101, `,"headers":true`)
	b := g.open(0, 2, 102, "")
	c := g.open(1, 3, 103, "")
	for i, conn := range []store.Conn{a, b} {
		g.sub(0, conn, "x.>", "", "1")
		g.sub(0, conn, "x.y", "", "2")
		g.sub(0, conn, "q", "group", fmt.Sprint(3+i))
	}
	say := func() {
		g.put(1, &store.RecPub{Conn: c, Seq: g.r.links[1].seq + 1, HeaderLen: -1, Subject: []byte("x.y")})
		g.route()
	}
	for range 3 { // it is kept, encoded
		say()
	}
	g.take(0)
	g.take(1)
	g.retires()
	g.put(0, &store.RecMove{Conn: a, To: 1})
	g.route()
	if m := g.answer(g.take(0)); m.Conn != a || m.Flags != 0 {
		t.Fatalf("%+v", m)
	}
	got := g.take(1)
	if len(got) != 1 || *got[0].(*store.InsArriving) != (store.InsArriving{Conn: a, UID: 101, Flags: store.ArrivingHeaders}) {
		t.Fatalf("%+v", got[0])
	}
	say()
	for cm, want := range map[int]store.Conn{0: b, 1: a} {
		got := g.take(cm)
		if len(got) != 1 {
			t.Fatalf("cm/%d: %d instructions", cm, len(got))
		}
		list := g.recipients(cm, got[0].(*store.InsDeliver))
		if len(list) != 2 || list[0].conn != want || list[1].conn != want {
			t.Errorf("cm/%d: %+v", cm, list)
		}
	}
	// It speaks from there, and no more from here.
	g.put(0, &store.RecPing{Conn: a})
	g.put(1, &store.RecPing{Conn: a})
	g.route()
	if n, m := len(g.take(0)), len(g.take(1)); n != 0 || m != 1 {
		t.Errorf("%d answers by the old way, %d by the new one", n, m)
	}
	// The end of the old cm does not concern it.
	g.r.over(privsep.CMGone{CM: 0, Generation: 1})
	if l := g.r.links[1]; l.session(a) == nil || l.open != 2 || g.r.links[0].open != 0 || g.r.index.count != 3 {
		t.Errorf("%d sessions, %d subscriptions", l.open, g.r.index.count)
	}
	g.r.over(privsep.CMGone{CM: 1, Generation: 1})
	if g.r.index.count != 0 {
		t.Errorf("%d subscriptions are left", g.r.index.count)
	}
}

// Whoever waits for a reader, and a reader that is waited for, do so after a move.
func TestMoveHeld(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	sender, reader := g.open(0, 1, 101, ""), g.open(0, 2, 102, "")
	g.sub(0, reader, "x", "", "1")
	g.put(0, &store.RecCongested{Conn: reader})
	g.put(0, &store.RecPub{Conn: sender, Seq: 1, HeaderLen: -1, Subject: []byte("x")})
	g.route()
	g.take(0)
	g.retires()
	g.put(0, &store.RecMove{Conn: sender, To: 1})
	g.put(0, &store.RecMove{Conn: reader, To: 1})
	g.route()
	want := map[store.Conn]uint8{sender: store.ArrivingHeld, reader: store.ArrivingCongested}
	for _, r := range g.take(1) {
		if a := r.(*store.InsArriving); a.Flags != want[a.Conn] {
			t.Errorf("%+v", a)
		}
	}
	g.put(1, &store.RecRelieved{Conn: reader})
	g.route()
	if got := g.take(1); len(got) != 1 || got[0].(*store.InsResume).Conn != sender {
		t.Errorf("%+v", got)
	}
}

// What a cm may not have moved stays, or is an offence.
func TestMoveRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*rig, store.Conn)
		to      uint16
		offence bool
	}{
		"no successor is named":   {change: func(*rig, store.Conn) {}, to: 1},
		"it is another":           {change: func(g *rig, _ store.Conn) { g.retires() }, to: 0, offence: true},
		"it is none":              {change: func(g *rig, _ store.Conn) { g.retires() }, to: 77, offence: true},
		"it is away":              {change: func(g *rig, _ store.Conn) { g.retires(); g.r.links[1].process = 0 }, to: 1},
		"it has ended":            {change: func(g *rig, _ store.Conn) { g.retires(); g.r.ended = []privsep.CMGone{{CM: 1, Generation: 1}} }, to: 1},
		"the slot is another's":   {change: func(g *rig, conn store.Conn) { g.retires(); g.open(1, conn.Slot, 500, "") }, to: 1},
		"a session by TLS":        {change: func(g *rig, conn store.Conn) { g.retires(); g.r.links[0].session(conn).tls = true }, to: 1, offence: true},
		"another process retires": {change: func(g *rig, _ store.Conn) { g.r.links[0].process = 9; g.retiresAs(1); g.r.links[0].process = 1 }, to: 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			g.start(t)
			conn := g.open(0, 1, 101, "")
			c.change(g, conn)
			g.take(0)
			g.put(0, &store.RecMove{Conn: conn, To: c.to})
			g.route()
			l := g.r.links[0]
			if l.broken != c.offence || l.session(conn) == nil {
				t.Fatalf("broken %v, session %v", l.broken, l.session(conn))
			}
			if !c.offence {
				if m := g.answer(g.take(0)); m.Flags != store.MovedNot {
					t.Errorf("%+v", m)
				}
			}
		})
	}
}

func (g *rig) retiresAs(generation uint64) {
	m := privsep.CMRetire{CM: 0, Generation: generation, To: 1}
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindCMRetire, Payload: m.Append(nil)}))
}

// A session that has ended is not answered for: its cm is about to hear of that.
func TestMoveOfNobody(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.retires()
	g.put(0, &store.RecMove{Conn: store.Conn{Slot: 1, Gen: 1}, To: 1})
	g.put(0, &store.RecMove{Conn: store.Conn{Slot: 1 << 30, Gen: 1}, To: 1})
	g.route()
	if n, m := len(g.take(0)), len(g.take(1)); n+m != 0 || g.r.links[0].broken {
		t.Errorf("%d and %d instructions", n, m)
	}
}

// The clients that cannot move hear that they had better go, once.
func TestRetireWarnsTLS(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	secure, plain := g.open(0, 1, 101, `,"protocol":1`), g.open(0, 2, 102, `,"protocol":1`)
	g.r.links[0].session(secure).tls = true
	g.take(0)
	g.retires()
	g.retires()
	got := g.take(0)
	if len(got) != 1 || got[0].(*store.InsSend).Conn != secure {
		t.Errorf("%d instructions; %v is not to be told", len(got), plain)
	}
}
