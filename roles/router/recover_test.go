package router

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// state is all of it that outlives a router, written down; counts are left out of
// subscriptions without a limit, which a new router knows from a snapshot only.
func (r *router) describe(counts bool) string {
	var b strings.Builder
	for _, l := range r.links {
		fmt.Fprintf(&b, "cm/%d %d %d\n", l.index, l.generation, l.open)
		for slot, s := range l.sessions {
			if s == nil {
				continue
			}
			flags := ""
			for _, f := range s.connectFlags() {
				flags += fmt.Sprintf("%.1v", *f)
			}
			fmt.Fprintf(&b, " %d %d %d %d %q %v %s %v %d %q from %q load %d\n", slot, s.slot, s.gen, s.uid, s.challenge, s.client, flags, s.tls, s.generation,
				s.who.append(nil), s.from(), s.load())
			for _, sid := range slices.Sorted(maps.Keys(s.subs)) {
				t := s.subs[sid]
				fmt.Fprintf(&b, "  %q %q %q %q %d", sid, t.sid, t.subject, t.queue, t.max)
				if counts || t.max > 0 {
					fmt.Fprintf(&b, " %d", t.delivered)
				}
				b.WriteByte('\n')
			}
		}
	}
	fmt.Fprintf(&b, "%d %d %d\n", r.index.count, r.live.sessions, r.live.subs)
	b.WriteString(r.describeRequests())
	return b.String()
}

// describeRequests writes down requests, in their order, and affinities: of a request what a
// snapshot has of it.
func (r *router) describeRequests() string {
	var b strings.Builder
	name := func(s *session) string {
		if s == nil {
			return "nobody"
		}
		return fmt.Sprintf("%d/%d", s.cm.index, s.slot)
	}
	for _, q := range r.requests.byAge() {
		fmt.Fprintf(&b, "request %d of %s, reply %q, mode %d, until %d, %d answered, %d lost, %d owing, %d live, to be told %d:", q.number, name(q.from), q.reply,
			q.mode, q.until, q.answered, q.lost, q.owing, q.live, q.due())
		for i := range q.duties {
			if d := &q.duties[i]; d.by != nil {
				fmt.Fprintf(&b, " %s %v %d", name(d.by), d.owed, d.grant)
				if d.req != q {
					b.WriteString(" strange")
				}
			}
		}
		b.WriteByte('\n')
	}
	var lines []string
	for a := r.affinities.first; a != nil; a = a.next {
		lines = append(lines, fmt.Sprintf("affinity %q %q of %s to %s\n", a.key, a.queue, name(a.from), name(a.by)))
	}
	slices.Sort(lines)
	fmt.Fprintf(&b, "%s%d requests", strings.Join(lines, ""), r.requests.count)
	return b.String()
}

// wantState wants a state to be another one; only what differs is told.
func wantState(t fataler, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	without := func(a, b string) string {
		have := strings.Split(b, "\n")
		return strings.Join(slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(have, line) }), "\n")
	}
	t.Fatalf("state has\n%s\ninstead of\n%s", without(got, want), without(want, got))
}

// due is the status that the sender of a request is to be told next, 0: none.
func (q *request) due() int {
	if q.owing > 0 {
		return 0
	}
	return q.status()
}

// successor makes a new router over the mappings of this one, which has ended.
func (r *router) successor() *router {
	n := &router{
		cfg: r.cfg, parent: r.parent, log: r.log, poll: r.poll, state: r.state, size: r.size,
		index: newIndex(), requests: newRequests(), profiles: r.profiles, began: r.began, epoch: r.epoch, time: r.time, greeting: r.greeting, names: make(map[string]string), refused: r.refused, rnd: r.rnd + 1, at: nobody, turned: true,
	}
	n.redo.Links = make([]store.Mark, len(r.links))
	for _, l := range r.links {
		n.links = append(n.links, &link{index: l.index, in: l.in, out: l.out, named: l.named, returns: l.returns, bell: -1,
			slots: l.slots})
	}
	return n
}

// drawRequest is drawOp with requests in all modes.
func drawRequest(t *rapid.T) op {
	o := drawOp(t)
	switch o.kind {
	case store.KindPub:
		o.facts.Mode = rapid.SampledFrom([]store.Mode{store.ModeNone, store.ModeSession, store.ModeFanout, store.ModeBroadcast}).Draw(t, "mode")
		if o.facts.Mode == store.ModeSession {
			o.facts.Session = []byte(rapid.SampledFrom([]string{"s", "t"}).Draw(t, "session"))
			o.facts.End = rapid.IntRange(0, 4).Draw(t, "end") == 4
		}
		o.facts.Timeout = rapid.SampledFrom([]uint32{0, 0, 1000, 5000}).Draw(t, "timeout")
	case store.KindConnect, store.KindOpen:
		o.connect = rapid.SampledFrom([]string{o.connect, `{"name":"p/1","headers":true,"no_responders":true}`, `{"name":"p/2","headers":true}`}).Draw(t, "named")
	}
	return o
}

// Whatever clients do, a new router knows what the one before knew; from entries
// and from a snapshot alike.
func TestRecoverIsExact(t *testing.T) {
	g := newRig(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		g.start(t)
		s := &script{seq: [2]uint64{g.r.links[0].seq, g.r.links[1].seq}}
		for _, o := range rapid.SliceOfN(rapid.Custom(drawRequest), 20, 200).Draw(t, "ops") {
			switch {
			case o.kind == store.KindNone && o.slot == 1:
				g.r.compact()
			case o.kind == store.KindNone:
				g.route()
				g.take(0)
				g.take(1)
			default:
				for _, r := range s.records(o) {
					g.put(o.cm, r)
				}
			}
		}
		g.route()
		if rapid.Bool().Draw(t, "gone") {
			g.r.gone(g.r.links[0], s.proc[0])
			g.r.commit()
		}
		want, messages := g.r.describe(false), g.r.messages
		g.r = g.r.successor()
		g.r.takeOver()
		if got := g.r.describe(false); got != want || g.r.messages != messages {
			t.Fatalf("%d messages, state\n%s\nwant %d,\n%s", g.r.messages, got, messages, want)
		}
		want = g.r.describe(true)
		g.r.compact()
		g.r = g.r.successor()
		g.r.takeOver()
		if got := g.r.describe(true); got != want {
			t.Fatalf("after a snapshot\n%s\nwant\n%s", got, want)
		}
		for _, l := range g.r.links {
			l.process = 1
		}
	})
}

// The word on which a router takes over is heard, though others are heard while it waits
// for room to say that it does.
func TestFirstWord(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Ring = 128 << 10 })
	g.start(t)
	c := g.open(0, 1, 1, "")
	for g.r.links[0].out.Fits(200, 200) {
		g.r.sendErr(g.r.links[0].session(c), wire.CodeMaxSubs)
	}
	word := store.Framed(new(store.InsResume).Size()) // as long as InsNewRouter
	for g.r.links[0].out.Fits(word, word) {
		g.r.tell(g.r.links[0].session(c), &store.InsResume{Conn: c})
	}
	g.r.commit()
	g.r = g.r.successor()
	g.r.turned = false
	bell, far, err := privsep.Doorbell()
	g.check(err)
	defer privsep.CloseFD(bell)
	g.check(g.parent.Send(privsep.KindDoorbell, (&privsep.DoorbellEnd{CM: 1, Generation: 7}).Append(nil), far))
	gone := privsep.CMGone{CM: 0, Generation: 1}
	g.check(g.parent.Send(privsep.KindCMGone, gone.Append(nil)))
	g.check(g.r.fromParent())
	if l := g.r.links[1]; l.process != 7 || !slices.Equal(g.r.ended, []privsep.CMGone{gone}) {
		t.Errorf("process %d, ended %+v", l.process, g.r.ended)
	}
}

// The journal stays within twice the state, or within what it takes for it to pay.
func TestJournalIsCompacted(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	c := g.open(0, 1, 1, "")
	highest, turns := uint64(0), g.r.state.Journal.Turn()
	for i := range 40000 {
		sid := fmt.Appendf(nil, "%d", i)
		g.put(0, &store.RecSub{Conn: c, Subject: []byte("some.inbox.of.some.length"), SID: sid})
		g.put(0, &store.RecUnsub{Conn: c, SID: sid})
		if i%100 == 99 {
			g.route()
			highest = max(highest, g.r.state.Journal.Tail())
		}
	}
	if n := g.r.state.Journal.Turn() - turns; n < 2 || n > 10 || highest > leastTurn+1000 {
		t.Errorf("%d turns, at most %d bytes", n, highest)
	}
}

// A state that has no room refuses subscriptions, and connections only when there
// are more than allowed; whatever clients do, snapshot and plan fit.
func TestStateIsFull(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Journal = store.MinJournal })
	g.start(t)
	c := g.open(0, 1, 1, "")
	refused := 0
	for i := range 20000 {
		g.put(0, &store.RecSub{Conn: c, Subject: []byte("a"), SID: fmt.Appendf(nil, "%020d", i)})
		if i%200 == 199 {
			g.route()
			refused += len(g.take(0))
		}
	}
	if n := g.r.index.count; refused+n != 20000 || refused == 0 || n < 1000 || g.r.live.subs > g.r.size.subs {
		t.Fatalf("%d subscriptions, %d refused, %d bytes of %d", n, refused, g.r.live.subs, g.r.size.subs)
	}
	for slot := range uint32(60) { // they have room all the same
		g.open(1, slot, slot+100, "")
	}
	want := g.r.describe(false)
	g.r.compact()
	g.r = g.r.successor()
	g.r.takeOver()
	if got := g.r.describe(false); got != want {
		t.Fatal("the state is not the same")
	}
}

// What cannot be read is reported and forgotten: the cms are told to end all
// connections, and new ones are served.
func TestUnreadable(t *testing.T) {
	for name, spoil := range map[string]func(g *rig, w segment){
		"commit word": func(_ *rig, w segment) { w.set(1 << 50) },
		"no entry":    func(_ *rig, w segment) { w.set(0) },
		"entries":     func(_ *rig, w segment) { clear(w[256:8192]) },
		"journal":     func(_ *rig, w segment) { clear(w[8192:]) },
		"one bit":     func(g *rig, w segment) { w[8192+int(g.r.state.Journal.Turn()&1)*g.r.state.Journal.Half()+40] ^= 1 },
		"tail":        func(g *rig, _ segment) { g.routerSegment(privsep.SegRingDownData, 0).set(1 << 40) },
		"head":        func(g *rig, _ segment) { g.routerSegment(privsep.SegRingUpHead, 1).set(1<<40 + 3) },
		"named": func(g *rig, _ segment) {
			binary.LittleEndian.PutUint64(g.routerSegment(privsep.SegNamed, 1)[24:], 1<<40)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			g.start(t)
			g.works()
			g.open(0, 1, 1, "")
			spoil(g, g.routerSegment(privsep.SegState, 0))
			g.r = g.r.successor()
			g.r.takeOver()
			if g.r.links[0].open != 0 || g.r.index.count != 0 {
				t.Fatalf("%d sessions, %d subscriptions", g.r.links[0].open, g.r.index.count)
			}
			if name == "tail" || name == "head" {
				return // that ring has gone with it: its cm finds nonsense, and ends
			}
			g.routers = nil
			for cm := range g.cms {
				g.take(cm)
				g.r.links[cm].process = 1
			}
			if want := []store.InsNewRouter{{Forget: true}, {Forget: true}}; !slices.Equal(g.routers, want) {
				t.Fatalf("the cms are told %+v", g.routers)
			}
			if name != "named" {
				g.works()
			}
		})
	}
}

// FuzzRecover: whatever entries the router before has left, and whatever else is in
// its memory, a new one begins, without a panic: from nothing, or from a state that
// its own snapshot gives again.
func FuzzRecover(f *testing.F) {
	files, _ := filepath.Glob("testdata/fuzz/FuzzRecover/*")
	if len(files) < 3 {
		f.Fatalf("%d seed files, want 3 or more", len(files))
	}
	g := newRig(f, func(s *privsep.Settings) { s.Journal, s.MaxConnections = store.MinJournal, 8 })
	g.start(f)
	w := g.routerSegment(privsep.SegState, 0)
	f.Fuzz(func(t *testing.T, entries []byte, at uint32, change []byte) {
		g.t = t
		g.r = g.r.successor()
		g.r.takeOver()
		for _, l := range g.r.links {
			g.r.removeAll(l, ^uint64(0))
			l.generation = 0
		}
		g.r.state.Journal.Begin()
		for len(entries) > 0 { // length u8, entry
			n := min(int(entries[0]), len(entries)-1)
			g.r.state.Journal.Append(entries[1 : 1+n])
			entries = entries[1+n:]
		}
		g.r.commit()
		copy(w[uint64(at)%uint64(len(w)):], change)
		g.r = g.r.successor()
		g.r.takeOver()
		want := g.r.describe(true)
		g.r.compact()
		g.r = g.r.successor()
		g.r.takeOver()
		if got := g.r.describe(true); got != want {
			t.Fatalf("state\n%s\nwant\n%s", got, want)
		}
		for cm := range g.cms {
			g.take(cm)
		}
		for m := (privsep.Message{}); g.parent.Recv(&m) == nil; { // the log
		}
	})
}

// A new router with 100,000 subscriptions is at work in well under a second.
func TestRecoverIsQuick(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Journal = 64 << 20 })
	g.manySubscriptions(t, 100_000)
	took := time.Hour
	for range 5 { // the machine may be at something else
		r := g.r.successor()
		began := time.Now()
		r.takeOver()
		took = min(took, time.Since(began))
		if r.index.count != 100_000 {
			t.Fatalf("%d subscriptions", r.index.count)
		}
		g.r = r
	}
	t.Logf("a journal of %d bytes repeated in %v", g.r.state.Journal.Tail(), took)
	if took > time.Second {
		t.Errorf("repeating the journal took %v", took)
	}
}

func (g *rig) manySubscriptions(t testing.TB, n int) {
	g.start(t)
	for i := range n {
		slot := uint32(i / 2 % 50)
		cm, c := i%2, store.Conn{Slot: slot, Gen: slot}
		if i < 100 {
			g.put(cm, &store.RecOpen{Conn: c, UID: uint64(i)})
		}
		g.put(cm, &store.RecSub{Conn: c, Subject: fmt.Appendf(nil, "orders.%d.%d", i%1000, i), SID: fmt.Appendf(nil, "%d", i)})
		if i%1000 == 999 || i < 100 {
			g.route()
			g.take(0)
			g.take(1)
		}
	}
}

// BenchmarkRecover is a new router's beginning with 100,000 subscriptions.
func BenchmarkRecover(b *testing.B) {
	g := newRig(b, func(s *privsep.Settings) { s.Journal = 64 << 20 })
	g.manySubscriptions(b, 100_000)
	for b.Loop() {
		g.r = g.r.successor()
		g.r.takeOver()
	}
	b.ReportMetric(float64(g.r.state.Journal.Tail()), "journal-bytes")
}

// BenchmarkCompact writes 100,000 subscriptions anew.
func BenchmarkCompact(b *testing.B) {
	g := newRig(b, func(s *privsep.Settings) { s.Journal = 64 << 20 })
	g.manySubscriptions(b, 100_000)
	for b.Loop() {
		g.r.compact()
	}
}

// BenchmarkCommit is a batch of one message, of which the redo entry is a part.
func BenchmarkCommit(b *testing.B) {
	g := newRig(b, nil)
	g.start(b)
	for b.Loop() {
		g.r.links[0].seq++
		g.r.commit()
	}
}
