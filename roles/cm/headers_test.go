package cm

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"gatehouse/store"
	"gatehouse/wire"
)

// join makes a connection that takes headers.
func (g *rig) join() net.Conn {
	g.t.Helper()
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		g.t.Fatal(err)
	}
	io.WriteString(c, `CONNECT {"headers":true,"verbose":false}`+"\r\n")
	ping(g.t, c)
	return c
}

// hears reads exactly what is wanted.
func hears(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got[:n], err, want)
	}
}

func hpub(head, payload string) string {
	return fmt.Sprintf("HPUB a %d %d\r\n%s%s\r\n", len(head), len(head)+len(payload), head, payload)
}

func hmsg(head, payload string) string {
	return fmt.Sprintf("HMSG a 1 %d %d\r\n%s%s\r\n", len(head), len(head)+len(payload), head, payload)
}

// Modes are numbered here as they are in the records.
func TestModeNumbers(t *testing.T) {
	for m := store.ModeBroadcast; m <= store.ModeDirect; m++ {
		var f wire.Facts
		wire.ReadHeaders(fmt.Appendf(nil, "NATS/1.0\r\nGatehouse-Mode: %s\r\n\r\n", m), &f)
		if store.Mode(f.Mode) != m {
			t.Errorf("%s is %d, not %d", m, f.Mode, m)
		}
	}
	for bad, name := range map[uint8]string{store.BadMode: "Mode", store.BadSession: "Session", store.BadTimeout: "Timeout",
		store.BadType: "To-Type", store.BadOrganisation: "To-Organisation"} {
		var f wire.Facts
		wire.ReadHeaders(fmt.Appendf(nil, "NATS/1.0\r\nGatehouse-%s:\r\n\r\n", name), &f)
		if uint8(f.Bad) != bad {
			t.Errorf("%s is %d, not %d", name, f.Bad, bad)
		}
	}
}

// The router hears what headers say, whichever way a message came in; its readers
// get the headers that are the client's to set.
func TestHeaders(t *testing.T) {
	const (
		asks   = "NATS/1.0\r\nGatehouse-Mode: fanout\r\nGatehouse-Timeout: 500ms\r\nA: b\r\n\r\n"
		forges = "NATS/1.0\r\nA: b\r\ngatehouse-from : boss\r\nGatehouse-Session: s\r\n\r\n"
		clean  = "NATS/1.0\r\nA: b\r\nGatehouse-Session: s\r\n\r\n"
	)
	g := newPlainRig(t)
	c := g.join()
	big := strings.Repeat("x", 100<<10)
	for i, m := range []struct {
		in, out string
		want    store.Facts
		size    int
	}{
		{hpub(asks, "hello"), hmsg(asks, "hello"), store.Facts{Mode: store.ModeFanout, Timeout: 500}, len(asks) + 5},
		{"PUB a 5\r\nhello\r\n", "MSG a 1 5\r\nhello\r\n", store.Facts{}, 5},
		{hpub(forges, "hello"), hmsg(clean, "hello"), store.Facts{Session: []byte("s")}, len(clean) + 5},
		{hpub(forges, ""), hmsg(clean, ""), store.Facts{Session: []byte("s")}, len(clean)},
		{hpub(forges, big), hmsg(clean, big), store.Facts{Session: []byte("s")}, len(clean) + len(big)},
		{hpub("", "hello"), "MSG a 1 5\r\nhello\r\n", store.Facts{}, 5},
		{hpub("Gatehouse-From: boss", "hello"), "MSG a 1 5\r\nhello\r\n", store.Facts{}, 5},
		{hpub("NATS/1.0\r\nGatehouse-Mode: all\r\n\r\n", ""), hmsg("NATS/1.0\r\nGatehouse-Mode: all\r\n\r\n", ""), store.Facts{Bad: store.BadMode}, 33},
	} {
		for _, split := range []bool{false, true} {
			if split && len(m.in) < 1000 {
				for _, b := range []byte(m.in) {
					c.Write([]byte{b})
				}
			} else {
				io.WriteString(c, m.in)
			}
			hears(t, c, m.out)
			g.do(func() {
				p := g.pubs[len(g.pubs)-1]
				var f store.Facts
				if err := f.Parse(p.Facts); err != nil || fmt.Sprint(f) != fmt.Sprint(m.want) || int(p.Len) != m.size {
					t.Errorf("%d: %+v, %v, %d bytes; want %+v, %d", i, f, err, p.Len, m.want, m.size)
				}
			})
		}
	}
}

// A message that waits for the arena is cleaned once and for all.
func TestHeadersWait(t *testing.T) {
	m, mem := loopless(t, 1)
	named, err := mem.Named(0, true)
	must(t, err)
	router, err := mem.RouterEnds(0)
	must(t, err)
	if _, _, ok := m.arena.Alloc(m.cfg.Arena); !ok {
		t.Fatal("no arena")
	}
	c := m.mute(0, flagHeaders|flagConnected)
	c.parser.SetHeaders(true)
	m.parse(c, []byte(hpub("NATS/1.0\r\nGatehouse-From: boss\r\nGatehouse-Mode: direct\r\n\r\n", "hello")+"PING\r\n"))
	const clean = "NATS/1.0\r\nGatehouse-Mode: direct\r\n\r\n"
	if !c.has(flagWaiting) || string(c.rest) != "PING\r\n" || string(c.body.buf) != clean+"hello" || c.body.size != len(c.body.buf) || int(c.body.headerLen) != len(clean) {
		t.Fatalf("%+v, rest %q", c.body, c.rest)
	}
	named.Set(1, 0)
	named.Commit(1)
	m.arena.Reclaim()
	m.queue(c)
	m.resume()
	m.out.Publish()
	for rec, _ := router.In.Next(); rec != nil; rec, _ = router.In.Next() {
		var p store.RecPub
		var f store.Facts
		if store.Kind(rec) == store.KindPub {
			must(t, p.Parse(rec))
			must(t, f.Parse(p.Facts))
			if f.Mode != store.ModeDirect || int(p.HeaderLen) != len(clean) || int(p.Len) != len(clean)+5 {
				t.Errorf("%+v, %+v", p, f)
			}
			return
		}
	}
	t.Error("no record")
}

// Who takes headers is told the sender, who doesn't gets what he gets.
func TestFrom(t *testing.T) {
	g := newPlainRig(t)
	g.do(func() { g.from = []byte("acme/pricer/1") })
	const told = "Gatehouse-From: acme/pricer/1\r\n"
	c := g.join()
	io.WriteString(c, "PUB a 5\r\nhello\r\n")
	hears(t, c, hmsg("NATS/1.0\r\n"+told+"\r\n", "hello"))
	io.WriteString(c, hpub("NATS/1.0\r\nA: b\r\nGatehouse-From: boss\r\n\r\n", "hello"))
	hears(t, c, hmsg("NATS/1.0\r\nA: b\r\n"+told+"\r\n", "hello"))
	io.WriteString(c, hpub("NATS/1.0\r\nA: b", "hello"))
	hears(t, c, hmsg("NATS/1.0\r\nA: b\r\n"+told+"\r\n", "hello"))
	big := strings.Repeat("x", 100<<10)
	io.WriteString(c, hpub("NATS/1.0\r\n\r\n", big))
	hears(t, c, hmsg("NATS/1.0\r\n"+told+"\r\n", big))
	io.WriteString(c, `CONNECT {"headers":false}`+"\r\nPUB a 5\r\nhello\r\n")
	hears(t, c, "MSG a 1 5\r\nhello\r\n")
	if s := g.counters(); s.OutMsgs != 5 {
		t.Errorf("%+v", s)
	}
}

// What another cm has in its arena is not believed, what this one has is sent as
// it lies there.
func TestForeignHeaders(t *testing.T) {
	m, _ := loopless(t, 2)
	forged := []byte("NATS/1.0\r\nA: b\r\nGatehouse-From: boss\r\n\r\n")
	before := bytes.Clone(forged)
	for name, c := range map[string]struct {
		ins   store.InsDeliver
		block []byte
		want  string
	}{
		"own":              {block: forged},
		"no headers":       {ins: store.InsDeliver{Handle: store.Handle{Arena: 1}, HeaderLen: -1}},
		"foreign":          {store.InsDeliver{Handle: store.Handle{Arena: 1}}, forged, "NATS/1.0\r\nA: b\r\n\r\n"},
		"foreign and told": {store.InsDeliver{Handle: store.Handle{Arena: 1}, From: []byte("me")}, forged, "NATS/1.0\r\nA: b\r\nGatehouse-From: me\r\n\r\n"},
		"told":             {store.InsDeliver{From: []byte("me")}, nil, "NATS/1.0\r\nGatehouse-From: me\r\n\r\n"},
	} {
		if got := m.headersFor(&c.ins, c.block); string(got) != c.want || (got == nil) != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if !bytes.Equal(forged, before) {
		t.Error("written to what is another's")
	}
}
