package cm

import (
	"time"

	"gatehouse/store"
)

// stuckTime is how long the arena waits for one body before the router is told,
// and told again. The router finds out whose fault it is.
const stuckTime = time.Second

// waitedFor is the body that the arena waits for.
type waitedFor struct {
	seq   uint64
	since int64
}

// stuck tells the router of a body that others have not finished with for a
// while. Without room in the ring there is a better reason to wait.
func (m *cm) stuck() {
	w := &m.waited
	if seq := m.arena.Stuck(); seq == 0 || seq != w.seq {
		w.seq, w.since = seq, m.now
		return
	}
	if m.now-w.since < int64(stuckTime) {
		return
	}
	r := store.RecStuck{Seq: w.seq}
	if b := m.place(r.Size()); b != nil {
		m.out.Commit(r.Put(b))
		w.since = m.now
	}
}
