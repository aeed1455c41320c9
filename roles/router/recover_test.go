package router

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/store"
)

// state is all of it that outlives a router, written down; counts are left out of
// subscriptions without a limit, which a new router knows from a snapshot only.
func (r *router) describe(counts bool) string {
	var b strings.Builder
	for _, l := range r.links {
		fmt.Fprintf(&b, "cm/%d %d %d challenges %x %d\n", l.index, l.generation, l.open, l.supply.secret, l.supply.used)
		for slot, s := range l.sessions {
			if s == nil {
				continue
			}
			flags := ""
			for _, f := range s.connectFlags() {
				flags += fmt.Sprintf("%.1v", *f)
			}
			fmt.Fprintf(&b, " %d %d %d %d %q %v %s %v %d %q from %q load %d %v\n", slot, s.slot, s.gen, s.uid, s.challenge, s.client, flags, s.tls, s.generation,
				s.who.append(nil), s.from(), s.load(), s.answered)
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
		cfg: r.cfg, parent: r.parent, log: r.log, poll: r.poll, state: r.state, size: r.size, table: r.table, watch: watch{shown: r.watch.shown},
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
		s := newScript(g)
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
	l, ins := g.r.links[0], &store.InsResume{Conn: c}
	for b := l.out.Reserve(ins.Size()); b != nil; b = l.out.Reserve(ins.Size()) {
		l.out.Commit(ins.Put(b))
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
	if l = g.r.links[1]; l.process != 7 || !slices.Equal(g.r.ended, []privsep.CMGone{gone}) {
		t.Errorf("process %d, ended %+v", l.process, g.r.ended)
	}
}

// One that is told to stop, twice, before its turn has come ends as it was told to.
func TestStopBeforeTurn(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.r.turned = false
	for range 2 {
		g.check(g.parent.Send(privsep.KindShutdown, (&privsep.Shutdown{}).Append(nil)))
	}
	if err := g.r.run(); err != nil {
		t.Errorf("ended with %v", err)
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

// entriesOfModes are the entries about a few requests and sessions of the mode, each after
// its length.
func (g *rig) entriesOfModes() (all []byte) {
	g.t.Helper()
	p := everythingAllowed
	p.Name, p.Responses = "any", 2
	g.profiles([]privsep.Profile{p}, func(l *privsep.Live) { l.AnonymousProfile = "any" })
	g.r.compact()
	g.r.bounds()
	asker, one, two := g.open(0, 1, 1, `,"headers":true,"name":"p/1"`), g.open(1, 2, 2, ""), g.open(1, 3, 3, "")
	g.sub(0, asker, "r", "", "1")
	g.sub(1, one, "work", "g", "1")
	g.sub(1, two, "work", "h", "1")
	for _, f := range []store.Facts{{}, {Mode: store.ModeFanout, Timeout: 5}, {Mode: store.ModeFanout}, {Mode: store.ModeBroadcast},
		{Mode: store.ModeSession, Session: []byte("s")}, {Mode: store.ModeSession, Session: []byte("t")}, {Mode: store.ModeSession, Session: []byte("t"), End: true}} {
		g.says(0, asker, "work", "r", f)
		g.says(1, one, "r", "", store.Facts{})
		g.pass(6)
	}
	g.put(1, &store.RecClosed{Conn: two})
	g.route()
	g.take(0)
	seen := map[entryKind]bool{}
	g.check(g.r.state.Journal.Replay(func(b []byte) error {
		all, seen[entryKind(b[0])] = append(append(all, byte(len(b))), b...), true
		return nil
	}))
	for k := entryRequest; k < numEntries; k++ {
		if !seen[k] {
			g.t.Fatalf("no entry of kind %d among %d bytes", k, len(all))
		}
	}
	return all
}

// FuzzRecover: whatever entries the router before has left, and whatever else is in
// its memory, a new one begins, without a panic: from nothing, or from a state that
// its own snapshot gives again. It does not spin for a time that has come.
func FuzzRecover(f *testing.F) {
	files, _ := filepath.Glob("testdata/fuzz/FuzzRecover/*")
	if len(files) < 3 {
		f.Fatalf("%d seed files, want 3 or more", len(files))
	}
	g := newRig(f, func(s *privsep.Settings) { s.Journal, s.MaxConnections = store.MinJournal, 8 })
	g.start(f)
	w := g.routerSegment(privsep.SegState, 0)
	f.Add(g.entriesOfModes(), uint32(0), []byte(nil))
	g.start(f)
	f.Fuzz(func(t *testing.T, entries []byte, at uint32, change []byte) {
		g.recoversFrom(t, entries, func() { copy(w[uint64(at)%uint64(len(w)):], change) })
	})
}

// recoversFrom has a new router begin with entries, each after its length, and whatever
// else is changed in its memory.
func (g *rig) recoversFrom(t fataler, entries []byte, change func()) {
	g.t = t
	t.Helper()
	g.r = g.r.successor()
	g.r.takeOver()
	for _, l := range g.r.links {
		g.r.removeAll(l, ^uint64(0))
		l.generation = 0
	}
	g.r.state.Journal.Begin()
	for len(entries) > 0 {
		n := min(int(entries[0]), len(entries)-1)
		g.r.state.Journal.Append(entries[1 : 1+n])
		entries = entries[1+n:]
	}
	g.r.commit()
	change()
	g.r = g.r.successor()
	g.r.takeOver()
	g.check(g.r.between())
	g.r.expire()
	if d := g.r.expiry(); d == 0 || d > math.MaxInt32*time.Millisecond {
		t.Fatalf("it sleeps for %v", d)
	}
	want := g.r.describe(true)
	g.r.compact()
	g.r = g.r.successor()
	g.r.takeOver()
	wantState(t, g.r.describe(true), want)
	for cm := range g.cms {
		g.take(cm)
	}
	for m := (privsep.Message{}); g.parent.Recv(&m) == nil; { // the log
	}
}

// The same for every byte of the entries about requests and sessions of the mode.
func TestHostileEntries(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Journal, s.MaxConnections = store.MinJournal, 8 })
	g.start(t)
	entries := g.entriesOfModes()
	g.start(t)
	for at := 0; at < len(entries); at += 1 + int(entries[at]) {
		if entryKind(entries[at+1]) < entryRequest {
			continue
		}
		for i := at + 1; i < at+1+int(entries[at]); i++ {
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, entries[i] + 1} {
				spoilt := slices.Clone(entries)
				spoilt[i] = b
				g.recoversFrom(t, spoilt, func() {})
			}
		}
	}
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
