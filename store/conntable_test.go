package store

import (
	"sync"
	"testing"
)

func TestConnTable(t *testing.T) {
	const rows = 100
	rw, ro := mapped(t, ConnTableSize(rows))
	w, err := NewConnTable(rw, rows)
	check(t, err)
	r, err := NewConnTable(ro, rows)
	check(t, err)
	want := ConnInfo{UID: 1<<40 + 1, CM: 63, Listener: 7, Port: 65535, Unix: true, System: true, Addr: [16]byte{1, 15: 16}, Accepted: -5,
		Process: ConnProcess{1<<32 - 1, 2, 3, 1 << 60}}
	w.Row(rows - 1).Set(&want)
	if got, ok := r.Row(rows - 1).Get(); !ok || got != want || r.Row(rows-1).UID() != want.UID {
		t.Fatalf("%+v, %v", got, ok)
	}
	w.Row(rows - 1).SetCM(2)
	want.CM = 2
	if got, ok := r.Row(rows - 1).Get(); !ok || got != want {
		t.Fatalf("%+v, %v", got, ok)
	}
	w.Row(rows - 1).Clear()
	if _, ok := r.Row(rows - 1).Get(); ok {
		t.Fatal("an empty row")
	}
	w.Counters().Crowded.Add(3)
	if r.Counters().Crowded.Load() != 3 || r.Len() != rows {
		t.Fatal("counters")
	}
	for _, i := range []int{-1, rows, 1 << 40} {
		if r.Row(i) != nil {
			t.Errorf("row %d", i)
		}
	}
	for _, max := range []int{-1, 0, rows - 1, rows + 1, MaxConns + 1} {
		if _, err := NewConnTable(rw, max); err == nil {
			t.Errorf("opened with %d rows", max)
		}
	}
}

// A reader sees a row whole or not at all.
func TestConnRowRace(t *testing.T) {
	rw, ro := heap(ConnTableSize(1))
	w, err := NewConnTable(rw, 1)
	check(t, err)
	r, err := NewConnTable(ro, 1)
	check(t, err)
	stop, started := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for uid := uint64(1); ; uid++ {
			w.Row(0).Set(&ConnInfo{UID: uid, CM: uint16(uid), Port: uint16(uid), Addr: [16]byte{0: byte(uid), 8: byte(uid)}, Accepted: int64(uid)})
			switch uid {
			case 1:
				close(started)
			default:
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	})
	<-started
	gets := 1_000_000
	if raceEnabled {
		gets = 100_000
	}
	for range gets {
		i, ok := r.Row(0).Get()
		if n := i.UID; ok && (i.CM != uint16(n) || i.Port != i.CM || i.Addr[0] != byte(n) || i.Addr[8] != byte(n) || i.Accepted != int64(n)) {
			t.Errorf("torn row %+v", i)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestConnColumns(t *testing.T) {
	const rows = 3
	rw, ro := mapped(t, ConnColumnsSize(rows))
	w, err := NewConnColumns(rw, rows)
	check(t, err)
	r, err := NewConnColumns(ro, rows)
	check(t, err)
	w.Row(2).ClosedUID.Store(9)
	w.Row(2).MovedUID.Store(10)
	w.Counters().Dispatcher.Store(11)
	w.Counters().Moved.Store(12)
	if r.Row(2).ClosedUID.Load() != 9 || r.Row(2).MovedUID.Load() != 10 || r.Row(0).ClosedUID.Load() != 0 ||
		r.Counters().Dispatcher.Load() != 11 || r.Counters().Moved.Load() != 12 || r.Len() != rows {
		t.Fatal("the reader sees something else")
	}
	if r.Row(rows) != nil || r.Row(-1) != nil {
		t.Fatal("a row that is not there")
	}
	if _, err := NewConnTable(rw, rows); err == nil {
		t.Fatal("columns opened as the dispatcher's table")
	}
}
