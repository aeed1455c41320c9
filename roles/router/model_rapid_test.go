package router

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// op is a record of some cm, before it is known which sessions there are.
type op struct {
	kind    store.RecKind // KindNone: route what is there
	cm      int
	slot    uint32
	stale   bool // about the connection that had the slot before
	subject string
	reply   string
	queue   string
	sid     string
	max     uint32
	times   int // that a message is published
	connect string
	facts   store.Facts // what the headers say
	greeted bool        // by the cm, if it can
}

func (o op) String() string {
	return fmt.Sprintf("%v cm/%d slot %d stale %v %q %q %q sid %q max %d %d times %s", o.kind, o.cm, o.slot, o.stale, o.subject, o.reply, o.queue, o.sid, o.max, o.times, o.connect)
}

// opKinds are the kinds in the proportion in which they are drawn, mixed, since
// rapid prefers the ends of a list.
var opKinds = func() (list []store.RecKind) {
	for _, k := range []struct {
		kind  store.RecKind
		times int
	}{
		{store.KindPub, 20}, {store.KindSub, 20}, {store.KindUnsub, 20}, {store.KindNone, 10}, {store.KindOpen, 5},
		{store.KindCongested, 4}, {store.KindRelieved, 3}, {store.KindPing, 2}, {store.KindClosed, 2},
		{store.KindConnect, 2}, {store.KindFail, 1}, {store.KindReset, 1},
	} {
		for range k.times {
			list = append(list, k.kind)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return append(append([]store.RecKind{store.KindPub}, list...), store.KindPub)
}()

var (
	pubSubjects = rapid.OneOf(
		rapid.SampledFrom([]string{"a", "a", "a.b"}), // mostly the same, so that they are cached
		rapid.SampledFrom([]string{"a", "a.b", "b"}),
		anySubject,
		rapid.SampledFrom([]string{"a", "$GR.x", "a..b", "_GR_."}),
	)
	replies = rapid.OneOf(rapid.Just(""), rapid.Just(""), subjectOf("a", "b"), rapid.SampledFrom([]string{"_R_.x", "r"}))
	// Not what is valid alone.
	patterns = rapid.OneOf(
		rapid.SampledFrom([]string{"a", "a", "a.b", ">", "*", "a.*", "a.>", "*.b"}),
		rapid.SampledFrom([]string{"a", "a", "a.b", ">", "*", "a.*", "a.>", "*.b"}),
		anyPattern,
		rapid.SampledFrom([]string{"a", "*", "", "a..b", ">.a", "a."}),
	)
	connects = rapid.SampledFrom([]string{
		`{"verbose":false,"pedantic":false}`, `{"verbose":false,"pedantic":false}`, `{"verbose":false,"pedantic":false}`,
		`{"headers":true,"no_responders":true,"verbose":false}`, `{"headers":true,"no_responders":true,"verbose":false}`,
		`{"verbose":false,"pedantic":false,"echo":false}`, `{"verbose":false,"pedantic":false,"echo":false}`,
		`{"echo":true}`, `{}`, ``, `{"protocol":1,"pedantic":false}`,
		`{`, `{"protocol":2}`, `{"no_responders":true}`, `{"account":"x"}`,
	})
)

func drawOp(t *rapid.T) op {
	o := op{
		kind:  rapid.SampledFrom(opKinds).Draw(t, "kind"),
		cm:    rapid.IntRange(0, 1).Draw(t, "cm"),
		slot:  uint32(rapid.IntRange(0, 1).Draw(t, "slot")),
		stale: rapid.IntRange(0, 30).Draw(t, "stale") == 30,
	}
	switch o.kind {
	case store.KindSub:
		o.subject = patterns.Draw(t, "pattern")
		o.queue = rapid.SampledFrom([]string{"", "", "p", "q"}).Draw(t, "queue")
		o.sid = rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "sid")
	case store.KindUnsub:
		o.sid = rapid.SampledFrom([]string{"1", "2", "3", "4", "9"}).Draw(t, "sid")
		o.max = rapid.SampledFrom([]uint32{3, 1, 0, 9, 2, 6}).Draw(t, "max")
	case store.KindPub:
		o.subject, o.reply = pubSubjects.Draw(t, "subject"), replies.Draw(t, "reply")
		o.times = rapid.SampledFrom([]int{1, 1, 1, 5, 8}).Draw(t, "times")
	case store.KindConnect, store.KindOpen:
		o.connect = connects.Draw(t, "connect")
		o.greeted = rapid.Bool().Draw(t, "greeted")
	}
	return o
}

func newScript(g *rig) *script {
	return &script{seq: [2]uint64{g.r.links[0].seq, g.r.links[1].seq}, challenge: g.challenge, told: map[uint64]string{}}
}

// mustHaveTold wants the router to know which challenge each client has been told.
func (s *script) mustHaveTold(g *rig) {
	g.t.Helper()
	for _, l := range g.r.links {
		for _, ses := range l.sessions {
			if ses == nil {
				continue
			}
			if text, ok := s.told[ses.uid]; ok && text != ses.challenge {
				g.t.Fatalf("connection %d has been told %q, the router thinks %q", ses.uid, text, ses.challenge)
			}
		}
	}
}

// script turns ops into records, with gens and body numbers as they come.
type script struct {
	gen  uint32
	gens [2][4]uint32
	seq  [2]uint64
	proc [2]uint64

	challenge func(cm int) (uint64, string)
	told      map[uint64]string // challenges that clients have been told, by UID
}

func (s *script) records(o op) (list []store.Record) {
	if o.kind != store.KindOpen {
		for range max(o.times, 1) {
			list = append(list, s.record(o))
		}
		return list
	}
	s.gen++
	s.gens[o.cm][o.slot] = s.gen
	o.stale = false
	open := s.record(o)
	if o.connect == "" {
		return []store.Record{open}
	}
	o.kind = store.KindConnect
	return []store.Record{open, s.record(o)}
}

func (s *script) record(o op) store.Record {
	c := store.Conn{Slot: o.slot, Gen: s.gens[o.cm][o.slot]}
	if o.stale {
		c.Gen--
	}
	switch o.kind {
	case store.KindOpen:
		open := &store.RecOpen{Conn: c, UID: uint64(c.Gen)}
		if o.greeted && s.challenge != nil {
			n, text := s.challenge(o.cm)
			if open.Challenge = n; n != 0 {
				s.told[open.UID] = text
			}
		}
		return open
	case store.KindConnect:
		return &store.RecConnect{Conn: c, JSON: []byte(o.connect)}
	case store.KindSub:
		return &store.RecSub{Conn: c, Subject: []byte(o.subject), Queue: []byte(o.queue), SID: []byte(o.sid)}
	case store.KindUnsub:
		return &store.RecUnsub{Conn: c, SID: []byte(o.sid), Max: o.max}
	case store.KindPub:
		s.seq[o.cm]++
		return &store.RecPub{Conn: c, Seq: s.seq[o.cm], Off: 16 * uint32(s.seq[o.cm]%4096), Len: 9, HeaderLen: int32(o.slot) - 1,
			Subject: []byte(o.subject), Reply: []byte(o.reply), Facts: o.facts.Append(nil)}
	case store.KindPing:
		return &store.RecPing{Conn: c}
	case store.KindFail:
		return &store.RecFail{Conn: c, Code: uint8(wire.CodeMaxPayload)}
	case store.KindClosed:
		return &store.RecClosed{Conn: c}
	case store.KindCongested:
		return &store.RecCongested{Conn: c}
	case store.KindRelieved:
		return &store.RecRelieved{Conn: c}
	case store.KindReset:
		s.proc[o.cm]++
		return &store.RecReset{Generation: s.proc[o.cm]}
	}
	return nil
}

// Whatever the clients of two cms do, the router says what the model says.
func TestRouterIsModel(t *testing.T) {
	const maxSubs = 4
	g := newRig(t, func(s *privsep.Settings) { s.MaxSubscriptions = maxSubs })
	rapid.Check(t, func(t *rapid.T) {
		g.start(t)
		m, s := newModel(g), newScript(g)
		var pending [2][]store.Record
		route := func() {
			g.route()
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
			s.mustHaveTold(g)
		}
		least := rapid.SampledFrom([]int{250, 30, 1, 100, 250}).Draw(t, "least") // else most are short
		for _, o := range rapid.SliceOfN(rapid.Custom(drawOp), least, 500).Draw(t, "ops") {
			if o.kind == store.KindNone {
				route()
				continue
			}
			for _, r := range s.records(o) {
				pending[o.cm] = append(pending[o.cm], r)
				g.put(o.cm, r)
			}
		}
		route()
		m.lose(0, s.proc[0])
		m.lose(1, s.proc[1])
		if !g.r.index.root.empty() || len(m.live) > 0 {
			t.Fatalf("subscriptions are left when all connections are lost")
		}
	})
}

// lose has the parent say that a cm's process has ended.
func (m *model) lose(cm int, process uint64) {
	m.g.t.Helper()
	told := max(process, m.g.r.links[cm].process) // the parent's number, which RESET need not have
	m.g.r.ended = append(m.g.r.ended, privsep.CMGone{CM: cm, Generation: told})
	m.g.check(m.g.r.between())
	m.g.r.commit()
	for i := range m.got {
		m.got[i] = m.g.take(i)
	}
	m.lost = cm
	m.endAll(cm, process)
	m.wantLater()
	m.settled()
}

// A message to more recipients than one instruction may hold.
func TestRouterPieces(t *testing.T) {
	const n = 1500
	g := newRig(t, nil)
	g.start(t)
	m := newModel(g)
	seq := g.r.links[1].seq
	do := func(cm int, r store.Record) {
		g.put(cm, r)
		g.route()
		for i := range m.got {
			m.got[i] = g.take(i)
		}
		m.apply(cm, r)
		m.settled()
	}
	open := func(cm int, gen uint32) store.Conn {
		c := store.Conn{Slot: gen, Gen: gen}
		do(cm, &store.RecOpen{Conn: c})
		do(cm, &store.RecConnect{Conn: c, JSON: []byte(`{"verbose":false}`)})
		return c
	}
	a, b := open(0, 1), open(1, 2)
	for i := range n {
		sid := fmt.Appendf(nil, "%d.%s", i, strings.Repeat("x", i%37))
		do(0, &store.RecSub{Conn: a, Subject: []byte("a"), SID: sid})
		do(1, &store.RecSub{Conn: b, Subject: []byte("*"), SID: sid})
	}
	largest, pieces := 0, 0
	pub := func() {
		seq++
		r := &store.RecPub{Conn: b, Seq: seq, Len: 1, HeaderLen: -1, Subject: []byte("a"), Reply: []byte("r")}
		g.put(1, r)
		g.route()
		for i := range m.got {
			m.got[i] = g.take(i)
			for _, x := range m.got[i] {
				pieces++
				largest = max(largest, len(x.(*store.InsDeliver).Recipients))
			}
		}
		m.apply(1, r)
		m.settled()
	}
	for range 4 { // not cached, cached, encoded beforehand
		pub()
	}
	do(0, &store.RecClosed{Conn: a})
	for range 4 { // the same on one cm
		pub()
	}
	if pieces < 4*2*3+4*3 || largest > pieceLimit || largest < pieceLimit/2 {
		t.Fatalf("%d pieces, the largest %d bytes", pieces, largest)
	}
}
