package store

import (
	"fmt"
	"sync/atomic"
)

// Capacities of a ring in bytes: powers of two between these two. The upper one
// keeps every field of a record below 2^24 bytes.
const (
	MinCapacity = 64
	MaxCapacity = 64 << 20
)

// Offsets within the two segments of a ring.
const (
	ringTail   = 1 * line // data: bytes published so far
	ringWant   = 2 * line // data: odd while the producer waits, new with every wait
	ringWantAt = 2*line + 8
	ringData   = 4 * line

	ringHead   = 1 * line // head: bytes released so far
	ringClosed = 1*line + 8
	ringSleep  = 2 * line // head: odd while the consumer sleeps, new with every sleep

	// RingHeadSize is the size of a ring's consumer segment in bytes.
	RingHeadSize = 4 * line
)

// A record is a frame word (length in the low half, position/8 as a stamp in
// the high one) and its bytes, padded to 8. The stamp tells a record from bytes
// that an earlier lap left behind.
const (
	frameSize = 8
	wrapMark  = 1<<32 - 1
)

// RingDataSize returns the size in bytes of a ring's producer segment.
func RingDataSize(capacity int) int { return ringData + capacity }

// MaxRecord returns the longest record, in bytes, of a ring of this capacity.
func MaxRecord(capacity int) int { return capacity / 4 }

func frame(n int) uint64 { return frameSize + uint64(n+7)&^7 }

func frameWord(pos uint64, n uint32) uint64 { return pos>>3<<32 | uint64(n) }

// openRing checks both segments of a ring and returns the capacity. One of them
// is this role's to lay out.
func openRing(data, head *Segment) (int, error) {
	capacity := data.Size() - ringData
	if !powerOfTwo(capacity, MinCapacity, MaxCapacity) {
		return 0, fmt.Errorf("ring of %d bytes: not a power of two from %d to %d", capacity, MinCapacity, MaxCapacity)
	}
	if err := own(data, "ringdat", RingDataSize(capacity), uint64(capacity), 0); err != nil {
		return 0, err
	}
	return capacity, own(head, "ringhd", RingHeadSize, 0, 0)
}

// sane tells whether head and tail can be those of one ring.
func sane(head, tail, capacity uint64) bool {
	return (head|tail)&7 == 0 && head <= tail && tail-head <= capacity
}

// bell decides whether a doorbell is due: once per value of the peer's odd word.
// owed is true at first: a predecessor may have died between its store and its
// ring, so the first look is due even when there is nothing new.
type bell struct {
	word *atomic.Uint64 // the peer's: odd while it waits
	rung uint64
	owed bool
}

// waiting returns the peer's word if it waits and was not rung for that yet.
func (b *bell) waiting() (uint64, bool) {
	b.owed = false
	w := b.word.Load()
	return w, w&1 == 1 && w != b.rung
}

// flag is this side's own wait word, with its value kept privately.
type flag struct {
	word *atomic.Uint64
	v    uint64
}

// raise shows a value that no earlier wait had, so that a bell rung for an
// earlier one does not count.
func (f *flag) raise() {
	f.v = (f.v + 1) | 1
	stored()
	f.word.Store(f.v)
}

func (f *flag) lower() {
	if f.v&1 == 1 {
		f.v++
		stored()
		f.word.Store(f.v)
	}
}

// newFlag goes on after the values of a predecessor. One that it left raised is
// rung for once, at most.
func newFlag(w *atomic.Uint64) flag { return flag{word: w, v: w.Load()} }

// again is newFlag when the predecessor has ended since.
func (f *flag) again() {
	f.v = f.word.Load()
	f.lower()
}
