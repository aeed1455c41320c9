package store

import (
	"sync"
	"testing"
)

const batch = 64

func benchRing(b *testing.B) (*Producer, *Consumer) {
	data, dataRO := mapped(b, RingDataSize(4<<20))
	head, headRO := mapped(b, RingHeadSize)
	p, err := NewProducer(data, headRO)
	check(b, err)
	c, err := NewConsumer(dataRO, head)
	check(b, err)
	return p, c
}

func send(p *Producer, n int) {
	for range n {
		r := p.Reserve(64)
		r[0], r[63] = 1, 2
		p.Commit(64)
	}
	p.Publish()
}

// One record of 64 bytes in and out, batches of 64, both ends on one core.
func BenchmarkRing64(b *testing.B) {
	p, c := benchRing(b)
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		send(p, batch)
		for rec, _ := c.Next(); rec != nil; rec, _ = c.Next() {
			_ = rec[63]
		}
		c.Release()
	}
}

// The same with each end on its own core, spinning.
func BenchmarkRing64TwoCores(b *testing.B) {
	p, c := benchRing(b)
	total := (b.N + batch - 1) / batch * batch
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; n < total; {
			rec, _ := c.Next()
			if rec == nil {
				c.Release()
				continue
			}
			n++
		}
	})
	for n := 0; n < total; n += batch {
		for p.Reserve(64*batch*2) == nil {
		}
		send(p, batch)
	}
	wg.Wait()
}

func benchArena(b *testing.B, cms int) *arena {
	const size = 64 << 20
	a := newArena(b, 1<<20, cms)
	a.bytes = size
	a.seg, a.segRO = mapped(b, ArenaSize(size))
	rw, ro := mapped(b, NamedSize(Slots(size)))
	var err error
	a.router, err = NewNamed(rw, Slots(size))
	check(b, err)
	a.named, err = NewNamed(ro, Slots(size))
	check(b, err)
	for i := range cms {
		rw, ro := mapped(b, ReturnsSize(cms, Slots(size)))
		w, err := NewReturns(rw, cms, Slots(size))
		check(b, err)
		r, err := NewReturns(ro, cms, Slots(size))
		check(b, err)
		if i == 0 {
			r = w
		}
		a.mine[i], a.seen[i] = w, r
	}
	check(b, a.open())
	return a
}

// Bodies allocated, none finished in between: Alloc alone.
func BenchmarkArenaAlloc16(b *testing.B) {
	a := benchArena(b, 1)
	hs := make([]Handle, 100*batch) // so many that the timer does not count
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(hs) {
		for i := range hs {
			hs[i], _, _ = a.Alloc(16)
		}
		b.StopTimer()
		for _, h := range hs {
			a.finish(h.Seq, 0)
		}
		a.Reclaim()
		b.StartTimer()
	}
}

func benchCycle(b *testing.B, cms, named, size int) {
	a := benchArena(b, cms)
	var hs [batch]Handle
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		for i := range hs {
			hs[i], _, _ = a.Alloc(size)
		}
		for _, h := range hs {
			name(a.router, h.Seq, 1<<named-1)
		}
		for cm := range named {
			for _, h := range hs {
				a.mine[cm].Done(0, h.Seq)
			}
		}
		if a.Reclaim() != batch {
			b.Fatal("not all freed")
		}
	}
}

// Allocated, named, finished by so many of so many cms, freed.
func BenchmarkArenaCycle16(b *testing.B) {
	b.Run("1of1", func(b *testing.B) { benchCycle(b, 1, 1, 16) })
	b.Run("1of2", func(b *testing.B) { benchCycle(b, 2, 1, 16) })
	b.Run("2of2", func(b *testing.B) { benchCycle(b, 2, 2, 16) })
	b.Run("2of64", func(b *testing.B) { benchCycle(b, 64, 2, 16) })
}

func BenchmarkRecPub(b *testing.B) {
	in := &RecPub{Conn: Conn{1, 2}, Seq: 3, Off: 16, Len: 16, HeaderLen: -1, Subject: []byte("px.equity.DE.SAP")}
	buf := make([]byte, in.Size())
	var out RecPub
	b.ReportAllocs()
	for b.Loop() {
		in.Put(buf)
		if out.Parse(buf) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkInsDeliver(b *testing.B) {
	in := &InsDeliver{Handle: Handle{1, 3, 16, 16}, HeaderLen: -1, Subject: []byte("px.equity.DE.SAP")}
	for i := range 4 {
		in.Recipients = AppendRecipient(in.Recipients, uint32(i), 5, []byte("12"))
	}
	buf := make([]byte, in.Size())
	var out InsDeliver
	b.ReportAllocs()
	for b.Loop() {
		in.Put(buf)
		if out.Parse(buf) != nil {
			b.Fatal("refused")
		}
		n := 0
		for rest, ok := out.Recipients, true; ok; n++ {
			_, _, _, rest, ok = NextRecipient(rest)
		}
		if n != 5 {
			b.Fatal(n)
		}
	}
}
