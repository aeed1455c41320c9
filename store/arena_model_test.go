package store

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// body is what the model knows of one.
type body struct {
	Handle
	fill   byte
	routed bool
	named  []int // cms that have not finished
}

func (b *body) done() bool { return b.routed && len(b.named) == 0 }

type arenaModel struct {
	*arena
	cms    int
	live   []*body // of the present process
	old    []*body // of earlier ones, not finished
	window uint64
}

func (m *arenaModel) alloc(t *rapid.T) {
	n := rapid.OneOf(rapid.IntRange(0, 64), rapid.IntRange(0, m.bytes)).Draw(t, "n")
	h, b, ok := m.Alloc(n)
	if !ok {
		if m.free(t); len(m.live)+len(m.old) == 0 {
			t.Fatalf("no space for %d in an empty arena", n)
		}
		return
	}
	if len(m.old) > 0 {
		t.Fatalf("given out while %d bodies of a predecessor are read", len(m.old))
	}
	if len(b) != n || cap(b) != n || h.Off%16 != 0 || h.Len != uint32(n) {
		t.Fatalf("%+v for %d bytes", h, n)
	}
	fill := byte(h.Seq)
	for i := range b {
		b[i] = fill
	}
	m.live = append(m.live, &body{Handle: h, fill: fill})
	m.free(t)
}

// free drops what the arena has freed from the model: it must be done.
func (m *arenaModel) free(t *rapid.T) {
	if m.Arena.old {
		return
	}
	_, bodies := m.Used()
	for uint64(len(m.live)) > bodies {
		if !m.live[0].done() {
			t.Fatalf("body %d was freed early", m.live[0].Seq)
		}
		m.live = m.live[1:]
	}
}

// route names none to all of the cms for a body, at times twice.
func (m *arenaModel) route(t *rapid.T) {
	for _, b := range m.live {
		if b.routed {
			continue
		}
		b.routed = true
		cms := make([]int, m.cms)
		for i := range cms {
			cms[i] = i
		}
		b.named = rapid.Permutation(cms).Draw(t, "cms")[:rapid.IntRange(0, m.cms).Draw(t, "n")]
		bits := uint64(0)
		for _, cm := range b.named {
			bits |= 1 << cm
		}
		for range rapid.IntRange(1, 2).Draw(t, "times") {
			name(m.router, b.Seq, bits)
		}
		return
	}
}

func (m *arenaModel) finishOne(t *rapid.T) {
	var open []*body
	for _, b := range append(m.old, m.live...) {
		if len(b.named) > 0 {
			open = append(open, b)
		}
	}
	if len(open) == 0 {
		return
	}
	b := rapid.SampledFrom(open).Draw(t, "body")
	cm := rapid.SampledFrom(b.named).Draw(t, "cm")
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		m.mine[cm].Done(0, b.Seq)
	}
	m.mark(b, cm)
}

// mark notes that cm has finished with b.
func (m *arenaModel) mark(b *body, cm int) {
	b.named = slices.DeleteFunc(b.named, func(c int) bool { return c == cm })
	m.old = slices.DeleteFunc(m.old, (*body).done)
}

// lie has a cm that was not named say what it likes.
func (m *arenaModel) lie(t *rapid.T) {
	cm := rapid.IntRange(0, m.cms-1).Draw(t, "liar")
	seq := m.Arena.oldest + uint64(rapid.IntRange(0, 20).Draw(t, "seq"))
	for _, b := range append(m.old, m.live...) {
		if b.Seq&m.mask == seq&m.mask && (!b.routed || slices.Contains(b.named, cm)) {
			return // that one is its own business, or may come to be
		}
	}
	if seq < m.Arena.next {
		m.mine[cm].Done(0, seq)
	}
}

// loseAny ends a cm that reads, whose successor knows nothing.
func (m *arenaModel) loseAny(t *rapid.T) {
	m.lose(rapid.IntRange(0, m.cms-1).Draw(t, "lost"))
}

func (m *arenaModel) lose(cm int) {
	m.router.Drop(cm)
	m.mine[cm].Clear()
	for _, b := range append(slices.Clone(m.old), m.live...) {
		m.mark(b, cm)
	}
}

func (m *arenaModel) reclaim(t *rapid.T) {
	n := 0
	for n < len(m.live) && m.live[n].done() {
		n++
	}
	if got := m.Reclaim(); got != n {
		t.Fatalf("Reclaim %d, want %d", got, n)
	}
	m.free(t)
}

// successor takes the owner's place: what was not routed never was.
func (m *arenaModel) successor(t *rapid.T) {
	m.lose(0)
	for _, b := range m.live {
		if len(b.named) > 0 {
			m.old = append(m.old, b)
		}
	}
	m.live = nil
	check(t, m.open())
	m.circle.window = m.window
}

func (m *arenaModel) check(t *rapid.T) {
	used := uint64(0)
	for _, b := range append(m.old, m.live...) {
		if b.done() {
			continue
		}
		got, err := m.view.Body(b.Handle)
		check(t, err)
		if uint32(bytes.Count(got, []byte{b.fill})) != b.Len {
			t.Fatalf("body %d was overwritten", b.Seq)
		}
	}
	for _, b := range m.live {
		used += round(uint64(b.Len))
	}
	if m.Arena.old {
		return
	}
	if bytes, bodies := m.Used(); bytes != used || bodies != uint64(len(m.live)) {
		t.Fatalf("used %d in %d bodies, want %d in %d", bytes, bodies, used, len(m.live))
	}
}

// A live body is never overwritten, not by a successor either; bodies are freed
// in order exactly when those who were named have finished, whatever others say.
func TestArenaModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cms := rapid.IntRange(1, 4).Draw(t, "cms")
		size := 1 << rapid.IntRange(12, 15).Draw(t, "bytes")
		m := &arenaModel{arena: newArena(t, size, cms), cms: cms}
		m.window = uint64(rapid.SampledFrom([]int{256, 1024, 4096, 1 << 20}).Draw(t, "window"))
		m.circle.window = m.window
		t.Repeat(map[string]func(*rapid.T){
			"alloc": m.alloc, "alloc2": m.alloc, "route": m.route, "route2": m.route, "finish": m.finishOne,
			"finish2": m.finishOne, "finish3": m.finishOne, "lie": m.lie, "lose": m.loseAny, "reclaim": m.reclaim,
			"successor": m.successor, "": m.check,
		})
	})
}
