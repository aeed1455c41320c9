package router

import (
	"fmt"
	"strconv"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// BenchmarkPublish is a message through the router: a record in, instructions
// out, in batches of 64, with the cms' ends of the rings in the same goroutine.
// One op is one message.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name     string
		subjects int
		plain    []int // subscribers by cm
		queue    []int // members of a group by cm
		echo     bool
	}{
		{"none", 1, nil, nil, true},
		{"one", 1, []int{1}, nil, true},
		{"other_cm", 1, []int{0, 1}, nil, true},
		{"both_cms", 1, []int{1, 1}, nil, true},
		{"four", 1, []int{4}, nil, true},
		{"sixteen_each", 1, []int{16, 16}, nil, true},
		{"queue_of_four", 1, nil, []int{2, 2}, true},
		{"no_echo", 1, []int{1, 1}, nil, false},
		{"many_subjects", 1000, []int{1}, nil, true},
		{"new_subjects", 1 << 20, []int{1}, nil, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newRig(b, nil)
			g.start(b)
			gen := uint32(1)
			connect := ""
			if !c.echo {
				connect = `,"echo":false`
			}
			sender := g.open(0, 0, gen, connect)
			for cm, n := range c.plain {
				g.subscribers(cm, n, &gen, "")
			}
			for cm, n := range c.queue {
				g.subscribers(cm, n, &gen, "q")
			}
			subjects := make([][]byte, c.subjects)
			for i := range subjects {
				subjects[i] = fmt.Appendf(nil, "px.%07d", i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			g.publish(b.N, sender, subjects)
		})
	}
}

func (g *rig) subscribers(cm, n int, gen *uint32, queue string) {
	for range n {
		*gen++
		g.sub(cm, g.open(cm, *gen, *gen, ""), "px.*", queue, "1")
	}
}

// publish sends n messages and throws away what comes of them.
func (g *rig) publish(n int, sender store.Conn, subjects [][]byte) {
	const batch = 64
	p := store.RecPub{Conn: sender, Seq: g.r.links[0].seq, Len: 16, HeaderLen: -1}
	for i := 0; i < n; {
		for range min(batch, n-i) {
			p.Seq++
			p.Subject = subjects[i%len(subjects)]
			g.cms[0].Out.Commit(p.Put(g.cms[0].Out.Reserve(p.Size())))
			i++
		}
		g.route()
		g.drop()
	}
}

// BenchmarkRequest is a request to a queue group and its answer, as in BenchmarkPublish;
// each with a reply subject of its own, as clients make them. One op is both messages.
func BenchmarkRequest(b *testing.B) {
	for _, c := range []struct {
		name    string
		members int
		facts   store.Facts
	}{
		{"broadcast", 4, store.Facts{Mode: store.ModeBroadcast}}, // nobody owes anything
		{"semaphore", 1, store.Facts{}},
		{"semaphore_of_four", 4, store.Facts{}},
		{"semaphore_of_sixteen", 16, store.Facts{}},
		{"session", 4, store.Facts{Mode: store.ModeSession, Session: []byte("s")}},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newRig(b, nil)
			g.start(b)
			sender, p := g.requesters(c.members)
			p.Facts = c.facts.Append(nil)
			b.ReportAllocs()
			b.ResetTimer()
			g.requests(b.N, sender, p)
		})
	}
}

// BenchmarkFanout is a request to a thousand and their answers. One op is all of them.
func BenchmarkFanout(b *testing.B) {
	const members = 1000
	g := newRig(b, func(s *privsep.Settings) { s.MaxConnections, s.Journal = members+10, 64<<20 })
	g.start(b)
	sender := g.open(0, 0, 1, `,"headers":true`)
	g.sub(0, sender, "in.*", "", "1")
	for i := range uint32(members) {
		g.sub(1, g.open(1, i+1, i+2, ""), "work", "", "1")
	}
	g.drop()
	p := store.RecPub{Conn: sender, Len: 16, HeaderLen: -1, Subject: []byte("work")}
	p.Facts = (&store.Facts{Mode: store.ModeFanout}).Append(nil)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		g.requests(1, sender, p)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/answer")
	if n := g.r.requests.count; n > 0 {
		b.Fatalf("%d requests are left", n)
	}
}

// requesters opens a requester on cm/0 and the members of a queue group on cm/1, and
// returns the former with the request.
func (g *rig) requesters(members int) (store.Conn, store.RecPub) {
	sender := g.open(0, 0, 1, "")
	g.sub(0, sender, "in.*", "", "1")
	for i := range members {
		n := uint32(i + 1)
		g.sub(1, g.open(1, n, n+1, ""), "work", "g", "1")
	}
	g.drop()
	return sender, store.RecPub{Conn: sender, Len: 16, HeaderLen: -1, Subject: []byte("work")}
}

// requests has n requests asked and answered, in batches of 64.
func (g *rig) requests(n int, sender store.Conn, p store.RecPub) {
	const batch = 64
	var ins store.InsDeliver
	put := func(cm int, p *store.RecPub) { g.cms[cm].Out.Commit(p.Put(g.cms[cm].Out.Reserve(p.Size()))) }
	p.Seq = g.r.links[0].seq
	a := store.RecPub{Seq: g.r.links[1].seq, Len: 16, HeaderLen: -1}
	for i := 0; i < n; {
		for range min(batch, n-i) {
			p.Seq++
			p.Reply = strconv.AppendInt(append(p.Reply[:0], "in."...), int64(i), 10)
			put(0, &p)
			i++
		}
		g.route()
		g.cms[0].In.Release()
		for b, _ := g.cms[1].In.Next(); b != nil; b, _ = g.cms[1].In.Next() {
			if store.Kind(b) != store.KindDeliver {
				continue
			}
			g.check(ins.Parse(b))
			for rest := ins.Recipients; len(rest) > 0; {
				a.Seq++
				a.Slot, a.Gen, _, rest, _ = store.NextRecipient(rest)
				a.Subject = append(a.Subject[:0], ins.Reply...)
				put(1, &a)
			}
		}
		g.cms[1].In.Release()
		g.route()
		g.drop()
	}
}

// A message costs no allocation.
func TestPublishAllocs(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	gen := uint32(1)
	sender := g.open(0, 0, gen, "")
	g.subscribers(0, 2, &gen, "")
	g.subscribers(1, 2, &gen, "q")
	subjects := [][]byte{[]byte("px.1"), []byte("px.2"), []byte("nobody")}
	g.publish(100, sender, subjects)
	if n := testing.AllocsPerRun(50, func() { g.publish(64, sender, subjects) }); n > 0 {
		t.Errorf("%v allocations in 64 messages", n)
	}
}

// Nor does a request and its answer, once there were as many at a time.
func TestRequestAllocs(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	sender, p := g.requesters(4)
	g.requests(500, sender, p)
	if n := testing.AllocsPerRun(50, func() { g.requests(64, sender, p) }); n > 10 { // a few are of the test
		t.Errorf("%v allocations in 64 requests", n)
	}
}
