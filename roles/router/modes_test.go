package router

import (
	"testing"

	"gatehouse/store"
)

// A member that is lost with a request outstanding is told to the requester at once.
func TestMemberLost(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	asker := g.open(0, 1, 1, `,"headers":true,"no_responders":true`)
	member := g.open(1, 2, 2, "")
	g.sub(0, asker, "in.*", "", "7")
	g.sub(1, member, "work", "g", "1")
	g.take(0)
	g.take(1)
	g.put(0, &store.RecPub{Conn: asker, Seq: g.r.links[0].seq + 1, HeaderLen: -1, Subject: []byte("work"), Reply: []byte("in.1")})
	g.route()
	if n := len(g.take(1)); n != 1 {
		t.Fatalf("%d instructions", n)
	}
	g.put(1, &store.RecClosed{Conn: member})
	g.route()
	got := g.take(0)
	if len(got) != 1 {
		t.Fatalf("%+v\n%s", got, g.r.describeRequests())
	}
	if s, ok := got[0].(*store.InsSend); !ok || string(s.Data) != "HMSG in.1 7 31 31\r\nNATS/1.0 503 Responder Lost\r\n\r\n\r\n" {
		t.Errorf("%+v", got[0])
	}
}
