package store

import (
	"fmt"
	"sync/atomic"
)

// A completion word is seq<<16 | held<<15 | touch. seq has 48 bits; touch is
// the number of cms named for the body, given to the last named one, else 0.
const (
	seqBits  = 48
	seqMask  = 1<<seqBits - 1
	heldBit  = 1 << 15
	touchMax = heldBit - 1

	// MaxCMs bounds the number of cms, and so a touch count that means anything.
	MaxCMs = 64
)

func doneWord(seq uint64, touch int) uint64 {
	if touch < 0 || touch > touchMax {
		touch = touchMax
	}
	return seq<<16 | uint64(touch)
}

// Returns is one cm's segment of completion words: a row of slots for each
// arena. The cm maps it writable, every other cm read-only.
type Returns struct {
	words    []atomic.Uint64
	arenas   int
	slots    int
	mask     uint64
	writable bool
}

// ReturnsSize returns the size in bytes of one cm's Returns segment.
func ReturnsSize(arenas, slots int) int { return headerSize + 8*arenas*slots }

// NewReturns opens the completion words in seg for arenas of slots each, a
// power of two; both as the parent says, never as a peer does.
func NewReturns(seg *Segment, arenas, slots int) (*Returns, error) {
	if arenas < 1 || arenas > MaxCMs || !powerOfTwo(slots, 1, Slots(maxArena)) {
		return nil, fmt.Errorf("returns of %d arenas, %d slots: out of range", arenas, slots)
	}
	if err := claim(seg, "returns", ReturnsSize(arenas, slots), uint64(arenas), uint64(slots)); err != nil {
		return nil, err
	}
	return &Returns{
		words:    overlaySlice[atomic.Uint64](seg, headerSize, arenas*slots),
		arenas:   arenas,
		slots:    slots,
		mask:     uint64(slots) - 1,
		writable: seg.writable,
	}, nil
}

// Done reports that this cm has finished with a body; touch is what the
// router's instruction said. Twice is harmless. An arena that does not exist is
// ignored, as is a call on another cm's words.
func (r *Returns) Done(arena int, seq uint64, touch int) { r.set(arena, seq, doneWord(seq, touch)) }

// Hold notes that this cm was named for a body and is not finished with it. Call
// it before Consumer.Release for what outlives the batch: it is how a successor
// knows what this cm owed. Done follows.
func (r *Returns) Hold(arena int, seq uint64, touch int) {
	r.set(arena, seq, doneWord(seq, touch)|heldBit)
}

func (r *Returns) set(arena int, seq, w uint64) {
	if uint(arena) >= uint(r.arenas) || !r.writable {
		return
	}
	r.words[arena*r.slots+int(seq&r.mask)].Store(w)
}

// Recover finishes everything that a predecessor held when it died, and returns
// how many bodies that were. A cm calls it once at its start.
func (r *Returns) Recover() int {
	n := 0
	if !r.writable {
		return 0
	}
	for i := range r.words {
		if w := r.words[i].Load(); w&heldBit != 0 {
			r.words[i].Store(w &^ heldBit)
			n++
		}
	}
	return n
}

// row returns the words for one arena.
func (r *Returns) row(arena int) []atomic.Uint64 {
	return r.words[arena*r.slots : (arena+1)*r.slots]
}
