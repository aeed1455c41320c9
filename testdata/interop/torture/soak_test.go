package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A short run answers every call and ends no session that nobody has ended. That memory
// stays takes a longer one.
func TestSoak(t *testing.T) {
	var out strings.Builder
	_, err := soakTLSD(t.Context(), options{builds: builds, seed: 1, patience: patience, soak: 2 * time.Second, sessions: 30}, &out)
	must(t, err)
	text := out.String()
	if !strings.Contains(text, "; 0 calls failed\n") || strings.Contains(text, "are left") || strings.Contains(text, "had ended\n") {
		t.Error(text)
	}
}

// What a run must not show is found.
func TestSoakFinds(t *testing.T) {
	before := look{kib: 10000, fds: 10, threads: 5}
	for want, spoil := range map[string]func(*soak, *look){
		"":                       func(*soak, *look) {},
		"memory has grown\n":     func(_ *soak, l *look) { l.kib = 21001 },
		"descriptors are left\n": func(_ *soak, l *look) { l.fds = 61 },
		"threads are left\n":     func(_ *soak, l *look) { l.threads = 15 },
		"sessions have ended that nobody had ended\n": func(s *soak, _ *look) { s.shakes.Store(54) },
		"the first: x\n": func(s *soak, _ *look) {
			err := errors.New("x")
			s.failed.Store(1)
			s.first.Store(&err)
		},
	} {
		s := &soak{n: 50}
		s.over.Store(3)
		s.shakes.Store(53)
		quarter := look{kib: 20000, fds: 60, threads: 6}
		last := quarter
		spoil(s, &last)
		var out strings.Builder
		if ok := s.judge(&out, before, []look{{}, quarter, {}, {}, last}); ok != (want == "") || !strings.HasSuffix(out.String(), want) {
			t.Errorf("%q: %v\n%s", want, ok, out.String())
		}
	}
}
