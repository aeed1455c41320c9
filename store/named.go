package store

import (
	"fmt"
	"sync/atomic"
)

// Named is the router's word, for one arena, on which cms are to finish with
// each body. The router maps it writable, the arena's owner read-only.
//
// Set is not the last word: a router may die before it commits the batch, and the
// next one name others for the same body. Commit is, for all bodies up to one.
type Named struct {
	last    *atomic.Uint64 // body up to which Commit has been; 0: nothing was ever named
	entries []entry
	mask    uint64
}

// entry is about body seq, 48 bits. cms, a bit for each cm by index, is stored
// before seq, and seq comes again only after the body before it in the slot was
// freed: who sees a seq that is committed sees its cms.
type entry struct {
	seq atomic.Uint64
	cms uint64 // the router changes it under a seq only to take a cm out that has ended
}

const (
	entrySize = 16
	namedLast = 24
)

// NamedSize returns the size in bytes of the Named segment of an arena.
func NamedSize(slots int) int { return headerSize + entrySize*slots }

// NewNamed opens the entries in seg for an arena of so many slots, a power of
// two.
func NewNamed(seg *Segment, slots int) (*Named, error) {
	if !powerOfTwo(slots, 1, Slots(maxArena)) {
		return nil, fmt.Errorf("named of %d slots: out of range", slots)
	}
	if err := claim(seg, "named", NamedSize(slots), uint64(slots), 0); err != nil {
		return nil, err
	}
	return &Named{
		last:    word(seg, namedLast),
		entries: overlaySlice[entry](seg, headerSize, slots),
		mask:    uint64(slots) - 1,
	}, nil
}

// Set names the cms that get body seq, by bits; none frees it, when that is
// committed. Router only: from a read-only mapping it ends the process.
func (n *Named) Set(seq, cms uint64) {
	e := &n.entries[seq&n.mask]
	stored()
	e.cms = cms
	stored()
	e.seq.Store(seq)
}

// Commit makes what was set for the bodies up to last final. Router only.
func (n *Named) Commit(last uint64) {
	stored()
	n.last.Store(last)
}

// Last returns the number up to which bodies are named for good, 0 for none.
func (n *Named) Last() uint64 { return n.last.Load() }

// reach is how many entries from the first on may be committed. To look at more
// would make their pages come to be.
func (n *Named) reach() int {
	switch last := n.last.Load(); {
	case last == 0:
		return 0
	case last < uint64(len(n.entries)):
		return int(last) + 1
	}
	return len(n.entries)
}

// Get returns which body was named last in the slot of body seq, 0 for none, and
// the cms that it was named to.
func (n *Named) Get(seq uint64) (last, cms uint64) {
	e := &n.entries[seq&n.mask]
	last = e.seq.Load()
	return last, atomic.LoadUint64(&e.cms)
}

// Drop takes a cm out of every entry that is committed: its process has ended and
// copies no more. Router only.
func (n *Named) Drop(cm int) {
	bit := uint64(1) << uint(cm)
	for i := range n.entries[:n.reach()] {
		if cms := n.entries[i].cms; cms&bit != 0 {
			stored()
			atomic.StoreUint64(&n.entries[i].cms, cms&^bit)
		}
	}
}
