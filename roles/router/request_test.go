package router

import (
	"fmt"
	"testing"

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
