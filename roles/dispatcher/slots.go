package dispatcher

import (
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// slots keeps the places of the connection table. A place is free again when
// the cm that held its connection says that it closed that very UID.
type slots struct {
	table      *store.ConnTable
	columns    []*store.ConnColumns // of each cm, read-only
	serving    int                  // of them at a time; a cm moves to the place so many further on
	generation uint64               // of this dispatcher
	first      uint64               // the UIDs up to it are earlier dispatchers'
	free       []uint32             // used as a stack: low places first
	used       [][]uint32           // per cm
	seen       []uint64             // per cm: closed connections already accounted for
	gone       []uint64             // per cm: moved connections already accounted for
	heir       []int                // per cm: where its connections move to, -1: they do not
	doubts     []doubt
	systems    []uint32               // that the console has, or has had
	crowd      map[privsep.Origin]int // connections by TCP, also closed ones until that is seen; nil: nobody asks
	// inherited tells of a cm that some of its places may be nobody's: an earlier
	// dispatcher wrote the row and died before it could hand the connection over.
	inherited []bool
}

// doubt is a connection of which a cm that is no more has said that it moved, and
// its successor nothing yet.
type doubt struct {
	slot  uint32
	uid   uint64
	cm    int // the successor
	since time.Time
}

// doubtTime is how long a successor has to have heard of a connection.
const doubtTime = 10 * time.Second

// newSlots takes up the table as an earlier dispatcher left it.
func newSlots(table *store.ConnTable, columns []*store.ConnColumns, serving int, generation uint64) *slots {
	n := len(columns)
	s := &slots{table: table, columns: columns, serving: serving, generation: generation, first: table.Counters().LastUID.Load(),
		used: make([][]uint32, n), seen: make([]uint64, n), gone: make([]uint64, n), heir: slices.Repeat([]int{-1}, n),
		inherited: make([]bool, n)}
	for k, c := range columns {
		s.seen[k], s.gone[k] = c.Counters().Closed.Load(), c.Counters().Moved.Load()
	}
	for i := table.Len() - 1; i >= table.Reached(); i-- {
		s.free = append(s.free, uint32(i))
	}
	for i := table.Reached() - 1; i >= 0; i-- {
		info, ok := table.Row(i).Get()
		k := int(info.CM)
		if !ok || k >= n || columns[k].Row(i).ClosedUID.Load() == info.UID {
			s.free = append(s.free, uint32(i))
			continue
		}
		s.used[k] = append(s.used[k], uint32(i))
		s.inherited[k] = true
		if info.System {
			s.systems = append(s.systems, uint32(i))
		}
		if columns[k].Row(i).MovedUID.Load() == info.UID {
			s.gone[k]--
		}
	}
	return s
}

// closed is how many connections cm k says that it has closed since its places
// were last looked at.
func (s *slots) closed(k int) uint64 { return s.columns[k].Counters().Closed.Load() - s.seen[k] }

// moved is how many places of cm k are its successor's, as it says.
func (s *slots) moved(k int) int {
	if s.heir[k] < 0 {
		return 0
	}
	return int(min(s.columns[k].Counters().Moved.Load()-s.gone[k], uint64(len(s.used[k]))))
}

// load is how many connections cm k has. A cm that lies about it changes only
// its own share, and its successor's.
func (s *slots) load(k int) int {
	has := len(s.used[k]) - s.moved(k)
	for j, to := range s.heir {
		if to == k {
			has += s.moved(j)
		}
	}
	return has - int(min(s.closed(k), uint64(has)))
}

// total is how many connections there are of clients.
func (s *slots) total() int {
	n := 0
	for k := range s.used {
		n += s.load(k)
	}
	return max(n-s.system(), 0)
}

// system is how many the console has. A cm that lies about it changes no more than that.
func (s *slots) system() int {
	s.systems = slices.DeleteFunc(s.systems, func(slot uint32) bool {
		info, ok := s.table.Row(int(slot)).Get()
		if !ok || !info.System || int(info.CM) >= len(s.columns) {
			return true
		}
		to := s.successor(int(info.CM))
		return s.hasClosed(int(info.CM), slot, info.UID) || to >= 0 && s.hasClosed(to, slot, info.UID)
	})
	return len(s.systems)
}

// hasClosed tells whether cm k says that it has closed a connection.
func (s *slots) hasClosed(k int, slot uint32, uid uint64) bool {
	return s.columns[k].Row(int(slot)).ClosedUID.Load() == uid
}

// take gives a place to a connection of cm k; false: the table is full.
func (s *slots) take(k int) (uint32, bool) {
	s.settle()
	if len(s.free) == 0 || s.closed(k) > uint64(max(64, len(s.used[k])/8)) {
		s.reclaim()
	}
	n := len(s.free)
	if n == 0 {
		return 0, false
	}
	slot := s.free[n-1]
	s.free = s.free[:n-1]
	s.table.Reach(int(slot))
	s.used[k] = append(s.used[k], slot)
	return slot, true
}

// countByOrigin begins to count where connections come from, or ends it.
func (s *slots) countByOrigin(on bool) {
	switch {
	case !on:
		s.crowd = nil
	case s.crowd == nil:
		s.crowd = map[privsep.Origin]int{}
		for _, used := range s.used {
			for _, slot := range used {
				if info, ok := s.table.Row(int(slot)).Get(); ok {
					s.came(&info)
				}
			}
		}
	}
}

// came counts a connection that is there.
func (s *slots) came(info *store.ConnInfo) {
	if s.crowd != nil && !info.Unix && !info.System {
		s.crowd[privsep.OriginOf(info.Addr)]++
	}
}

// release makes a place free whose connection is no more.
func (s *slots) release(slot uint32) {
	s.free = append(s.free, slot)
	if s.crowd == nil {
		return
	}
	if info, ok := s.table.Row(int(slot)).Get(); ok && !info.Unix && !info.System {
		from := privsep.OriginOf(info.Addr)
		if s.crowd[from]--; s.crowd[from] <= 0 {
			delete(s.crowd, from)
		}
	}
}

// giveBack undoes the newest take of cm k.
func (s *slots) giveBack(k int) {
	n := len(s.used[k]) - 1
	s.free = append(s.free, s.used[k][n])
	s.used[k] = s.used[k][:n]
}

// retire has cm k's connections move to another. What that one has closed of them
// already, before this dispatcher looked, no counter tells any more.
func (s *slots) retire(k, to int) {
	s.heir[k] = to
	s.recount(to)
}

// reclaim frees the places whose connections the cms have closed.
func (s *slots) reclaim() {
	for k := range s.columns {
		if s.closed(k) != 0 {
			s.recount(k)
		}
	}
	s.settleDoubts()
}

// settle frees the inherited places that are nobody's. Which these are is known
// of a cm as soon as it has read all that earlier dispatchers had handed to it:
// what it neither has nor has closed then never reached it.
func (s *slots) settle() {
	for k, c := range s.columns {
		if !s.inherited[k] || c.Counters().Dispatcher.Load() < s.generation {
			continue
		}
		s.inherited[k] = false
		keep := s.used[k][:0]
		for _, slot := range s.used[k] {
			row, uid := c.Row(int(slot)), s.table.Row(int(slot)).UID()
			to := s.successor(k)
			// A cm that closes writes ClosedUID first, so it is read last.
			switch {
			case uid > s.first || row.UID.Load() == uid, s.heir[k] >= 0 && row.MovedUID.Load() == uid, row.ClosedUID.Load() == uid:
				keep = append(keep, slot)
			case row.MovedUID.Load() == uid && to >= 0: // by an earlier process of that cm
				s.passOn(slot, uid, to)
				s.gone[k]++
			default:
				s.release(slot)
				s.table.Row(int(slot)).Clear()
			}
		}
		s.used[k] = keep
	}
}

// recount looks at the places of cm k: at times, and when a new process of it
// is there, which has closed what the one before had, also what lost freed.
func (s *slots) recount(k int) {
	for j, to := range s.heir {
		if to == k {
			s.recountOne(j)
		}
	}
	s.recountOne(k)
}

func (s *slots) recountOne(k int) {
	c := s.columns[k]
	// Read before the rows, which a cm writes first: what it closes meanwhile
	// counts twice until the next time, and nothing is ever missed.
	closed := c.Counters().Closed.Load()
	keep := s.used[k][:0]
	for _, slot := range s.used[k] {
		row, uid := c.Row(int(slot)), s.table.Row(int(slot)).UID()
		switch {
		case row.ClosedUID.Load() == uid:
			s.release(slot)
		case s.heir[k] >= 0 && row.MovedUID.Load() == uid && s.has(s.heir[k], slot, uid):
			s.give(slot, s.heir[k])
			s.gone[k]++
		default:
			keep = append(keep, slot)
		}
	}
	s.used[k], s.seen[k] = keep, closed
}

// has tells whether cm k says that it has a connection, or had it.
func (s *slots) has(k int, slot uint32, uid uint64) bool {
	row := s.columns[k].Row(int(slot))
	return row.UID.Load() == uid || row.ClosedUID.Load() == uid
}

// give makes a place one of cm k's.
func (s *slots) give(slot uint32, k int) {
	s.table.Row(int(slot)).SetCM(uint16(k))
	s.used[k] = append(s.used[k], slot)
}

// successor is where the connections of cm k move to, or would; -1: nowhere. That it
// was replaced only the dispatcher before may have been told.
func (s *slots) successor(k int) int {
	if s.heir[k] >= 0 {
		return s.heir[k]
	}
	if other := (k + s.serving) % len(s.columns); other != k {
		return other
	}
	return -1
}

// passOn gives a place to the successor that its connection has moved to, as is
// said. Whether that one has heard of it shows in time.
func (s *slots) passOn(slot uint32, uid uint64, to int) {
	s.give(slot, to)
	s.doubts = append(s.doubts, doubt{slot, uid, to, time.Now()})
}

// lost frees the places of a cm that died with its connections, but for those
// that its successor has by now, or is about to. It may be that one had come back and
// died here: its place is free as soon as there is no doubt.
func (s *slots) lost(k int) {
	to := s.successor(k)
	for _, slot := range s.used[k] {
		row := s.table.Row(int(slot))
		uid := row.UID()
		if to >= 0 && s.columns[k].Row(int(slot)).MovedUID.Load() == uid {
			s.passOn(slot, uid, to)
			continue
		}
		s.release(slot)
		row.Clear()
	}
	s.used[k], s.heir[k] = s.used[k][:0], -1
	s.seen[k], s.gone[k] = s.columns[k].Counters().Closed.Load(), s.columns[k].Counters().Moved.Load()
	if to >= 0 {
		s.recount(to)
	}
	s.settleDoubts()
}

// settleDoubts frees the places of connections that have never come to where they
// were said to have moved.
func (s *slots) settleDoubts() {
	s.doubts = slices.DeleteFunc(s.doubts, func(d doubt) bool {
		if s.table.Row(int(d.slot)).UID() != d.uid || s.has(d.cm, d.slot, d.uid) {
			return true
		}
		if time.Since(d.since) < doubtTime {
			return false
		}
		at := slices.Index(s.used[d.cm], d.slot)
		if at < 0 {
			return true
		}
		s.used[d.cm] = slices.Delete(s.used[d.cm], at, at+1)
		s.release(d.slot)
		s.table.Row(int(d.slot)).Clear()
		return true
	})
}
