package router

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// accept is the dispatcher's word that a connection is a cm's.
func (g *rig) accept(cm int, slot uint32, uid uint64) {
	g.t.Helper()
	table, err := g.mem.Table()
	g.check(err)
	table.Row(int(slot)).Set(&store.ConnInfo{UID: uid, CM: uint16(cm)})
}

// A session shows by the dispatcher's word on its connection, and not by its cm's; a new
// router goes on with the row, in which is more than it knows.
func TestShown(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	shown, err := g.mem.Sessions(false)
	g.check(err)
	g.accept(0, 3, 7)
	c := g.open(0, 3, 7, `,"name":"pricer/1","lang":"go","version":"`+strings.Repeat("9", 100)+`"`)
	g.sub(0, c, "px.>", "", "1")
	g.sub(0, c, "py.>", "", "2")
	g.open(1, 3, 7, `,"name":"liar"`) // cm/1 has no such connection
	g.open(1, 4, 8, `,"name":"liar"`) // nor has anybody
	want := store.SessionInfo{UID: 7, Subscriptions: 2, Admitted: true, Name: "pricer/1", Lang: "go", Version: strings.Repeat("9", store.MaxSessionVersion)}
	check := func(when string) {
		t.Helper()
		if got, ok := shown.Row(3).Get(); !ok || got != want {
			t.Errorf("%s: %+v, %v", when, got, ok)
		}
		if _, ok := shown.Row(4).Get(); ok {
			t.Errorf("%s: a connection of nobody's", when)
		}
	}
	check("at first")
	g.put(0, &store.RecUnsub{Conn: c, SID: []byte("1")})
	g.route()
	want.Subscriptions = 1
	check("after UNSUB")
	g.succeed()
	g.takeOver()
	check("by the next router")
	g.sub(0, c, "pz.>", "", "3")
	want.Subscriptions = 2
	check("of its own")
	g.put(0, &store.RecClosed{Conn: c})
	g.route()
	if _, ok := shown.Row(3).Get(); ok {
		t.Error("a closed one")
	}
}

// guided is a rig with a console.
type guided struct {
	*rig
	console *privsep.Channel
	asked   uint64
}

func newGuided(t *testing.T) *guided {
	g := &guided{rig: newRig(t, nil)}
	g.start(t)
	ours, theirs, err := privsep.Socketpair()
	g.check(err)
	p := privsep.Peer{ID: privsep.ID{Role: privsep.RoleConsole}, Key: privsep.NewKey(), Generation: 1}
	g.console = privsep.NewChannel(ours, privsep.RoleConsole, privsep.RoleRouter, p.Key)
	g.console.SetPhase(privsep.PhaseRun)
	t.Cleanup(g.console.Close)
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindPeer, Payload: p.Append(nil), FDs: []int{theirs}}))
	return g
}

// work has the router do what is due.
func (g *guided) work() {
	for g.r.guide.due = true; g.r.guide.due; {
		g.check(g.r.between())
	}
}

func (g *guided) ask(from uint32) (p privsep.Subs) {
	g.t.Helper()
	g.asked++
	get := privsep.SubsGet{ID: g.asked, From: from}
	g.check(g.console.Send(privsep.KindSubsGet, get.Append(nil)))
	g.work()
	var m privsep.Message
	g.check(g.console.Recv(&m))
	g.check(p.Parse(m.Payload))
	if p.ID != g.asked {
		g.t.Fatalf("answer %d to question %d", p.ID, g.asked)
	}
	return p
}

// Pages have everything once, whole connections, and one that has too many cut.
func TestSubscriptionsByPages(t *testing.T) {
	g := newGuided(t)
	want := map[string]bool{}
	add := func(cm int, slot uint32, n, long int) {
		c := g.open(cm, slot, slot+1, "")
		for i := range n {
			subject := fmt.Sprintf("s.%d.%d%s", slot, i, strings.Repeat("x", long))
			g.sub(cm, c, subject, "", fmt.Sprint(i))
			want[subject] = true
		}
	}
	add(0, 0, 1, 0)
	add(1, 5, 40, 1500) // takes a page
	add(0, 6, 40, 1500)
	add(0, 7, privsep.MaxSubs+1, 0) // more than one has
	add(1, 63, 2, 0)
	got, pages, cut := map[string]bool{}, 0, 0
	for from := uint32(0); ; {
		p := g.ask(from)
		for _, s := range p.List {
			if got[s.Subject] || !want[s.Subject] {
				t.Errorf("%s once more, or never", s.Subject)
			}
			got[s.Subject] = true
		}
		if pages++; p.Cut {
			cut++
		}
		if p.Next == 0 {
			break
		}
		if p.Next <= from {
			t.Fatalf("from %d back to %d", from, p.Next)
		}
		from = p.Next
	}
	if len(got) != len(want)-1 || cut != 1 || pages < 4 {
		t.Errorf("%d of %d on %d pages, %d cut", len(got), len(want), pages, cut)
	}
	if p := g.ask(1 << 31); len(p.List) != 0 || p.Next != 0 {
		t.Errorf("from nowhere: %+v", p)
	}
}

// A console that breaks the rules is not heard any more, and nobody else notices.
func TestHostileConsole(t *testing.T) {
	for name, offend := range map[string]func(*guided){
		"malformed": func(g *guided) { g.console.Send(privsep.KindSubsGet, []byte("short")) },
		"too often": func(g *guided) {
			var get privsep.SubsGet
			for range 200 {
				g.console.Send(privsep.KindSubsGet, get.Append(nil))
			}
		},
	} {
		g := newGuided(t)
		offend(g)
		g.work()
		var m privsep.Message
		err := g.console.Recv(&m)
		for err == nil {
			err = g.console.Recv(&m)
		}
		if err != io.EOF || g.r.guide.console != nil {
			t.Errorf("%s: %v", name, err)
		}
		g.open(0, 1, 1, "")
	}
}
