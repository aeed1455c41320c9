package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// publishResult is a run of publishers and subscribers.
type publishResult struct {
	Publishers  int        `json:"publishers"`
	Subscribers int        `json:"subscribers"`
	Published   speed      `json:"published"`
	Delivered   speed      `json:"delivered"`
	OutOfOrder  uint64     `json:"out_of_order"`
	Latency     *latencies `json:"latency,omitempty"`
}

// A body that is large enough starts with a stamp.
//
//	0            8            12           16
//	+------------+------------+------------+
//	| sent at ns | publisher  | number     |   little endian
//	+------------+------------+------------+
const stampSize = 16

// subscriber is one connection's end of a run. Its callback alone writes it
// until done is closed.
type subscriber struct {
	received *counter
	want     int64
	began    time.Time
	next     []uint32 // by publisher
	disorder uint64
	delay    *hdrhistogram.Histogram
	last     time.Time
	done     *sync.WaitGroup
}

func (s *subscriber) message(m *nats.Msg) {
	if len(m.Data) >= stampSize {
		sent := time.Duration(binary.LittleEndian.Uint64(m.Data))
		record(s.delay, time.Since(s.began)-sent)
		pub, n := binary.LittleEndian.Uint32(m.Data[8:]), binary.LittleEndian.Uint32(m.Data[12:])
		if int(pub) >= len(s.next) || n != s.next[pub] {
			s.disorder++
		}
		if int(pub) < len(s.next) {
			s.next[pub] = n + 1
		}
	}
	if s.received.n.Add(1) == s.want {
		s.last = time.Now()
		s.done.Done()
	}
}

// publish runs publishers against subscribers and waits until every subscriber
// has every message.
func (b *bench) publish(ctx context.Context) (*publishResult, error) {
	began := time.Now()
	counters := make([]counter, max(b.subs, b.pubs))
	waiting := &sync.WaitGroup{}
	subs, closeSubs, err := b.subscribers(ctx, began, counters, waiting)
	if err != nil {
		return nil, err
	}
	defer closeSubs()
	pubs, closePubs, err := b.open(ctx, b.pubs)
	if err != nil {
		return nil, err
	}
	defer closePubs()

	start := time.Now()
	sending, sendCtx := errgroup.WithContext(ctx)
	for i, nc := range pubs {
		var sent *counter
		if b.subs == 0 {
			sent = &counters[i]
		}
		sending.Go(func() error { return b.send(sendCtx, nc, uint32(i), began, sent) })
	}
	var published time.Duration
	done := make(chan error, 1)
	go func() {
		err := sending.Wait()
		published = time.Since(start)
		if err == nil {
			waiting.Wait()
		}
		done <- err
	}()
	total := int64(b.msgs * max(b.subs, 1))
	if err := b.progress.watch(ctx, "messages", done, counters, total, b.timeout); err != nil {
		return nil, err
	}
	return b.published(subs, start, published), nil
}

// subscribers connects them; waiting counts those that miss messages.
func (b *bench) subscribers(ctx context.Context, began time.Time, counters []counter, waiting *sync.WaitGroup) ([]*subscriber, func(), error) {
	conns, done, err := b.open(ctx, b.subs)
	if err != nil {
		return nil, nil, err
	}
	waiting.Add(b.subs)
	var subs []*subscriber
	for i, nc := range conns {
		s := &subscriber{received: &counters[i], want: int64(b.msgs), began: began,
			next: make([]uint32, b.pubs), delay: newHistogram(), done: waiting}
		sub, err := nc.Subscribe(b.subject, s.message)
		if err == nil {
			err = sub.SetPendingLimits(-1, -1)
		}
		if err == nil {
			err = nc.settle()
		}
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("subscribe to %s: %w", b.subject, plain(err))
		}
		subs = append(subs, s)
	}
	return subs, done, nil
}

// send publishes one publisher's share. sent is counted where nobody receives.
func (b *bench) send(ctx context.Context, nc *link, index uint32, began time.Time, sent *counter) error {
	body := make([]byte, b.size)
	for n := range share(b.msgs, b.pubs, int(index)) {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil
		}
		if len(body) >= stampSize {
			binary.LittleEndian.PutUint64(body, uint64(time.Since(began)))
			binary.LittleEndian.PutUint32(body[8:], index)
			binary.LittleEndian.PutUint32(body[12:], uint32(n))
		}
		if err := nc.Publish(b.subject, body); err != nil {
			return fmt.Errorf("publish to %s: %w", b.subject, plain(err))
		}
		if sent != nil {
			sent.n.Add(1)
		}
	}
	if err := b.flush(ctx, nc); err != nil {
		return fmt.Errorf("publish to %s: %w", b.subject, plain(err))
	}
	return nil
}

// flush waits for the broker however long it holds back its publishers: the
// watch decides when that is too long.
func (b *bench) flush(ctx context.Context, nc *link) error {
	for {
		err := nc.FlushTimeout(time.Second)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrTimeout):
			continue
		case err != nil:
			return err
		}
		return nc.LastError()
	}
}

func (b *bench) published(subs []*subscriber, start time.Time, published time.Duration) *publishResult {
	r := &publishResult{
		Publishers: b.pubs, Subscribers: b.subs,
		Published: speedOf(b.msgs, b.size, published),
	}
	var last time.Duration
	var delays []*hdrhistogram.Histogram
	for _, s := range subs {
		last = max(last, s.last.Sub(start))
		r.OutOfOrder += s.disorder
		delays = append(delays, s.delay)
	}
	if b.subs > 0 {
		r.Delivered = speedOf(b.msgs*b.subs, b.size, last)
		if b.size >= stampSize {
			l := latenciesOf(delays...)
			r.Latency = &l
		}
	}
	return r
}
