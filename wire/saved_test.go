package wire

import (
	"bytes"
	"testing"
)

// moved runs a stream whose parser is saved and restored between its pieces.
func moved(t testing.TB, lim Limits, stream ...string) trace {
	t.Helper()
	tr := newTracer(t, lim)
	for _, piece := range stream {
		tr.feed(piece)
		b := tr.p.Save(nil)
		if len(b) > lim.MaxSaved() {
			t.Fatalf("saved %d bytes, more than %d", len(b), lim.MaxSaved())
		}
		var p Parser
		if !p.Restore(b, &lim) {
			t.Fatalf("%q: %x not restored", piece, b)
		}
		if again := p.Save(nil); !bytes.Equal(again, b) {
			t.Fatalf("%q: %x saved again %x", piece, b, again)
		}
		clear(b)
		tr.p = p
	}
	return tr.result()
}

// A parser that is saved and restored at any byte of any input says what one
// that is not says.
func TestSavedAnywhere(t *testing.T) {
	for _, tt := range parserTests {
		if len(tt.in) >= 1000 {
			continue
		}
		want := run(t, lims, tt.in)
		var bytewise []string
		for i := range len(tt.in) {
			if got := moved(t, lims, tt.in[:i], tt.in[i:]); got != want {
				t.Errorf("%q moved at %d:\n got %+v\nwant %+v", tt.in, i, got, want)
			}
			bytewise = append(bytewise, tt.in[i:i+1])
		}
		if got := moved(t, lims, bytewise...); got != want {
			t.Errorf("%q moved at every byte:\n got %+v\nwant %+v", tt.in, got, want)
		}
	}
}

// FuzzSaved: saving and restoring between pieces changes nothing.
func FuzzSaved(f *testing.F) {
	mustSeed(f, 3)
	for i, tt := range parserTests {
		if len(tt.in) < 1000 {
			f.Add(tt.in, uint16(0xffff), uint64(i))
		}
	}
	f.Fuzz(func(t *testing.T, in string, n uint16, seed uint64) {
		for _, lim := range []Limits{lims, fuzzLimits(n)} {
			want := run(t, lim, in)
			if got := moved(t, lim, pieces(in, seed)...); got != want {
				t.Errorf("%q moved by seed %d under %+v:\n got %+v\nwant %+v", in, seed, lim, got, want)
			}
		}
	})
}

// FuzzRestore: what Restore takes is what Save gives, and then a parser like any
// other; what it does not take changes nothing.
func FuzzRestore(f *testing.F) {
	mustSeed(f, 3)
	for _, in := range []string{"", "pu", "PUB ", "PUB a 1", "PUB a 5\r\nhe", "PUB a 2\r\nhe", "PUB a 2\r\nhe\r", "PING\t", "bad"} {
		tr := newTracer(f, lims)
		tr.feed(in)
		f.Add(tr.p.Save(nil), "llo\r\nPING\r\n")
	}
	f.Fuzz(func(t *testing.T, saved []byte, in string) {
		p := Parser{left: 7}
		if !p.Restore(saved, &lims) {
			if p.left != 7 || p.state != 0 {
				t.Fatalf("left %+v", p)
			}
			return
		}
		if again := p.Save(nil); !bytes.Equal(again, saved) {
			t.Fatalf("took %x, saves %x", saved, again)
		}
		tr := newTracer(t, lims)
		tr.p = p
		for _, piece := range pieces(in, 1) {
			if p.state != dead {
				tr.feed(piece)
			}
		}
	})
}
