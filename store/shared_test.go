package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// heap returns a writing and a reading view of private memory. The race
// detector watches it, as it does not watch mapped files.
func heap(size int) (rw, ro *Segment) {
	mem := make([]byte, size)
	return &Segment{mem: mem, writable: true}, &Segment{mem: mem}
}

// mapped returns a writing and a reading mapping of a real segment.
func mapped(t testing.TB, size int) (rw, ro *Segment) {
	t.Helper()
	f, err := Create("test", size)
	check(t, err)
	defer f.Close()
	r, err := ReadOnly(f)
	check(t, err)
	defer r.Close()
	rw, err = Map(int(f.Fd()), size, true)
	check(t, err)
	ro, err = Map(int(r.Fd()), size, false)
	check(t, err)
	t.Cleanup(func() {
		check(t, rw.Unmap())
		check(t, ro.Unmap())
	})
	return rw, ro
}

type fataler interface{ Fatalf(string, ...any) }

func check(t fataler, err error) {
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func wantCorrupt(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%v, not ErrCorrupt", err)
	}
}

// seeds fails when the corpus folder of a fuzz target has gone or is empty.
func seeds(f *testing.F, least int) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", f.Name(), "*"))
	if err != nil || len(files) < least {
		f.Fatalf("%d seed files in testdata/fuzz/%s, want %d: %v", len(files), f.Name(), least, err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(intruderEnv) != "" {
		intrude()
		return
	}
	os.Exit(m.Run())
}
