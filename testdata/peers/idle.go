package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Connections opened at the same time. A handshake keeps a client waiting, or
// busy, longer.
const dialers, tlsDialers = 8, 16

// idle is the case of connections that have logged in and stay silent.
type idle struct{ label string }

// run measures what each of them costs.
func (d idle) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	before, err := settledMemory(ctx, b)
	if err != nil {
		return nil, err
	}
	conns, err := openMany(b, o.idle)
	defer func() {
		for _, c := range conns {
			c.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	after, err := settledMemory(ctx, b)
	if err != nil {
		return nil, err
	}
	return map[string]float64{d.label: (float64(after) - float64(before)) / float64(o.idle)}, nil
}

// settledMemory waits until the broker's memory stands still.
func settledMemory(ctx context.Context, b *broker) (uint64, error) {
	again := time.NewTicker(150 * time.Millisecond)
	defer again.Stop()
	last := uint64(0)
	for end := time.Now().Add(3 * time.Second); ; {
		now, err := pss(b.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		if diff := max(now, last) - min(now, last); diff <= now/200 || time.Now().After(end) {
			return now, nil
		}
		last = now
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-again.C:
		}
	}
}

func openMany(b *broker, n int) ([]*conn, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []*conn
		errs  error
		next  atomic.Int64
	)
	for range dialers {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				c, _, err := b.open(connectLine)
				mu.Lock()
				if err != nil {
					errs = errors.Join(errs, err)
					mu.Unlock()
					return
				}
				c.buf = nil
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return conns, errs
}

// connects is the case of clients that come, log in and go.
type connects struct {
	label, cpu string // figures
	dialers    int    // clients at the same time
}

// run counts them per second. Each worker has a source address of its own, so
// that ports don't run out.
func (k connects) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	var wg sync.WaitGroup
	var done atomic.Int64
	var stop atomic.Bool
	failure := make(chan error, k.dialers)
	for i := range k.dialers {
		wg.Go(func() {
			for !stop.Load() {
				if err := b.comeAndGo([4]byte{127, 0, 0, byte(i + 1)}); err != nil {
					failure <- err
					return
				}
				done.Add(1)
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	wait := func(d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failure:
			return err
		case <-t.C:
			return nil
		}
	}
	if err := wait(o.connSpan / 5); err != nil {
		return nil, err
	}
	cpu, n, began := cpuUsage(b.cmd.Process.Pid), done.Load(), time.Now()
	if err := wait(o.connSpan); err != nil {
		return nil, err
	}
	span, came := time.Since(began).Seconds(), float64(done.Load()-n)
	used := cpuUsage(b.cmd.Process.Pid).since(cpu)
	if came == 0 {
		return nil, errors.New("no client came through")
	}
	return map[string]float64{k.label: came / span, k.cpu: float64(used.Microseconds()) / came}, nil
}

func (b *broker) comeAndGo(from [4]byte) error {
	c, _, err := b.openFrom(from, shortConnectLine)
	if err != nil {
		return err
	}
	c.close()
	return nil
}
