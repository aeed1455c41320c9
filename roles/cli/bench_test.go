package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func stamped(pub, n uint32) *nats.Msg {
	b := make([]byte, stampSize)
	binary.LittleEndian.PutUint32(b[8:], pub)
	binary.LittleEndian.PutUint32(b[12:], n)
	return &nats.Msg{Data: b}
}

// Lost, doubled and swapped messages show, whichever publisher sent them.
func TestBenchSeesDisorder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		order [][2]uint32
		want  uint64
	}{
		{"in order", [][2]uint32{{0, 0}, {1, 0}, {0, 1}, {1, 1}}, 0},
		{"doubled", [][2]uint32{{0, 0}, {0, 0}, {0, 1}}, 1},
		{"lost", [][2]uint32{{0, 0}, {0, 2}}, 1},
		{"swapped", [][2]uint32{{0, 1}, {0, 0}}, 2},
		{"no such publisher", [][2]uint32{{7, 0}}, 1},
	} {
		var all sync.WaitGroup
		all.Add(1)
		s := &subscriber{received: &counter{}, want: int64(len(tt.order)), began: time.Now(), next: make([]uint32, 2), delay: newHistogram(), done: &all}
		for _, m := range tt.order {
			s.message(stamped(m[0], m[1]))
		}
		all.Wait()
		if s.disorder != tt.want {
			t.Errorf("%s: disorder %d, want %d", tt.name, s.disorder, tt.want)
		}
	}
}

func TestShares(t *testing.T) {
	for _, tt := range []struct {
		n, workers int
		want       []int
	}{{10, 3, []int{4, 3, 3}}, {2, 2, []int{1, 1}}, {0, 2, []int{0, 0}}} {
		var got []int
		for i := range tt.workers {
			got = append(got, share(tt.n, tt.workers, i))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%d among %d: %v, want %v", tt.n, tt.workers, got, tt.want)
		}
	}
}

func TestWatchEnds(t *testing.T) {
	broken := errors.New("broken")
	done := make(chan error, 1)
	done <- broken
	p := &progress{out: io.Discard}
	if err := p.watch(context.Background(), "", done, nil, 1, time.Minute); err != broken {
		t.Errorf("a worker's error came as %v", err)
	}
	interrupted, stop := context.WithCancel(context.Background())
	stop()
	if err := p.watch(interrupted, "", done, nil, 1, time.Minute); err != errInterrupted {
		t.Errorf("an interrupt came as %v", err)
	}
	counters := make([]counter, 2)
	counters[0].n.Add(3)
	var shown bytes.Buffer
	p = &progress{out: &shown, on: true}
	err := p.watch(context.Background(), "messages", done, counters, 6, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "after 3 of 6 messages") {
		t.Errorf("standing still came as %v", err)
	}
	if s := shown.String(); !strings.Contains(s, "messages  50 %  3 of 6") || !strings.HasSuffix(s, "\r\x1b[K") {
		t.Errorf("progress was %q", s)
	}
}
