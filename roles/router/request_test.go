package router

import (
	"fmt"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// says has a session say one message, and returns what each cm is told.
func (g *rig) says(cm int, c store.Conn, subject, reply string, f store.Facts) (got [2][]store.Record) {
	g.t.Helper()
	g.put(cm, &store.RecPub{Conn: c, Seq: g.r.links[cm].seq + 1, HeaderLen: -1, Subject: []byte(subject), Reply: []byte(reply), Facts: f.Append(nil)})
	g.route()
	return [2][]store.Record{g.take(0), g.take(1)}
}

// A fanout that ends by its own time ends once.
func TestTimeOutOnce(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	asker, member := g.open(0, 1, 1, `,"headers":true`), g.open(1, 2, 2, "")
	g.sub(1, member, "work", "", "1")
	for range 3 {
		g.says(0, asker, "work", "r", store.Facts{Mode: store.ModeFanout, Timeout: 500})
		if n := g.r.requests.count; n != 1 {
			t.Fatalf("%d requests", n)
		}
		g.pass(501)
		if n := g.r.requests.count; n != 0 || g.r.requests.bytes != 0 || g.r.links[1].session(member).load() != 0 {
			t.Fatalf("%d requests of %d bytes are left", n, g.r.requests.bytes)
		}
	}
}

// A fanout to more than an entry of the journal can hold goes to nobody, and one to as
// many as it can is followed by the next router, too.
func TestFanoutOfTooMany(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Journal, s.Ring = 64<<20, 4<<20 })
	g.start(t)
	asker, member := g.open(0, 1, 1, `,"headers":true`), g.open(1, 2, 2, "")
	g.sub(0, asker, "r", "", "7")
	const most = (store.MaxEntry - requestEntry - 16) / dutyEntry
	for i := range most + 10 {
		g.put(1, &store.RecSub{Conn: member, Subject: []byte("work"), SID: fmt.Append(nil, i)})
		if i%1000 == 999 || i >= most-1 {
			g.route()
			g.take(1)
		}
		if i == most-1 {
			got := g.says(0, asker, "work", "r", store.Facts{Mode: store.ModeFanout})
			if n := g.r.requests.count; n != 1 || len(got[1]) == 0 || len(got[0]) != 1 {
				t.Fatalf("a fanout to %d: %d requests, %d instructions", most, n, len(got[1]))
			}
		}
	}
	got := g.says(0, asker, "work", "r", store.Facts{Mode: store.ModeFanout})
	if len(got[0]) != 1 || len(got[1]) != 0 {
		t.Fatalf("a fanout to more leads to %d and %d instructions", len(got[0]), len(got[1]))
	}
	want := "HMSG r 7 34 34\r\nNATS/1.0 503 Too Many Requests\r\n\r\n\r\n"
	if s, ok := got[0][0].(*store.InsSend); !ok || string(s.Data) != want {
		t.Errorf("told %+v", got[0][0])
	}
	next := g.r.successor()
	next.takeOver()
	if n := next.requests.count; n != 1 {
		t.Errorf("the next router knows of %d requests", n)
	}
}

// Sessions whose duties have one hash answer each for themselves.
func TestTwoOfOneHash(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	p := everythingAllowed
	p.Name, p.Responses = "member", 2
	g.profiles([]privsep.Profile{p}, func(l *privsep.Live) { l.AnonymousProfile = "member" })
	zero := &session{}
	other := &session{uid: (g.r.requests.hash(zero, []byte("r")) ^ g.r.requests.hash(zero, []byte("s"))) * inverse(0x9e3779b97f4a7c15)}
	asker, conns := g.open(0, 1, 1, ""), [2]store.Conn{{Slot: 2, Gen: 2}, {Slot: 3, Gen: 3}}
	for i, s := range []*session{zero, other} {
		g.put(1, &store.RecOpen{Conn: conns[i], UID: s.uid})
		g.put(1, &store.RecConnect{Conn: conns[i], JSON: []byte(`{"verbose":false}`)})
	}
	g.route()
	g.sub(1, conns[0], "a", "g", "1")
	g.sub(1, conns[1], "b", "g", "1")
	g.take(1)
	sessions := [2]*session{g.r.links[1].session(conns[0]), g.r.links[1].session(conns[1])}
	want := func(a, b int) {
		t.Helper()
		if n, m := sessions[0].load(), sessions[1].load(); n != a || m != b {
			t.Fatalf("they owe %d and %d answers, want %d and %d", n, m, a, b)
		}
	}
	for range 2 {
		g.says(0, asker, "a", "r", store.Facts{})
		g.says(0, asker, "b", "s", store.Facts{})
	}
	if n := len(g.r.requests.duties); n != 1 {
		t.Fatalf("%d hashes", n)
	}
	want(2, 2)
	g.says(1, conns[1], "s", "", store.Facts{})
	want(2, 1)
	g.says(1, conns[1], "r", "", store.Facts{}) // which it does not owe
	want(2, 1)
	g.says(1, conns[1], "s", "", store.Facts{})
	g.says(1, conns[0], "r", "", store.Facts{})
	g.says(1, conns[1], "s", "", store.Facts{}) // beyond those that it owes
	want(1, 0)
	g.put(1, &store.RecClosed{Conn: conns[1]})
	g.says(1, conns[0], "r", "", store.Facts{})
	want(0, 0)
	g.put(1, &store.RecClosed{Conn: conns[0]})
	g.route()
	if n := len(g.r.requests.duties); n != 0 || g.r.requests.count != 0 {
		t.Errorf("%d hashes and %d requests are left", n, g.r.requests.count)
	}
}

// inverse is that of an odd number, modulo 1<<64.
func inverse(k uint64) uint64 {
	x := k
	for range 6 {
		x *= 2 - k*x
	}
	return x
}

// Answers to very many requests with one reply subject take no longer each than to few.
func TestManyOfOneReply(t *testing.T) {
	for name, f := range map[string]store.Facts{"owed": {}, "granted": {Mode: store.ModeBroadcast}} {
		t.Run(name, func(t *testing.T) {
			few, many := manyOfOneReply(t, 1000, f), manyOfOneReply(t, 20000, f)
			t.Logf("%v each of 1000, %v of 20000", few, many)
			if many > 8*few {
				t.Errorf("an answer to one of 1000 takes %v, of 20000 %v", few, many)
			}
		})
	}
}

// manyOfOneReply returns how long a request and its answer take.
func manyOfOneReply(t *testing.T, n int, f store.Facts) time.Duration {
	best := time.Hour
	for range 3 { // the machine may be at something else
		g := newRig(t, func(s *privsep.Settings) { s.Journal = 64 << 20 })
		g.start(t)
		p := everythingAllowed
		p.Name, p.Responses = "member", 1
		g.profiles([]privsep.Profile{p}, func(l *privsep.Live) { l.AnonymousProfile = "member" })
		asker, member := g.open(0, 1, 1, ""), g.open(1, 2, 2, "")
		g.sub(1, member, "work", "g", "1")
		began := time.Now()
		g.repeat(n, 0, store.RecPub{Conn: asker, Subject: []byte("work"), Reply: []byte("r"), Facts: f.Append(nil)})
		if g.r.requests.count != n {
			t.Fatalf("%d requests", g.r.requests.count)
		}
		g.repeat(n, 1, store.RecPub{Conn: member, Subject: []byte("r")})
		if g.r.requests.count != 0 {
			t.Fatalf("%d requests are left", g.r.requests.count)
		}
		best = min(best, time.Since(began)/time.Duration(n))
		g.close()
	}
	return best
}

// repeat has a session say the same n times, and throws away what comes of it.
func (g *rig) repeat(n, cm int, p store.RecPub) {
	g.t.Helper()
	p.Seq, p.HeaderLen = g.r.links[cm].seq, -1
	for i := range n {
		p.Seq++
		g.put(cm, &p)
		if i%100 == 99 || i == n-1 {
			g.route()
			g.drop()
		}
	}
}

// drop throws away what the cms are told.
func (g *rig) drop() {
	for _, e := range g.cms {
		for b, _ := e.In.Next(); b != nil; b, _ = e.In.Next() {
			_ = b[0]
		}
		e.In.Release()
	}
}
