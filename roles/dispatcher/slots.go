package dispatcher

import "gatehouse/store"

// slots keeps the places of the connection table. A place is free again when
// the cm that held its connection says that it closed that very UID.
type slots struct {
	table      *store.ConnTable
	columns    []*store.ConnColumns // of each cm, read-only
	generation uint64               // of this dispatcher
	first      uint64               // the UIDs up to it are earlier dispatchers'
	free       []uint32             // used as a stack: low places first
	used       [][]uint32           // per cm
	seen       []uint64             // per cm: closed connections already accounted for
	// inherited tells of a cm that some of its places may be nobody's: an earlier
	// dispatcher wrote the row and died before it could hand the connection over.
	inherited []bool
}

// newSlots takes up the table as an earlier dispatcher left it.
func newSlots(table *store.ConnTable, columns []*store.ConnColumns, generation uint64) *slots {
	s := &slots{table: table, columns: columns, generation: generation, first: table.Counters().LastUID.Load(),
		used: make([][]uint32, len(columns)), seen: make([]uint64, len(columns)), inherited: make([]bool, len(columns))}
	for k, c := range columns {
		s.seen[k] = c.Counters().Closed.Load()
	}
	for i := table.Len() - 1; i >= 0; i-- {
		info, ok := table.Row(i).Get()
		k := int(info.CM)
		if ok && k < len(columns) && columns[k].Row(i).ClosedUID.Load() != info.UID {
			s.used[k] = append(s.used[k], uint32(i))
			s.inherited[k] = true
			continue
		}
		s.free = append(s.free, uint32(i))
	}
	return s
}

// closed is how many connections cm k says that it has closed since its places
// were last looked at.
func (s *slots) closed(k int) uint64 { return s.columns[k].Counters().Closed.Load() - s.seen[k] }

// load is how many connections cm k has. A cm that lies about it changes only
// its own share.
func (s *slots) load(k int) int {
	used := len(s.used[k])
	return used - int(min(s.closed(k), uint64(used)))
}

func (s *slots) total() int {
	n := 0
	for k := range s.used {
		n += s.load(k)
	}
	return n
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
	s.used[k] = append(s.used[k], slot)
	return slot, true
}

// giveBack undoes the newest take of cm k.
func (s *slots) giveBack(k int) {
	n := len(s.used[k]) - 1
	s.free = append(s.free, s.used[k][n])
	s.used[k] = s.used[k][:n]
}

// reclaim frees the places whose connections the cms have closed.
func (s *slots) reclaim() {
	for k := range s.columns {
		if s.closed(k) != 0 {
			s.recount(k)
		}
	}
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
			// A cm that closes writes ClosedUID first, so it is read last.
			if uid > s.first || row.UID.Load() == uid || row.ClosedUID.Load() == uid {
				keep = append(keep, slot)
				continue
			}
			s.table.Row(int(slot)).Clear()
			s.free = append(s.free, slot)
		}
		s.used[k] = keep
	}
}

// recount looks at the places of cm k: at times, and when a new process of it
// is there, which has closed what the one before had, also what lost freed.
func (s *slots) recount(k int) {
	c := s.columns[k]
	// Read before the rows, which a cm writes first: what it closes meanwhile
	// counts twice until the next time, and nothing is ever missed.
	closed := c.Counters().Closed.Load()
	keep := s.used[k][:0]
	for _, slot := range s.used[k] {
		if c.Row(int(slot)).ClosedUID.Load() == s.table.Row(int(slot)).UID() {
			s.free = append(s.free, slot)
		} else {
			keep = append(keep, slot)
		}
	}
	s.used[k], s.seen[k] = keep, closed
}

// lost frees the places of a cm that died with its connections.
func (s *slots) lost(k int) {
	for _, slot := range s.used[k] {
		s.table.Row(int(slot)).Clear()
		s.free = append(s.free, slot)
	}
	s.used[k] = s.used[k][:0]
	s.seen[k] = s.columns[k].Counters().Closed.Load()
}
