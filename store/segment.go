package store

import (
	"errors"
	"fmt"
)

// ErrCorrupt is returned when an index, a length or a header in shared memory
// makes no sense. The object that returned it stays unusable.
var ErrCorrupt = errors.New("store: corrupt shared memory")

// Segment is one mapped piece of shared memory. Exactly one role maps it
// writable. It must outlive every ring, arena and table made over it.
type Segment struct {
	mem      []byte // page aligned
	writable bool
	used     []span // nil: all
}

// span is a part of a segment, in bytes.
type span struct{ lo, hi int }

// Size returns the size of the segment in bytes.
func (s *Segment) Size() int { return len(s.mem) }

// Writable tells whether this mapping is the writing role's.
func (s *Segment) Writable() bool { return s.writable }

// line is the distance between words written by different roles, or at
// different rates: two cache lines, since processors fetch them in pairs.
const line = 128

// layoutVersion is part of every magic. It changes with any layout in this
// package or any record, so that a new binary refuses old segments.
const layoutVersion = 6

// LayoutVersion is for those who compare, not for segments.
const LayoutVersion = layoutVersion

// headerSize is what every segment begins with: magic and two sizes. Its writer
// fills it in once, magic last.
const headerSize = 64

// magic spells a segment's kind and the layout version.
func magic(kind string) uint64 {
	var m uint64
	for i := 0; i < len(kind); i++ {
		m = m<<8 | uint64(kind[i])
	}
	return m<<8 | layoutVersion
}

// claim checks that s has the size of a kind, and lays it out if it is this
// role's and new. Its writer refuses one that an other version laid out; what a
// reader does not write it does not believe, the header least.
func claim(s *Segment, kind string, size int, a, b uint64) error {
	if s.Size() != size {
		return fmt.Errorf("%s segment of %d bytes, not %d: %w", kind, s.Size(), size, ErrCorrupt)
	}
	if !s.writable {
		return nil
	}
	switch {
	case word(s, 0).Load() == 0:
		lay(s, kind, a, b)
	case !laid(s, kind, a, b):
		return fmt.Errorf("%s segment has another layout: %w", kind, ErrCorrupt)
	}
	return nil
}

// own is claim for the segments of a cm, which lays them out whatever its
// predecessor has left.
func own(s *Segment, kind string, size int, a, b uint64) error {
	if s.writable && s.Size() == size && !laid(s, kind, a, b) {
		lay(s, kind, a, b)
	}
	return claim(s, kind, size, a, b)
}

// laid tells whether the header says what lay makes it say. One that does is not
// written again: a router gets ready beside a living one.
func laid(s *Segment, kind string, a, b uint64) bool {
	return word(s, 0).Load() == magic(kind) && word(s, 8).Load() == a && word(s, 16).Load() == b
}

func lay(s *Segment, kind string, a, b uint64) {
	word(s, 8).Store(a)
	word(s, 16).Store(b)
	word(s, 0).Store(magic(kind))
}

// mustWrite refuses a read-only mapping: the first store would end the process.
func mustWrite(s *Segment, kind string) error {
	if !s.writable {
		return fmt.Errorf("%s segment: mapped read-only", kind)
	}
	return nil
}

// powerOfTwo tells whether n is one, within the two bounds.
func powerOfTwo(n, least, most int) bool {
	return n >= least && n <= most && n&(n-1) == 0
}
