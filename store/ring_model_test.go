package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// ringModel is what a ring must do: a list of records with three marks.
type ringModel struct {
	*ring
	capacity           int
	recs               [][]byte // from the first unreleased on
	read, published    int      // indices into recs
	sleeping, rung     bool     // consumer asleep; doorbell rung for it
	started            bool     // the producer has published once
	waiting, rungSpace int      // producer waits for so many bytes; how often rung
	waitAt             uint64   // its position then
	n                  uint64
}

func (m *ringModel) commit(t *rapid.T) {
	size := rapid.IntRange(1, MaxRecord(m.capacity)).Draw(t, "size")
	rec := bytes.Repeat([]byte{byte(m.n), byte(m.n >> 8), byte(size)}, size/3+1)[:size]
	m.n++
	if !m.write(rec) {
		need, skip := m.p.span(size)
		if len(m.recs) == 0 || m.p.tail+skip+need-m.c.released <= uint64(m.capacity) {
			t.Fatalf("no space for %d with %d records in the ring", size, len(m.recs))
		}
		return
	}
	m.recs = append(m.recs, rec)
}

func (m *ringModel) publish(t *rapid.T) {
	want := (m.published < len(m.recs) || !m.started) && m.sleeping && !m.rung
	m.published = len(m.recs)
	if got := m.p.Publish(); got != want {
		t.Fatalf("Publish rings %v, want %v", got, want)
	}
	m.rung, m.started = m.rung || want, true
}

func (m *ringModel) next(t *rapid.T) {
	rec, err := m.c.Next()
	check(t, err)
	if m.read == m.published {
		if rec != nil {
			t.Fatalf("%d bytes out of an empty ring", len(rec))
		}
		return
	}
	if !bytes.Equal(rec, m.recs[m.read]) {
		t.Fatalf("got %x, want %x", rec, m.recs[m.read])
	}
	m.read++
}

func (m *ringModel) release(t *rapid.T) {
	ring := m.c.Release()
	if ring && (m.waiting == 0 || m.rungSpace > 0) {
		t.Fatalf("rang for a producer that does not wait")
	}
	m.recs, m.published, m.read = m.recs[m.read:], m.published-m.read, 0
	if ring {
		m.rungSpace++
		if m.p.Position() == m.waitAt && m.p.Reserve(m.waiting) == nil {
			t.Fatalf("rang without space for %d", m.waiting)
		}
	}
	if m.waiting > 0 && m.published == 0 && m.rungSpace == 0 {
		t.Fatal("the producer waits for space in a ring that is read empty")
	}
}

func (m *ringModel) wantSpace(t *rapid.T) {
	m.publish(t)
	n := rapid.IntRange(1, MaxRecord(m.capacity)).Draw(t, "want")
	m.waiting, m.rungSpace = 0, 0
	if m.p.WantSpace(n) {
		if m.p.Reserve(n) == nil {
			t.Fatalf("WantSpace(%d) lies", n)
		}
		m.p.Commit(0)
		return
	}
	if len(m.recs) == 0 {
		t.Fatalf("no space for %d in an empty ring", n)
	}
	m.waiting, m.waitAt = n, m.p.Position()
}

func (m *ringModel) sleep(t *rapid.T) {
	got := m.c.Sleep()
	if want := m.read == m.published; got != want {
		t.Fatalf("Sleep %v, want %v", got, want)
	}
	m.sleeping, m.rung = got, false
}

func (m *ringModel) awake(t *rapid.T) {
	m.c.Awake()
	m.sleeping = false
}

func (m *ringModel) newProducer(t *rapid.T) {
	var err error
	m.p, err = NewProducer(m.data, m.headRO)
	check(t, err)
	check(t, m.p.Recover(m.p.Published()))
	m.recs = m.recs[:m.published] // what was not published never was
	m.waiting, m.rung, m.started = 0, false, false
}

func (m *ringModel) newConsumer(t *rapid.T) {
	var err error
	m.c, err = NewConsumer(m.dataRO, m.head)
	check(t, err)
	check(t, m.c.Recover(m.c.Released()))
	m.read, m.sleeping = 0, false
	m.rungSpace = 0 // a successor may ring again
}

// Nothing is lost, doubled or reordered; space is refused only when there is
// none; a bell is due once per sleep; successors of both ends go on.
func TestRingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := 1 << rapid.IntRange(6, 10).Draw(t, "capacity")
		m := &ringModel{ring: newRing(t, capacity), capacity: capacity}
		t.Repeat(map[string]func(*rapid.T){
			"commit": m.commit, "commit2": m.commit, "publish": m.publish, "next": m.next, "next2": m.next,
			"release": m.release, "wantSpace": m.wantSpace, "sleep": m.sleep, "awake": m.awake,
			"newProducer": m.newProducer, "newConsumer": m.newConsumer,
		})
	})
}
