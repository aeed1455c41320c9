package store

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

const testLinks = 3

func newState(t fataler) (*State, *Segment) {
	seg, _ := heap(StateSize(MinJournal))
	s, err := NewState(seg, MinJournal, testLinks)
	check(t, err)
	return s, seg
}

func again(t fataler, seg *Segment) *State {
	s, err := NewState(seg, MinJournal, testLinks)
	check(t, err)
	return s
}

// The last entry that was committed is found, whatever was begun after it.
func TestRedo(t *testing.T) {
	s, seg := newState(t)
	if _, found, err := s.Redo.Last(); found || err != nil {
		t.Fatalf("an entry in a new segment: %v, %v", found, err)
	}
	for n := uint64(1); n < 6; n++ {
		want := Entry{n, 8 * n, 16 * n, 8, n, n + 1, []Mark{{n, 1, 2}, {3, n, 4}, {5, 6, n}}}
		s.Redo.Commit(&want)
		other := s.Redo.slots[(n+1)&1]
		for _, w := range []int{0, 1, 5, len(other.words) - 1} { // as a successor that dies would leave it
			other.words[w] = ^other.words[w]
		}
		s = again(t, seg)
		got, found, err := s.Redo.Last()
		if err != nil || !found || !reflect.DeepEqual(got, want) || s.Redo.Number() != n {
			t.Fatalf("entry %d: %+v, %v, %v; want %+v", n, got, found, err, want)
		}
	}
}

// Each word of an entry is under its checksum, and an entry is what the commit word
// says that it is.
func TestRedoCorrupt(t *testing.T) {
	s, seg := newState(t)
	s.Redo.Commit(&Entry{Links: make([]Mark, testLinks)})
	s.Redo.Commit(&Entry{Turn: 1, Tail: 8, Links: make([]Mark, testLinks)})
	words := s.Redo.slots[0].words
	for i := range words {
		words[i] ^= 1 << 20
		_, _, err := again(t, seg).Redo.Last()
		wantCorrupt(t, err)
		words[i] ^= 1 << 20
	}
	for _, n := range []uint64{1<<64 - 1, 3, 4} {
		s.Redo.commit.Store(n)
		_, _, err := s.Redo.Last()
		wantCorrupt(t, err)
	}
	s.Redo.Commit(&Entry{Turn: 7, Links: make([]Mark, testLinks)}) // begins anew
	if e, found, err := again(t, seg).Redo.Last(); err != nil || !found || e.Turn != 7 {
		t.Fatalf("%+v, %v, %v", e, found, err)
	}
}

// A state segment is opened by who may write it alone, and only as it was laid out.
func TestStateOpen(t *testing.T) {
	_, seg := newState(t)
	for _, c := range []struct{ journal, links int }{{MinJournal / 2, 1}, {MinJournal + 4096, 1}, {MinJournal, 0}, {MinJournal, MaxCMs + 1},
		{MinJournal, testLinks + 1}, {2 * MinJournal, testLinks}} {
		if _, err := NewState(seg, c.journal, c.links); err == nil {
			t.Errorf("%+v: opened", c)
		}
	}
	if _, err := NewState(&Segment{mem: seg.mem}, MinJournal, testLinks); err == nil {
		t.Error("opened read-only")
	}
	if most := entryWords + markWords*MaxCMs; 8*most > entrySpan || stateEntry+2*entrySpan > stateData {
		t.Errorf("an entry of %d words has no room", most)
	}
}

// What is committed of journal and plan is what a successor reads, and no more.
func TestJournalModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, seg := newState(t)
		var now, plan [][]byte // committed with the entry
		var e Entry
		e.Links = make([]Mark, testLinks)
		draw := func() (list [][]byte) {
			for _, n := range rapid.SliceOfN(rapid.IntRange(1, 3000), 0, 20).Draw(t, "sizes") {
				list = append(list, bytes.Repeat([]byte{byte(n), byte(n >> 8), byte(len(list))}, n/3+1)[:n])
			}
			return list
		}
		add := func(list [][]byte, do func([]byte) bool) {
			for _, b := range list {
				if !do(b) {
					t.Fatalf("no room for %d bytes", len(b))
				}
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			j := &s.Journal
			what := rapid.SampledFrom([]string{"append", "append", "begin", "plan", "end of plan"}).Draw(t, "what")
			list, next, planned := draw(), now, plan
			if len(plan) > 0 && what == "begin" {
				what = "end of plan" // first: it lies where the turn will
			}
			switch what {
			case "append":
				add(list, j.Append)
				next = append(now[:len(now):len(now)], list...)
			case "begin":
				j.Begin()
				add(list, j.Append)
				next, planned = list, nil
			case "plan":
				add(list, j.Plan)
				planned = append(plan[:len(plan):len(plan)], list...)
			case "end of plan":
				j.DropPlan()
				planned = nil
			}
			if rapid.IntRange(0, 3).Draw(t, "dies") > 0 {
				now, plan = next, planned
				e.Turn, e.Tail, e.Plan = j.Turn(), j.Tail(), j.Planned()
				s.Redo.Commit(&e)
			}
			s = again(t, seg)
			last, found, err := s.Redo.Last()
			check(t, err)
			if !found {
				continue
			}
			check(t, s.Journal.Recover(last.Turn, last.Tail, last.Plan))
			got := [][]byte{}
			check(t, s.Journal.Replay(func(b []byte) error { got = append(got, bytes.Clone(b)); return nil }))
			same(t, "journal", got, now)
			got = got[:0]
			for at := uint64(0); at < last.Plan; {
				b, next, err := s.Journal.NextPlanned(at)
				check(t, err)
				got, at = append(got, bytes.Clone(b)), next
			}
			same(t, "plan", got, plan)
		}
	})
}

func same(t fataler, what string, got, want [][]byte) {
	if len(got) != len(want) {
		t.Fatalf("%s of %d entries, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: entry %d is %x, want %x", what, i, got[i], want[i])
		}
	}
}

// An entry is of its place and its turn: what another turn has left is none.
func TestJournalStale(t *testing.T) {
	s, _ := newState(t)
	j := &s.Journal
	entry := []byte("the same in every turn")
	fill := func() {
		for range 4 {
			j.Append(entry)
		}
	}
	fill()
	j.Begin()
	fill()
	j.Begin()
	if !j.Append(entry) {
		t.Fatal("no room")
	}
	turn, tail := j.Turn(), j.Tail()
	check(t, j.Recover(turn, 4*tail, 0))
	n := 0
	err := j.Replay(func([]byte) error { n++; return nil })
	if wantCorrupt(t, err); n != 1 {
		t.Fatalf("%d entries", n)
	}
	check(t, j.Recover(turn, tail, tail))
	_, _, err = j.NextPlanned(0) // of turn 1 in the other half
	wantCorrupt(t, err)
}

func TestJournalBounds(t *testing.T) {
	s, _ := newState(t)
	j := &s.Journal
	if j.Append(nil) || j.Append(make([]byte, MaxEntry+1)) || j.Tail() != 0 {
		t.Error("an entry of a size that there is not")
	}
	n := 0
	for j.Append(make([]byte, 1000)) {
		n++
	}
	if want := j.Half() / j.Entry(1000); n != want || j.Tail() > uint64(j.Half()) {
		t.Errorf("%d entries, want %d", n, want)
	}
	check(t, j.Replay(func([]byte) error { n--; return nil }))
	if n != 0 {
		t.Errorf("%d entries are missing", n)
	}
	half := uint64(j.Half())
	for _, c := range [][2]uint64{{half + 8, 0}, {0, half + 8}, {4, 0}, {0, 1}, {1 << 63, 0}} {
		wantCorrupt(t, j.Recover(0, c[0], c[1]))
	}
	stop := errors.New("stop")
	if err := j.Replay(func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// The idle half gives its memory back, and not while there is a plan in it.
func TestJournalDiscard(t *testing.T) {
	rw, ro := mapped(t, StateSize(MinJournal))
	s, err := NewState(rw, MinJournal, 1)
	check(t, err)
	j := &s.Journal
	j.Append([]byte("old"))
	j.Begin()
	j.Append([]byte("new"))
	check(t, j.Discard())
	half := stateData + j.Half()
	if b := ro.mem[stateData:half]; !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("the old half is still there")
	}
	if b := ro.mem[half:]; !bytes.Contains(b[:64], []byte("new")) {
		t.Error("the new half is not")
	}
	j.Plan([]byte("plan"))
	check(t, j.Discard())
	if b, _, err := j.NextPlanned(0); err != nil || string(b) != "plan" {
		t.Errorf("%q, %v", b, err)
	}
}

// FuzzState: whatever the router before has left, opening and reading it neither
// crashes nor comes to no end, and gives no entry longer than MaxEntry.
func FuzzState(f *testing.F) {
	seeds(f, 3)
	f.Fuzz(func(t *testing.T, redo, journal []byte, turn, tail, planned uint64) {
		s, seg := newState(t)
		copy(seg.mem[stateCommit:stateData], redo)
		copy(seg.mem[stateData:], journal)
		copy(seg.mem[stateData+MinJournal/2:], journal)
		if e, found, err := s.Redo.Last(); err == nil && found && len(e.Links) != testLinks {
			t.Fatalf("%d links", len(e.Links))
		}
		j := &s.Journal
		if err := j.Recover(turn, tail, planned); err != nil {
			return
		}
		n := uint64(0)
		look := func(b []byte) error {
			if n += frame(len(b)); len(b) == 0 || len(b) > MaxEntry || n > uint64(j.Half()) {
				t.Fatalf("%d bytes, %d in all", len(b), n)
			}
			return nil
		}
		j.Replay(look)
		n = 0
		for at := uint64(0); at < j.Planned(); {
			b, next, err := j.NextPlanned(at)
			if err != nil {
				break
			}
			look(b)
			at = next
		}
	})
}

// Both ends go on from what a redo entry says, if it can follow from what they have
// stored themselves; what the other side has stored is no reason to stop.
func TestRecover(t *testing.T) {
	r := newRing(t, 256)
	for range 4 {
		r.write([]byte("12345678"))
	}
	r.p.Publish()
	for range 2 {
		r.c.Next()
	}
	r.c.Release()
	for _, c := range []struct {
		tail uint64
		ok   bool
	}{{64, true}, {80, true}, {56, false}, {68, false}, {64 + 256 + 8, false}, {1 << 60, false}} {
		r.open(t)
		if err := r.p.Recover(c.tail); (err == nil) != c.ok {
			t.Errorf("tail %d: %v", c.tail, err)
		} else if err == nil && (r.p.Position() != c.tail || r.p.Err() != nil) {
			t.Errorf("tail %d: at %d, %v", c.tail, r.p.Position(), r.p.Err())
		}
	}
	for _, c := range []struct {
		head uint64
		ok   bool
	}{{32, true}, {48, true}, {64, true}, {24, false}, {36, false}, {1 << 60, false}} {
		r.open(t)
		if err := r.c.Recover(c.head); (err == nil) != c.ok {
			t.Errorf("head %d: %v", c.head, err)
		} else if err == nil && r.c.Position() != c.head {
			t.Errorf("head %d: at %d", c.head, r.c.Position())
		}
	}
	check(t, r.c.Recover(32))
	if rec, err := r.c.Next(); err != nil || string(rec) != "12345678" {
		t.Errorf("%q, %v", rec, err)
	}
	check(t, r.c.Recover(72)) // past the producer's tail: its fault
	_, err := r.c.Next()
	wantCorrupt(t, err)
	check(t, r.p.Recover(64))
	if !r.p.Publish() && r.p.Pending() {
		t.Error("nothing is published")
	}
}
