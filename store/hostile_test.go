package store

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
)

// FuzzConsumer: whatever a producer's segment holds, and however it changes
// while it is read, Next neither crashes nor returns a byte that is not of the
// ring, and comes to an end. The input is tail, head and the ring's bytes;
// change is written over them between the calls.
func FuzzConsumer(f *testing.F) {
	seeds(f, 4)
	for _, size := range []int{1, 7, 40, 128} {
		r := newRing(f, 512)
		for range 9 {
			r.write(bytes.Repeat([]byte{byte(size)}, size))
		}
		r.p.Publish()
		in := binary.LittleEndian.AppendUint64(nil, r.p.Position())
		in = append(binary.LittleEndian.AppendUint64(in, 0), r.p.data...)
		f.Add(in, []byte{3, 0, 0, 0, 0, 0, 0, 0, 9})
	}
	f.Fuzz(func(t *testing.T, in, change []byte) {
		const capacity = 512
		const canary = 0xa5
		outer := bytes.Repeat([]byte{canary}, RingDataSize(capacity)+2*4096)
		mem := outer[4096 : 4096+RingDataSize(capacity)]
		clear(mem)
		data := &Segment{mem: mem, writable: true}
		head, headRO := heap(RingHeadSize)
		if _, err := NewProducer(data, headRO); err != nil {
			t.Fatal(err)
		}
		in = append(in, make([]byte, 16)...)
		word(data, ringTail).Store(binary.LittleEndian.Uint64(in))
		word(head, ringHead).Store(binary.LittleEndian.Uint64(in[8:]))
		copy(mem[ringData:], in[16:])
		if p, err := NewProducer(data, headRO); err == nil {
			p.Lag()
			p.WantSpace(64) // of a successor in the hostile segment: no crash
		}
		c, err := NewConsumer(&Segment{mem: mem}, head)
		check(t, err)
		drain(t, c, change)
		if c.head&7 == 0 { // it is this side's own, in the end
			newcomer(t, c, data, headRO)
		}
		for _, b := range [][]byte{outer[:4096], outer[4096+len(mem):]} {
			if bytes.Count(b, []byte{canary}) != len(b) {
				t.Fatal("wrote outside of the segment")
			}
		}
	})
}

// newcomer is a producer in the place of one that left whatever it left.
func newcomer(t *testing.T, c *Consumer, data, headRO *Segment) {
	c.Close(7)
	p, err := NewProducer(data, headRO)
	check(t, err)
	if p.Closed() != 7 {
		t.Fatalf("closed up to %d", p.Closed())
	}
	p.Restart()
	for i := range 40 {
		rec := bytes.Repeat([]byte{byte(i + 1)}, 1+3*i)
		b := p.Reserve(len(rec))
		if b == nil {
			t.Fatalf("record %d: no space in an empty ring", i)
		}
		p.Commit(copy(b, rec))
		p.Publish()
		got, err := c.Next()
		if err != nil || !bytes.Equal(got, rec) {
			t.Fatalf("record %d: %x, %v", i, got, err)
		}
		c.Release()
	}
}

func drain(t *testing.T, c *Consumer, change []byte) {
	for calls := 0; ; calls++ {
		before := c.head
		rec, err := c.Next()
		if err != nil {
			wantCorrupt(t, err)
			if again, err2 := c.Next(); again != nil || err2 != err {
				t.Fatal("a corrupt ring came back to life")
			}
			return
		}
		if rec == nil {
			return
		}
		if len(rec) == 0 || uint64(len(rec)) > c.max || uint64(cap(c.scratch)) > c.max {
			t.Fatalf("record of %d, scratch of %d", len(rec), cap(c.scratch))
		}
		if c.head <= before || c.head > c.tail || calls > int(c.capacity)/16+len(change) {
			t.Fatalf("head from %d to %d, tail %d", before, c.head, c.tail)
		}
		end := (c.head-1)&c.mask + 1
		at := end - frame(len(rec)) + frameSize
		if !bytes.Equal(rec, c.data[at:at+uint64(len(rec))]) {
			t.Fatal("the record is not the ring's")
		}
		if len(change) > 0 {
			c.data[(c.head+uint64(change[0]))&c.mask] ^= change[0]
			change = change[1:]
		}
		c.Release()
	}
}

func TestHostileHead(t *testing.T) {
	for _, lie := range []uint64{8, 15, 24 + 8, 1 << 40, ^uint64(7)} {
		r := newRing(t, 256)
		for range 3 {
			r.write([]byte("12345678"))
		}
		r.p.Publish()
		r.c.Next()
		r.c.Release()
		r.p.Lag()
		word(r.head, ringHead).Store(lie) // 8 is before, 15 not aligned, the others past the tail
		for r.write(make([]byte, 64)) {
			if r.p.Position() > 1<<20 {
				t.Fatalf("head %#x gives endless space", lie)
			}
		}
		if lie == 24+8 {
			check(t, r.p.Err()) // within what was published: no lie that matters
			continue
		}
		wantCorrupt(t, r.p.Err())
		if r.p.Reserve(1) != nil || r.p.WantSpace(1) {
			t.Fatalf("head %#x: space after the ring is corrupt", lie)
		}
		p, err := NewProducer(r.data, r.headRO) // a successor starts all the same
		check(t, err)
		if lie != 8 {
			wantCorrupt(t, p.Err())
		}
		if p.Abandon(); p.Err() != nil || p.Reserve(64) == nil {
			t.Fatalf("head %#x: no space for the next consumer", lie)
		}
	}
}

func TestHostileTail(t *testing.T) {
	for _, lie := range []uint64{1, 256 + 24 + 8, 8, 1 << 63, ^uint64(7)} {
		r := newRing(t, 256)
		r.write([]byte("1"))
		r.write([]byte("2"))
		r.p.Publish()
		r.c.Next()
		r.c.Next()
		r.write([]byte("3")) // a good frame, so that it is the tail that is refused
		word(r.data, ringTail).Store(lie)
		if r.c.Sleep() {
			t.Fatalf("tail %#x: slept", lie)
		}
		if r.c.Backlog() > 256 {
			t.Fatalf("tail %#x: backlog %d", lie, r.c.Backlog())
		}
		_, err := r.c.Next()
		wantCorrupt(t, err)
	}
}

// Frames that a producer never writes, each alone.
func TestHostileFrame(t *testing.T) {
	for name, w := range map[string]uint64{
		"no length": 0, "mark at the start": frameWord(0, wrapMark), "above MaxRecord": frameWord(0, 65),
		"past the tail": frameWord(0, 30), "other lap": frameWord(256, 4), "all ones": ^uint64(0),
	} {
		r := newRing(t, 256)
		r.write([]byte("12345678"))
		store(r.p.data, w)
		r.p.Publish()
		if rec, err := r.c.Next(); err == nil {
			t.Errorf("%s: %x", name, rec)
		} else {
			wantCorrupt(t, err)
		}
	}
}

// A record that would end after the ring does, with a tail that allows it.
func TestHostileFrameOverTheEnd(t *testing.T) {
	r := newRing(t, 256)
	for range 14 {
		r.write([]byte("12345678"))
	}
	r.p.Publish()
	for range 14 {
		r.c.Next()
	}
	r.c.Release()
	store(r.p.data[224:], frameWord(224, 64))
	word(r.data, ringTail).Store(224 + 72)
	_, err := r.c.Next()
	wantCorrupt(t, err)
}

// A producer that scribbles while the consumer reads, over real mappings.
func TestHostileScribbler(t *testing.T) {
	data, dataRO := mapped(t, RingDataSize(1024))
	head, headRO := mapped(t, RingHeadSize)
	_, err := NewProducer(data, headRO)
	check(t, err)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(5, 6))
		for {
			select {
			case <-stop:
				return
			default:
			}
			pos := rng.Uint64N(1024) &^ 7
			word(data, ringData+int(pos)).Store(frameWord(pos, uint32(rng.IntN(300))))
			word(data, ringTail).Store(rng.Uint64N(1100) &^ 7)
		}
	})
	got, refused := 0, 0
	for got < 1000 || refused < 1000 {
		word(head, ringHead).Store(0)
		c, err := NewConsumer(dataRO, head)
		check(t, err)
		for err == nil && c.head < 1024 {
			var rec []byte
			if rec, err = c.Next(); rec == nil {
				break
			}
			if got++; len(rec) > MaxRecord(1024) {
				t.Fatalf("record of %d", len(rec))
			}
		}
		if err != nil {
			wantCorrupt(t, err)
			refused++
		}
	}
	close(stop)
	wg.Wait()
}

func TestOtherLayoutRefused(t *testing.T) {
	r := newRing(t, 256)
	if _, err := NewConnTable(r.data, 4); err == nil {
		t.Error("a ring opened as a table")
	}
	rw, ro := heap(NamedSize(4))
	_, err := NewNamed(rw, 4)
	check(t, err)
	word(rw, 0).Add(1) // another layout version
	_, err = NewNamed(rw, 4)
	wantCorrupt(t, err)
	_, err = NewNamed(ro, 4)
	check(t, err) // its reader has no say in it
	word(rw, 0).Add(^uint64(0))
	word(rw, 8).Store(8) // another size
	_, err = NewNamed(rw, 4)
	wantCorrupt(t, err)
	_, err = NewNamed(ro, 8)
	wantCorrupt(t, err)
}

// What a cm leaves in the headers of its segments keeps nobody from starting:
// not those who read them, not its successor.
func TestHostileHeader(t *testing.T) {
	r := newRing(t, 256)
	a := newArena(t, 16<<10, 2)
	for _, s := range []*Segment{r.data, r.head, a.seg, a.retSegs[1]} {
		for i := range headerSize {
			s.mem[i] = 0xa5
		}
	}
	r.open(t)
	check(t, a.open())
	for _, seg := range []*Segment{a.retSegs[1], {mem: a.retSegs[1].mem}} {
		_, err := NewReturns(seg, 2, Slots(a.bytes))
		check(t, err)
	}
}
