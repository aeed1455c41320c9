package dispatcher

import "gatehouse/store"

// slots keeps the places of the connection table. A place is free again when
// the cm that held its connection says that it closed that very UID.
type slots struct {
	table   *store.ConnTable
	columns []*store.ConnColumns // of each cm, read-only
	free    []uint32             // used as a stack: low places first
	used    [][]uint32           // per cm
	seen    []uint64             // per cm: closed connections already accounted for
}

// newSlots takes up the table as an earlier dispatcher left it.
func newSlots(table *store.ConnTable, columns []*store.ConnColumns) *slots {
	s := &slots{table: table, columns: columns, used: make([][]uint32, len(columns)), seen: make([]uint64, len(columns))}
	for k, c := range columns {
		s.seen[k] = c.Counters().Closed.Load()
	}
	for i := table.Len() - 1; i >= 0; i-- {
		info, ok := table.Row(i).Get()
		k := int(info.CM)
		if ok && k < len(columns) && columns[k].Row(i).ClosedUID.Load() != info.UID {
			s.used[k] = append(s.used[k], uint32(i))
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
