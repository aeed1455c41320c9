package router

import (
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

const maxAge = 100 * time.Second

// aged are those of a cm's connections that have just been ended by age.
func (g *rig) aged(cm int) (list []store.Conn) {
	g.t.Helper()
	g.r.endAged()
	g.r.commit()
	for _, rec := range g.take(cm) {
		switch rec := rec.(type) {
		case *store.InsSend:
			if rec.Flags != store.FlagClose || string(rec.Data) != "-ERR 'User Authentication Expired'\r\n" {
				g.t.Fatalf("told %q, flags %d", rec.Data, rec.Flags)
			}
			list = append(list, rec.Conn)
		default:
			g.t.Fatalf("%T", rec)
		}
	}
	return list
}

// limitAge gives everybody a profile with a max_age, 0: with none.
func (g *rig) limitAge(d time.Duration) {
	p := everythingAllowed
	p.Name, p.MaxAge = "any", d
	g.profiles([]privsep.Profile{p}, func(l *privsep.Live) { l.AnonymousProfile = "any" })
}

// A connection ends in the last tenth of the time that its profile gives it, told why,
// whoever is the router by then.
func TestConnectionsAge(t *testing.T) {
	for _, successor := range []bool{false, true} {
		g := newRig(t, nil)
		g.start(t)
		g.limitAge(maxAge)
		table, err := g.mem.Table()
		g.check(err)
		accepted := time.Now().Add(-60 * time.Second).UnixNano()
		table.Row(2).Set(&store.ConnInfo{UID: 2, Accepted: accepted})
		table.Row(3).Set(&store.ConnInfo{UID: 33, Accepted: accepted}) // somebody else has the slot
		young, old, other := g.open(0, 1, 1, ""), g.open(0, 2, 2, ""), g.open(0, 3, 3, "")
		began := g.r.time
		if successor {
			g.succeed()
			g.takeOver()
			g.r.watchAges()
		}
		ends := map[store.Conn]int64{}
		for ms := int64(0); ms <= maxAge.Milliseconds() && len(ends) < 3; ms += ageEvery {
			g.r.time = began + ms
			for _, c := range g.aged(0) {
				ends[c] = ms
			}
			if d := g.r.expiry().Milliseconds(); len(ends) < 3 && (d < 0 || d > maxAge.Milliseconds()) {
				t.Fatalf("after %d ms the next look is in %d ms", ms, d)
			}
		}
		for c, from := range map[store.Conn]int64{young: 90_000, old: 30_000, other: 90_000} {
			if at := ends[c]; at < from-ageEvery || at > from+10_000+ageEvery {
				t.Errorf("successor %v: slot %d ends after %d ms", successor, c.Slot, at)
			}
		}
	}
}

// It goes by the profile that is in force: none, a new one, none again.
func TestAgeOfNewProfile(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.limitAge(0)
	g.open(0, 1, 1, "")
	hour := time.Hour.Milliseconds()
	g.r.time += hour
	if got := g.aged(0); len(got) != 0 || g.r.expiry() >= 0 {
		t.Errorf("without max_age %v end, the next look is in %v", got, g.r.expiry())
	}
	g.limitAge(maxAge)
	g.limitAge(0)
	g.r.time += hour
	if got := g.aged(0); len(got) != 0 {
		t.Errorf("with max_age taken back %v end", got)
	}
	g.limitAge(maxAge)
	g.aged(0)
	g.r.time += maxAge.Milliseconds()
	if got := g.aged(0); len(got) != 1 || g.r.links[0].open != 0 {
		t.Errorf("with max_age %v end, %d stay", got, g.r.links[0].open)
	}
}

// Many that are due end some at a time, with little between.
func TestManyAge(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.MaxConnections = 2 * ageMost })
	g.start(t)
	g.limitAge(maxAge)
	for slot := range uint32(ageMost + 10) {
		g.open(0, slot, slot+1, "")
	}
	g.r.time += maxAge.Milliseconds()
	if n := len(g.aged(0)); n != ageMost {
		t.Fatalf("%d end at once", n)
	}
	if d := g.r.expiry(); d != 0 {
		t.Errorf("the others are looked at in %v", d)
	}
	if n := len(g.aged(0)); n != 10 || g.r.links[0].open != 0 {
		t.Errorf("then %d, %d stay", n, g.r.links[0].open)
	}
}

// Those that came together do not all go together.
func TestAgeIsSpread(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.limitAge(maxAge)
	tenth := maxAge.Milliseconds() / 10
	var parts [4]int
	for uid := range uint64(4000) {
		s := &session{uid: uid, slot: 1, options: options{prof: g.r.profiles["any"]}}
		left := g.r.dueBy(s) - g.r.time
		if left <= 9*tenth || left > 10*tenth {
			t.Fatalf("uid %d ends after %d ms", uid, left)
		}
		parts[(left-9*tenth-1)*4/tenth]++
	}
	for i, n := range parts {
		if n < 800 || n > 1200 {
			t.Errorf("part %d of the tenth has %d of 4000: %s", i, n, strings.Repeat("*", n/100))
		}
	}
}
