package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	subject     = "bench.stream"
	publishSize = 64 << 10  // bytes of a publisher's write
	receiveSize = 256 << 10 // bytes of a subscriber's read
)

// stream is the throughput case: one publisher, subs subscribers of one subject.
type stream struct {
	label string
	size  int // payload bytes
	subs  int
}

// flow is a stream under way. The publisher stops while the slowest subscriber
// is window bytes behind it.
type flow struct {
	stream
	frames    frames
	window    int64 // messages
	published atomic.Int64
	received  []atomic.Int64 // one per subscriber
	pongs     atomic.Int64

	mu      sync.Mutex
	moved   sync.Cond // signalled when waiting and the window has opened
	waiting atomic.Bool
	stopped atomic.Bool
	failure chan error
}

func (s stream) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	f := s.flow(o.window)
	var conns []*conn
	var workers sync.WaitGroup
	defer func() {
		f.stop()
		for _, c := range conns {
			c.hangUp()
		}
		workers.Wait()
		for _, c := range conns {
			c.close()
		}
	}()
	for range s.subs + 1 {
		c, _, err := b.open(connectLine)
		if err != nil {
			return nil, err
		}
		if c.tls != nil {
			c.tls.raw.widen(receiveSize)
		}
		conns = append(conns, c)
	}
	for i, c := range conns[1:] {
		if err := c.ask("SUB " + subject + " 1\r\n"); err != nil {
			return nil, err
		}
		workers.Go(func() { f.fail(f.subscribe(c, i)) })
	}
	sent := make(chan struct{})
	workers.Go(func() {
		defer close(sent)
		f.fail(f.publish(conns[0]))
	})
	values, err := f.measure(ctx, o, b)
	if err != nil {
		return nil, err
	}
	f.stop()
	<-sent
	return values, f.settle(conns[1:])
}

func (s stream) flow(window int) *flow {
	fr := newFrames(fmt.Sprintf("MSG %s 1 %d\r\n", subject, s.size), s.size)
	f := &flow{
		stream: s, frames: fr, window: int64(window / fr.size),
		received: make([]atomic.Int64, s.subs), failure: make(chan error, s.subs+1),
	}
	f.moved.L = &f.mu
	return f
}

// measure lets the stream run warm, then takes counts and CPU over the span.
func (f *flow) measure(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	if err := f.pass(ctx, o.warm); err != nil {
		return nil, err
	}
	cpu, pub, got, began := cpuUsage(b.cmd.Process.Pid), f.published.Load(), f.delivered(), time.Now()
	if err := f.pass(ctx, o.span); err != nil {
		return nil, err
	}
	span, pub, got := time.Since(began).Seconds(), f.published.Load()-pub, f.delivered()-got
	used := cpuUsage(b.cmd.Process.Pid).since(cpu)
	if got == 0 {
		return nil, errors.New("no message delivered")
	}
	return map[string]float64{
		f.label + " published":        float64(pub) / span,
		f.label + " delivered":        float64(got) / span,
		f.label + " CPU per delivery": float64(used.Nanoseconds()) / float64(got),
	}, nil
}

// pass waits for d, or for the first failure.
func (f *flow) pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-f.failure:
		return err
	case <-t.C:
		return nil
	}
}

// publish writes one prebuilt buffer over and over, window permitting.
func (f *flow) publish(c *conn) error {
	one := fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, f.size, strings.Repeat("x", f.size))
	n := max(1, publishSize/len(one))
	buf := bytes.Repeat([]byte(one), n)
	for f.await(int64(n)) {
		if err := c.write(buf); err != nil {
			return err
		}
		f.published.Add(int64(n))
	}
	return nil
}

// await waits until n more messages fit into the window; false: stopped.
func (f *flow) await(n int64) bool {
	if f.behind()+n > f.window {
		f.mu.Lock()
		f.waiting.Store(true)
		for f.behind()+n > f.window && !f.stopped.Load() {
			f.moved.Wait()
		}
		f.waiting.Store(false)
		f.mu.Unlock()
	}
	return !f.stopped.Load()
}

// subscribe counts messages until the connection is hung up.
func (f *flow) subscribe(c *conn, i int) error {
	buf := make([]byte, receiveSize)
	held := copy(buf, c.buf)
	control := func(line []byte) error {
		if string(line) == "PONG\r\n" {
			f.pongs.Add(1)
		}
		return c.control(line)
	}
	for {
		n, err := c.read(buf[held:])
		if err != nil {
			return err
		}
		msgs, used, err := f.frames.count(buf[:held+n], control)
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		held = copy(buf, buf[used:held+n])
		f.received[i].Add(int64(msgs))
		// Not for every read: the publisher goes on when a quarter is free.
		if f.waiting.Load() && f.behind() <= f.window*3/4 {
			f.wake()
		}
	}
}

// settle waits until every subscriber has all that was published, then takes a
// PONG behind it on each connection: more than all is as wrong as less.
func (f *flow) settle(subs []*conn) error {
	all := func() bool { return f.behind() <= 0 }
	if err := f.until(all); err != nil {
		return err
	}
	for _, c := range subs {
		if err := c.write([]byte("PING\r\n")); err != nil {
			return err
		}
	}
	if err := f.until(func() bool { return f.pongs.Load() == int64(len(subs)) }); err != nil {
		return err
	}
	if got, want := f.delivered(), f.published.Load()*int64(f.subs); got != want {
		return fmt.Errorf("%d messages delivered, %d expected", got, want)
	}
	return nil
}

// until waits for done as long as messages come.
func (f *flow) until(done func() bool) error {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	got, last := f.delivered(), time.Now()
	for !done() {
		select {
		case err := <-f.failure:
			return f.lost(err)
		case now := <-again.C:
			if n := f.delivered(); n != got {
				got, last = n, now
			}
			if now.Sub(last) > silence {
				return f.lost(fmt.Errorf("nothing came for %v", silence))
			}
		}
	}
	return nil
}

func (f *flow) lost(err error) error {
	return fmt.Errorf("%d of %d messages missing: %w", f.behind(), f.published.Load(), err)
}

// behind is how many messages the slowest subscriber has not yet counted.
func (f *flow) behind() int64 {
	least := f.received[0].Load()
	for i := range f.received[1:] {
		least = min(least, f.received[i+1].Load())
	}
	return f.published.Load() - least
}

func (f *flow) delivered() (sum int64) {
	for i := range f.received {
		sum += f.received[i].Load()
	}
	return sum
}

func (f *flow) wake() {
	f.mu.Lock()
	f.moved.Broadcast()
	f.mu.Unlock()
}

func (f *flow) stop() {
	f.stopped.Store(true)
	f.wake()
}

// fail keeps the first failures; reads that end because of hangUp come later.
func (f *flow) fail(err error) {
	if err == nil {
		return
	}
	select {
	case f.failure <- err:
	default:
	}
}
