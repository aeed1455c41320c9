package cm

import (
	"slices"
	"testing"

	"gatehouse/roles/standin"
	"gatehouse/store"
)

// A new router's first word: holds are void, readers that are behind are told again,
// a body that is waited for at once, and no connection ends.
func TestNewRouter(t *testing.T) {
	m, router := alone(t)
	m.conns[1] = &conn{slot: 1, gen: 11, flags: flagHeld}
	m.conns[2] = &conn{slot: 2, gen: 12, flags: flagCongested}
	m.conns[3] = &conn{slot: 3, gen: 13}
	m.now = int64(10 * stuckTime)
	m.waited = waitedFor{seq: 7, since: m.now}
	say(t, m, &store.InsNewRouter{})
	if m.conns[1].has(flagHeld) || !slices.Contains(m.ready, m.conns[1]) || len(m.ready) != 1 {
		t.Errorf("held %v, %d to be read", m.conns[1].has(flagHeld), len(m.ready))
	}
	if m.now-m.waited.since < int64(stuckTime) {
		t.Error("a body that is waited for is told later")
	}
	m.out.Publish()
	rec, err := router.In.Next()
	var c store.RecCongested
	if err != nil || c.Parse(rec) != nil || c.Conn != m.conns[2].ref() {
		t.Fatalf("the router hears %x, %v", rec, err)
	}
	if rec, _ := router.In.Next(); rec != nil {
		t.Errorf("and %x", rec)
	}
}

func say(t *testing.T, m *cm, ins store.Record) {
	t.Helper()
	b := make([]byte, ins.Size())
	ins.Put(b)
	if err := m.instruction(b); err != nil {
		t.Fatal(err)
	}
}

// alone is a cm with its rings and nothing else, and the router's ends of them.
func alone(t *testing.T) (*cm, standin.Ends) {
	t.Helper()
	cfg := standin.Settings(1)
	mem, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mem.Close)
	ours, err := mem.CMEnds(0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := mem.RouterEnds(0)
	if err != nil {
		t.Fatal(err)
	}
	return &cm{cfg: &cfg, out: ours.Out, in: ours.In, bell: -1, conns: make([]*conn, cfg.MaxConnections)}, theirs
}
