package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the largest latency that a histogram can hold.
const longest = 10 * time.Minute

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest), 3)
}

// record puts in what a histogram can hold.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 1), longest))) // in range, so no error
}

// latencies sums up a histogram, in nanoseconds.
type latencies struct {
	Count int64 `json:"count"`
	Min   int64 `json:"min_ns"`
	P50   int64 `json:"p50_ns"`
	P90   int64 `json:"p90_ns"`
	P99   int64 `json:"p99_ns"`
	P999  int64 `json:"p99_9_ns"`
	Max   int64 `json:"max_ns"`
	Mean  int64 `json:"mean_ns"`
}

func latenciesOf(hs ...*hdrhistogram.Histogram) latencies {
	all := newHistogram()
	for _, h := range hs {
		all.Merge(h)
	}
	return latencies{
		all.TotalCount(), all.Min(),
		all.ValueAtQuantile(50), all.ValueAtQuantile(90), all.ValueAtQuantile(99), all.ValueAtQuantile(99.9),
		all.Max(), int64(all.Mean()),
	}
}

// counter is written by one worker, on a cache line of its own.
type counter struct {
	n atomic.Int64
	_ [120]byte
}

func sum(counters []counter) (n int64) {
	for i := range counters {
		n += counters[i].n.Load()
	}
	return n
}

var errInterrupted = errors.New("interrupted")

// progress shows how far a run is, on a terminal, and notices when it stands
// still.
type progress struct {
	out io.Writer
	on  bool
}

// watch returns what done gives. It fails when ctx ends, or when the counters
// do not move for timeout.
func (p *progress) watch(ctx context.Context, what string, done <-chan error, counters []counter, total int64, timeout time.Duration) error {
	const period = 200 * time.Millisecond
	tick := time.NewTicker(period)
	defer tick.Stop()
	defer p.clear()
	last, moved := int64(0), time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return errInterrupted
		case now := <-tick.C:
			n := sum(counters)
			p.show(what, n, total, float64(n-last)/period.Seconds())
			if n != last {
				last, moved = n, now
			} else if now.Sub(moved) > timeout {
				return fmt.Errorf("nothing came for %s after %s of %s messages", timeout, count(uint64(n)), count(uint64(total)))
			}
		}
	}
}

func (p *progress) show(what string, n, total int64, perSecond float64) {
	if p.on {
		fmt.Fprintf(p.out, "\r\x1b[K%s %3d %%  %s of %s  %s/s", what, 100*n/max(total, 1), count(uint64(n)), count(uint64(total)), rate(perSecond))
	}
}

func (p *progress) clear() {
	if p.on {
		io.WriteString(p.out, "\r\x1b[K")
	}
}
