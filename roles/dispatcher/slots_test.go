package dispatcher

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
)

const (
	testServing = 2
	testCMs     = 2 * testServing
	testHeir    = testServing // of cm 0
	testRows    = 12
)

// floor is a connection table with the cms' columns, and slots over it.
type floor struct {
	table   *store.ConnTable
	columns []*store.ConnColumns // as the cms have them
	seen    []*store.ConnColumns // as the dispatcher has them
	s       *slots

	generation uint64 // of the dispatcher
}

// next is the generation of the next dispatcher.
func (f *floor) next() uint64 {
	f.generation++
	return f.generation
}

// known is what a cm says once it has read all that earlier dispatchers had for
// it.
func (f *floor) known(k int) { f.columns[k].Counters().Dispatcher.Store(f.generation) }

func newFloor(t testing.TB, rows int) *floor {
	t.Helper()
	cfg := standin.Settings(testCMs)
	cfg.MaxConnections = rows - privsep.SystemPlaces
	mem, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mem.Close)
	f := new(floor)
	if f.table, err = mem.Table(); err != nil {
		t.Fatal(err)
	}
	for k := range testCMs {
		for _, to := range []struct {
			list  *[]*store.ConnColumns
			write bool
		}{{&f.columns, true}, {&f.seen, false}} {
			c, err := mem.Columns(k, to.write)
			if err != nil {
				t.Fatal(err)
			}
			*to.list = append(*to.list, c)
		}
	}
	f.s = newSlots(f.table, f.seen, testServing, f.next())
	return f
}

// hand gives a connection to cm k, which takes it; 0: there was no place.
func (f *floor) hand(k int) (slot uint32, uid uint64) {
	slot, ok := f.s.take(k)
	if !ok {
		return 0, 0
	}
	uid = f.table.Counters().LastUID.Add(1)
	info := store.ConnInfo{UID: uid, CM: uint16(k), Addr: [16]byte{7: byte(uid % 3)}, Unix: uid%4 == 0}
	f.table.Row(int(slot)).Set(&info)
	f.s.came(&info)
	f.columns[k].Row(int(slot)).UID.Store(uid)
	return slot, uid
}

// release is what a cm does for a connection that has ended.
func (f *floor) release(k int, slot uint32) {
	row := f.columns[k].Row(int(slot))
	uid := row.UID.Load()
	row.UID.Store(0)
	row.ClosedUID.Store(uid)
	f.columns[k].Counters().Closed.Add(1)
}

// floorTest is the model: who is connected, by slot.
type floorTest struct {
	*floor
	open map[uint32]int // cm
	away [testCMs]bool  // its process has ended and there is no new one
	uid  uint64
}

func (f *floorTest) cm(t *rapid.T, away bool) int {
	k := rapid.IntRange(0, testCMs-1).Draw(t, "cm")
	if f.away[k] != away {
		t.Skip("cm is not")
	}
	return k
}

func (f *floorTest) accept(t *rapid.T) {
	k := f.cm(t, false)
	slot, uid := f.hand(k)
	if uid == 0 {
		if len(f.open) < testRows {
			t.Fatalf("no place beside %d connections", len(f.open))
		}
		return
	}
	if owner, used := f.open[slot]; used {
		t.Fatalf("slot %d is given to cm/%d, but cm/%d has it", slot, k, owner)
	}
	if uid <= f.uid {
		t.Fatalf("uid %d after %d", uid, f.uid)
	}
	f.uid = uid
	f.open[slot] = k
}

// bounce is a handoff that the cm's channel had no room for.
func (f *floorTest) bounce(t *rapid.T) {
	k := f.cm(t, false)
	if slot, ok := f.s.take(k); ok {
		f.table.Row(int(slot)).Set(&store.ConnInfo{UID: f.table.Counters().LastUID.Add(1), CM: uint16(k)})
		f.table.Row(int(slot)).Clear()
		f.s.giveBack(k)
	}
}

func (f *floorTest) closeOne(t *rapid.T) {
	slot := uint32(rapid.IntRange(0, testRows-1).Draw(t, "slot"))
	k, ok := f.open[slot]
	if !ok || f.away[k] {
		t.Skip("nobody there")
	}
	delete(f.open, slot)
	f.release(k, slot)
}

// die ends a cm's process, of which the dispatcher is told.
func (f *floorTest) die(t *rapid.T) {
	k := f.cm(t, false)
	f.away[k] = true
	f.s.lost(k)
	f.forget(k)
}

func (f *floorTest) forget(k int) {
	for slot, owner := range f.open {
		if owner == k {
			delete(f.open, slot)
		}
	}
}

// unheard ends a cm's process while there is no dispatcher to hear of it.
func (f *floorTest) unheard(t *rapid.T) {
	f.away[f.cm(t, false)] = true
	f.restart(t)
}

// come back: the new process closes what the one before had, then it is known.
func (f *floorTest) comeBack(t *rapid.T) {
	k := f.cm(t, true)
	f.takeOver(k)
	f.s.recount(k)
	f.known(k)
	f.s.settle()
}

func (f *floorTest) takeOver(k int) {
	for slot := range uint32(testRows) {
		if f.columns[k].Row(int(slot)).UID.Load() != 0 {
			f.release(k, slot)
		}
	}
	f.away[k] = false
	f.forget(k)
}

// restart puts a new dispatcher in the place of the old one, which is made
// known to every cm that is there.
func (f *floorTest) restart(*rapid.T) {
	f.s = newSlots(f.table, f.seen, testServing, f.next())
	f.s.countByOrigin(true)
	for k := range testCMs {
		if !f.away[k] {
			f.s.recount(k)
			f.known(k)
		}
	}
	f.s.settle()
}

// cut is a dispatcher that dies between the row and the handoff.
func (f *floorTest) cut(t *rapid.T) {
	k := f.cm(t, false)
	if slot, ok := f.s.take(k); ok {
		f.uid = f.table.Counters().LastUID.Add(1)
		f.table.Row(int(slot)).Set(&store.ConnInfo{UID: f.uid, CM: uint16(k)})
	}
	f.restart(t)
}

// law: every place is free or used, by one; loads are what the cms have.
func (f *floorTest) law(t *rapid.T) {
	places := slices.Concat(append(slices.Clone(f.s.used), f.s.free)...)
	slices.Sort(places)
	if len(places) != testRows || len(slices.Compact(places)) != testRows {
		t.Fatalf("used %v, free %v", f.s.used, f.s.free)
	}
	var load [testCMs]int
	for slot, k := range f.open {
		load[k]++
		if !slices.Contains(f.s.used[k], slot) {
			t.Fatalf("slot %d of cm/%d is free", slot, k)
		}
	}
	for k, want := range load {
		if got := f.s.load(k); got != want {
			t.Fatalf("load of cm/%d is %d, want %d", k, got, want)
		}
	}
	if f.s.total() != len(f.open) {
		t.Fatalf("total %d, want %d", f.s.total(), len(f.open))
	}
	crowd := maps.Clone(f.s.crowd)
	f.s.countByOrigin(false)
	if f.s.countByOrigin(true); !maps.Equal(crowd, f.s.crowd) {
		t.Fatalf("by origin %v, want %v", crowd, f.s.crowd)
	}
}

// Whatever happens to cms and dispatchers, no place is given twice or lost.
func TestSlots(t *testing.T) {
	floor := newFloor(t, testRows)
	rapid.Check(t, func(t *rapid.T) {
		f := &floorTest{floor: floor, open: map[uint32]int{}}
		f.uid = f.table.Counters().LastUID.Load()
		for slot := range testRows { // as the check before left it: nobody is there
			f.table.Row(slot).Clear()
			for k := range testCMs {
				f.columns[k].Row(slot).UID.Store(0)
			}
		}
		f.s = newSlots(f.table, f.seen, testServing, f.next())
		f.s.countByOrigin(true)
		t.Repeat(map[string]func(*rapid.T){
			"accept": f.accept, "accept too": f.accept, "accept more": f.accept, "bounce": f.bounce,
			"close": f.closeOne, "close too": f.closeOne, "die": f.die, "unheard": f.unheard,
			"come back": f.comeBack, "restart": f.restart, "cut": f.cut, "": f.law,
		})
	})
}

// What an earlier dispatcher had handed over and the cm has not read yet keeps
// its place until the cm has read on.
func TestSlotsInFlight(t *testing.T) {
	f := newFloor(t, testRows)
	var there []uint32
	for i := range 3 { // of which the second never got into the channel
		slot, _ := f.s.take(0)
		uid := f.table.Counters().LastUID.Add(1)
		f.table.Row(int(slot)).Set(&store.ConnInfo{UID: uid})
		if i != 1 {
			there = append(there, slot)
		}
	}
	f.s = newSlots(f.table, f.seen, testServing, f.next())
	f.s.settle()
	mine, _ := f.hand(0) // in flight from this dispatcher while the cm says so
	if n := f.s.load(0); n != 4 {
		t.Fatalf("load %d before the cm has read on, want 4", n)
	}
	for _, slot := range there {
		f.columns[0].Row(int(slot)).UID.Store(f.table.Row(int(slot)).UID())
	}
	f.columns[0].Row(int(mine)).UID.Store(0)
	f.known(0)
	f.s.settle()
	want := append(there, mine)
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(f.s.used[0])); !slices.Equal(got, want) {
		t.Fatalf("used %v, want %v", got, want)
	}
}

// A cm that lies about what it has closed takes no place from the others and
// keeps nobody out.
func TestSlotsLiar(t *testing.T) {
	f := newFloor(t, testRows)
	f.hand(0)
	mine, _ := f.hand(1)
	for _, lie := range []uint64{1, 1 << 20, 1 << 63, ^uint64(0)} {
		f.columns[0].Counters().Closed.Store(lie)
		if n := f.s.load(0); n < 0 || n > 1 {
			t.Errorf("closed %d: load %d", lie, n)
		}
		if n := f.s.total(); n < 1 || n > 2 {
			t.Errorf("closed %d: total %d", lie, n)
		}
		for range 3 {
			slot, ok := f.s.take(1)
			if !ok || slot == mine {
				t.Fatalf("closed %d: slot %d, %v", lie, slot, ok)
			}
			f.s.giveBack(1)
		}
	}
	// Nor does it help to say so in the rows of somebody else's connections.
	f.columns[0].Row(int(mine)).ClosedUID.Store(f.table.Row(int(mine)).UID())
	f.s.reclaim()
	if f.s = newSlots(f.table, f.seen, testServing, f.next()); !slices.Contains(f.s.used[1], mine) {
		t.Fatalf("slot %d of cm/1 was freed by cm/0", mine)
	}
}

// Connections go to the cm with the fewest, and those that are away get none.
func TestPick(t *testing.T) {
	f := newFloor(t, testRows)
	d := &dispatcher{slots: f.s, cms: make([]cmPeer, 3)}
	if d.pick(0) != -1 {
		t.Fatal("a cm that is not there was picked")
	}
	for k := range d.cms {
		d.cms[k].ch = new(privsep.Channel) // is there; nothing is sent
	}
	order := func() (list []int) {
		for try := 0; d.pick(try) >= 0; try++ {
			list = append(list, d.pick(try))
		}
		return list
	}
	want := func(list ...int) {
		t.Helper()
		if got := order(); !slices.Equal(got, list) {
			t.Fatalf("order %v, want %v", got, list)
		}
	}
	want(0, 1, 2)
	f.hand(0)
	slot, _ := f.hand(0)
	f.hand(1)
	want(2, 1, 0)
	f.release(0, slot)
	f.hand(2)
	f.hand(2)
	want(0, 1, 2)
	d.cms[0].ch = nil
	want(1, 2)
}
