package store

import (
	"fmt"
	"hash/crc32"
	"sync/atomic"
)

// Layout of the router's state segment. The halves of the journal follow.
const (
	stateCommit = 1 * line // number of the last complete entry
	stateEntry  = 2 * line // entries 0 and 1, by the lowest bit of their number
	entrySpan   = 2048
	stateData   = 8192

	entryWords = 8 // before those of the rings
	markWords  = 3
)

// MinJournal is the least size of a journal's halves together, in bytes.
const MinJournal = 1 << 20

// StateSize returns the size in bytes of the router's state segment, whose journal
// has so many, a multiple of two pages.
func StateSize(journal int) int { return stateData + journal }

// State is the router's own memory, which its next process goes on from: the
// redo entries and the journal. No other role maps it.
type State struct {
	Redo    Redo
	Journal Journal
}

// NewState opens the state in seg of a router with so many links. It writes
// nothing but the header of a new segment.
func NewState(seg *Segment, journal, links int) (*State, error) {
	if journal < MinJournal || journal%(2*4096) != 0 || links < 1 || links > MaxCMs {
		return nil, fmt.Errorf("router state of %d bytes, %d links: out of range", journal, links)
	}
	if err := claim(seg, "router", StateSize(journal), uint64(journal), uint64(links)); err != nil {
		return nil, err
	}
	if err := mustWrite(seg, "router state"); err != nil {
		return nil, err
	}
	half := journal / 2
	s := &State{
		Redo:    Redo{commit: word(seg, stateCommit), links: links},
		Journal: Journal{halves: [2][]byte{seg.mem[stateData : stateData+half], seg.mem[stateData+half:]}},
	}
	n := entryWords + markWords*links
	for i := range s.Redo.slots {
		at := stateEntry + i*entrySpan
		s.Redo.slots[i] = slot{overlaySlice[uint64](seg, at, n), seg.mem[at : at+8*n]}
	}
	return s, nil
}

// Redo is the router's commit: one entry says how far all rings and the journal
// are. There are two, written in turn, and the word that is stored last says which
// one is complete. A process that ends at any point leaves one that is.
type Redo struct {
	commit *atomic.Uint64
	slots  [2]slot
	links  int
	number uint64
}

// slot is the place of an entry, as words and as bytes.
type slot struct {
	words []uint64
	bytes []byte
}

// Entry is absolute, so that to apply it twice is harmless:
//
//	0 checksum u32, links u32 | 8 number | 16 turn | 24 tail | 32 plan | 40 done
//	48 messages | 56 delivered | 64 for each link: tail, head, seq
type Entry struct {
	Turn, Tail          uint64 // of the journal: its half is the lowest bit of turn
	Plan, Done          uint64 // end of the plan, and what of it is in the rings
	Messages, Delivered uint64
	Links               []Mark
}

// Mark is where the router stands with one cm.
type Mark struct {
	Tail uint64 // of the ring to it
	Head uint64 // of the ring from it
	Seq  uint64 // last body of its arena that was routed
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Commit writes e and makes it the last complete entry.
func (r *Redo) Commit(e *Entry) {
	n := r.number + 1
	s := &r.slots[n&1]
	w := s.words
	stored()
	w[1], w[2], w[3] = n, e.Turn, e.Tail
	w[4], w[5], w[6], w[7] = e.Plan, e.Done, e.Messages, e.Delivered
	m := w[entryWords:]
	for i := range e.Links {
		l := &e.Links[i]
		m[0], m[1], m[2] = l.Tail, l.Head, l.Seq
		m = m[markWords:]
	}
	stored()
	w[0] = uint64(r.links)<<32 | uint64(crc32.Checksum(s.bytes[8:], castagnoli))
	stored()
	r.commit.Store(n)
	r.number = n
}

// Last returns the last complete entry; found is false when there never was one.
// ErrCorrupt, wrapped, when it is not as Commit wrote it: then entries begin anew.
func (r *Redo) Last() (e Entry, found bool, err error) {
	n := r.commit.Load()
	if n == 0 {
		r.number = 0
		return Entry{}, false, nil
	}
	b := append([]byte(nil), r.slots[n&1].bytes...)
	sum := uint64(r.links)<<32 | uint64(crc32.Checksum(b[8:], castagnoli))
	if got := le.Uint64(b); got != sum || le.Uint64(b[8:]) != n {
		r.number = 0
		return Entry{}, false, fmt.Errorf("redo entry %d, %#x in its place, sum %#x not %#x: %w", n, le.Uint64(b[8:]), got, sum, ErrCorrupt)
	}
	r.number = n
	next := func() uint64 { v := le.Uint64(b); b = b[8:]; return v }
	b = b[16:]
	e = Entry{next(), next(), next(), next(), next(), next(), make([]Mark, r.links)}
	for i := range e.Links {
		e.Links[i] = Mark{next(), next(), next()}
	}
	return e, true, nil
}

// Number returns how many entries there have been.
func (r *Redo) Number() uint64 { return r.number }
