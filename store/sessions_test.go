package store

import (
	"crypto/tls"
	"strings"
	"sync"
	"testing"
)

func TestSessions(t *testing.T) {
	const rows = 100
	rw, ro := mapped(t, SessionsSize(rows))
	w, err := NewSessions(rw, rows)
	check(t, err)
	r, err := NewSessions(ro, rows)
	check(t, err)
	want := SessionInfo{UID: 1<<40 + 1, Subscriptions: 1<<32 - 1, TLS: true, User: "alice", Name: "pricer/1", Version: "1.2"}
	w.Row(rows - 1).Set(&want)
	if got, ok := r.Row(rows - 1).Get(); !ok || got != want {
		t.Fatalf("%+v, %v", got, ok)
	}
	long := strings.Repeat("x", 1000)
	w.Row(0).Set(&SessionInfo{UID: 1, Admitted: true, User: long, Name: long, Lang: long, Version: long})
	if got, ok := r.Row(0).Get(); !ok || len(got.User) != MaxSessionUser || len(got.Name) != MaxSessionName || len(got.Lang) != MaxSessionLang ||
		len(got.Version) != MaxSessionVersion || !got.Admitted {
		t.Fatalf("%+v, %v", got, ok)
	}
	w.Row(0).SetSubscriptions(5)
	if got, _ := r.Row(0).Get(); got.Subscriptions != 5 {
		t.Errorf("%+v", got)
	}
	w.Row(0).Clear()
	if _, ok := r.Row(0).Get(); ok || r.Row(0).UID() != 0 {
		t.Error("an empty row")
	}
	w.Row(1).shape.Store(1<<32 - 1) // of a router that was taken over
	w.Row(1).uid.Store(1)
	if got, ok := r.Row(1).Get(); ok {
		t.Errorf("longer than there is room for: %+v", got)
	}
	w.Counters().Rings[MaxCMs-1].Down.Store(7)
	if r.Counters().Rings[MaxCMs-1].Down.Load() != 7 || r.Row(0).shape.Load()>>40 != 1 {
		t.Error("counters and rows overlap")
	}
	for _, i := range []int{-1, rows, 1 << 40} {
		if r.Row(i) != nil {
			t.Errorf("row %d", i)
		}
	}
	for _, max := range []int{-1, 0, rows - 1, rows + 1, MaxConns + 1} {
		if _, err := NewSessions(rw, max); err == nil {
			t.Errorf("opened with %d rows", max)
		}
	}
}

// A reader sees what was set in one go, or nothing.
func TestSessionRowRace(t *testing.T) {
	rw, ro := heap(SessionsSize(1))
	w, err := NewSessions(rw, 1)
	check(t, err)
	r, err := NewSessions(ro, 1)
	check(t, err)
	stop, started := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			text := strings.Repeat(string(rune('a'+n%26)), n%MaxSessionLang)
			w.Row(0).Set(&SessionInfo{UID: uint64(1 + n%2), User: text, Name: text, Lang: text, Version: text})
			if n == 1 {
				close(started)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	<-started
	for range 100_000 {
		if i, ok := r.Row(0).Get(); ok && (i.User != i.Name || i.User != i.Lang || i.User != i.Version) {
			t.Fatalf("%+v", i)
		}
	}
	close(stop)
	wg.Wait()
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for v, want := range map[uint64]int{0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 1024: 10, 1025: 11, 1 << 38: 38, 1<<38 + 1: 39, 1<<64 - 1: 39} {
		before := h.Buckets[want].Load()
		if h.Observe(v); h.Buckets[want].Load() != before+1 {
			t.Errorf("%d is not in bucket %d", v, want)
		}
	}
}

// Every suite that crypto/tls may agree on is one that a row can have.
func TestSuites(t *testing.T) {
	var r ColumnRow
	for _, s := range tls.CipherSuites() {
		if r.SetBusy(0, 0, s.ID); r.Suite() != s.ID {
			t.Errorf("%s (%#x) is %#x", s.Name, s.ID, r.Suite())
		}
	}
	if r.SetBusy(0, 0, 0xffff); r.Suite() != 0 {
		t.Errorf("one that is not known is %#x", r.Suite())
	}
}

func TestColumnBusy(t *testing.T) {
	var r ColumnRow
	for i, c := range []struct{ pending, second, now, want, at uint64 }{
		{0, 0, 0, 0, 0},
		{5, 10, 25, 5, 10},
		{1 << 60, 1<<24 + 3, 1<<24 + 5, 1<<pendingBits - 1, 1<<24 + 3},
		{0, 1<<24 - 1, 1<<24 + 1, 0, 1<<24 - 1},
	} {
		suite := suites[i]
		r.SetBusy(c.pending, c.second, suite)
		if r.Pending() != c.want || r.LastIn(c.now) != c.at || r.Suite() != suite {
			t.Errorf("%+v: %d bytes, second %d, suite %x", c, r.Pending(), r.LastIn(c.now), r.Suite())
		}
	}
}
