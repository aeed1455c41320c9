//go:build stores

package router

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/store"
)

// stopped is what a router panics with at the store at which it is to end. As after
// a SIGKILL nothing of it is used any more but the shared memory.
type stopped struct{}

// lives has routers do something, each ended before so many stores, counted from 1
// and with its own beginning, and then one that lives. It returns the last.
func (g *rig) lives(do func(), stops ...int) {
	g.t.Helper()
	for _, n := range stops {
		if !g.ends(n, do) {
			return
		}
		g.succeed()
	}
	if !g.taken {
		g.takeOver()
	}
	do()
}

// ends tells whether the router has come to its end by doing this.
func (g *rig) ends(n int, do func()) (ended bool) {
	defer func() {
		store.StopAt(0, nil)
		if p := recover(); p == (stopped{}) {
			ended = true
		} else if p != nil {
			panic(p)
		}
	}()
	store.StopAt(n, func() { panic(stopped{}) })
	if !g.taken {
		g.takeOver()
	}
	do()
	return false
}

// Wherever routers end, one after the other, the cms see what the model sees: every
// message once, in order, and no session or subscription is lost or remains.
func TestStopIsModel(t *testing.T) {
	const maxSubs = 4
	g := newRig(t, func(s *privsep.Settings) { s.MaxSubscriptions = maxSubs })
	rapid.Check(t, func(t *rapid.T) {
		g.start(t)
		m, s := newModel(g), newScript(g)
		m.routed, m.inTurn = g.r.delivered, false // a new router does not know whose turn it is
		var pending [2][]store.Record
		route := func() {
			g.say()
			g.lives(g.routing, rapid.SliceOfN(rapid.IntRange(1, 150), 0, 4).Draw(t, "stops")...)
			for cm := range pending {
				m.got[cm] = g.take(cm)
			}
			for cm := range pending {
				for _, r := range pending[cm] {
					m.apply(cm, r)
				}
				pending[cm] = nil
			}
			m.settled()
		}
		for _, o := range rapid.SliceOfN(rapid.Custom(drawOp), 30, 300).Draw(t, "ops") {
			switch {
			case o.kind == store.KindNone:
				route()
				continue
			case o.kind == store.KindCongested, o.kind == store.KindRelieved: // the cms say it again
				continue
			}
			for _, r := range exact(s.records(o)) {
				pending[o.cm] = append(pending[o.cm], r)
				g.put(o.cm, r)
			}
		}
		route()
	})
}

// The same in all modes, with all that happens beside records: no status is said twice or
// never, no answer goes uncounted, no session of the mode loses its member.
func TestStopInModes(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.MaxSubscriptions = 5 })
	rapid.Check(t, func(t *rapid.T) {
		g.start(t)
		p := newPlay(g)
		p.m.inTurn = false // a new router does not know whose turn it is
		p.stops = func(do func()) {
			g.lives(do, rapid.SliceOfN(rapid.IntRange(1, 80), 0, 3).Draw(t, "stops")...)
		}
		p.begin(t)
		for _, s := range rapid.SliceOfN(rapid.Custom(drawStep), 50, 200).Draw(t, "steps") {
			switch {
			case s.kind == store.KindCongested, s.kind == store.KindRelieved: // the cms say it again
				continue
			case s.kind == store.KindUnsub:
				s.max = 0 // how much a subscription has had is not kept
			}
			p.do(s)
		}
		p.end()
	})
}

// exact replaces an UNSUB with a maximum, which counts from SUB, by a subscription
// that has it from the beginning: how much one without has had is not kept.
func exact(list []store.Record) (out []store.Record) {
	for _, r := range list {
		if u, ok := r.(*store.RecUnsub); ok && u.Max > 0 {
			out = append(out, &store.RecUnsub{Conn: u.Conn, SID: u.SID}, &store.RecSub{Conn: u.Conn, Subject: []byte("a"), SID: u.SID})
		}
		out = append(out, r)
	}
	return out
}

// A batch with something of everything, and a router that ends before each of its
// stores; and again, before each store of its successor.
func TestStopEverywhere(t *testing.T) {
	total := 0
	for n := 1; total == 0; n++ {
		if left := stopInBatch(t, n); left > 0 {
			total = n - left
		}
	}
	if total < 40 {
		t.Errorf("%d stores are too few to be all", total)
	}
	second := 0
	for first := 1; first <= total; first += 3 {
		n := 1
		for stopInBatch(t, first, n) == 0 {
			n++
		}
		second += n
	}
	t.Logf("a batch of %d stores; %d stops of a successor", total, second)
}

// stopInBatch returns how many stores before its stop the last router got ready.
func stopInBatch(t *testing.T, stops ...int) (left int) {
	t.Helper()
	g := newRig(t, nil)
	g.start(t)
	defer g.close()
	m, pending := mixedBatch(g)
	g.say()
	g.lives(func() { g.routing(); left = store.StoresLeft() }, stops...)
	for cm := range pending {
		m.got[cm] = g.take(cm)
	}
	for cm := range pending {
		for _, r := range pending[cm] {
			m.apply(cm, r)
		}
	}
	m.settled()
	return left
}

// mixedBatch puts records of two cms, after a beginning that is routed.
func mixedBatch(g *rig) (*model, [2][]store.Record) {
	m := newModel(g)
	m.inTurn = false
	conn := func(gen uint32) store.Conn { return store.Conn{Slot: gen, Gen: gen} }
	json := []byte(`{"verbose":false,"headers":true,"no_responders":true}`)
	var pending [2][]store.Record
	add := func(cm int, list ...store.Record) {
		for _, r := range list {
			g.put(cm, r)
			pending[cm] = append(pending[cm], r)
		}
	}
	sub := func(c store.Conn, subject, queue, sid string) store.Record {
		return &store.RecSub{Conn: c, Subject: []byte(subject), Queue: []byte(queue), SID: []byte(sid)}
	}
	for cm := range g.cms {
		for i := range uint32(3) {
			c := conn(uint32(cm)*10 + i + 1)
			add(cm, &store.RecOpen{Conn: c}, &store.RecConnect{Conn: c, JSON: json}, sub(c, "all", "", "1"), sub(c, "one", "q", "2"))
		}
	}
	g.route()
	for cm := range pending {
		m.got[cm] = g.take(cm)
		for _, r := range pending[cm] {
			m.apply(cm, r)
		}
		pending[cm] = nil
	}
	ask := func(cm int, c store.Conn, seq uint64, subject, reply string, f store.Facts) {
		add(cm, &store.RecPub{Conn: c, Seq: g.r.links[cm].seq + seq, HeaderLen: -1, Subject: []byte(subject), Reply: []byte(reply), Facts: f.Append(nil)})
	}
	pub := func(cm int, c store.Conn, seq uint64, subject, reply string) {
		ask(cm, c, seq, subject, reply, store.Facts{})
	}
	a, b := conn(1), conn(11)
	pub(0, a, 1, "all", "")
	pub(0, a, 2, "one", "r")
	add(0, sub(a, "r", "", "9"), &store.RecUnsub{Conn: a, SID: []byte("9"), Max: 2})
	pub(0, a, 3, "nobody", "r") // no responders, which counts
	add(0, sub(a, "in", "", "5"))
	ask(0, a, 4, "all", "in", store.Facts{Mode: store.ModeFanout})
	for i, c := range []store.Conn{a, conn(2), conn(3)} { // and b; the others are lost
		pub(0, c, uint64(5+i), "in", "")
	}
	for i := range uint64(2) {
		ask(0, a, 8+i, "one", "in", store.Facts{Mode: store.ModeSession, Session: []byte("s")})
	}
	pub(1, b, 1, "r", "") // the last that 9 gets
	pub(1, b, 2, "r", "")
	add(1, sub(b, "x.>", "", "3"), &store.RecUnsub{Conn: b, SID: []byte("1")}, &store.RecPing{Conn: b})
	pub(1, b, 3, "x.y", "")
	pub(1, b, 4, "all", "")
	add(1, &store.RecClosed{Conn: conn(12)}, &store.RecOpen{Conn: store.Conn{Slot: 12, Gen: 99}}, &store.RecFail{Conn: conn(13), Code: 2})
	pub(1, b, 5, "all", "")
	pub(1, b, 6, "in", "")
	return m, pending
}

// A message to more than half a ring holds goes by a plan, whole or not at all,
// wherever a router ends.
func TestStopInPlan(t *testing.T) {
	const subs = 2000
	for n := 1; ; n += 3 {
		g := newRig(t, func(s *privsep.Settings) { s.Ring, s.MaxSubscriptions = 128<<10, 0 })
		g.start(t)
		from, to := g.open(0, 1, 1, ""), g.open(1, 2, 2, "")
		for i := range subs {
			g.put(1, &store.RecSub{Conn: to, Subject: []byte("a"), SID: fmt.Appendf(nil, "%d.%s", i, strings.Repeat("x", 20))})
			if i%500 == 499 {
				g.route()
			}
		}
		g.route()
		for seq := range uint64(2) {
			g.put(0, &store.RecPub{Conn: from, Seq: seq + 1, HeaderLen: -1, Subject: []byte("a")})
		}
		g.say()
		left := 0
		g.lives(func() { g.routeMessage(1); left = store.StoresLeft() }, n)
		check := func(seq uint64) {
			list := map[string]bool{}
			for _, r := range g.take(1) {
				ins, ok := r.(*store.InsDeliver)
				if !ok || ins.Seq != seq {
					t.Fatalf("stopped at %d: %+v, want body %d", n, r, seq)
				}
				for _, to := range g.recipients(1, ins) {
					if list[to.sid] {
						t.Fatalf("stopped at %d: %q twice", n, to.sid)
					}
					list[to.sid] = true
				}
			}
			if len(list) != subs {
				t.Fatalf("stopped at %d: %d of %d", n, len(list), subs)
			}
		}
		check(1)
		g.routeMessage(2)
		check(2)
		g.close()
		if left > 0 {
			break
		}
	}
}

// routeMessage routes cm/0's n-th message, unless a router before this one has.
func (g *rig) routeMessage(n uint64) {
	g.t.Helper()
	if g.r.messages == n {
		return
	}
	l := g.r.links[0]
	rec, err := l.in.Next()
	g.check(err)
	g.check(g.r.record(l, rec))
	g.r.after()
	g.r.commit()
}
