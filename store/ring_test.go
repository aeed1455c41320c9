package store

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"
)

type ring struct {
	data, dataRO, head, headRO *Segment
	p                          *Producer
	c                          *Consumer
}

func newRing(t fataler, capacity int) *ring {
	r := &ring{}
	r.data, r.dataRO = heap(RingDataSize(capacity))
	r.head, r.headRO = heap(RingHeadSize)
	r.open(t)
	return r
}

func (r *ring) open(t fataler) {
	var err error
	r.p, err = NewProducer(r.data, r.headRO)
	check(t, err)
	r.c, err = NewConsumer(r.dataRO, r.head)
	check(t, err)
}

func (r *ring) write(rec []byte) bool {
	b := r.p.Reserve(len(rec))
	if b == nil {
		return false
	}
	r.p.Commit(copy(b, rec))
	return true
}

// Every size crosses the end of the ring at every offset.
func TestRingWrap(t *testing.T) {
	for size := 1; size <= 64; size++ {
		r := newRing(t, 256)
		for i := range 100 {
			rec := bytes.Repeat([]byte{byte(i + size)}, size)
			if !r.write(rec) {
				t.Fatalf("size %d: no space in an empty ring at %d", size, r.p.tail)
			}
			r.p.Publish()
			got, err := r.c.Next()
			if err != nil || !bytes.Equal(got, rec) {
				t.Fatalf("size %d: %x, %v", size, got, err)
			}
			r.c.Release()
		}
	}
}

func TestRingFull(t *testing.T) {
	r := newRing(t, 1024)
	n := 0
	for r.write([]byte("12345678")) {
		n++
	}
	if n != 1024/16 {
		t.Fatalf("%d records of 16 bytes in 1024", n)
	}
	r.p.Publish()
	if r.p.WantSpace(8) {
		t.Fatal("space in a full ring")
	}
	if _, err := r.c.Next(); err != nil || !r.c.Release() {
		t.Fatal("the waiting producer is not rung")
	}
	if !r.write([]byte("87654321")) || r.write([]byte{1}) {
		t.Fatal("not exactly one record fits")
	}
}

// Both ends: the predecessor stored its index and died before it rang.
func TestSuccessorRings(t *testing.T) {
	r := newRing(t, 64)
	r.c.Sleep()
	r.write([]byte("12345678"))
	if !r.p.Publish() || r.p.Publish() {
		t.Fatal("not rung once")
	}
	var err error
	r.p, err = NewProducer(r.data, r.headRO)
	if check(t, err); !r.p.Publish() || r.p.Publish() {
		t.Fatal("the new producer does not ring once for what was published")
	}
	for r.write([]byte("12345678")) {
	}
	r.p.Publish()
	r.p.WantSpace(8)
	r.c.Next()
	if !r.c.Release() || r.c.Release() {
		t.Fatal("not rung once")
	}
	r.c, err = NewConsumer(r.dataRO, r.head)
	if check(t, err); !r.c.Release() || r.c.Release() {
		t.Fatal("the new consumer does not ring once for what was released")
	}
}

// A producer that waits without Publish is rung when all is read that it showed.
func TestWantSpaceUnpublished(t *testing.T) {
	r := newRing(t, 64)
	r.write([]byte("1"))
	r.p.Publish()
	for range 3 {
		r.write([]byte("2"))
	}
	if r.p.WantSpace(16) {
		t.Fatal("space in a full ring")
	}
	r.c.Next()
	if !r.c.Release() {
		t.Fatal("not rung")
	}
}

func TestReserveLimits(t *testing.T) {
	r := newRing(t, 256)
	for _, n := range []int{-1, 0, 65, 1 << 40} {
		if r.p.Reserve(n) != nil || r.p.WantSpace(n) {
			t.Errorf("reserved %d", n)
		}
	}
	if b := r.p.Reserve(5); len(b) != 5 || cap(b) != 5 {
		t.Errorf("len %d cap %d", len(b), cap(b))
	}
	r.p.Commit(6)
	r.p.Commit(5)
	if r.p.Pending() {
		t.Error("committed outside of the reservation")
	}
	for _, bad := range []int{0, 32, 100, 128 << 20} {
		data, _ := heap(RingDataSize(bad))
		_, head := heap(RingHeadSize)
		if _, err := NewProducer(data, head); err == nil {
			t.Errorf("ring of %d", bad)
		}
	}
	if _, err := NewProducer(r.dataRO, r.headRO); err == nil {
		t.Error("producer over a read-only segment")
	}
	if _, err := NewConsumer(r.dataRO, r.headRO); err == nil {
		t.Error("consumer over a read-only segment")
	}
}

// stamp makes a record that tells its number and whether it is whole.
func stampRecord(b []byte, n uint64) {
	binary.LittleEndian.PutUint64(b[4:], n)
	for i := 12; i < len(b); i++ {
		b[i] = byte(n) + byte(i)
	}
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
}

func produce(t *testing.T, p *Producer, records int, wake, space chan struct{}, rng *rand.Rand) {
	ring := func() {
		if p.Publish() {
			wake <- struct{}{} // has room for one: two would be two rings for one sleep
		}
	}
	for n := 0; n < records; {
		for range rng.IntN(20) + 1 {
			size := 12 + rng.IntN(1+rng.IntN(900))
			b := p.Reserve(size)
			for b == nil {
				ring()
				if !p.WantSpace(size) {
					<-space
				}
				if b = p.Reserve(size); p.Err() != nil {
					t.Error(p.Err())
					return
				}
			}
			stampRecord(b, uint64(n))
			p.Commit(size)
			n++
		}
		ring()
	}
}

func consume(t *testing.T, c *Consumer, records int, wake, space chan struct{}, rng *rand.Rand) {
	for n := 0; n < records; {
		batch := rng.IntN(100) + 1
		for ; batch > 0 && n < records; batch-- {
			rec, err := c.Next()
			if err != nil {
				t.Error(err)
				return
			}
			if rec == nil {
				break
			}
			if crc32.ChecksumIEEE(rec[4:]) != binary.LittleEndian.Uint32(rec) || binary.LittleEndian.Uint64(rec[4:]) != uint64(n) {
				t.Errorf("record %d is damaged or another one", n)
				return
			}
			n++
		}
		if c.Release() {
			select {
			case space <- struct{}{}:
			default:
			}
		}
		if batch > 0 && n < records && c.Sleep() {
			<-wake
			c.Awake()
		}
	}
}

// Both ends at full speed, each blocking for its doorbell: a lost wake-up would
// hang, a missing order would show as damage, and the race detector watches.
func TestRingRace(t *testing.T) {
	records := 200_000
	if testing.Short() || raceEnabled {
		records = 20_000
	}
	run := func(t *testing.T, data, dataRO, head, headRO *Segment) {
		p, err := NewProducer(data, headRO)
		check(t, err)
		c, err := NewConsumer(dataRO, head)
		check(t, err)
		wake, space := make(chan struct{}, 1), make(chan struct{}, 1)
		var wg sync.WaitGroup
		wg.Go(func() { produce(t, p, records, wake, space, rand.New(rand.NewPCG(1, 2))) })
		wg.Go(func() { consume(t, c, records, wake, space, rand.New(rand.NewPCG(3, 4))) })
		wg.Wait()
	}
	for _, capacity := range []int{4096, 64 << 10} {
		data, dataRO := heap(RingDataSize(capacity))
		head, headRO := heap(RingHeadSize)
		run(t, data, dataRO, head, headRO)
		data, dataRO = mapped(t, RingDataSize(capacity))
		head, headRO = mapped(t, RingHeadSize)
		run(t, data, dataRO, head, headRO)
	}
}

func TestLag(t *testing.T) {
	r := newRing(t, 1024)
	r.write([]byte("one"))
	r.write([]byte("two"))
	if pos := r.p.Position(); pos != 32 {
		t.Fatalf("position %d", pos)
	}
	r.p.Publish()
	if at, unread := r.p.Lag(); at != 0 || unread != 32 || r.c.Backlog() != 32 {
		t.Fatalf("%d, %d", at, unread)
	}
	r.c.Next()
	r.c.Release()
	if at, unread := r.p.Lag(); at != 16 || unread != 16 || r.c.Backlog() != 16 {
		t.Fatalf("%d, %d", at, unread)
	}
}

// Both ends of a ring whose other process has gone: what was under way is
// dropped on both sides alike, also with words that make no sense left behind.
func TestRestart(t *testing.T) {
	for _, junk := range []uint64{0, 8, 1 << 40, ^uint64(0)} {
		r := newRing(t, 256)
		for i := range 9 {
			r.write([]byte{byte(i)})
		}
		r.p.Publish()
		r.c.Next()
		r.c.Release()

		// The producer has gone.
		word(r.data, ringTail).Store(junk)
		word(r.data, ringWant).Store(junk)
		r.c.Next()
		r.c.Close(1)
		var err error
		r.p, err = NewProducer(r.data, r.headRO)
		check(t, err)
		r.p.Restart()
		r.exchange(t)

		// The consumer has gone; some is published, some not.
		r.write([]byte("published"))
		r.p.Publish()
		r.write([]byte("not published"))
		word(r.head, ringHead).Store(junk)
		word(r.head, ringSleep).Store(junk)
		r.p.Lag()
		r.p.Abandon()
		if _, unread := r.p.Lag(); unread != 0 || r.p.Err() != nil {
			t.Fatalf("head %#x of one that has ended: %d bytes unread, %v", junk, unread, r.p.Err())
		}
		r.c, err = NewConsumer(r.dataRO, r.head)
		check(t, err)
		r.c.Restart()
		r.p.Begun()
		check(t, r.p.Err())
		r.exchange(t)
	}
}

func (r *ring) exchange(t *testing.T) {
	t.Helper()
	for i := range 50 {
		if !r.c.Sleep() || !r.write([]byte{byte(i), 1}) || !r.p.Publish() {
			t.Fatalf("record %d: no space or no bell", i)
		}
		r.c.Awake()
		if rec, err := r.c.Next(); err != nil || !bytes.Equal(rec, []byte{byte(i), 1}) {
			t.Fatalf("record %d: %x, %v", i, rec, err)
		}
		r.c.Release()
	}
}

// A record that is not done with comes again to a successor.
func TestReleaseTo(t *testing.T) {
	r := newRing(t, 256)
	r.c.ReleaseTo(r.c.Begin())
	for _, s := range []string{"one", "two", "three"} {
		r.write([]byte(s))
	}
	r.p.Publish()
	for range 2 {
		r.c.Next()
	}
	r.c.ReleaseTo(r.c.Begin())
	if _, unread := r.p.Lag(); unread != 32 {
		t.Fatalf("%d unread", unread)
	}
	r.open(t)
	if rec, err := r.c.Next(); string(rec) != "two" {
		t.Fatalf("%q, %v", rec, err)
	}
	r.c.Back()
	if rec, err := r.c.Next(); string(rec) != "two" {
		t.Fatalf("%q, %v", rec, err)
	}
	r.c.Release()
	if _, unread := r.p.Lag(); unread != 16 {
		t.Fatalf("%d unread", unread)
	}
}
