package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const dialers = 8 // connections opened at the same time

// idleMemory is what a connection costs that has logged in and stays silent.
func idleMemory(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	before, err := settledMemory(ctx, b)
	if err != nil {
		return nil, err
	}
	conns, err := openMany(b.addr, o.idle)
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
	return map[string]float64{"memory per idle connection": (float64(after) - float64(before)) / float64(o.idle)}, nil
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

func openMany(addr string, n int) ([]*conn, error) {
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
				c, _, err := open(addr, connectLine)
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

// connects is how many clients per second can come, log in and go. Each worker
// has a source address of its own, so that ports don't run out.
func connects(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	var wg sync.WaitGroup
	var done atomic.Int64
	var stop atomic.Bool
	failure := make(chan error, dialers)
	for i := range dialers {
		wg.Go(func() {
			for !stop.Load() {
				if err := comeAndGo(b.addr, [4]byte{127, 0, 0, byte(i + 1)}); err != nil {
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
	if err := wait(o.warm); err != nil {
		return nil, err
	}
	n, began := done.Load(), time.Now()
	if err := wait(o.connSpan); err != nil {
		return nil, err
	}
	return map[string]float64{"new connections": float64(done.Load()-n) / time.Since(began).Seconds()}, nil
}

func comeAndGo(addr string, from [4]byte) error {
	c, err := dial(addr, from)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.greet(shortConnectLine)
	return err
}
