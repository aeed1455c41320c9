package store

import (
	"fmt"
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

	arenaNext   = headerSize // arena: number of the next body
	arenaOldest = headerSize + 8
	arenaTable  = 1 * line
	grain       = 16 // bodies begin and end at multiples of it

	// softWindow is how much of an arena is used before its start is used again.
	softWindow = 1 << 20
)

// descriptor is what the owner's successor needs to know of a body. sent is the
// ring position after the record that published it, 0 before.
type descriptor struct {
	off, len uint32
	sent     uint64
}

const descriptorSize = 16

// Slots returns how many bodies an arena of this many bytes holds at most.
func Slots(bytes int) int { return bytes / 1024 }

// ArenaSize returns the size in bytes of the segment of an arena that holds
// bytes of bodies, a power of two from 4 KiB to 1 GiB.
func ArenaSize(bytes int) int { return arenaData(bytes) + bytes }

func arenaData(bytes int) int { return (arenaTable + Slots(bytes)*descriptorSize + 4095) &^ 4095 }

func openArena(index int, seg *Segment, bytes int) error {
	if index < 0 || index >= MaxCMs || !powerOfTwo(bytes, minArena, maxArena) {
		return fmt.Errorf("arena %d of %d bytes: out of range", index, bytes)
	}
	return claim(seg, "arena", ArenaSize(bytes), uint64(index), uint64(bytes))
}

// Arena is the owner's side of an arena: bodies are allocated and freed first
// in, first out. One goroutine uses it.
type Arena struct {
	index  uint16
	data   []byte
	table  []descriptor
	shared *counters
	rows   [][]atomic.Uint64 // of every cm, for this arena
	own    []atomic.Uint64   // rows[index], writable
	mask   uint64
	counters
	used  uint64  // bytes, rounded to grain
	order []uint8 // rows in the order of finished's looks
	circle
}

// counters number the bodies; live are those from oldest to before next. The
// shared ones follow the private ones with plain stores, in program order after
// what they count: only a successor reads them, when this process is no more.
type counters struct{ next, oldest uint64 }

// NewArena opens the arena of cm index over seg, mapped writable; returns are
// those of every cm by its index, the owner's own writable. Over the segment of
// a predecessor it goes on with its bodies; ErrCorrupt when that one's table
// makes no sense. Arena and returns are made together: words of an older arena
// would free bodies of a new one.
func NewArena(index int, seg *Segment, bytes int, returns []*Returns) (*Arena, error) {
	if err := openArena(index, seg, bytes); err != nil {
		return nil, err
	}
	if err := mustWrite(seg, "arena"); err != nil {
		return nil, err
	}
	slots := Slots(bytes)
	a := &Arena{
		index:  uint16(index),
		data:   seg.mem[arenaData(bytes):],
		table:  overlaySlice[descriptor](seg, arenaTable, slots),
		shared: overlay[counters](seg, arenaNext),
		mask:   uint64(slots) - 1,
		circle: newCircle(uint64(bytes)),
	}
	for i, r := range returns {
		if i >= MaxCMs || r.slots != slots || r.arenas <= index {
			return nil, fmt.Errorf("arena %d: returns of cm %d do not fit", index, i)
		}
		a.rows = append(a.rows, r.row(index))
		a.order = append(a.order, uint8(i))
	}
	if index >= len(returns) || !returns[index].writable {
		return nil, fmt.Errorf("arena %d: the owner's returns are not writable", index)
	}
	a.own = a.rows[index]
	return a, a.adopt()
}

// adopt takes over the bodies of a predecessor, each checked before it counts.
func (a *Arena) adopt() error {
	a.counters = *a.shared
	if a.next == 0 { // new; number 0 is what words that were never written carry
		a.next, a.oldest = 1, 1
		*a.shared = a.counters
	}
	if a.next-a.oldest > uint64(len(a.table)) {
		return fmt.Errorf("arena %d: bodies %d to %d: %w", a.index, a.oldest, a.next, ErrCorrupt)
	}
	for seq := a.oldest; seq != a.next; seq++ {
		d := a.table[seq&a.mask]
		size := round(uint64(d.len))
		if !a.adoptBody(uint64(d.off), size) {
			return fmt.Errorf("arena %d: body %d at %d+%d: %w", a.index, seq, d.off, d.len, ErrCorrupt)
		}
		a.used += size
	}
	return nil
}

func round(n uint64) uint64 { return max(grain, (n+grain-1)&^(grain-1)) }

// Alloc takes n bytes, 16-aligned, for a new body. It returns false when there
// is no space or no slot, after trying Reclaim.
func (a *Arena) Alloc(n int) (Handle, []byte, bool) {
	if uint(n) > uint(len(a.data)) {
		return Handle{}, nil, false
	}
	size := round(uint64(n))
	if a.limit-a.write < size || a.next-a.oldest > a.mask {
		a.Reclaim()
		if a.next-a.oldest > a.mask || !a.place(size) {
			return Handle{}, nil, false
		}
	}
	off := a.write
	a.write += size
	a.used += size
	h := Handle{Arena: a.index, Seq: a.next & seqMask, Off: uint32(off), Len: uint32(n)}
	a.table[a.next&a.mask] = descriptor{off: h.Off, len: h.Len}
	a.next++
	a.shared.next = a.next
	return h, a.data[off : off+uint64(n) : off+uint64(n)], true
}

// Sent notes that the record of body h ends at position in the owner's ring
// (Producer.Position after Commit). Without it Recover frees the body.
func (a *Arena) Sent(h Handle, position uint64) {
	if d := a.live(h); d != nil {
		d.sent = position
	}
}

// live returns the descriptor of h, or nil when h is not a body of now.
func (a *Arena) live(h Handle) *descriptor {
	age := (a.next - h.Seq) & seqMask // 1 for the newest
	if h.Arena != a.index || age-1 >= a.next-a.oldest {
		return nil
	}
	return &a.table[h.Seq&a.mask]
}

// Undo gives back a body that was never published. The newest is free at once,
// another one when those before it are.
func (a *Arena) Undo(h Handle) {
	d := a.live(h)
	if d == nil || d.sent != 0 || a.own[h.Seq&a.mask].Load()>>16 == h.Seq {
		return
	}
	if h.Seq != (a.next-1)&seqMask {
		a.own[h.Seq&a.mask].Store(doneWord(h.Seq, 1))
		return
	}
	a.next--
	a.shared.next = a.next
	a.used -= round(uint64(d.len))
	a.pop(uint64(d.off), a.next == a.oldest)
}

// Recover frees the bodies whose record a predecessor did not publish, and
// returns how many. published is the owner's ring tail: Producer.Position at
// the start. Without it such a body would hold all after it for ever.
func (a *Arena) Recover(published uint64) int {
	n := 0
	for seq := a.oldest; seq != a.next; seq++ {
		if s := a.table[seq&a.mask].sent; s == 0 || s > published {
			a.own[seq&a.mask].Store(doneWord(seq, 1))
			n++
		}
	}
	a.Reclaim()
	return n
}

// Reclaim frees the oldest bodies as far as every cm named for them has
// finished, and returns how many.
func (a *Arena) Reclaim() int {
	n := 0
	for a.oldest != a.next && a.finished(a.oldest) {
		size := round(uint64(a.table[a.oldest&a.mask].len))
		a.oldest++
		a.used -= size
		a.shift(size)
		n++
	}
	if n > 0 {
		a.shared.oldest = a.oldest
		if a.oldest == a.next {
			a.reset()
		}
	}
	return n
}

// finished counts the cms whose word carries seq, until they are as many as the
// touch count that one of the words must carry. A count above the number of cms
// is a lie and ignored. Rows that counted move to the front of the order, so
// that it mostly looks at no more rows than cms were named.
func (a *Arena) finished(seq uint64) bool {
	slot, id := seq&a.mask, seq&seqMask
	count, touch := 0, 0
	for i, at := range a.order {
		w := a.rows[at][slot].Load()
		if w>>16 != id || w&heldBit != 0 {
			continue
		}
		if t := int(w & touchMax); t > touch && t <= len(a.rows) {
			touch = t
		}
		a.order[i], a.order[count] = a.order[count], at
		if count++; touch > 0 && count >= touch {
			return true
		}
	}
	return false
}

// Used returns the bytes and the bodies that are allocated.
func (a *Arena) Used() (bytes, bodies uint64) { return a.used, a.next - a.oldest }
