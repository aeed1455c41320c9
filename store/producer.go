package store

import (
	"fmt"
	"sync/atomic"
)

// Producer is the writing end of a ring. One goroutine uses it.
type Producer struct {
	data      []byte // the ring proper
	capacity  uint64
	mask      uint64
	max       uint64 // longest record; 0 once the ring is corrupt
	tail      uint64 // private: after the last committed record
	published uint64
	head      uint64 // the consumer's, as last seen
	at        uint64 // where the reserved record begins
	reserved  int
	gone      bool // the consuming process, and its head with it
	err       error

	tailWord, headWord, wantAt *atomic.Uint64
	closed                     *atomic.Uint64
	want                       flag
	sleep                      bell
}

// NewProducer opens the writing end: data is mapped writable, head read-only.
// It goes on where the tail in data stands, and writes nothing but the header of
// a new segment. A head that makes no sense shows in Err: the consumer's fault
// must not keep this side from starting.
func NewProducer(data, head *Segment) (*Producer, error) {
	capacity, err := openRing(data, head)
	if err != nil {
		return nil, err
	}
	if err := mustWrite(data, "ring data"); err != nil {
		return nil, err
	}
	p := &Producer{
		data:     data.mem[ringData:],
		capacity: uint64(capacity),
		mask:     uint64(capacity) - 1,
		max:      uint64(MaxRecord(capacity)),
		tailWord: word(data, ringTail),
		headWord: word(head, ringHead),
		closed:   word(head, ringClosed),
		wantAt:   word(data, ringWantAt),
		want:     newFlag(word(data, ringWant)),
		sleep:    bell{word: word(head, ringSleep), owed: true},
	}
	p.tail, p.head = p.tailWord.Load(), p.headWord.Load()
	p.published = p.tail
	if !sane(p.head, p.tail, p.capacity) {
		p.fail(p.head)
	}
	return p, nil
}

func (p *Producer) fail(head uint64) {
	p.err = fmt.Errorf("ring head %d, was %d, tail %d: %w", head, p.head, p.published, ErrCorrupt)
	p.max = 0
}

// Recover goes on at tail, up to which a predecessor that has ended has committed
// (Redo) and, as far as it came, published. It stores nothing but that nobody
// waits; Publish does the rest. ErrCorrupt, wrapped, when tail makes no sense.
func (p *Producer) Recover(tail uint64) error {
	published := p.tailWord.Load()
	if tail&7 != 0 || tail-published > p.capacity {
		return fmt.Errorf("ring tail %d, published %d: %w", tail, published, ErrCorrupt)
	}
	p.want.again()
	p.head, p.published, p.tail, p.reserved = p.headWord.Load(), published, tail, 0
	p.gone, p.err, p.max = false, nil, uint64(MaxRecord(int(p.capacity)))
	p.sleep.owed, p.sleep.rung = true, 0
	if p.head > published || !sane(p.head, tail, p.capacity) {
		p.fail(p.head)
	}
	return nil
}

// Published returns the position up to which records have been shown, as it
// stands in shared memory.
func (p *Producer) Published() uint64 { return p.tailWord.Load() }

// Abandon drops what was committed and not published, and counts what was
// published as read: the consuming process has ended. Its successor begins at
// the tail (Consumer.Restart); until Begun its head is not looked at.
func (p *Producer) Abandon() {
	p.tail, p.head, p.reserved = p.published, p.published, 0
	p.gone, p.err, p.max = true, nil, uint64(MaxRecord(int(p.capacity)))
	p.sleep.owed, p.sleep.rung = true, 0
}

// Begun says that a consuming process has begun, whose head counts from here on. One
// that makes no sense shows in Err.
func (p *Producer) Begun() {
	p.gone, p.err, p.max = false, nil, uint64(MaxRecord(int(p.capacity)))
	if p.head = p.headWord.Load(); p.head > p.published || !sane(p.head, p.tail, p.capacity) {
		p.fail(p.head)
	}
}

// Restart begins where the consumer has stopped reading, for a new process that
// does not believe what the one before it left. The consumer must have closed.
func (p *Producer) Restart() {
	at := p.headWord.Load()
	p.tail, p.head, p.published, p.reserved = at, at, at, 0
	p.err, p.max = nil, uint64(MaxRecord(int(p.capacity)))
	p.wantAt.Store(0)
	p.tailWord.Store(at)
}

// Closed returns the generation of the producing process up to which the
// consumer takes no more records (Consumer.Close), 0 at first.
func (p *Producer) Closed() uint64 { return p.closed.Load() }

// Reserve returns n contiguous bytes of the ring, 8-aligned, that become a
// record with Commit; a second Reserve without Commit takes the place of the
// first. It returns nil when they do not fit now, when n is not between 1 and
// MaxRecord, and always after Err.
func (p *Producer) Reserve(n int) []byte {
	p.reserved = 0
	if uint64(n)-1 >= p.max {
		return nil
	}
	need, skip := p.span(n)
	if p.tail+skip+need-p.head > p.capacity {
		if p.refresh(); p.err != nil || p.tail+skip+need-p.head > p.capacity {
			return nil
		}
	}
	p.at = p.tail + skip
	if skip > 0 {
		stored()
		store(p.data[p.tail&p.mask:], frameWord(p.tail, wrapMark))
	}
	p.reserved = n
	off := int(p.at&p.mask) + frameSize
	return p.data[off : off+n : off+n]
}

// span returns the bytes that a record of n takes and how many to skip first
// because it would not end within the ring.
func (p *Producer) span(n int) (need, skip uint64) {
	need = frame(n)
	if rest := p.capacity - p.tail&p.mask; need > rest {
		skip = rest
	}
	return need, skip
}

// refresh reads the consumer's head. One that went back, or past what was
// published, ends the ring.
func (p *Producer) refresh() {
	if p.gone {
		return
	}
	h := p.headWord.Load()
	if h-p.head > p.published-p.head || h&7 != 0 {
		p.fail(h)
		return
	}
	p.head = h
}

// Framed returns the bytes that a record of n takes in a ring.
func Framed(n int) int { return int(frame(n)) }

// Fits tells whether records that take n bytes in all (Framed), none of them more
// than most, have room now, wherever the end of the ring comes between them.
// After Err it may say so, too, but nothing can be reserved.
func (p *Producer) Fits(n, most int) bool {
	return p.tail+uint64(n+most)-p.head <= p.capacity || p.fits(n+most)
}

// fits is apart, so that Fits is inlined.
//
//go:noinline
func (p *Producer) fits(n int) bool {
	p.refresh()
	return p.err == nil && p.tail+uint64(n)-p.head <= p.capacity
}

// WantFits asks the consumer to ring when Fits(n, most) comes true. It returns
// true when it is already, and then asks for nothing. Call it after Publish.
func (p *Producer) WantFits(n, most int) bool {
	return p.wantUpTo(p.tail + uint64(n) + uint64(most))
}

// Commit makes the first n bytes of the reservation a record, which the
// consumer sees with the next Publish. Without a reservation, or with n outside
// of it, nothing happens: Commit(0) drops a reservation.
func (p *Producer) Commit(n int) {
	if n > 0 && n <= p.reserved {
		stored()
		store(p.data[p.at&p.mask:], frameWord(p.at, uint32(n)))
		p.tail = p.at + frame(n)
	}
	p.reserved = 0
}

// Put appends r as a committed record and reports whether there was space. It
// is for the records off the message path: r escapes to the heap.
func (p *Producer) Put(r Record) bool {
	b := p.Reserve(r.Size())
	if b == nil {
		return false
	}
	p.Commit(r.Put(b))
	return true
}

// Position returns the absolute position after the last committed record, in
// bytes since the ring was made: what the tail becomes with Publish.
func (p *Producer) Position() uint64 { return p.tail }

// Pending tells whether committed records wait for Publish.
func (p *Producer) Pending() bool { return p.tail != p.published }

// Publish shows all committed records to the consumer. When it returns true the
// consumer sleeps and nobody rang for that sleep yet: ring its doorbell. A
// successor calls it once at its start, for what its predecessor published.
func (p *Producer) Publish() (ring bool) {
	if p.tail == p.published && !p.sleep.owed {
		return false
	}
	stored()
	p.tailWord.Store(p.tail)
	p.published = p.tail
	w, ring := p.sleep.waiting()
	if ring {
		p.sleep.rung = w
	}
	return ring
}

// WantSpace asks the consumer to ring when a record of n bytes fits. It returns
// true when one fits already, and then asks for nothing. Call it after Publish:
// the consumer cannot make space out of records that it does not see.
func (p *Producer) WantSpace(n int) bool {
	if uint64(n)-1 >= p.max {
		return false
	}
	need, skip := p.span(n)
	return p.wantUpTo(p.tail + skip + need)
}

// wantUpTo asks for a ring when the position end is within the ring.
func (p *Producer) wantUpTo(end uint64) bool {
	at := uint64(0)
	if end > p.capacity {
		at = min(end-p.capacity, p.published)
	}
	stored()
	p.wantAt.Store(at)
	p.want.raise()
	if p.refresh(); p.err != nil || end-p.head > p.capacity {
		return false
	}
	p.want.lower()
	return true
}

// WantDrained asks the consumer to ring when no more than unread of the
// published bytes are left to it. It returns true when that is so already, and
// then asks for nothing.
func (p *Producer) WantDrained(unread uint64) bool {
	p.wantAt.Store(p.published - min(unread, p.published))
	p.want.raise()
	p.refresh()
	if p.err != nil || p.published-p.head > unread {
		return false
	}
	p.want.lower()
	return true
}

// Lag returns the absolute position up to which the consumer has released, and
// the published bytes after it. A position that stands still while bytes are
// left is a consumer that stalls.
func (p *Producer) Lag() (released, unread uint64) {
	if p.err == nil {
		p.refresh()
	}
	return p.head, p.published - p.head
}

// Err returns ErrCorrupt, wrapped, once the consumer has shown a head that
// makes no sense; nothing can be reserved any more.
func (p *Producer) Err() error { return p.err }
