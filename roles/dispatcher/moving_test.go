package dispatcher

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// movingTest is the model of a cm, 0, whose connections move to another, testHeir:
// who is connected, by slot, and at which of the two.
type movingTest struct {
	*floor
	open map[uint32]int
	gone bool // cm/0 has ended
}

func (f *movingTest) accept(t *rapid.T) {
	slot, uid := f.hand(testHeir)
	if uid == 0 {
		f.s.reclaim()
		if slot, uid = f.hand(testHeir); uid == 0 && len(f.open) < testRows {
			t.Fatalf("no place beside %d connections", len(f.open))
		}
	}
	if uid == 0 {
		return
	}
	if _, used := f.open[slot]; used {
		t.Fatalf("slot %d is given twice", slot)
	}
	f.open[slot] = testHeir
}

// pick draws an open connection of cm k.
func (f *movingTest) pick(t *rapid.T, k int) uint32 {
	slot := uint32(rapid.IntRange(0, testRows-1).Draw(t, "slot"))
	if at, ok := f.open[slot]; !ok || at != k {
		t.Skip("nobody there")
	}
	return slot
}

func (f *movingTest) move(t *rapid.T) {
	slot := f.pick(t, 0)
	f.pass(slot, 0, testHeir)
	f.open[slot] = testHeir
}

// pass is what two cms write when a connection moves; the new one may be the first.
func (f *floor) pass(slot uint32, from, to int) {
	uid := f.table.Row(int(slot)).UID()
	f.columns[to].Row(int(slot)).UID.Store(uid)
	row := f.columns[from].Row(int(slot))
	row.UID.Store(0)
	row.MovedUID.Store(uid)
	f.columns[from].Counters().Moved.Add(1)
}

func (f *movingTest) close(k int) func(*rapid.T) {
	return func(t *rapid.T) {
		slot := f.pick(t, k)
		delete(f.open, slot)
		f.release(k, slot)
	}
}

// die ends cm/0, with the connections that have not moved.
func (f *movingTest) die(t *rapid.T) {
	if f.gone {
		t.Skip("gone")
	}
	f.s.lost(0)
	f.forget()
}

func (f *movingTest) forget() {
	f.gone = true
	for slot, k := range f.open {
		if k == 0 {
			delete(f.open, slot)
		}
	}
}

// unheard ends cm/0 while there is no dispatcher to hear of it; the next one is told
// of the end alone.
func (f *movingTest) unheard(t *rapid.T) {
	if f.gone {
		t.Skip("gone")
	}
	f.forget()
	f.restart(t)
}

// again ends cm/0 and begins its next process, of which the next dispatcher is told
// as of any other.
func (f *movingTest) again(t *rapid.T) {
	if f.gone {
		t.Skip("gone")
	}
	f.forget()
	for slot := range uint32(testRows) {
		if f.columns[0].Row(int(slot)).UID.Load() != 0 {
			f.release(0, slot)
		}
	}
	f.s = newSlots(f.table, f.seen, testServing, f.next())
	for _, k := range []int{0, testHeir} {
		f.s.recount(k)
		f.known(k)
	}
	f.s.settle()
}

// restart puts a new dispatcher in the place of the old one.
func (f *movingTest) restart(*rapid.T) {
	f.s = newSlots(f.table, f.seen, testServing, f.next())
	f.s.recount(testHeir)
	if f.gone {
		f.s.lost(0)
	} else {
		f.s.retire(0, testHeir)
	}
}

func (f *movingTest) law(t *rapid.T) {
	places := slices.Concat(append(slices.Clone(f.s.used), f.s.free)...)
	slices.Sort(places)
	if len(places) != testRows || len(slices.Compact(places)) != testRows {
		t.Fatalf("used %v, free %v", f.s.used, f.s.free)
	}
	for slot, k := range f.open {
		if slices.Contains(f.s.free, slot) {
			t.Fatalf("slot %d of cm/%d is free", slot, k)
		}
	}
	if n := f.s.total(); n < len(f.open) {
		t.Fatalf("total %d, there are %d", n, len(f.open))
	}
	f.s.reclaim()
	var load [testCMs]int
	for _, k := range f.open {
		load[k]++
	}
	for k, want := range load {
		if got := f.s.load(k); got != want {
			t.Fatalf("load of cm/%d is %d, want %d; used %v", k, got, want, f.s.used)
		}
	}
}

// Whatever comes between, a place that moves with its connection is neither lost
// nor given twice, and is counted once.
func TestSlotsMoving(t *testing.T) {
	floor := newFloor(t, testRows)
	rapid.Check(t, func(t *rapid.T) {
		f := &movingTest{floor: floor, open: map[uint32]int{}}
		for slot := range testRows {
			f.table.Row(slot).Clear()
			for k := range testCMs {
				f.columns[k].Row(slot).UID.Store(0)
			}
		}
		f.s = newSlots(f.table, f.seen, testServing, f.next())
		for range rapid.IntRange(0, testRows-2).Draw(t, "connections") {
			slot, _ := f.hand(0)
			f.open[slot] = 0
		}
		f.s.retire(0, testHeir)
		t.Repeat(map[string]func(*rapid.T){
			"accept": f.accept, "move": f.move, "move too": f.move, "close old": f.close(0), "close new": f.close(testHeir),
			"close new too": f.close(testHeir), "die": f.die, "unheard": f.unheard, "again": f.again, "restart": f.restart, "": f.law,
		})
	})
}

// A connection moves away and back, whichever dispatchers see it: its place is that
// of the cm that it is at, and free, before long, when that one dies.
func TestSlotsMovedBack(t *testing.T) {
	for _, anew := range []bool{false, true} {
		f := newFloor(t, testRows)
		slot, _ := f.hand(0)
		f.hand(1)
		for _, k := range []int{0, testHeir} {
			to := testHeir - k
			f.s.retire(k, to)
			f.pass(slot, k, to)
			f.s.lost(k)
			if anew {
				f.s = newSlots(f.table, f.seen, testServing, f.next())
				f.known(to)
				f.s.settle()
			}
			if !slices.Equal(f.s.used[to], []uint32{slot}) || f.s.load(to) != 1 || f.s.total() != 2 {
				t.Fatalf("used %v", f.s.used)
			}
			f.s.settleDoubts()
		}
		f.s.lost(0)
		for i := range f.s.doubts {
			f.s.doubts[i].since = time.Now().Add(-doubtTime)
		}
		if f.s.settleDoubts(); len(f.s.free) != testRows-1 || len(f.s.doubts) != 0 {
			t.Fatalf("%d places are free, %d in doubt", len(f.s.free), len(f.s.doubts))
		}
	}
}

// A cm that says of connections that they have moved, which they have not, keeps
// their places for no longer than its successor has to hear of them.
func TestSlotsMovedNowhere(t *testing.T) {
	f := newFloor(t, testRows)
	f.s.retire(0, testHeir)
	for range 5 {
		slot, uid := f.hand(0)
		f.columns[0].Row(int(slot)).MovedUID.Store(uid)
		f.columns[0].Counters().Moved.Add(1 << 40)
		if n := f.s.total(); n < 1 || n > testRows {
			t.Fatalf("total %d", n)
		}
	}
	f.s.reclaim()
	if n := len(f.s.used[0]); n != 5 {
		t.Fatalf("%d places are cm/0's", n)
	}
	f.s.lost(0)
	if n := len(f.s.used[testHeir]); n != 5 || len(f.s.doubts) != 5 {
		t.Fatalf("%d places are its successor's, %d in doubt", n, len(f.s.doubts))
	}
	for i := range f.s.doubts {
		f.s.doubts[i].since = time.Now().Add(-doubtTime)
	}
	if f.s.reclaim(); len(f.s.free) != testRows || len(f.s.doubts) != 0 {
		t.Fatalf("%d places are free, %d in doubt", len(f.s.free), len(f.s.doubts))
	}
	if info, ok := f.table.Row(0).Get(); ok {
		t.Fatalf("a row is left: %+v", info)
	}
}
