package privsep

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mustCorpus fails a fuzz target whose folder of seeds has gone missing.
func mustCorpus(f *testing.F, least int) {
	f.Helper()
	files, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(files) < least {
		f.Fatalf("corpus of %s: %d files, want %d: %v", f.Name(), len(files), least, err)
	}
}

// Law: what parse accepts, append gives back byte for byte; on error the frame
// is zero.
func FuzzFrame(f *testing.F) {
	mustCorpus(f, 3)
	good := frame{nfds: 1, kind: KindSegment, seq: 7, payload: []byte("payload")}
	f.Add(good.append(nil))
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		var fr frame
		if err := fr.parse(b); err != nil {
			if !errors.Is(err, ErrShape) || fr.kind != 0 || fr.seq != 0 || fr.nfds != 0 || fr.payload != nil || fr.mac != [macSize]byte{} {
				t.Fatalf("%v left %+v", err, fr)
			}
			return
		}
		if again := fr.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("parsed %x, encoded %x", b, again)
		}
	})
}

// Law: a child takes as its first packet only what seals under the key inside
// it, whatever the bytes, and whatever it takes names this child.
func FuzzBoot(f *testing.F) {
	mustCorpus(f, 1)
	self := ID{RoleCM, 1}
	boot := Boot{ID: self, Key: Key{1, 2, 3}, UID: 61101, GID: 61101}
	d := newDirection(boot.Key, RoleParent, RoleCM)
	b, err := d.seal(nil, PhaseBoot, KindBoot, boot.Append(nil), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, in, err := bootstrap(b, 0, self)
		if err != nil {
			if got != nil || in.mac != nil {
				t.Fatalf("%v left %v", err, got)
			}
			return
		}
		d := newDirection(got.Key, RoleParent, RoleCM)
		again, err := d.seal(nil, PhaseBoot, KindBoot, got.Append(nil), 0)
		if err != nil || !bytes.Equal(again, b) || got.ID != self {
			t.Fatalf("took %x, which is not %x (%v)", b, again, err)
		}
	})
}

// Law: the same for the first packet of a new parent, which must also mean this
// very process.
func FuzzAdopt(f *testing.F) {
	mustCorpus(f, 1)
	self := ID{RoleCM, 1}
	a := Adopt{ID: self, Key: Key{1, 2, 3}, Generation: 5}
	d := newDirection(a.Key, RoleParent, RoleCM)
	b, err := d.seal(nil, PhaseBoot, KindAdopt, a.Append(nil), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, in, err := adoption(b, 0, self, 5)
		if err != nil {
			if got != nil || in.mac != nil {
				t.Fatalf("%v left %v", err, got)
			}
			return
		}
		d := newDirection(got.Key, RoleParent, RoleCM)
		again, err := d.seal(nil, PhaseBoot, KindAdopt, got.Append(nil), 0)
		if err != nil || !bytes.Equal(again, b) || got.ID != self || got.Generation != 5 {
			t.Fatalf("took %x, which is not %x (%v)", b, again, err)
		}
	})
}

func TestAdoptionRefuses(t *testing.T) {
	self := ID{RoleCM, 1}
	seal := func(to Role, k Kind, key Key, payload []byte) []byte {
		d := newDirection(key, RoleParent, to)
		fr := frame{kind: k, seq: 1, payload: payload}
		b := fr.append(nil)
		copy(b[frameSigned:headerSize], d.tag(b))
		return b
	}
	adopt := func(id ID, generation uint64) []byte {
		return (&Adopt{ID: id, Key: Key{9}, Generation: generation}).Append(nil)
	}
	good := seal(RoleCM, KindAdopt, Key{9}, adopt(self, 5))
	if _, _, err := adoption(good, 0, self, 5); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"other index":      seal(RoleCM, KindAdopt, Key{9}, adopt(ID{RoleCM, 2}, 5)),
		"other role":       seal(RoleCM, KindAdopt, Key{9}, adopt(ID{RoleRouter, 0}, 5)),
		"other generation": seal(RoleCM, KindAdopt, Key{9}, adopt(self, 4)),
		"other key":        seal(RoleCM, KindAdopt, Key{8}, adopt(self, 5)),
		"boot":             seal(RoleCM, KindBoot, Key{9}, (&Boot{ID: self, Key: Key{9}, Generation: 5}).Append(nil)),
		"trailing byte":    seal(RoleCM, KindAdopt, Key{9}, append(adopt(self, 5), 0)),
		"nothing":          nil,
	} {
		if got, _, err := adoption(b, 0, self, 5); err == nil || got != nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, err := adoption(good, 1, self, 5); err == nil {
		t.Error("fd taken with ADOPT")
	}
	if _, _, err := bootstrap(good, 0, self); err == nil {
		t.Error("a new child was adopted")
	}
}

func TestBootstrapRefuses(t *testing.T) {
	self := ID{RoleCM, 1}
	seal := func(to Role, k Kind, key Key, payload []byte) []byte {
		d := newDirection(key, RoleParent, to)
		fr := frame{kind: k, seq: 1, payload: payload}
		b := fr.append(nil)
		copy(b[frameSigned:headerSize], d.tag(b))
		return b
	}
	boot := func(id ID) []byte { return (&Boot{ID: id, Key: Key{9}}).Append(nil) }
	if _, _, err := bootstrap(seal(RoleCM, KindBoot, Key{9}, boot(self)), 0, self); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"other index":   seal(RoleCM, KindBoot, Key{9}, boot(ID{RoleCM, 2})),
		"other role":    seal(RoleCM, KindBoot, Key{9}, boot(ID{RoleRouter, 0})),
		"other key":     seal(RoleCM, KindBoot, Key{8}, boot(self)),
		"other sort":    seal(RoleCM, KindConfig, Key{9}, boot(self)),
		"trailing byte": seal(RoleCM, KindBoot, Key{9}, append(boot(self), 0)),
		"the parent":    seal(RoleCM, KindBoot, Key{9}, boot(ID{RoleParent, 0})),
		"half root":     seal(RoleCM, KindBoot, Key{9}, (&Boot{ID: self, Key: Key{9}, UID: 5}).Append(nil)),
		"uid of none":   seal(RoleCM, KindBoot, Key{9}, (&Boot{ID: self, Key: Key{9}, UID: -1, GID: 5}).Append(nil)),
		"nothing":       nil,
	} {
		if got, _, err := bootstrap(b, 0, self); err == nil || got != nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, err := bootstrap(seal(RoleCM, KindBoot, Key{9}, boot(self)), 1, self); err == nil {
		t.Error("fd taken with BOOT")
	}
}

// Law: only the next frame of the same direction under the same key opens, and
// any other leaves the direction as it was.
func TestOpenOnlyTheNext(t *testing.T) {
	key := NewKey()
	out := newDirection(key, RoleDispatcher, RoleCM)
	in := newDirection(key, RoleDispatcher, RoleCM)
	var frames [][]byte
	for i := range 4 {
		b, err := out.seal(nil, PhaseRun, KindConnHandoff, fmt.Appendf(nil, "payload %d", i), 1)
		if err != nil {
			t.Fatal(err)
		}
		out.sent(KindConnHandoff)
		frames = append(frames, b)
	}
	refused := func(name string, d *direction, b []byte, want error) {
		t.Helper()
		if _, payload, err := d.open(b, PhaseRun, 1); !errors.Is(err, want) || payload != nil {
			t.Fatalf("%s: %v, want %v", name, err, want)
		}
	}
	refused("a gap", &in, frames[1], ErrReplayed)
	if _, p, err := in.open(frames[0], PhaseRun, 1); err != nil || string(p) != "payload 0" {
		t.Fatalf("%q %v", p, err)
	}
	refused("a replay", &in, frames[0], ErrReplayed)
	for bit := range len(frames[1]) * 8 {
		bad := bytes.Clone(frames[1])
		bad[bit/8] ^= 1 << (bit % 8)
		if _, _, err := in.open(bad, PhaseRun, 1); err == nil {
			t.Fatalf("bit %d changed, still opened", bit)
		}
	}
	back := newDirection(key, RoleCM, RoleDispatcher)
	back.seq = 1
	refused("a reflection", &back, frames[1], ErrForged)
	other := newDirection(NewKey(), RoleDispatcher, RoleCM)
	other.seq = 1
	refused("another key", &other, frames[1], ErrForged)
	if _, _, err := in.open(frames[1], PhaseRun, 1); err != nil {
		t.Fatal(err)
	}
}

func TestOnce(t *testing.T) {
	key := NewKey()
	out, in := newDirection(key, RoleParent, RoleCM), newDirection(key, RoleParent, RoleCM)
	b, err := out.seal(nil, PhaseSetup, KindSetupEnd, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.open(b, PhaseSetup, 0); err != nil {
		t.Fatal(err)
	}
	// The sender did not count the first: forge the second past its check.
	out.seq = 1
	second, err := out.seal(nil, PhaseSetup, KindSetupEnd, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var pe *PermitError
	if _, _, err := in.open(second, PhaseSetup, 0); !errors.As(err, &pe) || pe.Reason != "once" {
		t.Fatalf("second SETUP_END: %v", err)
	}
	out.sent(KindSetupEnd)
	if _, err := out.seal(nil, PhaseSetup, KindSetupEnd, nil, 0); !errors.As(err, &pe) || pe.Reason != "once" {
		t.Fatalf("second SETUP_END sealed: %v", err)
	}
}

func TestKey(t *testing.T) {
	k := NewKey()
	if s := fmt.Sprintf("%v %s %#v", k, k, k); strings.Trim(s, "* ") != "" {
		t.Fatalf("key printed as %s", s)
	}
	a, again := k.Derive("a"), k.Derive("a")
	if k == NewKey() || a == k.Derive("b") || a == k || a != again {
		t.Fatal("keys are not their own")
	}
}

func BenchmarkSealOpen(b *testing.B) {
	key := NewKey()
	out, in := newDirection(key, RoleDispatcher, RoleCM), newDirection(key, RoleDispatcher, RoleCM)
	payload := (&ConnHandoff{UID: 1}).Append(nil)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = out.seal(buf, PhaseRun, KindConnHandoff, payload, 1)
		out.sent(KindConnHandoff)
		if _, _, err := in.open(buf, PhaseRun, 1); err != nil {
			b.Fatal(err)
		}
	}
}
