package router

import (
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// reached tells which cm the only recipient of a message is on, -1: nobody gets it.
func reached(got [2][]store.Record) int {
	for cm, list := range got {
		for _, r := range list {
			if _, ok := r.(*store.InsDeliver); ok {
				return cm
			}
		}
	}
	return -1
}

// A program is what its name says as long as its profile lets it be that, whatever it was
// allowed before; a CONNECT that does not say the name again keeps it.
func TestNameIsKept(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	set := func(types ...string) {
		p := everythingAllowed
		p.Name, p.Types = "any", types
		g.profiles([]privsep.Profile{p}, func(l *privsep.Live) { l.AnonymousProfile = "any" })
	}
	set()
	sender, c := g.open(0, 1, 1, ""), g.open(1, 2, 2, `,"name":"p/1"`)
	g.put(1, &store.RecConnect{Conn: c, JSON: []byte(`{"headers":true}`)})
	g.sub(1, c, "a", "", "1")
	toType := store.Facts{ToType: []byte("p")}
	for i, step := range []struct {
		types []string
		want  int
	}{{nil, 1}, {[]string{"q"}, -1}, {[]string{"p"}, 1}} {
		set(step.types...)
		if got := reached(g.says(0, sender, "a", "", toType)); got != step.want {
			t.Errorf("%d: with types %v it goes to %d", i, step.types, got)
		}
	}
}

// Clients whose profile is not there may connect and do nothing.
func TestProfileIsNotThere(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.profiles(nil, func(l *privsep.Live) { l.AnonymousProfile = "none" })
	c := store.Conn{Slot: 1, Gen: 1}
	g.put(0, &store.RecOpen{Conn: c})
	g.route()
	g.take(0)
	if got := g.says(0, c, "a", "", store.Facts{})[0]; len(got) < 1 {
		t.Error("a message is allowed")
	}
}

// Who owes an answer may give it, whatever modes its profile has; the same subject does
// not open it a mode that it has not.
func TestAnswerNeedsNoMode(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	p := everythingAllowed
	p.Name, p.Modes = "member", 0
	g.profiles([]privsep.Profile{p}, func(*privsep.Live) {})
	asker, other, member := g.open(0, 1, 1, ""), g.open(0, 2, 2, ""), g.open(1, 3, 3, "")
	g.login(g.r.links[1].session(member), "", identity{user: "m", profile: "member", mark: 1})
	g.sub(1, member, "work", "g", "1")
	g.sub(0, asker, "r", "g", "1")
	g.sub(0, other, "r", "g", "1")
	g.says(0, asker, "work", "r", store.Facts{})
	if got := reached(g.says(1, member, "r", "", store.Facts{Mode: store.ModeFanout})); got != -1 {
		t.Error("it is answered by a fanout")
	}
	if got := reached(g.says(1, member, "r", "", store.Facts{})); got != 0 {
		t.Error("it is not answered")
	}
}
