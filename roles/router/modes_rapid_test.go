package router

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/store"
)

// step is what happens next: a record of some connection, or something that none says.
type step struct {
	op
	pick  int // which of the connections that are there, or of the answers that are owed
	event event
	name  string
	id    identity
	ms    int64
	set   []privsep.Profile
	live  privsep.Live // what of it changes
}

// GoString is what a failure shows of it.
func (s step) GoString() string {
	switch s.event {
	case eventRecord:
		return fmt.Sprintf("\n{%v by %d %q %+v}", s.op, s.pick, s.name, s.facts)
	case eventProfiles:
		return fmt.Sprintf("\n{profiles %+v %q %v %v %v}", s.set, s.live.AnonymousProfile, s.live.ReplaceInstance, s.live.RequestTimeout, s.live.SessionIdle)
	}
	return fmt.Sprintf("\n{event %d by %d cm/%d %q %+v %d ms %q}", s.event, s.pick, s.cm, s.name, s.id, s.ms, s.reply)
}

type event int

const (
	eventRecord   event = iota
	eventRoute          // all that was said so far
	eventAnswer         // of whoever owes one
	eventLogin          // somebody has proved who he is
	eventTime           // passes
	eventProfiles       // are others
	eventMove           // of a connection to the other cm
	eventGone           // a cm ends, and another takes its place
	eventRouter         // the same of the router
)

// steps are drawn in this proportion, mixed: see opKinds.
var steps = func() (list []step) {
	for _, k := range []struct {
		step
		times int
	}{
		{step{op: op{kind: store.KindPub}}, 60}, {step{op: op{kind: store.KindSub}}, 40}, {step{event: eventAnswer}, 25},
		{step{event: eventRoute}, 15}, {step{event: eventTime}, 6}, {step{op: op{kind: store.KindUnsub}}, 5},
		{step{op: op{kind: store.KindCongested}}, 4}, {step{event: eventMove}, 4}, {step{op: op{kind: store.KindRelieved}}, 3},
		{step{op: op{kind: store.KindOpen}}, 3}, {step{event: eventLogin}, 3}, {step{event: eventProfiles}, 3},
		{step{op: op{kind: store.KindConnect}}, 2}, {step{op: op{kind: store.KindClosed}}, 2}, {step{op: op{kind: store.KindPing}}, 1},
		{step{op: op{kind: store.KindFail}}, 1}, {step{op: op{kind: store.KindReset}}, 1}, {step{event: eventGone}, 1},
		{step{event: eventRouter}, 3},
	} {
		for range k.times {
			list = append(list, k.step)
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return append([]step{{event: eventRoute}}, list...)
}()

func oneOf[T any](t *rapid.T, label string, list ...T) T {
	return rapid.SampledFrom(list).Draw(t, label)
}

func drawStep(t *rapid.T) step {
	s := oneOf(t, "step", steps...)
	s.pick, s.cm, s.slot = oneOf(t, "pick", 0, 1, 2, 3, 4, 5, 6, 7), oneOf(t, "cm", 0, 1), oneOf[uint32](t, "slot", 0, 1, 2, 3)
	switch {
	case s.event == eventAnswer:
		s.reply = oneOf(t, "reply", "", "", "", "r")
	case s.event == eventLogin:
		s.id = identity{oneOf(t, "user", "", "ann", "bo;b=\" %"), oneOf(t, "organisation", "", "acme", "else"), oneOf(t, "profile", "", "one", "two", "two", "none"), 9}
		if oneOf(t, "nobody", 0, 0, 1) == 1 {
			s.id = identity{}
		}
		s.name = oneOf(t, "name", names...)
	case s.event == eventTime:
		s.ms = oneOf[int64](t, "ms", 1, 400, 1000, 1600, 3000)
	case s.event == eventProfiles:
		s.set, s.live = drawProfiles(t)
	case s.kind == store.KindSub:
		s.subject = oneOf(t, "pattern", "a", "a", "a", "*", "a.*", ">", "b", "r", "r", "r.*", "own", "own", "_APP.p.1", "_APP.>")
		s.queue, s.sid = oneOf(t, "queue", "", "", "p", "p", "q"), oneOf(t, "sid", "1", "2", "3", "4")
	case s.kind == store.KindUnsub:
		s.sid, s.max = oneOf(t, "sid", "1", "2", "3", "4"), oneOf[uint32](t, "max", 0, 1, 3, 9)
	case s.kind == store.KindPub:
		s.subject = oneOf(t, "subject", "a", "a", "a", "a.b", "b", "r", "r.1", "_APP.p.1", "_APP.p.2", "_APP.q.1", "_APP.", "_R_.x", "a..b")
		s.reply = oneOf(t, "reply", "r", "r", "r.1", "r.2", "", "_APP.p.1", "_R_.x")
		s.times, s.facts = oneOf(t, "times", 1, 1, 1, 3), drawFacts(t)
	case s.kind == store.KindConnect, s.kind == store.KindOpen:
		s.connect = `{"verbose":false,"pedantic":false,"name":"` + oneOf(t, "name", names...) + `"` + oneOf(t, "connect", "",
			`,"headers":true,"no_responders":true`, `,"headers":true,"no_responders":true`, `,"headers":true`, `,"headers":true,"echo":false`, `,"verbose":true`, `,"protocol":1`, `,"protocol":2`) + "}"
		s.connect = oneOf(t, "again", s.connect, s.connect, s.connect, `{"headers":true}`)
	}
	return s
}

var names = []string{"p/1", "p/1", "p/2", "q/1", "plain", "p/1/x"}

func drawFacts(t *rapid.T) (f store.Facts) {
	if oneOf(t, "facts", 0, 1, 1) == 0 {
		return f
	}
	if oneOf(t, "bad", 0, 0, 0, 0, 0, 0, 0, 0, 0, 1) == 1 {
		f.Bad = oneOf(t, "which", store.BadMode, store.BadSession, store.BadTimeout, store.BadType, store.BadOrganisation)
		return f
	}
	f.Mode = oneOf(t, "mode", store.ModeFanout, store.ModeSession, store.ModeSession, store.ModeBroadcast, store.ModeSemaphore, store.ModeDirect, store.ModeNone)
	f.Session = []byte(oneOf(t, "session", "s", "s", "t", ""))
	f.End = oneOf(t, "end", false, false, false, false, true)
	f.Timeout = oneOf[uint32](t, "timeout", 0, 0, 500, 2000, 1<<32-1)
	f.ToType = []byte(oneOf(t, "to type", "", "", "", "", "p", "q"))
	f.ToOrganisation = []byte(oneOf(t, "to organisation", "", "", "", "", "acme"))
	return f
}

func drawProfiles(t *rapid.T) (set []privsep.Profile, live privsep.Live) {
	for _, name := range []string{"one", "two", "any"} {
		if oneOf(t, "there is "+name, true, true, true, true, true, false) {
			set = append(set, drawProfile(t, name))
		}
	}
	live.AnonymousProfile = oneOf(t, "anonymous", "", "", "any", "any", "none")
	live.ReplaceInstance = rapid.Bool().Draw(t, "replace")
	live.RequestTimeout = oneOf(t, "request timeout", 3*time.Second, time.Second)
	live.SessionIdle = oneOf(t, "session idle", 4*time.Second, time.Second)
	return set, live
}

func drawProfile(t *rapid.T, name string) privsep.Profile {
	p := privsep.Profile{Name: name, Modes: privsep.AllModes, Stamp: rapid.Bool().Draw(t, "stamp"), Weight: oneOf(t, "weight", 1, 1, 2, 3),
		Responses: oneOf(t, "responses", 0, 0, 1, 2, privsep.AnyResponses), MaxSubscriptions: oneOf(t, "max subscriptions", 0, 0, 3),
		MaxPayload: oneOf(t, "max payload", 0, 0, 100), Rate: oneOf(t, "rate", 0, 0, 5)}
	if p.PublishAll = oneOf(t, "publish all", true, true, false); !p.PublishAll {
		p.PublishAllow = oneOf(t, "publish", nil, []string{"a"}, []string{"a.>", "r"}, []string{"*", "_APP.>"})
	}
	if p.SubscribeAll = oneOf(t, "subscribe all", true, true, false); !p.SubscribeAll {
		p.SubscribeAllow = oneOf(t, "subscribe", nil, []string{"a", "r.>"}, []string{"a.*", "*"}, []string{">"})
	}
	p.PublishDeny = oneOf(t, "not publish", nil, nil, nil, []string{"a.*"}, []string{"*"}, []string{"r", "_APP.p.*"})
	p.SubscribeDeny = oneOf(t, "not subscribe", nil, nil, nil, []string{"a.b"}, []string{"*"}, []string{"r.1", "_APP.q.1"})
	if oneOf(t, "some modes", false, false, true) {
		p.Modes = uint8(rapid.IntRange(0, int(privsep.AllModes)).Draw(t, "modes"))
	}
	p.RequestTypes = oneOf(t, "request types", nil, nil, nil, []string{"p"})
	p.RequestOrganisations = oneOf(t, "request organisations", nil, nil, nil, []string{"acme"})
	p.Types = oneOf(t, "types", nil, []string{"p"}, []string{"p", "q"})
	return p
}

// play has a router and the model do the same.
type play struct {
	script
	g       *rig
	m       *model
	pending [2][]store.Record
	stops   func(do func()) // has routers end while they do something; nil: they live
}

func newPlay(g *rig) *play {
	return &play{script: *newScript(g), g: g, m: newModel(g)}
}

func (p *play) put(cm int, r store.Record) {
	p.pending[cm] = append(p.pending[cm], r)
	p.g.put(cm, r)
}

// route has all that was said routed, cm/0's first.
func (p *play) route() {
	p.g.t.Helper()
	p.g.say()
	p.live(p.g.routing)
	for cm := range p.pending {
		for _, r := range p.pending[cm] {
			p.m.apply(cm, r)
		}
		p.pending[cm] = nil
	}
	p.settled()
}

// live has the router do something, of which only the effect of the last time counts if
// routers end while they do it.
func (p *play) live(do func()) {
	p.g.t.Helper()
	if p.stops != nil {
		p.stops(do)
	} else {
		do()
	}
	p.m.hear()
}

func (p *play) settled() {
	p.g.t.Helper()
	if p.g.ended {
		p.g.ended = false
		p.m.succeed()
	}
	p.m.settled()
	p.mustHaveTold(p.g)
}

// someone picks one of the connections that were there when the last record was routed.
func (p *play) someone(pick int) *modelSession {
	list := append(p.m.bySlot(0), p.m.bySlot(1)...)
	if len(list) == 0 {
		return nil
	}
	return list[pick%len(list)]
}

func (p *play) do(s step) {
	p.g.t.Helper()
	if s.event > eventAnswer {
		p.route()
		p.happen(s)
		p.settled()
		return
	}
	if who := p.someone(s.pick); who != nil && s.kind != store.KindOpen && s.kind != store.KindReset {
		s.cm, s.slot = who.cm, who.conn.Slot
		p.gens[s.cm][s.slot] = who.conn.Gen
		if s.subject == "own" {
			s.subject = "_APP." + strings.ReplaceAll(who.opts.Name, "/", ".")
		}
	}
	switch s.event {
	case eventRoute:
		p.route()
		return
	case eventAnswer:
		d := p.owed(s.pick)
		if d == nil {
			return
		}
		s.kind, s.cm, s.slot, s.subject = store.KindPub, d.by.cm, d.by.conn.Slot, d.req.reply
		p.gens[s.cm][s.slot] = d.by.conn.Gen
	}
	for _, r := range p.records(s.op) {
		p.put(s.cm, r)
	}
}

// owed picks one of the answers that may be given.
func (p *play) owed(pick int) *modelDuty {
	var list []*modelDuty
	for _, q := range p.m.requests {
		list = append(list, q.duties...)
	}
	if len(list) == 0 {
		return nil
	}
	return list[pick%len(list)]
}

// happen is for what no record says.
func (p *play) happen(s step) {
	p.g.t.Helper()
	who := p.someone(s.pick)
	switch s.event {
	case eventTime:
		at := p.m.now + s.ms
		p.live(func() { p.g.passTo(at) })
		p.m.passTo(at)
	case eventProfiles:
		p.change(s.set, s.live)
	case eventGone:
		p.lose(s.cm)
	case eventRouter:
		p.succeed(s.slot < 2)
	}
	if who == nil || who.ended {
		return
	}
	switch s.event {
	case eventLogin:
		p.g.login(p.g.r.links[who.cm].session(who.conn), s.name, s.id)
		p.m.hear()
		who.opts.Name = s.name
		p.m.admit(who, s.id)
		p.m.wantLater()
	case eventMove:
		p.put(who.cm, &store.RecMove{Conn: who.conn, To: uint16(1 - who.cm)})
		from := who.cm
		p.g.say()
		p.live(func() { p.g.retire(from, 1-from); p.g.routing() })
		p.route()
	}
}

func (p *play) change(set []privsep.Profile, live privsep.Live) {
	p.g.t.Helper()
	if p.stops != nil {
		live.SessionIdle = time.Hour // which begins anew with each router
		for i := range set {
			set[i].MaxPayload = 0 // the INFO about it may be said twice or never
		}
	}
	p.live(func() {
		p.g.profiles(set, func(l *privsep.Live) {
			l.AnonymousProfile, l.ReplaceInstance = live.AnonymousProfile, live.ReplaceInstance
			l.RequestTimeout, l.SessionIdle = live.RequestTimeout, live.SessionIdle
		})
	})
	p.m.profiles = set
	p.m.reprofile()
}

// lose has a cm end, and another process take its place.
func (p *play) lose(cm int) {
	p.g.t.Helper()
	n := p.g.r.links[cm].process
	p.live(func() {
		p.g.r.ended = append(p.g.r.ended, privsep.CMGone{CM: cm, Generation: n})
		p.g.check(p.g.r.between())
		p.g.r.commit()
	})
	p.m.got[cm], p.m.lost = nil, cm
	p.m.endAll(cm, 1<<63)
	p.m.wantLater()
	p.m.lost = -1
	p.g.renew(cm, n+1)
}

// succeed has a router end, and another take its place, from a snapshot or not.
func (p *play) succeed(snapshot bool) {
	p.g.t.Helper()
	size := 0
	if snapshot {
		p.live(func() { p.g.r.compact() })
		if size = p.g.snapshotSize(); size > p.g.r.stateSize() {
			p.g.t.Fatalf("a snapshot takes %d bytes, not %d", size, p.g.r.stateSize())
		}
	}
	want := p.g.r.describe(snapshot)
	p.g.succeed()
	p.g.takeOver()
	p.g.r.commit()
	wantState(p.g.t, p.g.r.describe(snapshot), want)
	if n := p.g.r.stateSize(); snapshot && n != size {
		p.g.t.Fatalf("what took %d bytes is said to take %d", size, n)
	}
	p.m.hear()
	p.m.wantLater()
}

// snapshotSize is what a snapshot that was just made takes, but for what is always there.
func (g *rig) snapshotSize() int {
	n := int(g.r.state.Journal.Tail()) - len(g.r.links)*store.Framed(processEntry)
	if g.r.limitsKept {
		n -= store.Framed(len(g.r.entry.limited()))
	}
	return n
}

// begin opens a few connections, with profiles in force.
func (p *play) begin(t *rapid.T) {
	set, live := drawProfiles(t)
	p.change(set, live)
	for i := range 4 {
		s := step{op: op{kind: store.KindOpen, cm: i / 2, slot: uint32(i)}}
		s.connect = `{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"` + names[1:][i] + `"}`
		p.do(s)
	}
	p.route()
}

// end ends all cms, and with them all that there is.
func (p *play) end() {
	p.g.t.Helper()
	p.route()
	p.lose(0)
	p.lose(1)
	p.settled()
	if n := p.g.r.stateSize(); !p.g.r.index.root.empty() || len(p.m.live)+n > 0 {
		p.g.t.Fatalf("%d bytes are left when all connections are lost", n)
	}
}

// Whatever clients do in whatever mode, whoever they are, and whatever becomes of them,
// of their cms, of the router and of their profiles, the router says what the model says.
func TestModesAreModel(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.MaxSubscriptions = 5 })
	rapid.Check(t, func(t *rapid.T) {
		g.start(t)
		p := newPlay(g)
		p.begin(t)
		least := oneOf(t, "least", 1, 200, 30, 100, 200, 200, 200) // else most are short
		for _, s := range rapid.SliceOfN(rapid.Custom(drawStep), least, 400).Draw(t, "steps") {
			p.do(s)
		}
		p.end()
	})
}
