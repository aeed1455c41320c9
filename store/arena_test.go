package store

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

type arena struct {
	seg, segRO *Segment
	bytes      int
	retSegs    []*Segment
	mine       []*Returns // each cm's writable one
	seen       []*Returns // as the owner, cm 0, sees them
	*Arena
	view *ArenaView
}

func newArena(t fataler, bytes, cms int) *arena {
	a := &arena{bytes: bytes}
	a.seg, a.segRO = heap(ArenaSize(bytes))
	for i := range cms {
		rw, ro := heap(ReturnsSize(cms, Slots(bytes)))
		w, err := NewReturns(rw, cms, Slots(bytes))
		check(t, err)
		r, err := NewReturns(ro, cms, Slots(bytes))
		check(t, err)
		if i == 0 {
			r = w
		}
		a.retSegs, a.mine, a.seen = append(a.retSegs, rw), append(a.mine, w), append(a.seen, r)
	}
	check(t, a.open())
	return a
}

// open makes the owner's side, as the first owner or as a successor.
func (a *arena) open() (err error) {
	if a.Arena, err = NewArena(0, a.seg, a.bytes, a.seen); err != nil {
		return err
	}
	a.view, err = NewArenaView(0, a.segRO, a.bytes)
	return err
}

// Traffic that keeps up stays within the window, whatever the arena's size.
func TestArenaWorkingSet(t *testing.T) {
	a := newArena(t, 8<<20, 1)
	var queue []Handle
	for i := range 100_000 {
		h, _, ok := a.Alloc(100 + i%1000)
		if !ok {
			t.Fatal("full")
		}
		if h.Off > softWindow+softWindow/8 {
			t.Fatalf("body %d at %d", i, h.Off)
		}
		if queue = append(queue, h); len(queue) > 200 {
			a.mine[0].Done(0, queue[0].Seq, 1)
			queue = queue[1:]
		}
		if i%50 == 0 {
			a.Reclaim()
		}
	}
}

// A body that is stuck in the window does not take the rest of the arena away.
func TestArenaStuckBody(t *testing.T) {
	a := newArena(t, 8<<20, 1)
	for range softWindow * 3 / 4 / 4096 {
		h, _, _ := a.Alloc(4096)
		a.mine[0].Done(0, h.Seq, 1)
	}
	a.Alloc(4096) // stuck, and nothing before it is live
	n := 1
	for {
		if _, _, ok := a.Alloc(4096); !ok {
			break
		}
		n++
	}
	if n < 8<<20/4096-2 {
		t.Fatalf("%d bodies of 4 KiB in 8 MiB", n)
	}
	check(t, a.open()) // a successor finds three runs
	if _, bodies := a.Used(); bodies != uint64(n) {
		t.Fatalf("%d bodies after adoption, want %d", bodies, n)
	}
}

func TestArenaSlots(t *testing.T) {
	a := newArena(t, 64<<10, 1)
	for i := range Slots(64 << 10) {
		if _, _, ok := a.Alloc(0); !ok {
			t.Fatalf("no slot %d", i)
		}
	}
	if _, _, ok := a.Alloc(0); ok {
		t.Fatal("more bodies than slots")
	}
	a.mine[0].Done(0, 1, 1)
	if _, _, ok := a.Alloc(1); !ok {
		t.Fatal("the finished body's slot was not reused")
	}
	for _, n := range []int{-1, 64<<10 + 1, 1 << 40} {
		if _, _, ok := a.Alloc(n); ok {
			t.Errorf("allocated %d", n)
		}
	}
}

// A record that lies in the ring after the tail was never published.
func TestArenaRecover(t *testing.T) {
	a := newArena(t, 16<<10, 1)
	var hs []Handle
	for i := range 4 {
		h, _, _ := a.Alloc(100)
		if hs = append(hs, h); i < 3 {
			a.Sent(h, uint64(8*(i+1)))
		}
	}
	check(t, a.open())
	if got := a.Recover(16); got != 2 {
		t.Fatalf("Recover %d, want 2", got)
	}
	a.mine[0].Done(0, hs[0].Seq, 1)
	if got := a.Reclaim(); got != 1 {
		t.Fatalf("Reclaim %d, want 1", got)
	}
	a.mine[0].Done(0, hs[1].Seq, 1)
	if got := a.Reclaim(); got != 3 {
		t.Fatalf("Reclaim %d, want 3", got)
	}
}

func TestArenaUndo(t *testing.T) {
	a := newArena(t, 16<<10, 1)
	h1, _, _ := a.Alloc(1)
	h2, _, _ := a.Alloc(1)
	h3, _, _ := a.Alloc(1)
	a.Sent(h1, 8)
	a.Undo(h1) // sent
	a.Undo(h2) // in between
	a.Undo(h3) // the newest
	a.Undo(h2) // again
	a.Undo(h3) // no body of now
	a.Undo(Handle{Seq: 99})
	if _, bodies := a.Used(); bodies != 2 || a.Reclaim() != 0 {
		t.Fatalf("%d bodies", bodies)
	}
	if h, _, _ := a.Alloc(1); h.Seq != h3.Seq || h.Off != h3.Off {
		t.Fatalf("%+v in place of %+v", h, h3)
	}
	a.mine[0].Done(0, h1.Seq, 1)
	if a.Reclaim() != 2 {
		t.Fatal("not freed up to the new body")
	}

	// The newest is alone in its run, at the start again.
	a = newArena(t, 16<<10, 1)
	for range 4 {
		a.Alloc(4096)
	}
	a.mine[0].Done(0, 1, 1)
	h, _, _ := a.Alloc(2048)
	a.Undo(h)
	if h2, _, ok := a.Alloc(4096); !ok || h.Off != 0 || h2.Off != 0 {
		t.Fatalf("%+v, %+v", h, h2)
	}
	if _, _, ok := a.Alloc(16); ok {
		t.Fatal("space in a full arena")
	}
}

// What a hostile cm can do with its words: nothing to the owner's process, and
// nothing with a touch count that cannot be.
func TestHostileWords(t *testing.T) {
	a := newArena(t, 16<<10, 2)
	rng := rand.New(rand.NewPCG(7, 8))
	for range 50_000 {
		h, b, ok := a.Alloc(rng.IntN(3000))
		if ok && len(b) > 0 {
			b[0], b[len(b)-1] = 1, 1
		}
		words := a.mine[1].row(0)
		words[rng.IntN(len(words))].Store(h.Seq<<16 | rng.Uint64N(1<<16))
		words[rng.IntN(len(words))].Store(rng.Uint64())
		a.Reclaim()
		if bytes, bodies := a.Used(); bytes > 16<<10 || bodies > uint64(len(words)) {
			t.Fatalf("%d bytes in %d bodies", bytes, bodies)
		}
		if ok && rng.IntN(2) == 0 {
			a.mine[0].Done(0, h.Seq, 1)
		}
	}

	a = newArena(t, 16<<10, 2)
	h, _, _ := a.Alloc(1)
	for _, touch := range []int{-1, 0, 3, 64, 65, touchMax, 1 << 40} {
		a.mine[0].Done(0, h.Seq, touch)
		a.mine[1].Done(0, h.Seq, touch)
		if a.Reclaim() != 0 {
			t.Fatalf("freed at touch %d with two cms", touch)
		}
	}
	a.mine[1].Done(0, h.Seq, 2)
	if a.Reclaim() != 1 {
		t.Fatal("not freed at touch 2")
	}
}

func TestReturnsBounds(t *testing.T) {
	a := newArena(t, 16<<10, 2)
	for _, index := range []int{-1, 2, 1 << 40} {
		a.mine[0].Done(index, 1, 1)
		a.mine[0].Hold(index, 1, 1)
	}
	a.seen[1].Done(0, 1, 1) // another cm's words: ignored
	for _, r := range a.mine {
		for i := range r.words {
			if r.words[i].Load() != 0 {
				t.Fatal("a word was written")
			}
		}
	}
	a.mine[0].Done(1, ^uint64(0), 1)
	if a.seen[1].Recover() != 0 {
		t.Fatal("recovered another cm's words")
	}
	if _, err := NewArena(0, a.segRO, a.bytes, a.seen); err == nil {
		t.Error("owner over a read-only arena")
	}
	if _, err := NewArena(0, a.seg, a.bytes, nil); err == nil {
		t.Error("owner without returns")
	}
	if _, err := NewArena(1, a.seg, a.bytes, a.seen); err == nil {
		t.Error("another cm's arena")
	}
}

func TestViewBounds(t *testing.T) {
	a := newArena(t, 16<<10, 1)
	for _, h := range []Handle{
		{Off: 16 << 10, Len: 1}, {Off: 0, Len: 16<<10 + 1}, {Off: 1<<32 - 1, Len: 1<<32 - 1}, {Arena: 1, Len: 1},
	} {
		_, err := a.view.Body(h)
		wantCorrupt(t, err)
	}
	if b, err := a.view.Body(Handle{Off: 16<<10 - 1, Len: 1}); err != nil || len(b) != 1 || cap(b) != 1 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
}

// Bodies of many sizes pass from the owner to two cms, all at full speed.
func TestArenaRace(t *testing.T) {
	count := 60_000
	if testing.Short() || raceEnabled {
		count = 10_000
	}
	a := newArena(t, 64<<10, 3)
	type instruction struct {
		Handle
		touch int
	}
	feed := []chan instruction{nil, make(chan instruction, 64), make(chan instruction, 64)}
	room := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for cm := 1; cm <= 2; cm++ {
		wg.Go(func() {
			for in := range feed[cm] {
				b, err := a.view.Body(in.Handle)
				if err != nil || bytes.Count(b, []byte{byte(in.Seq)}) != len(b) {
					t.Errorf("body %d is damaged: %v", in.Seq, err)
				}
				a.mine[cm].Done(0, in.Seq, in.touch)
				select {
				case room <- struct{}{}:
				default:
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(9, 10))
	for range count {
		size := rng.IntN(1 + rng.IntN(8000))
		h, b, ok := a.Alloc(size)
		for !ok {
			<-room
			h, b, ok = a.Alloc(size)
		}
		for i := range b {
			b[i] = byte(h.Seq)
		}
		switch cm := 1 + rng.IntN(2); rng.IntN(2) {
		case 0:
			feed[cm] <- instruction{h, 1}
		default:
			feed[cm] <- instruction{h, 0}
			feed[3-cm] <- instruction{h, 2}
		}
	}
	close(feed[1])
	close(feed[2])
	wg.Wait()
	a.Reclaim()
	if bytes, bodies := a.Used(); bytes != 0 || bodies != 0 {
		t.Fatalf("%d bytes in %d bodies are left", bytes, bodies)
	}
}

// FuzzAdopt: over whatever a predecessor left, NewArena refuses, or gives an
// arena in which bodies never overlap.
func FuzzAdopt(f *testing.F) {
	seeds(f, 3)
	f.Add(uint64(5), uint64(2), []byte{0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, next, oldest uint64, table []byte) {
		a := newArena(t, 8<<10, 1)
		word(a.seg, arenaNext).Store(next)
		word(a.seg, arenaOldest).Store(oldest)
		copy(a.seg.mem[arenaTable:arenaTable+Slots(a.bytes)*descriptorSize], table)
		if err := a.open(); err != nil {
			wantCorrupt(t, err)
			return
		}
		for _, n := range []int{0, 100, 3000, 8 << 10} {
			a.Alloc(n)
		}
		taken := make([]bool, a.bytes)
		for seq := a.oldest; seq != a.next; seq++ {
			d := a.table[seq&a.mask]
			for i := range round(uint64(d.len)) {
				if at := uint64(d.off) + i; taken[at] {
					t.Fatalf("byte %d belongs to two bodies", at)
				}
				taken[uint64(d.off)+i] = true
			}
		}
		a.Recover(^uint64(0))
		for seq := a.oldest; seq != a.next; seq++ {
			a.mine[0].Done(0, seq, 1)
		}
		a.Reclaim()
		if bytes, bodies := a.Used(); bytes != 0 || bodies != 0 {
			t.Fatalf("%d bytes in %d bodies are left", bytes, bodies)
		}
	})
}
