package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// body is what the model knows of one.
type body struct {
	Handle
	fill  byte
	sent  bool
	named []int // cms that have not finished; the last one of the list carries touch
	touch int   // 0 once it is finished
	last  int
}

func (b *body) done() bool { return len(b.named) == 0 && b.touch == 0 }

type arenaModel struct {
	*arena
	cms    int
	live   []*body
	window uint64
	pos    uint64
}

func (m *arenaModel) alloc(t *rapid.T) {
	n := rapid.OneOf(rapid.IntRange(0, 64), rapid.IntRange(0, m.bytes)).Draw(t, "n")
	h, b, ok := m.Alloc(n)
	if !ok {
		if m.free(t); len(m.live) == 0 {
			t.Fatalf("no space for %d in an empty arena", n)
		}
		return
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
	_, bodies := m.Used()
	for uint64(len(m.live)) > bodies {
		if !m.live[0].done() || !m.live[0].sent {
			t.Fatalf("body %d was freed early", m.live[0].Seq)
		}
		m.live = m.live[1:]
	}
}

// send publishes a body and names 1 to all cms for it.
func (m *arenaModel) send(t *rapid.T) {
	for _, b := range m.live {
		if b.sent {
			continue
		}
		b.sent = true
		m.pos += 8
		m.Sent(b.Handle, m.pos)
		cms := make([]int, m.cms)
		for i := range cms {
			cms[i] = i
		}
		b.named = rapid.Permutation(cms).Draw(t, "cms")[:rapid.IntRange(1, m.cms).Draw(t, "touch")]
		b.touch, b.last = len(b.named), b.named[0]
		return
	}
}

func (m *arenaModel) finish(t *rapid.T) {
	var open []*body
	for _, b := range m.live {
		if len(b.named) > 0 {
			open = append(open, b)
		}
	}
	if len(open) == 0 {
		return
	}
	b := rapid.SampledFrom(open).Draw(t, "body")
	i := rapid.IntRange(0, len(b.named)-1).Draw(t, "cm")
	cm, touch := b.named[i], 0
	if cm == b.last {
		touch = b.touch
	}
	switch rapid.IntRange(0, 2).Draw(t, "how") {
	case 0:
		m.mine[cm].Hold(0, b.Seq, touch)
		return
	case 1: // the cm dies while it holds the body: its successor finishes it
		m.mine[cm].Hold(0, b.Seq, touch)
		m.mine[cm].Recover()
		m.recovered(cm)
		return
	}
	m.mine[cm].Done(0, b.Seq, touch)
	m.mine[cm].Done(0, b.Seq, touch)
	m.mark(b, cm)
}

// mark notes that cm has finished with b.
func (m *arenaModel) mark(b *body, cm int) {
	for i, c := range b.named {
		if c == cm {
			b.named = append(b.named[:i:i], b.named[i+1:]...)
		}
	}
	if len(b.named) == 0 {
		b.touch = 0
	}
}

// recovered notes everything whose word in cm's row is there and not held.
func (m *arenaModel) recovered(cm int) {
	for _, b := range m.live {
		if w := m.mine[cm].row(0)[b.Seq&m.mask].Load(); w>>16 == b.Seq {
			m.mark(b, cm)
		}
	}
}

func (m *arenaModel) undo(t *rapid.T) {
	for i, b := range m.live {
		if !b.sent && rapid.Bool().Draw(t, "this") {
			m.Undo(b.Handle)
			if i == len(m.live)-1 {
				m.live = m.live[:i]
			} else {
				b.sent = true
			}
			return
		}
	}
}

func (m *arenaModel) reclaim(t *rapid.T) {
	n := 0
	for n < len(m.live) && m.live[n].sent && m.live[n].done() {
		n++
	}
	if got := m.Reclaim(); got != n {
		t.Fatalf("Reclaim %d, want %d", got, n)
	}
	m.free(t)
}

func (m *arenaModel) successor(t *rapid.T) {
	check(t, m.open())
	m.circle.window = m.window
	lost := 0
	for _, b := range m.live {
		if !b.sent {
			b.sent = true
			lost++
		}
	}
	published := m.pos
	if got := m.Recover(published); got < lost {
		t.Fatalf("Recover %d, want at least %d", got, lost)
	}
	m.free(t)
}

func (m *arenaModel) check(t *rapid.T) {
	used := uint64(0)
	for _, b := range m.live {
		got, err := m.view.Body(b.Handle)
		check(t, err)
		if uint32(bytes.Count(got, []byte{b.fill})) != b.Len {
			t.Fatalf("body %d was overwritten", b.Seq)
		}
		used += round(uint64(b.Len))
	}
	if bytes, bodies := m.Used(); bytes != used || bodies != uint64(len(m.live)) {
		t.Fatalf("used %d in %d bodies, want %d in %d", bytes, bodies, used, len(m.live))
	}
}

// A live body is never overwritten; bodies are freed in order exactly when the
// touch count is met; a successor goes on.
func TestArenaModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cms := rapid.IntRange(1, 4).Draw(t, "cms")
		size := 1 << rapid.IntRange(12, 15).Draw(t, "bytes")
		m := &arenaModel{arena: newArena(t, size, cms), cms: cms}
		m.window = uint64(rapid.SampledFrom([]int{256, 1024, 4096, 1 << 20}).Draw(t, "window"))
		m.circle.window = m.window
		t.Repeat(map[string]func(*rapid.T){
			"alloc": m.alloc, "alloc2": m.alloc, "send": m.send, "send2": m.send, "finish": m.finish,
			"finish2": m.finish, "finish3": m.finish, "undo": m.undo, "reclaim": m.reclaim,
			"successor": m.successor, "": m.check,
		})
	})
}
