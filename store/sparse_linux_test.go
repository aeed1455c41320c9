package store

import (
	"os"
	"syscall"
	"testing"
)

// sparse is a real segment, and how much memory it has.
type sparse struct {
	t    *testing.T
	file *os.File
	size int
}

func newSparse(t *testing.T, size int) *sparse {
	t.Helper()
	f, err := Create("test", size)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return &sparse{t, f, size}
}

func (s *sparse) open(how func(fd, size int, writable bool) (*Segment, error)) *Segment {
	s.t.Helper()
	seg, err := how(int(s.file.Fd()), s.size, true)
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, seg.Unmap()) })
	return seg
}

func (s *sparse) pages() int {
	s.t.Helper()
	var st syscall.Stat_t
	check(s.t, syscall.Fstat(int(s.file.Fd()), &st))
	return int(st.Blocks * 512 / 4096)
}

// want wants that many pages at most. Where they are larger, or huge, nothing can be
// said.
func (s *sparse) want(most int, when string) {
	s.t.Helper()
	if n := s.pages(); os.Getpagesize() == 4096 && n > most {
		s.t.Errorf("%d pages %s, want %d", n, when, most)
	}
}

// Looking for rows that were in use finds them all, and makes no page of the others.
func TestUsedRows(t *testing.T) {
	const rows = 1 << 16
	s := newSparse(t, ConnColumnsSize(rows))
	w, err := NewConnColumns(s.open(Map), rows)
	check(t, err)
	want := map[int]uint64{0: 1, 55: 2, 56: 3, 57: 4, 30000: 5, rows - 1: 6}
	for i, uid := range want {
		w.Row(i).UID.Store(uid)
	}
	before := s.pages()
	c, err := NewConnColumns(s.open(MapUsed), rows)
	check(t, err)
	seen := 0
	for i, row := range c.Used() {
		if uid := row.UID.Load(); uid != want[i] {
			t.Errorf("row %d is %d", i, uid)
		} else if uid != 0 {
			seen++
		}
	}
	if seen != len(want) {
		t.Errorf("%d rows of %d", seen, len(want))
	}
	s.want(before, "after a look at all rows")

	n := 0
	for i := range w.Used() { // not noted: all
		if i != n {
			t.Fatalf("row %d after %d", i, n)
		}
		n++
	}
	if n != rows {
		t.Errorf("%d rows of %d", n, rows)
	}
	empty := newSparse(t, ConnColumnsSize(rows))
	c, err = NewConnColumns(empty.open(MapUsed), rows)
	check(t, err)
	for i := range c.Used() {
		t.Fatalf("row %d of an empty segment", i)
	}
}

// Rows of the dispatcher's table beyond those that were reached stay unread.
func TestReached(t *testing.T) {
	const rows = 1000
	s := newSparse(t, ConnTableSize(rows))
	table, err := NewConnTable(s.open(Map), rows)
	check(t, err)
	if n := table.Reached(); n != 0 {
		t.Errorf("reached %d of a new table", n)
	}
	for _, i := range []int{0, 7, 3} {
		table.Reach(i)
	}
	if n := table.Reached(); n != 8 {
		t.Errorf("reached %d, want 8", n)
	}
	table.Counters().Reached.Store(1 << 60)
	if n := table.Reached(); n != rows {
		t.Errorf("reached %d of %d", n, rows)
	}
}

// A successor takes back its predecessor's words and gives back the memory.
func TestClear(t *testing.T) {
	const arenas, slots = 4, 1 << 16
	s := newSparse(t, ReturnsSize(arenas, slots))
	r, err := NewReturns(s.open(Map), arenas, slots)
	check(t, err)
	for seq := uint64(1); seq <= slots; seq++ {
		r.Done(0, seq)
	}
	r.Done(3, slots-1)
	seen, err := NewReturns(s.open(Map), arenas, slots)
	check(t, err)
	r.Clear()
	s.want(1, "after Clear")
	for arena := range arenas {
		for i := range seen.row(arena) {
			if n := seen.row(arena)[i].Load(); n != 0 {
				t.Fatalf("word %d of arena %d is %d", i, arena, n)
			}
		}
	}
	r.Done(1, 5)
	if !seen.Has(1, 5) {
		t.Error("the next word is not seen")
	}
}

// An arena's memory is given back by an owner that leaves, and by a successor when
// others have finished with the bodies of one that died; never before.
func TestDiscard(t *testing.T) {
	const size, body = 16 << 20, 64 << 10
	a := newArena(t, size, 2)
	s := newSparse(t, ArenaSize(size))
	a.seg, a.segRO = s.open(Map), s.open(Map)
	check(t, a.open())
	fill := func(n int) (last Handle) {
		for range n {
			h, b, ok := a.Alloc(body)
			if !ok {
				t.Fatal("full")
			}
			for i := range b {
				b[i] = 0xaa
			}
			last = h
			name(a.router, h.Seq, 1<<1)
		}
		return last
	}
	finish := func(last Handle) {
		for seq := uint64(1); seq <= last.Seq; seq++ {
			a.mine[1].Done(0, seq)
		}
	}
	intact := func(h Handle) bool {
		b, err := a.view.Body(h)
		return err == nil && b[body-1] == 0xaa
	}
	last := fill(100)
	if a.Discard() {
		t.Error("given back while others may read")
	}
	s.want(size, "in use")
	if !intact(last) {
		t.Error("a body has changed")
	}
	check(t, a.open()) // after the owner's death
	a.Reclaim()
	if a.Discard() || !intact(last) {
		t.Error("given back while others may read a predecessor's bodies")
	}
	finish(last)
	a.Reclaim()
	s.want(softWindow/4096+1, "after the bodies of a predecessor")
	last = fill(100)
	finish(last)
	if !a.Discard() {
		t.Error("not given back")
	}
	s.want(1, "without bodies")
	last = fill(1)
	if !intact(last) {
		t.Error("a new body is not there")
	}
}

// What was never named is not looked at.
func TestDropSparse(t *testing.T) {
	const slots = 1 << 16
	s := newSparse(t, NamedSize(slots))
	n, err := NewNamed(s.open(Map), slots)
	check(t, err)
	n.Drop(0)
	s.want(1, "when nothing is named")
	for seq := uint64(1); seq <= 300; seq++ {
		name(n, seq, 3)
	}
	before := s.pages()
	n.Drop(0)
	s.want(before, "after Drop")
	for seq := uint64(1); seq <= 300; seq++ {
		if _, cms := n.Get(seq); cms != 2 {
			t.Fatalf("body %d is named to %b", seq, cms)
		}
	}
	name(n, 5*slots, 3)
	if n.Drop(1); n.reach() != slots {
		t.Errorf("reach %d", n.reach())
	}
	for _, seq := range []uint64{1, 300, 5 * slots} {
		if _, cms := n.Get(seq); cms&2 != 0 {
			t.Errorf("body %d is named to %b", seq, cms)
		}
	}
}
