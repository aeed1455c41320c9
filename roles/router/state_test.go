package router

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

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
// are more than allowed; requests are not followed then, and sessions of the mode have no
// member of their own. Whatever clients do, snapshot and plan fit.
func TestStateIsFull(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Journal = store.MinJournal })
	g.start(t)
	c := g.open(0, 1, 1, `,"headers":true,"no_responders":true`)
	g.sub(0, c, "work", "g", "1")
	g.sub(0, c, "r", "", "2")
	refused := 0
	for i := range 20000 {
		g.put(0, &store.RecSub{Conn: c, Subject: []byte("a"), SID: fmt.Appendf(nil, "%020d", i)})
		if i%200 == 199 {
			g.route()
			refused += len(g.take(0))
		}
	}
	if n := g.r.index.count; refused+n != 20002 || refused == 0 || n < 1000 || g.r.live.subs > g.r.size.subs {
		t.Fatalf("%d subscriptions, %d refused, %d bytes of %d", n, refused, g.r.live.subs, g.r.size.subs)
	}
	g.fillRequests(c)
	for slot := range uint32(60) { // they have room all the same
		g.open(1, slot, slot+100, "")
	}
	want := g.r.describe(false)
	g.r.compact()
	if n, most := g.snapshotSize(), g.r.size.state; n > g.r.stateSize() || g.r.stateSize() > most {
		t.Fatalf("a snapshot takes %d bytes, %d are counted of %d", n, g.r.stateSize(), most)
	}
	g.r = g.r.successor()
	g.r.takeOver()
	wantState(t, g.r.describe(false), want)
}

// fillRequests has a session, which gets them itself, make half of what there is room for
// sessions of the mode, and requests until there is no room for more.
func (g *rig) fillRequests(c store.Conn) {
	g.t.Helper()
	ask := func(reply string, f store.Facts) {
		g.t.Helper()
		if to := reached(g.says(0, c, "work", reply, f)); to != 0 {
			g.t.Fatalf("a request that is not followed goes to %d", to)
		}
	}
	session := func(id string) store.Facts { return store.Facts{Mode: store.ModeSession, Session: []byte(id)} }
	for i := 0; g.r.affinities.bytes < g.r.size.request/2; i++ {
		ask("", session(fmt.Sprint(i)))
	}
	for n := -1; n != g.r.requests.count; {
		n = g.r.requests.count
		ask(fmt.Sprint("r.", n), store.Facts{}) // with the same, it would pass its own on
	}
	if n := g.r.requests.bytes + g.r.affinities.bytes; n > g.r.size.request || n < g.r.size.request-100 {
		g.t.Fatalf("requests and sessions take %d bytes of %d", n, g.r.size.request)
	}
	n := g.affinities()
	ask("", session(strings.Repeat("x", 100)))
	if g.affinities() != n {
		g.t.Fatalf("a session too many has a member")
	}
	got := g.says(0, c, "work", strings.Repeat("r", 100), store.Facts{Mode: store.ModeFanout})
	if reached(got) >= 0 {
		g.t.Fatalf("a fanout that cannot be followed goes to %d", reached(got))
	}
}
