package router

import (
	"fmt"
	"testing"

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
		for _, e := range g.cms {
			for b, _ := e.In.Next(); b != nil; b, _ = e.In.Next() {
				_ = b[0]
			}
			e.In.Release()
		}
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
