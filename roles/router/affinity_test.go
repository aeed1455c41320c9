package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// told are the statuses among what a cm is told.
func told(list []store.Record) (codes []string) {
	for _, r := range list {
		if s, ok := r.(*store.InsSend); ok && strings.HasPrefix(string(s.Data), "HMSG ") {
			_, status, _ := strings.Cut(string(s.Data), "NATS/1.0 ")
			codes = append(codes, status[:3])
		}
	}
	return codes
}

// A session goes on with its member as long as that may have its requests.
func TestSessionKeepsToProfile(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	set := func(types ...string) {
		p, w := everythingAllowed, everythingAllowed
		p.Name, p.RequestTypes, w.Name, w.Types = "any", types, "worker", []string{"p", "q"}
		g.profiles([]privsep.Profile{p, w}, func(l *privsep.Live) { l.AnonymousProfile = "any" })
	}
	set()
	sender, member := g.open(0, 1, 1, `,"headers":true`), g.open(1, 2, 2, "")
	g.login(g.r.links[1].session(member), "p/1", identity{user: "m", profile: "worker", mark: 1})
	g.sub(1, member, "work", "g", "1")
	g.sub(0, sender, "r", "", "1")
	session := store.Facts{Mode: store.ModeSession, Session: []byte("s")}
	for i, step := range []struct {
		types []string
		to    int
		told  []string
	}{{nil, 1, nil}, {[]string{"p"}, 1, nil}, {[]string{"q"}, -1, []string{"410"}}, {[]string{"q"}, -1, []string{"503"}}, {nil, 1, nil}} {
		set(step.types...)
		got := g.says(0, sender, "work", "r", session)
		if to, codes := reached(got), told(got[0]); to != step.to || !slices.Equal(codes, step.told) {
			t.Errorf("%d: it goes to %d, sender is told %v", i, to, codes)
		}
	}
}

// A session ends with the message that says so, even if that comes too late for one of its
// members.
func TestSessionEndsWithoutMember(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	sender, one, two := g.open(0, 1, 1, `,"headers":true`), g.open(1, 2, 2, ""), g.open(1, 3, 3, "")
	g.sub(1, one, "work", "g", "1")
	g.sub(1, two, "work", "h", "1")
	session := store.Facts{Mode: store.ModeSession, Session: []byte("s")}
	g.says(0, sender, "work", "", session)
	g.put(1, &store.RecClosed{Conn: two})
	session.End = true
	g.says(0, sender, "work", "", session)
	if n := g.affinities(); n != 0 {
		t.Errorf("%d affinities are left", n)
	}
}

// A session on a subject of very many queue groups has members of its own in some.
func TestSessionOfManyQueues(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	sender, member := g.open(0, 1, 1, ""), g.open(1, 2, 2, "")
	for i := range 2 * maxQueues {
		g.sub(1, member, "work", fmt.Sprint("g", i), fmt.Sprint(i))
	}
	session := store.Facts{Mode: store.ModeSession, Session: []byte("s")}
	for range 3 {
		got := g.says(0, sender, "work", "", session)[1]
		if n := len(g.recipients(1, got[0].(*store.InsDeliver))); n != 2*maxQueues || g.affinities() != maxQueues {
			t.Fatalf("%d recipients, %d affinities", n, g.affinities())
		}
	}
	session.End = true
	g.says(0, sender, "work", "", session)
	if n := g.affinities(); n != 0 {
		t.Errorf("%d affinities are left", n)
	}
}
