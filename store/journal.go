package store

import (
	"fmt"
	"hash/crc32"
)

// MaxEntry is the longest entry of a journal, in bytes.
const MaxEntry = 256 << 10

// Journal is the router's state as entries, one after the other, in one half of
// its segment. Compaction writes the state anew into the other half (Begin, a
// whole state, then Redo.Commit). Meanwhile that one is idle, and takes a plan.
// Nothing counts but what a redo entry covers: it has Turn and Tail, or Planned.
//
//	| length u32, checksum u32 | entry, padded to 8 | ...
//
// The checksum covers the entry's place and the turn, so that what an earlier
// turn has left there is told from it.
type Journal struct {
	halves  [2][]byte
	turn    uint64
	tail    uint64
	planned uint64
	dirty   [2]uint64 // up to where a half has pages
	scratch []byte
	place   [16]byte // scratch space of sum
}

// Turn returns how often the journal was begun.
func (j *Journal) Turn() uint64 { return j.turn }

// Tail returns the bytes written in this turn.
func (j *Journal) Tail() uint64 { return j.tail }

// Planned returns the bytes of the plan.
func (j *Journal) Planned() uint64 { return j.planned }

// Half returns the bytes that a turn, or a plan, can have.
func (j *Journal) Half() int { return len(j.halves[0]) }

// Entry returns the bytes that an entry of n takes.
func (*Journal) Entry(n int) int { return int(frame(n)) }

// Begin begins a turn in the idle half: empty, until its tail is committed. There is
// no plan in it any more by the last redo entry.
func (j *Journal) Begin() { j.turn, j.tail, j.planned = j.turn+1, 0, 0 }

// Append adds an entry and tells whether there was room.
func (j *Journal) Append(b []byte) bool {
	half := j.turn & 1
	end, ok := j.write(j.halves[half], j.turn, j.tail, b)
	if ok {
		j.tail = end
		j.dirty[half] = max(j.dirty[half], end)
	}
	return ok
}

// Plan adds an entry to the plan and tells whether there was room.
func (j *Journal) Plan(b []byte) bool {
	half := ^j.turn & 1
	end, ok := j.write(j.halves[half], ^j.turn, j.planned, b)
	if ok {
		j.planned = end
		j.dirty[half] = max(j.dirty[half], end)
	}
	return ok
}

// DropPlan ends the plan.
func (j *Journal) DropPlan() { j.planned = 0 }

// NextPlanned returns a copy of the entry of the plan at a position, good until
// the next call, and the position after it.
func (j *Journal) NextPlanned(at uint64) (entry []byte, next uint64, err error) {
	return j.read(j.halves[^j.turn&1], ^j.turn, at, j.planned)
}

// Recover takes the turn, the tail and the plan of a redo entry. ErrCorrupt,
// wrapped, when they make no sense.
func (j *Journal) Recover(turn, tail, planned uint64) error {
	if half := uint64(j.Half()); (tail|planned)&7 != 0 || tail > half || planned > half {
		return fmt.Errorf("journal of %d and %d bytes in a half of %d: %w", tail, planned, half, ErrCorrupt)
	}
	j.turn, j.tail, j.planned = turn, tail, planned
	j.dirty = [2]uint64{uint64(j.Half()), uint64(j.Half())}
	return nil
}

// Replay gives each entry of this turn to do, in private memory that is good until
// do returns, and stops at the first error, which it returns with its place.
func (j *Journal) Replay(do func(entry []byte) error) error {
	for at := uint64(0); at < j.tail; {
		b, next, err := j.read(j.halves[j.turn&1], j.turn, at, j.tail)
		if err == nil {
			err = do(b)
		}
		if err != nil {
			return fmt.Errorf("journal at %d of %d: %w", at, j.tail, err)
		}
		at = next
	}
	return nil
}

// Discard gives the memory of the idle half back, when there is no plan in it and
// the redo entry is about the other one.
func (j *Journal) Discard() error {
	half := ^j.turn & 1
	if j.planned > 0 || j.dirty[half] == 0 {
		return nil
	}
	n := (j.dirty[half] + 4095) &^ 4095
	j.dirty[half] = 0
	return discard(j.halves[half][:n])
}

func (j *Journal) write(half []byte, turn, at uint64, b []byte) (end uint64, ok bool) {
	end = at + frame(len(b))
	if len(b) == 0 || len(b) > MaxEntry || end > uint64(len(half)) {
		return at, false
	}
	stored()
	store(half[at:], uint64(j.sum(turn, at, b))<<32|uint64(len(b)))
	copy(half[at+frameSize:], b)
	return end, true
}

func (j *Journal) read(half []byte, turn, at, end uint64) (b []byte, next uint64, err error) {
	if end-at < frameSize || at > end {
		return nil, at, fmt.Errorf("%d bytes: %w", end-at, ErrCorrupt)
	}
	w := loadOnce(half[at:])
	n := uint64(uint32(w))
	if next = at + frame(int(n)); n == 0 || n > MaxEntry || next > end {
		return nil, at, fmt.Errorf("entry of %d bytes: %w", n, ErrCorrupt)
	}
	j.scratch = append(j.scratch[:0], half[at+frameSize:at+frameSize+n]...)
	if got := j.sum(turn, at, j.scratch); got != uint32(w>>32) {
		return nil, at, fmt.Errorf("checksum %#x, not %#x: %w", w>>32, got, ErrCorrupt)
	}
	return j.scratch, next, nil
}

// sum is the checksum of an entry at its place.
func (j *Journal) sum(turn, at uint64, b []byte) uint32 {
	le.PutUint64(j.place[:], turn)
	le.PutUint64(j.place[8:], at)
	return crc32.Update(crc32.Checksum(j.place[:], castagnoli), castagnoli, b)
}
