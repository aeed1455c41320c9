package router

import (
	"slices"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
	"gatehouse/wire"
)

// rig is a router without its loop, and the cms' ends of its rings: a test
// puts records in, has them routed, and takes the instructions out.
type rig struct {
	t      fataler
	mem    *standin.Memory
	cms    []standin.Ends
	r      *router
	parent *privsep.Channel // the parent's end

	routers   []store.InsNewRouter // that have announced themselves
	taken     bool                 // the router has taken over
	ended     bool                 // one before it has ended
	processes []uint64             // of the cms, when it ended
	set       uint32               // number of the last set of profiles
	given     [2]given             // to the cms
}

// given is what a cm has been given to greet clients with.
type given struct {
	greetings  [store.NumWays]store.InsGreeting
	next       uint64 // number of the first challenge that no connection has
	challenges []string
}

// take takes what is not known yet.
func (s *given) take(t fataler, ins *store.InsChallenges) {
	t.Helper()
	end := s.next + uint64(len(s.challenges))
	if s.next == 0 {
		s.next, end = ins.First, ins.First
	}
	for i := 0; i < len(ins.Texts); i += store.ChallengeLen {
		n, text := ins.First+uint64(i/store.ChallengeLen), string(ins.Texts[i:i+store.ChallengeLen])
		switch {
		case n < s.next: // used
		case n < end && s.challenges[n-s.next] == text: // said again
		case n == s.next+uint64(len(s.challenges)):
			s.challenges = append(s.challenges, text)
		default:
			t.Fatalf("challenge %d, %q, after %d to %d", n, text, s.next, end)
		}
	}
	if len(s.challenges) > store.MaxChallenges {
		t.Fatalf("%d challenges", len(s.challenges))
	}
}

// challenge is the next one for a connection of a cm, 0: there is none.
func (g *rig) challenge(cm int) (uint64, string) {
	s := &g.given[cm]
	if len(s.challenges) == 0 {
		return 0, ""
	}
	text := s.challenges[0]
	s.challenges = s.challenges[1:]
	s.next++
	return s.next - 1, text
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func newRig(t testing.TB, change func(*privsep.Settings)) *rig {
	t.Helper()
	cfg := standin.Settings(2)
	if change != nil {
		change(&cfg)
	}
	g := &rig{t: t}
	var err error
	g.mem, err = standin.New(cfg)
	g.check(err)
	t.Cleanup(g.close)
	for i := range cfg.CMs {
		e, err := g.mem.CMEnds(i)
		g.check(err)
		g.cms = append(g.cms, e)
	}
	return g
}

// close gives back what a test of many rigs would run out of.
func (g *rig) close() {
	g.mem.Close()
	if g.r != nil && g.parent != nil {
		g.r.poll.Close()
		g.r.parent.Close()
		g.parent.Close()
		g.parent = nil
	}
}

func (g *rig) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("%v", err)
	}
}

// start puts a new router in the place of the one before, over the mappings of
// that one: there may be many.
func (g *rig) start(t fataler) {
	g.t = t
	t.Helper()
	if g.r == nil {
		g.first()
	}
	if !g.taken { // the test before has failed
		g.takeOver()
	}
	old := g.r
	g.r = &router{
		cfg: old.cfg, parent: old.parent, log: old.log, poll: old.poll, links: old.links,
		index: newIndex(), requests: newRequests(), profiles: old.profiles, began: old.began, epoch: old.epoch, greeting: old.greeting, names: make(map[string]string),
		refused: make(map[wire.Code]uint64), rnd: 1, at: nobody, turned: true, time: someTime, state: old.state, size: old.size, redo: old.redo, table: old.table, watch: watch{shown: old.watch.shown},
	}
	for i, l := range g.r.links {
		clear(l.sessions)
		l.open, l.generation, l.to, l.stamped, l.supply = 0, 0, nil, nil, supply{}
		l.note, l.accused = note{}, time.Time{}
		if l.broken || l.process != 1 { // the end of a cm that the test before has broken
			g.r.over(privsep.CMGone{CM: i, Generation: max(l.process, 1)})
			l.process = 1
			g.cms[i].Out.Restart()
			g.cms[i].In.Restart()
			l.out.Begun()
		}
		g.take(i) // what the test before has not taken
	}
	g.given = [2]given{}
	g.r.compact()
}

// someTime is what the clock of a router says, which stands still in a batch: in a test
// it moves when the test says so.
const someTime = 1 << 20

// pass lets time pass, in ms.
func (g *rig) pass(ms int64) { g.passTo(g.r.time + ms) }

func (g *rig) passTo(now int64) {
	g.r.time = now
	g.r.expire()
	g.r.commit()
}

// succeed puts a new router in the place of one that has ended, over its mappings;
// takeOver lets it begin.
func (g *rig) succeed() {
	if g.taken {
		g.processes = nil
		for _, l := range g.r.links {
			g.processes = append(g.processes, l.process)
		}
	}
	g.r = g.r.successor()
	g.taken, g.ended = false, true
}

func (g *rig) takeOver() {
	g.r.takeOver()
	for i, l := range g.r.links {
		l.process = g.processes[i]
	}
	g.check(g.r.between())
	g.taken = true
}

func (g *rig) first() {
	g.t.Helper()
	child, parent, err := g.mem.Child(privsep.ID{Role: privsep.RoleRouter})
	g.check(err)
	g.parent = parent
	parent.SetPhase(privsep.PhaseRun)
	child.Parent.SetPhase(privsep.PhaseRun)
	segments := slices.Clone(child.Setup.Segments)
	g.r, err = newRouter(child.Setup, child.Parent)
	g.check(err)
	for _, s := range segments { // they are mapped
		privsep.CloseFD(s.FD)
	}
	g.r.turned = true
	g.r.takeOver()
	g.taken = true
}

// put commits a record of a cm.
func (g *rig) put(cm int, rec store.Record) {
	g.t.Helper()
	if _, anew := rec.(*store.RecReset); anew {
		g.given[cm] = given{}
	}
	if !g.cms[cm].Out.Put(rec) {
		g.t.Fatalf("cm/%d: no room for %+v", cm, rec)
	}
}

// route has the router take everything that was put, cm/0's first.
func (g *rig) route() {
	g.say()
	g.routing()
}

// say publishes what was put.
func (g *rig) say() {
	for _, e := range g.cms {
		e.Out.Publish()
	}
}

func (g *rig) routing() {
	for busy := true; busy; {
		busy = false
		for _, l := range g.r.links {
			busy = g.r.drain(l) || busy
		}
	}
	if g.r.supplying {
		g.r.supplyAll()
	}
	g.r.commit()
}

// affinities is how many there are.
func (g *rig) affinities() (n int) {
	for a := g.r.affinities.first; a != nil; a = a.next {
		n++
	}
	return n
}

// login opens a session as the role auth does, by credentials that it has checked.
func (g *rig) login(s *session, name string, id identity) {
	g.r.admit(s, s.options, id, name)
	if g.r.due || len(g.r.requests.over) > 0 {
		g.r.after()
	}
	g.r.commit()
}

// profiles puts a set in force, as the parent does, with settings that have changed.
func (g *rig) profiles(set []privsep.Profile, change func(*privsep.Live)) {
	g.t.Helper()
	live := g.r.cfg.Live
	change(&live)
	g.set++
	list := set
	if len(list) == 0 {
		list = []privsep.Profile{{}}
	}
	for i, p := range list {
		p.Set, p.Last = g.set, i == len(list)-1
		g.check(g.r.handle(&privsep.Message{Kind: privsep.KindProfile, Payload: p.Append(nil)}))
	}
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindSettings, Payload: live.Append(nil)}))
	g.check(g.r.between())
	g.r.commit()
}

// renew puts a new process in the place of a cm's that has ended.
func (g *rig) renew(cm int, process uint64) {
	g.r.links[cm].process = process
	g.cms[cm].Out.Restart()
	g.cms[cm].In.Restart()
	g.r.links[cm].out.Begun()
	g.given[cm] = given{}
}

// take gives the instructions that a cm has got since the last time, but for the
// announcements of new routers.
func (g *rig) take(cm int) (got []store.Record) {
	g.t.Helper()
	for {
		b, err := g.cms[cm].In.Next()
		g.check(err)
		if b == nil {
			g.cms[cm].In.Release()
			return got
		}
		r := store.NewRecord(store.Kind(b))
		g.check(r.Parse(append([]byte(nil), b...)))
		if n, ok := r.(*store.InsNewRouter); ok {
			g.routers = append(g.routers, *n)
			continue
		}
		switch r := r.(type) {
		case *store.InsGreeting:
			g.given[cm].greetings[r.Way] = *r
			continue
		case *store.InsChallenges:
			g.given[cm].take(g.t, r)
			continue
		}
		got = append(got, r)
	}
}

// to names one recipient of a message.
type to struct {
	cm   int
	conn store.Conn
	sid  string
}

// recipients takes the list of an instruction apart.
func (g *rig) recipients(cm int, ins *store.InsDeliver) (list []to) {
	g.t.Helper()
	for rest := ins.Recipients; len(rest) > 0; {
		slot, gen, sid, tail, ok := store.NextRecipient(rest)
		if !ok {
			g.t.Fatalf("recipients of %+v", ins)
		}
		list = append(list, to{cm, store.Conn{Slot: slot, Gen: gen}, string(sid)})
		rest = tail
	}
	return list
}

// open makes a session that is neither verbose nor pedantic, and takes what it
// is told. gen is also its UID.
func (g *rig) open(cm int, slot, gen uint32, connect string) store.Conn {
	g.t.Helper()
	c := store.Conn{Slot: slot, Gen: gen}
	g.put(cm, &store.RecOpen{Conn: c, UID: uint64(gen)})
	g.put(cm, &store.RecConnect{Conn: c, JSON: []byte(`{"verbose":false,"pedantic":false` + connect + `}`)})
	g.route()
	if got := g.take(cm); len(got) != 1 {
		g.t.Fatalf("open: %d instructions", len(got))
	}
	return c
}

func (g *rig) sub(cm int, c store.Conn, subject, queue, sid string) {
	g.t.Helper()
	g.put(cm, &store.RecSub{Conn: c, Subject: []byte(subject), Queue: []byte(queue), SID: []byte(sid)})
	g.route()
}
