package ledger

import (
	"math/rand/v2"
	"testing"
)

func TestMessageComesAsItIs(t *testing.T) {
	for _, size := range []int{0, Overhead, 64, 65, 1000, 64 << 10, Largest} {
		m := Mark{7, uint64(size) + 1}
		b := Append(nil, m, size)
		if got, state := Read(b); got != m || state != Sound || len(b) != max(size, Overhead) {
			t.Errorf("size %d: %d bytes, %v, state %d", size, len(b), got, state)
		}
	}
}

// Any one bit that changes is noticed, and in the body it costs no number.
func TestDamageIsNoticed(t *testing.T) {
	m := Mark{3, 99}
	whole := Append(nil, m, 100)
	for i := range 8 * len(whole) {
		b := append([]byte(nil), whole...)
		b[i/8] ^= 1 << (i % 8)
		got, state := Read(b)
		if i/8 < Overhead && state == Sound {
			t.Errorf("bit %d of the header: not noticed", i)
		}
		if i/8 >= Overhead && (state != BadBody || got != m) {
			t.Errorf("bit %d: %v, state %d", i, got, state)
		}
	}
	if _, state := Read(whole[:99]); state != BadBody {
		t.Errorf("cut: state %d", state)
	}
	other := Append(nil, Mark{3, 100}, 100)
	if _, state := Read(append(whole[:Overhead:Overhead], other[Overhead:]...)); state != BadBody {
		t.Errorf("another's body: state %d", state)
	}
}

func TestTrack(t *testing.T) {
	for _, tt := range []struct {
		seqs    []uint64
		want    []Verdict
		last, n uint64
		first   uint64
	}{
		{nil, nil, 0, 0, 0},
		{nil, nil, 3, 3, 1},
		{[]uint64{1, 2, 3}, []Verdict{Next, Next, Next}, 3, 0, 0},
		{[]uint64{1, 3}, []Verdict{Next, Next}, 3, 1, 2},
		{[]uint64{1, 3, 2}, []Verdict{Next, Next, Late}, 3, 0, 0},
		{[]uint64{1, 3, 2, 2}, []Verdict{Next, Next, Late, Again}, 4, 1, 4},
		{[]uint64{1, 1}, []Verdict{Next, Again}, 1, 0, 0},
		{[]uint64{6, 3, 3, 5, 1}, []Verdict{Next, Late, Again, Late, Late}, 8, 4, 2},
		{[]uint64{5}, []Verdict{Next}, 2, 4, 1},
	} {
		var tr Track
		for i, s := range tt.seqs {
			if v := tr.Take(s); v != tt.want[i] {
				t.Errorf("%v: number %d is %d, want %d", tt.seqs, s, v, tt.want[i])
			}
		}
		if n, first := tr.Missing(tt.last); n != tt.n || first != tt.first {
			t.Errorf("%v: %d missing from %d on, want %d from %d", tt.seqs, n, first, tt.n, tt.first)
		}
	}
}

// A track says the same as a plain set of numbers, whatever comes.
func TestTrackIsASet(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		var tr Track
		seen, top := map[uint64]bool{}, uint64(0)
		for range 100 {
			s := 1 + r.Uint64N(60)
			want := Next
			if seen[s] {
				want = Again
			} else if s < top {
				want = Late
			}
			if v := tr.Take(s); v != want {
				t.Fatalf("seed %d: number %d is %d, want %d", seed, s, v, want)
			}
			seen[s], top = true, max(top, s)
		}
		if n, _ := tr.Missing(70); n != 70-uint64(len(seen)) || tr.Got() != uint64(len(seen)) {
			t.Fatalf("seed %d: %d missing of %d that came", seed, n, len(seen))
		}
	}
}
