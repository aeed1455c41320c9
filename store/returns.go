package store

import (
	"fmt"
	"os"
	"sync/atomic"
)

const (
	seqBits = 48
	seqMask = 1<<seqBits - 1

	// MaxCMs bounds the number of cms: a word has a bit for each.
	MaxCMs = 64
)

// Returns is one cm's segment of completion words: a row of slots for each
// arena. A word is the number of the body in that slot that the cm has finished
// with last. The cm maps it writable, the router and every other cm read-only.
type Returns struct {
	seg      *Segment
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
	if err := own(seg, "returns", ReturnsSize(arenas, slots), uint64(arenas), uint64(slots)); err != nil {
		return nil, err
	}
	return &Returns{
		seg:      seg,
		words:    overlaySlice[atomic.Uint64](seg, headerSize, arenas*slots),
		arenas:   arenas,
		slots:    slots,
		mask:     uint64(slots) - 1,
		writable: seg.writable,
	}, nil
}

// Done reports that this cm has finished with a body. Twice is harmless. An
// arena that does not exist is ignored, as is a call on another cm's words.
func (r *Returns) Done(arena int, seq uint64) {
	if uint(arena) < uint(r.arenas) && r.writable {
		r.words[arena*r.slots+int(seq&r.mask)].Store(seq & seqMask)
	}
}

// Has tells whether the word for a body of an arena carries its number.
func (r *Returns) Has(arena int, seq uint64) bool {
	return uint(arena) < uint(r.arenas) && r.words[arena*r.slots+int(seq&r.mask)].Load() == seq
}

// Clear forgets what a predecessor has said: a word that it wrote for a body to
// come would end that body early. A cm calls it at its start, when the router has
// taken it out of all that was named (Producer.Closed).
func (r *Returns) Clear() {
	if !r.writable {
		return
	}
	words := r.words
	if page := os.Getpagesize(); r.seg.Size() > page && discard(r.seg.mem[page:]) == nil {
		words = words[:(page-headerSize)/8]
	}
	for i := range words {
		words[i].Store(0)
	}
}

// row returns the words for one arena.
func (r *Returns) row(arena int) []atomic.Uint64 {
	return r.words[arena*r.slots : (arena+1)*r.slots]
}
