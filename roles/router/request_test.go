package router

import (
	"testing"

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
