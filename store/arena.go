package store

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Handle says where a body lies. It is believed by nobody: ArenaView.Body checks it.
type Handle struct {
	Arena    uint16
	Seq      uint64 // 48 bits
	Off, Len uint32 // bytes
}

const (
	minArena = 4 << 10
	maxArena = 1 << 30

	arenaData = 4096 // arena: where the bodies begin
	grain     = 16   // bodies begin and end at multiples of it

	// softWindow is how much of an arena is used before its start is used again.
	softWindow = 1 << 20
)

// Slots returns how many bodies an arena of this many bytes holds at most.
func Slots(bytes int) int { return bytes / 1024 }

// ArenaSize returns the size in bytes of the segment of an arena that holds
// bytes of bodies, a power of two from 4 KiB to 1 GiB.
func ArenaSize(bytes int) int { return arenaData + bytes }

func openArena(index int, seg *Segment, bytes int) error {
	if index < 0 || index >= MaxCMs || !powerOfTwo(bytes, minArena, maxArena) {
		return fmt.Errorf("arena %d of %d bytes: out of range", index, bytes)
	}
	return own(seg, "arena", ArenaSize(bytes), uint64(index), uint64(bytes))
}

// Arena is the owner's side of an arena: bodies are allocated and freed first
// in, first out. One goroutine uses it. Nothing but the bodies is shared.
type Arena struct {
	index uint16
	data  []byte
	table []place
	named *Named
	rows  [][]atomic.Uint64 // of every cm, for this arena
	mask  uint64

	next, oldest uint64 // numbers; live are the bodies from oldest to before next
	used         uint64 // bytes, rounded to grain
	circle

	// old: bodies of a predecessor may still be copied by others, so that no
	// space is given out. Those in slots below looked are finished.
	old    bool
	looked int
}

// place is where a live body lies.
type place struct{ off, len uint32 }

// NewArena opens the arena of cm index over seg, mapped writable; named are the
// router's words on it, returns those of every cm by its index. Over the segment
// of a predecessor it is empty and numbers go on, but Alloc gives nothing out
// before others have finished with that one's bodies.
func NewArena(index int, seg *Segment, bytes int, named *Named, returns []*Returns) (*Arena, error) {
	if err := openArena(index, seg, bytes); err != nil {
		return nil, err
	}
	if err := mustWrite(seg, "arena"); err != nil {
		return nil, err
	}
	slots := Slots(bytes)
	a := &Arena{
		index:  uint16(index),
		data:   seg.mem[arenaData:],
		table:  make([]place, slots),
		named:  named,
		mask:   uint64(slots) - 1,
		circle: newCircle(uint64(bytes)),
	}
	for i, r := range returns {
		if i >= MaxCMs || r.slots != slots || r.arenas <= index {
			return nil, fmt.Errorf("arena %d: returns of cm %d do not fit", index, i)
		}
		a.rows = append(a.rows, r.row(index))
	}
	if index >= len(returns) || len(named.entries) != slots {
		return nil, fmt.Errorf("arena %d: %d returns, %d named", index, len(returns), len(named.entries))
	}
	last := named.Last()
	a.next, a.oldest, a.old = last+1, last+1, last > 0
	return a, nil
}

func round(n uint64) uint64 { return max(grain, (n+grain-1)&^(grain-1)) }

// Alloc takes n bytes, 16-aligned, for a new body. It returns false when there
// is no space or no slot, after trying Reclaim. The router is told of bodies in
// the order of their numbers, which have no gaps.
func (a *Arena) Alloc(n int) (Handle, []byte, bool) {
	if uint(n) > uint(len(a.data)) {
		return Handle{}, nil, false
	}
	size := round(uint64(n))
	if a.limit-a.write < size || a.next-a.oldest > a.mask {
		a.Reclaim()
		if a.old || a.next-a.oldest > a.mask || !a.place(size) {
			return Handle{}, nil, false
		}
	}
	off := a.write
	a.write += size
	a.used += size
	h := Handle{Arena: a.index, Seq: a.next, Off: uint32(off), Len: uint32(n)}
	a.table[a.next&a.mask] = place{off: h.Off, len: h.Len}
	a.next++
	return h, a.data[off : off+uint64(n) : off+uint64(n)], true
}

// Reclaim frees the oldest bodies as far as every cm named for them has
// finished, and returns how many.
func (a *Arena) Reclaim() int {
	if a.old && a.settled() {
		a.old = false
		a.giveBack(softWindow)
	}
	n, named := 0, a.named.Last()
	for a.oldest != a.next && a.oldest <= named && a.finished(a.oldest) {
		size := round(uint64(a.table[a.oldest&a.mask].len))
		a.oldest++
		a.used -= size
		a.shift(size)
		n++
	}
	if n > 0 && a.oldest == a.next {
		a.reset()
	}
	return n
}

// Stuck reclaims and returns the number of the body that this ended at, when the
// router has named cms for it of which one has not finished; else 0.
func (a *Arena) Stuck() uint64 {
	a.Reclaim()
	seq := a.oldest
	switch {
	case a.old:
		seq = uint64(a.looked)
	case a.oldest == a.next:
		return 0
	}
	last, cms := a.named.Get(seq)
	if !a.old && last != seq || last > a.named.Last() || a.all(cms, last) {
		return 0
	}
	return last
}

// finished tells whether the router has named the cms that get body seq, which is
// committed, and the word of each carries seq.
func (a *Arena) finished(seq uint64) bool {
	last, cms := a.named.Get(seq)
	return last == seq && a.all(cms, seq)
}

// all tells whether the words of all these cms carry seq.
func (a *Arena) all(cms, seq uint64) bool {
	for ; cms != 0; cms &= cms - 1 {
		i := bits.TrailingZeros64(cms)
		if i >= len(a.rows) || a.rows[i][seq&a.mask].Load() != seq {
			return false
		}
	}
	return true
}

// settled tells whether every cm has finished with what it was named for of a
// predecessor's bodies. What this cm itself was named for ended with that one.
func (a *Arena) settled() bool {
	for n := a.named.reach(); a.looked < n; a.looked++ {
		seq, cms := a.named.Get(uint64(a.looked))
		if seq != 0 && !a.all(cms&^(1<<a.index), seq) {
			return false
		}
	}
	return true
}

// Discard gives all memory back, if there is no body, for a place that may long be
// without an owner. It tells whether there was none.
func (a *Arena) Discard() bool {
	a.Reclaim()
	if a.old || a.oldest != a.next {
		return false
	}
	a.giveBack(0)
	return true
}

// giveBack gives back the memory from there on, where nobody reads any more. What
// the kernel does not take stays.
func (a *Arena) giveBack(from int) {
	if from < len(a.data) {
		_ = discard(a.data[from:])
	}
}

// Used returns the bytes and the bodies that are allocated. While those of a
// predecessor are, it is all bytes and one body.
func (a *Arena) Used() (bytes, bodies uint64) {
	if a.old {
		return uint64(len(a.data)), 1
	}
	return a.used, a.next - a.oldest
}
