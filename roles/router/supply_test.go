package router

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// supplied has the process of a cm begin, and gives what that has been given.
func (g *rig) supplied(cm int) *given {
	g.t.Helper()
	g.put(cm, &store.RecReset{Generation: g.r.links[cm].process})
	g.route()
	if got := g.take(cm); len(got) > 0 {
		g.t.Fatalf("%+v", got[0])
	}
	s := &g.given[cm]
	if len(s.challenges) != store.MaxChallenges || s.greetings[store.WayTCP].Parts[0] == nil {
		g.t.Fatalf("%d challenges, greeting %q", len(s.challenges), s.greetings[store.WayTCP].Parts)
	}
	return s
}

// greeted has a client arrive that its cm has told challenge n. It returns false if the cm
// is refused for that.
func (g *rig) greeted(cm int, slot uint32, n uint64) bool {
	g.t.Helper()
	g.put(cm, &store.RecOpen{Conn: store.Conn{Slot: slot, Gen: slot}, UID: uint64(slot), Challenge: n})
	g.route()
	return !g.r.links[cm].broken
}

// entered has a client arrive that its cm has greeted, and wants the router to know with
// which challenge.
func (g *rig) entered(cm int, slot uint32) {
	g.t.Helper()
	n, text := g.challenge(cm)
	if n == 0 || !g.greeted(cm, slot, n) {
		g.t.Fatalf("challenge %d is refused", n)
	}
	if got := g.take(cm); len(got) > 0 {
		g.t.Fatalf("the router says %+v", got[0])
	}
	if ses := g.r.links[cm].session1(slot); ses == nil || ses.challenge != text {
		g.t.Fatalf("%+v, was told %q", ses, text)
	}
}

// What a cm says to a client by its supply is what the router says to one that it greets
// itself, whichever way that has come, but for the challenge.
func TestGreetingIsINFO(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Auth = true })
	g.start(t)
	s := g.supplied(0)
	told := map[string]bool{}
	for way, o := range []store.RecOpen{
		store.WayTCP: {Addr: netip.MustParseAddr("192.0.2.7").As16()}, store.WayTLS: {Addr: netip.MustParseAddr("2001:db8::1").As16(), TLS: true}, store.WayUnix: {Unix: true},
	} {
		o.Conn, o.UID = store.Conn{Slot: uint32(way), Gen: 9}, 1<<40+9
		g.put(0, &o)
		g.route()
		got := g.take(0)
		if len(got) != 1 {
			t.Fatalf("%d instructions", len(got))
		}
		ses, p := g.r.links[0].session(o.Conn), s.greetings[way].Parts
		ip := ""
		if !o.Unix {
			ip = netip.AddrFrom16(o.Addr).Unmap().String()
		}
		want := fmt.Sprintf("%s%d%s%s%s%s%s", p[0], o.UID, p[1], ip, p[2], ses.challenge, p[3])
		if data := string(got[0].(*store.InsSend).Data); data != want {
			t.Errorf("way %d: %q, by the supply %q", way, data, want)
		}
		told[want] = true
	}
	if len(told) != 3 {
		t.Errorf("%d different lines", len(told))
	}
	// Settings that change INFO are told, to be used from then on.
	before := string(s.greetings[store.WayTCP].Parts[0])
	g.profiles(nil, func(l *privsep.Live) { l.MaxPayload /= 2 })
	g.take(0)
	if after := string(s.greetings[store.WayTCP].Parts[0]); after == before || !strings.Contains(after, fmt.Sprint(g.r.cfg.MaxPayload)) {
		t.Errorf("%s", after)
	}
}

// Each challenge is for one connection, and none is after a later one: more come as they
// are used.
func TestChallengesOnce(t *testing.T) {
	g := newRig(t, nil)
	for name, play := range map[string]func(s *given) (number uint64){
		"again":      func(s *given) uint64 { return s.next - 1 },
		"an earlier": func(s *given) uint64 { return s.next - 2 },
		"beyond":     func(s *given) uint64 { return s.next + store.MaxChallenges },
		"the last":   func(*given) uint64 { return ^uint64(0) },
		"the first":  func(*given) uint64 { return 1 },
	} {
		t.Run(name, func(t *testing.T) {
			g.start(t)
			s, seen := g.supplied(0), map[string]bool{}
			for slot := range uint32(3 * store.MaxChallenges) {
				slot %= 8
				g.entered(0, slot)
				text := g.r.links[0].session1(slot).challenge
				if seen[text] {
					t.Fatalf("%q again", text)
				}
				seen[text] = true
			}
			g.challenge(0) // to leave some out is nothing
			g.entered(0, 9)
			if g.greeted(0, 10, play(s)) {
				t.Error("a cm may do that")
			}
		})
	}
}

// A new router goes on with the supply, and takes nothing twice; nor does it when a
// connection was refused for lack of room.
func TestSupplyOutlivesRouter(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	s := g.supplied(1)
	g.entered(1, 1)
	two, text := g.challenge(1)
	g.put(1, &store.RecOpen{Conn: store.Conn{Slot: 2, Gen: 2}, UID: 2, Challenge: two})
	g.say() // to be read by the next one
	g.succeed()
	g.takeOver()
	g.routing()
	if ses := g.r.links[1].session1(2); ses == nil || ses.challenge != text {
		t.Fatalf("%+v, was told %q", ses, text)
	}
	three, _ := g.challenge(1)
	size := g.r.size.state
	g.r.size.state = 0
	if !g.greeted(1, 3, three) || g.r.links[1].session1(3) != nil {
		t.Fatal("not refused for lack of room")
	}
	g.r.size.state = size
	g.succeed()
	g.takeOver()
	if used := g.r.links[1].supply.used; used != three {
		t.Errorf("%d used, not %d", used, three)
	}
	known := len(s.challenges)
	g.r.supplyFor(g.r.links[1])
	g.routing()
	g.take(1) // which looks at what is said again
	if more := len(s.challenges); more <= known || s.greetings[store.WayTLS].Parts[0] == nil {
		t.Errorf("%d challenges, were %d", more, known)
	}
	g.entered(1, 4)
	if g.greeted(1, 5, three) {
		t.Error("used twice, by two routers")
	}
}

// A router that knows nothing of the one before ends what comes by its challenges, and
// nobody for it, until the cm has begun anew; nor does the router after that one.
func TestSupplyForgotten(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.supplied(0)
	said, _ := g.challenge(0)
	old, _ := g.challenge(0)
	g.put(0, &store.RecOpen{Conn: store.Conn{Slot: 1, Gen: 1}, UID: 1, Challenge: said})
	g.say()
	g.routerSegment(privsep.SegState, 0).set(1 << 50)
	g.succeed()
	g.takeOver()
	g.succeed() // it ends before it has read a record
	g.takeOver()
	g.routing()
	got := g.take(0)
	if len(got) != 1 || got[0].(*store.InsSend).Flags != store.FlagClose || g.r.links[0].broken || g.r.links[0].open != 0 {
		t.Fatalf("%+v", got)
	}
	g.supplied(0) // which is what a cm says to NEW_ROUTER then
	g.entered(0, 2)
	if g.greeted(0, 3, old) {
		t.Error("one of those before, after one of these")
	}
}

// A cm that has not said which process it is has no challenges, and gets none: not those
// of a router that knows nothing yet, and not those of the process before it.
func TestNoSupplyBeforeReset(t *testing.T) {
	g := newRig(t, nil)
	g.first() // a router that is new altogether
	for _, l := range g.r.links {
		l.process = 1
	}
	for _, n := range []uint64{1, 2, 256, 1 << 62} {
		g.greeted(0, 1, n)
		if got := g.take(0); g.r.links[0].open != 0 || len(got) != 1 || got[0].(*store.InsSend).Flags != store.FlagClose {
			t.Fatalf("challenge %d: %d sessions, %+v", n, g.r.links[0].open, got)
		}
	}
	g.supplied(1)
	n, _ := g.challenge(1)
	g.r.ended = append(g.r.ended, privsep.CMGone{CM: 1, Generation: 1})
	g.check(g.r.between())
	g.renew(1, 2)
	g.greeted(1, 2, n)
	if got := g.take(1); g.r.links[1].open != 0 || len(got) != 1 {
		t.Fatalf("%d sessions by a challenge of the process before", g.r.links[1].open)
	}
	if len(g.given[0].challenges)+len(g.given[1].challenges) > 0 {
		t.Error("challenges for one that has not said who it is")
	}
}

// The row of those who watch is that of the connection which has the slot now, also if the
// one before it, of another cm, is heard to have ended only then.
func TestRowOfSlot(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	table, err := g.mem.Table()
	g.check(err)
	const slot = 5
	for cm, uid := range []uint64{7, 8} {
		table.Row(slot).Set(&store.ConnInfo{UID: uid, CM: uint16(cm)})
		g.put(cm, &store.RecOpen{Conn: store.Conn{Slot: slot, Gen: uint32(uid)}, UID: uid})
		g.route()
	}
	g.put(0, &store.RecConnect{Conn: store.Conn{Slot: slot, Gen: 7}, JSON: []byte(`{"lang":"old"}`)})
	g.put(0, &store.RecClosed{Conn: store.Conn{Slot: slot, Gen: 7}})
	g.route()
	if i, ok := g.r.watch.shown.Row(slot).Get(); !ok || i.UID != 8 || i.Lang != "" {
		t.Errorf("%+v, %v", i, ok)
	}
	g.put(1, &store.RecClosed{Conn: store.Conn{Slot: slot, Gen: 8}})
	g.route()
	if i, ok := g.r.watch.shown.Row(slot).Get(); ok {
		t.Errorf("%+v when it has ended", i)
	}
}
