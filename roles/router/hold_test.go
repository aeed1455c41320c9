package router

import (
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// held tells whether a cm is told to hold a connection.
func held(list []store.Record, c store.Conn) bool {
	for _, r := range list {
		if h, ok := r.(*store.InsHold); ok && h.Conn == c {
			return true
		}
	}
	return false
}

// A sender waits for readers of what it sends, not of the subject that it is answered on.
func TestHoldOfFanout(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	asker, reader, other := g.open(0, 1, 1, `,"headers":true`), g.open(1, 2, 2, ""), g.open(1, 3, 3, "")
	g.sub(0, asker, "r", "", "1")
	g.sub(1, reader, "work", "", "1")
	g.sub(1, other, "r", "", "1")
	fanout := store.Facts{Mode: store.ModeFanout}
	g.put(1, &store.RecCongested{Conn: other})
	g.route()
	if held(g.says(0, asker, "work", "r", fanout)[0], asker) {
		t.Error("it waits for who gets nothing")
	}
	g.put(1, &store.RecRelieved{Conn: other})
	g.put(1, &store.RecCongested{Conn: reader})
	g.route()
	if !held(g.says(0, asker, "work", "r", fanout)[0], asker) {
		t.Error("it does not wait for a reader")
	}
}

// Nor does it wait for who may not get the message.
func TestHoldForWhomItIs(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	p := everythingAllowed
	p.Name, p.Types = "worker", []string{"p", "q"}
	g.profiles([]privsep.Profile{p}, func(*privsep.Live) {})
	sender, one, two := g.open(0, 1, 1, ""), g.open(1, 2, 2, ""), g.open(1, 3, 3, "")
	g.login(g.r.links[1].session(one), "p/1", identity{user: "m", profile: "worker", mark: 1})
	g.login(g.r.links[1].session(two), "q/1", identity{user: "m", profile: "worker", mark: 1})
	g.sub(1, one, "work", "", "1")
	g.sub(1, two, "work", "", "1")
	g.put(1, &store.RecCongested{Conn: two})
	g.route()
	if held(g.says(0, sender, "work", "", store.Facts{ToType: []byte("p")})[0], sender) {
		t.Error("a message to p waits for q")
	}
	if !held(g.says(0, sender, "work", "", store.Facts{ToType: []byte("q")})[0], sender) {
		t.Error("a message to q does not wait for q")
	}
}
