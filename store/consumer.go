package store

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Consumer is the reading end of a ring. One goroutine uses it.
type Consumer struct {
	data     []byte // the ring proper, the producer's: every byte may change at any time
	capacity uint64
	mask     uint64
	max      uint64
	head     uint64 // private: after the last record that Next returned
	begin    uint64 // before it
	released uint64
	tail     uint64 // the producer's, as last seen and found sane
	scratch  []byte // holds the copy that Next returned
	err      error

	tailWord, headWord, wantAt *atomic.Uint64
	closed                     *atomic.Uint64
	sleep                      flag
	want                       bell
}

// NewConsumer opens the reading end: data is mapped read-only, head writable.
// It goes on where the head stands: records that a predecessor took but did not
// release come again. It writes nothing but the header of a new segment. A tail that makes no sense is Next's to tell: the
// producer's fault must not keep this side from starting.
func NewConsumer(data, head *Segment) (*Consumer, error) {
	capacity, err := openRing(data, head)
	if err != nil {
		return nil, err
	}
	if err := mustWrite(head, "ring head"); err != nil {
		return nil, err
	}
	c := &Consumer{
		data:     data.mem[ringData:],
		capacity: uint64(capacity),
		mask:     uint64(capacity) - 1,
		max:      uint64(MaxRecord(capacity)),
		tailWord: word(data, ringTail),
		headWord: word(head, ringHead),
		closed:   word(head, ringClosed),
		wantAt:   word(data, ringWantAt),
		sleep:    newFlag(word(head, ringSleep)),
		want:     bell{word: word(data, ringWant), owed: true},
	}
	c.head, c.tail = c.headWord.Load(), c.tailWord.Load()
	c.released, c.begin = c.head, c.head
	if !sane(c.head, c.tail, c.capacity) {
		c.fail("ring head %d, tail %d", c.head, c.tail)
	}
	return c, nil
}

// Recover goes on at head, up to which a predecessor that has ended has committed
// (Redo) and, as far as it came, released. It stores nothing but that nobody
// sleeps; Release does the rest. ErrCorrupt, wrapped, when head makes no sense; a
// tail that makes none is Next's to tell.
func (c *Consumer) Recover(head uint64) error {
	released := c.headWord.Load()
	if head&7 != 0 || head-released > c.capacity {
		return fmt.Errorf("ring head %d, released %d: %w", head, released, ErrCorrupt)
	}
	c.sleep.again()
	c.head, c.begin, c.released, c.tail, c.err = head, head, released, c.tailWord.Load(), nil
	c.want.owed, c.want.rung = true, 0
	if !sane(head, c.tail, c.capacity) || c.tail-released > c.capacity {
		c.fail("ring head %d, tail %d", head, c.tail)
	}
	return nil
}

// Released returns the position up to which space has been given back, as it
// stands in shared memory.
func (c *Consumer) Released() uint64 { return c.headWord.Load() }

// Back gives back the record that Next returned last: it comes again, to this
// consumer or to a successor.
func (c *Consumer) Back() { c.head = c.begin }

// Next returns a private copy of the next record, valid until the next call, or
// nil when there is none. ErrCorrupt, wrapped and for good, when the producer's
// index or a record's length makes no sense.
func (c *Consumer) Next() ([]byte, error) {
	c.begin = c.head
	if c.head == c.tail || c.err != nil {
		if c.refresh(); c.err != nil || c.head == c.tail {
			return nil, c.err
		}
	}
	pos, off := c.head, c.head&c.mask
	w := loadOnce(c.data[off:])
	if w == frameWord(pos, wrapMark) && off != 0 {
		pos, off = pos+c.capacity-off, 0
		w = loadOnce(c.data)
	}
	n := uint64(uint32(w))
	need := frame(int(n))
	// A mark at offset 0 is no length either: a record always follows a mark.
	if n-1 >= c.max || w != frameWord(pos, uint32(n)) || pos+need-c.head > c.tail-c.head || off+need > c.capacity {
		return nil, c.fail("ring frame %#x at %d, tail %d", w, pos, c.tail)
	}
	if n > uint64(len(c.scratch)) {
		c.scratch = make([]byte, min(c.max, max(256, uint64(1)<<bits.Len64(n-1))))
	}
	off += frameSize
	rec := c.scratch[:n:n]
	copy(rec, c.data[off:off+n])
	c.head = pos + need
	return rec, nil
}

// refresh reads the producer's tail. It may be ahead of the released head by
// the capacity at most, and never behind what was read.
func (c *Consumer) refresh() {
	if c.err != nil {
		return
	}
	t := c.tailWord.Load()
	if t-c.head > c.capacity-(c.head-c.released) || t&7 != 0 {
		c.fail("ring tail %d, head %d", t, c.head)
		return
	}
	c.tail = t
}

func (c *Consumer) fail(format string, args ...any) error {
	c.err = fmt.Errorf(format+": %w", append(args, ErrCorrupt)...)
	return c.err
}

// Release gives the space of all records that Next returned back to the
// producer. When it returns true the producer waits for that space and nobody
// rang for that wait yet: ring its doorbell. A successor calls it once at its
// start, for what its predecessor released.
func (c *Consumer) Release() (ring bool) { return c.ReleaseTo(c.head) }

// ReleaseTo is Release up to a position: Position, or Begin.
func (c *Consumer) ReleaseTo(to uint64) (ring bool) {
	if to == c.released && !c.want.owed {
		return false
	}
	stored()
	c.headWord.Store(to)
	c.released = to
	w, ring := c.want.waiting()
	// The producer says how far is enough; a lie there wakes only itself late.
	ring = ring && to >= c.wantAt.Load()
	if ring {
		c.want.rung = w
	}
	return ring
}

// Sleep announces that the consumer is about to block and wants its doorbell
// rung. It returns false, with the announcement taken back, when there is work
// after all. Call Release before it.
func (c *Consumer) Sleep() bool {
	c.sleep.raise()
	if c.tailWord.Load() == c.head {
		return true
	}
	c.sleep.lower()
	return false
}

// Awake takes the announcement back; without one it does nothing.
func (c *Consumer) Awake() { c.sleep.lower() }

// Backlog returns how many published bytes Next has not returned yet; the
// producer's word for it, at most the capacity.
func (c *Consumer) Backlog() uint64 { return min(c.tailWord.Load()-c.head, c.capacity) }

// Position returns the absolute position after the last record that Next
// returned, in bytes since the ring was made.
func (c *Consumer) Position() uint64 { return c.head }

// Begin returns the absolute position before that record.
func (c *Consumer) Begin() uint64 { return c.begin }

// Published returns the absolute position up to which the producer has, as it
// was when this side last looked.
func (c *Consumer) Published() uint64 { return c.tail }

// Close gives up what the producing processes up to a generation have left here
// unread, and an error with it, and says so to their successor, which begins
// where this side stands (Producer.Restart).
func (c *Consumer) Close(generation uint64) {
	c.tail, c.begin, c.released, c.err = c.head, c.head, c.head, nil
	stored()
	c.headWord.Store(c.head)
	stored()
	c.closed.Store(generation)
	c.want.owed, c.want.rung = true, 0
}

// Restart begins at the producer's tail, for a new process that does not believe
// what the one before it left: what was meant for that one is skipped.
func (c *Consumer) Restart() {
	t := c.tailWord.Load()
	c.head, c.tail, c.begin, c.released, c.err = t, t, t, t, nil
	c.headWord.Store(t)
}
