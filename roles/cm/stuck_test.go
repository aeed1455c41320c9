package cm

import (
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
)

// The router is told of the body that the arena waits for, once a second at
// most, and only if it can have a cm to look at.
func TestStuck(t *testing.T) {
	mem, err := standin.New(standin.Settings(2))
	must(t, err)
	defer mem.Close()
	child, parent, err := mem.Child(privsep.ID{Role: privsep.RoleCM})
	must(t, err)
	defer parent.Close()
	defer child.Parent.Close()
	m, err := newCM(child.Boot, child.Setup, child.Parent)
	must(t, err)
	defer m.poll.Close()
	defer m.closeTLS()
	named, err := mem.Named(0, true)
	must(t, err)
	router, err := mem.RouterEnds(0)
	must(t, err)
	// said is what the router hears of the next second.
	said := func() (list []uint64) {
		for range 20 {
			m.now += int64(fastTick)
			m.stuck()
		}
		m.out.Publish()
		for b, _ := router.In.Next(); b != nil; b, _ = router.In.Next() {
			var r store.RecStuck
			if store.Kind(b) == store.KindReset {
				continue
			}
			must(t, r.Parse(b))
			list = append(list, r.Seq)
		}
		return list
	}
	want := func(what string, seqs ...uint64) {
		t.Helper()
		if got := said(); len(got) != len(seqs) || len(got) > 0 && got[0] != seqs[0] {
			t.Errorf("%s: says %v, want %v", what, got, seqs)
		}
	}
	said()
	want("empty")
	for range 4 {
		m.arena.Alloc(1)
	}
	want("not routed")
	want("not routed, again")
	named.Set(1, 0b01)
	named.Set(2, 0b11)
	named.Set(3, 0b10)
	named.Set(4, 0b00)
	named.Commit(4)
	m.returns.Done(0, 1)
	m.returns.Done(0, 2)
	want("not for long")
	want("for a second", 2)
	want("for two seconds", 2)
	m.backlog = [][]byte{nil}
	want("no room")
	m.backlog = nil
	want("room again", 2)
	named.Set(2, 0b01) // cm/1 has ended
	want("another one, not for long")
	want("another one", 3)
	named.Set(3, 0)
	want("none")
	want("none, again")
	if _, bodies := m.arena.Used(); bodies != 0 {
		t.Errorf("%d bodies", bodies)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
