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
	router     *Named     // writable
	mine       []*Returns // each cm's writable one
	named      *Named     // this and the next as the owner, cm 0, sees them
	seen       []*Returns
	*Arena
	view *ArenaView
}

func newArena(t fataler, bytes, cms int) *arena {
	a := &arena{bytes: bytes}
	a.seg, a.segRO = heap(ArenaSize(bytes))
	rw, ro := heap(NamedSize(Slots(bytes)))
	var err error
	a.router, err = NewNamed(rw, Slots(bytes))
	check(t, err)
	a.named, err = NewNamed(ro, Slots(bytes))
	check(t, err)
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

// name names the cms that get body seq, for good.
func name(n *Named, seq, cms uint64) {
	n.Set(seq, cms)
	n.Commit(max(n.Last(), seq))
}

// finish has cms be named for a body, and finish with it.
func (a *arena) finish(seq uint64, cms ...int) {
	bits := uint64(0)
	for _, cm := range cms {
		bits |= 1 << cm
	}
	name(a.router, seq, bits)
	for _, cm := range cms {
		a.mine[cm].Done(0, seq)
	}
}

// open makes the owner's side, as the first owner or as a successor.
func (a *arena) open() (err error) {
	if a.Arena, err = NewArena(0, a.seg, a.bytes, a.named, a.seen); err != nil {
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
			a.finish(queue[0].Seq, 0)
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
		a.finish(h.Seq, 0)
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
	a.finish(1, 0)
	if _, _, ok := a.Alloc(1); !ok {
		t.Fatal("the finished body's slot was not reused")
	}
	for _, n := range []int{-1, 64<<10 + 1, 1 << 40} {
		if _, _, ok := a.Alloc(n); ok {
			t.Errorf("allocated %d", n)
		}
	}
}

// Only the cms that the router names count, whatever the others say.
func TestNamed(t *testing.T) {
	a := newArena(t, 16<<10, 3)
	free := func(want int, what string) {
		t.Helper()
		if got := a.Reclaim(); got != want {
			t.Fatalf("%s: %d freed, want %d", what, got, want)
		}
	}
	h, _, _ := a.Alloc(1)
	for cm := range 3 {
		a.mine[cm].Done(0, h.Seq)
	}
	free(0, "all have finished, nobody is named")
	name(a.router, h.Seq, 0b101)
	free(1, "those named had finished")

	h, _, _ = a.Alloc(1)
	name(a.router, h.Seq, 0)
	free(1, "named to nobody")

	h, _, _ = a.Alloc(1)
	name(a.router, h.Seq, 0b110)
	a.mine[0].Done(0, h.Seq)
	a.mine[1].Done(0, h.Seq)
	free(0, "one is missing")
	name(a.router, h.Seq, 0b110)
	a.mine[2].Done(0, h.Seq-1)
	a.mine[2].Done(0, h.Seq+uint64(len(a.table)))
	free(0, "finished with another body")
	a.router.Drop(2)
	free(1, "the missing one has ended")

	h, _, _ = a.Alloc(1)
	a.router.Set(h.Seq, 0)
	free(0, "not committed")
	if got := a.Stuck(); got != 0 {
		t.Fatalf("stuck at %d, which is not committed", got)
	}
	name(a.router, h.Seq, 0b010) // by the next router
	free(0, "named anew")
	a.mine[1].Done(0, h.Seq)
	free(1, "finished")

	a.Alloc(1)
	name(a.router, 5, 1<<63)
	free(0, "named to a cm that is not there")
	if last, cms := a.named.Get(5); last != 5 || cms != 1<<63 || a.named.Last() != 5 {
		t.Fatalf("%d, %b, %d", last, cms, a.named.Last())
	}
}

// What the owner waits for: the oldest body, if it is named and not finished; of
// a predecessor's, any.
func TestArenaStuck(t *testing.T) {
	a := newArena(t, 16<<10, 3)
	want := func(seq uint64, what string) {
		t.Helper()
		if got := a.Stuck(); got != seq {
			t.Fatalf("%s: stuck at %d, want %d", what, got, seq)
		}
	}
	want(0, "empty")
	for range 5 {
		a.Alloc(100)
	}
	want(0, "not routed")
	name(a.router, 1, 0b010)
	name(a.router, 2, 0b110)
	name(a.router, 3, 0b000)
	want(1, "named")
	a.mine[2].Done(0, 2)
	want(1, "a later one is finished")
	a.mine[1].Done(0, 1)
	want(2, "the first is finished")
	a.mine[1].Done(0, 2+16)
	want(2, "another number")
	a.mine[1].Done(0, 2)
	want(0, "the rest is not routed")
	if _, bodies := a.Used(); bodies != 2 {
		t.Fatalf("%d bodies", bodies)
	}
	name(a.router, 4, 0b101)
	name(a.router, 5, 0b100)
	check(t, a.open())
	a.router.Drop(0)
	want(4, "a predecessor's")
	a.mine[2].Done(0, 4)
	want(5, "a predecessor's, the next")
	a.mine[2].Done(0, 5)
	want(0, "all finished")
	if _, _, ok := a.Alloc(1); !ok {
		t.Fatal("nothing given out")
	}
}

// A successor gives nothing out while others may read its predecessor's bodies,
// numbers go on, and nothing that the predecessor wrote counts.
func TestArenaSuccessor(t *testing.T) {
	a := newArena(t, 16<<10, 3)
	for range 6 { // of which three are routed
		a.Alloc(100)
	}
	name(a.router, 1, 0)
	name(a.router, 2, 0b011)
	name(a.router, 3, 0b110)
	for i := range a.seg.mem {
		a.seg.mem[i] = 0xa5
	}
	a.mine[0].Done(0, 4) // a lie about the future
	a.mine[0].Clear()
	check(t, a.open())
	full := func(when string) {
		t.Helper()
		if _, bodies := a.Used(); bodies == 0 {
			t.Fatalf("empty %s", when)
		}
		if _, _, ok := a.Alloc(1); ok {
			t.Fatalf("given out %s", when)
		}
	}
	full("while cm/1 and cm/2 read")
	a.mine[1].Done(0, 3)
	full("while cm/1 reads body 2")
	a.mine[1].Done(0, 2) // cm/0 itself was named for it, too
	full("while cm/2 reads body 3")
	a.router.Drop(2)
	h, b, ok := a.Alloc(100)
	if !ok || h.Seq != 4 || h.Off != 0 || len(b) != 100 {
		t.Fatalf("%+v, %v", h, ok)
	}
	name(a.router, 4, 0b001)
	if a.Reclaim() != 0 {
		t.Fatal("freed by a word of the predecessor")
	}
	a.mine[0].Done(0, 4)
	if a.Reclaim() != 1 {
		t.Fatal("not freed")
	}
}

// What a hostile cm can do with its words: nothing to the owner's process, and
// nothing to a body that it was not named for.
func TestHostileWords(t *testing.T) {
	a := newArena(t, 16<<10, 3)
	rng := rand.New(rand.NewPCG(7, 8))
	live := map[uint64]bool{} // whether cm/1, who is honest, has finished
	for range 50_000 {
		if h, b, ok := a.Alloc(rng.IntN(3000)); ok {
			if len(b) > 0 {
				b[0], b[len(b)-1] = 1, 1
			}
			live[h.Seq] = false
			name(a.router, h.Seq, uint64(0b010+rng.IntN(2)*0b100))
		}
		words := a.mine[2].row(0)
		words[rng.IntN(len(words))].Store(a.oldest + rng.Uint64N(uint64(len(words))))
		words[rng.IntN(len(words))].Store(rng.Uint64())
		before := a.oldest
		a.Reclaim()
		for ; before < a.oldest; before++ {
			if !live[before] {
				t.Fatalf("body %d was freed while cm/1 has it", before)
			}
			delete(live, before)
		}
		for seq := range live {
			if rng.IntN(3) == 0 {
				live[seq] = true
				a.mine[1].Done(0, seq)
			}
		}
	}
}

func TestReturnsBounds(t *testing.T) {
	a := newArena(t, 16<<10, 2)
	for _, index := range []int{-1, 2, 1 << 40} {
		a.mine[0].Done(index, 1)
	}
	a.seen[1].Done(0, 1) // another cm's words: ignored
	for _, r := range a.mine {
		for i := range r.words {
			if r.words[i].Load() != 0 {
				t.Fatal("a word was written")
			}
		}
	}
	a.mine[0].Done(1, 17)
	for arena, want := range []bool{false, true} {
		if a.mine[0].Has(arena, 17) != want || a.mine[0].Has(arena, 1) {
			t.Fatalf("the word for body 17 of arena %d", arena)
		}
	}
	if a.mine[0].Has(-1, 0) || a.mine[0].Has(2, 0) || a.mine[0].Has(1, 1<<48|17) {
		t.Fatal("has what there is not")
	}
	a.mine[1].Done(0, ^uint64(0))
	if a.seen[1].Clear(); a.mine[1].row(0)[15].Load() != seqMask {
		t.Fatal("cleared another cm's words")
	}
	if _, err := NewArena(0, a.segRO, a.bytes, a.named, a.seen); err == nil {
		t.Error("owner over a read-only arena")
	}
	if _, err := NewArena(0, a.seg, a.bytes, a.named, nil); err == nil {
		t.Error("owner without returns")
	}
	if _, err := NewArena(2, a.seg, a.bytes, a.named, a.seen); err == nil {
		t.Error("an arena without a cm")
	}
	if _, err := NewNamed(a.retSegs[0], 8); err == nil {
		t.Error("returns opened as named")
	}
	_, ro := heap(NamedSize(8))
	few, err := NewNamed(ro, 8)
	check(t, err)
	if _, err := NewArena(0, a.seg, a.bytes, few, a.seen); err == nil {
		t.Error("entries of another arena")
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
	feed := []chan Handle{nil, make(chan Handle, 64), make(chan Handle, 64)}
	room := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for cm := 1; cm <= 2; cm++ {
		wg.Go(func() {
			for in := range feed[cm] {
				b, err := a.view.Body(in)
				if err != nil || bytes.Count(b, []byte{byte(in.Seq)}) != len(b) {
					t.Errorf("body %d is damaged: %v", in.Seq, err)
				}
				a.mine[cm].Done(0, in.Seq)
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
			name(a.router, h.Seq, 1<<cm)
			feed[cm] <- h
		default:
			name(a.router, h.Seq, 0b110)
			feed[cm] <- h
			feed[3-cm] <- h
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
