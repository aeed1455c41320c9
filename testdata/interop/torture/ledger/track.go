package ledger

import "slices"

// Verdict is what a number is to a receiver.
type Verdict uint8

// Next is also a number after others that are missing so far; Late is one of
// those.
const (
	Next Verdict = iota
	Late
	Again
)

// Track is what one receiver got of one stream. The zero value has nothing.
type Track struct {
	top  uint64 // highest number that came
	gaps []span // below it, in order
	got  uint64
}

type span struct{ from, to uint64 } // both missing

// Take notes a number.
func (t *Track) Take(seq uint64) Verdict {
	if seq > t.top {
		if seq > t.top+1 {
			t.gaps = append(t.gaps, span{t.top + 1, seq - 1})
		}
		t.top = seq
		t.got++
		return Next
	}
	i, _ := slices.BinarySearchFunc(t.gaps, seq, func(g span, seq uint64) int {
		if g.to < seq {
			return -1
		}
		return 1
	})
	if i == len(t.gaps) || seq < t.gaps[i].from {
		return Again
	}
	g := t.gaps[i]
	var left []span
	if g.from < seq {
		left = append(left, span{g.from, seq - 1})
	}
	if seq < g.to {
		left = append(left, span{seq + 1, g.to})
	}
	t.gaps = slices.Replace(t.gaps, i, i+1, left...)
	t.got++
	return Late
}

// Top is the highest number that came.
func (t *Track) Top() uint64 { return t.top }

// Got is how many different numbers came.
func (t *Track) Got() uint64 { return t.got }

// Missing counts the numbers up to last, or up to the highest that came, that
// did not come, and names the first of them.
func (t *Track) Missing(last uint64) (n, first uint64) {
	for _, g := range t.gaps {
		n += g.to - g.from + 1
	}
	if n > 0 {
		first = t.gaps[0].from
	}
	if last > t.top {
		n += last - t.top
		if first == 0 {
			first = t.top + 1
		}
	}
	return n, first
}
