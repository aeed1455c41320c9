package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// requestResult is a run of requesters and those that answer.
type requestResult struct {
	Requesters int       `json:"requesters"`
	Answering  int       `json:"answering"`
	Answered   speed     `json:"answered"`
	Latency    latencies `json:"latency"`
}

// request runs requesters, each with one request on its way at a time.
func (b *bench) request(ctx context.Context) (*requestResult, error) {
	closeMembers, err := b.members(ctx)
	if err != nil {
		return nil, err
	}
	defer closeMembers()
	conns, closeConns, err := b.open(ctx, b.concurrency)
	if err != nil {
		return nil, err
	}
	defer closeConns()

	counters := make([]counter, b.concurrency)
	delays := make([]*hdrhistogram.Histogram, b.concurrency)
	start := time.Now()
	asking, askCtx := errgroup.WithContext(ctx)
	for i, nc := range conns {
		delays[i] = newHistogram()
		asking.Go(func() error {
			return b.ask(askCtx, nc, share(b.requests, b.concurrency, i), &counters[i], delays[i])
		})
	}
	var elapsed time.Duration
	done := make(chan error, 1)
	go func() {
		err := asking.Wait()
		elapsed = time.Since(start)
		done <- err
	}()
	// A requester notices by itself when no reply comes, and first.
	if err := b.progress.watch(ctx, "requests", done, counters, int64(b.requests), 2*b.timeout); err != nil {
		return nil, err
	}
	return &requestResult{
		Requesters: b.concurrency, Answering: b.subs,
		Answered: speedOf(b.requests, b.size, elapsed), Latency: latenciesOf(delays...),
	}, nil
}

// members connects the queue group that answers.
func (b *bench) members(ctx context.Context) (func(), error) {
	conns, done, err := b.open(ctx, b.subs)
	if err != nil {
		return nil, err
	}
	for _, nc := range conns {
		_, err := nc.QueueSubscribe(b.subject, "bench", func(m *nats.Msg) {
			_ = m.Respond(m.Data) // a lost reply is the requester's timeout
		})
		if err == nil {
			err = nc.settle()
		}
		if err != nil {
			done()
			return nil, err
		}
	}
	return done, nil
}

// ask sends n requests, one after the other.
func (b *bench) ask(ctx context.Context, nc *link, n int, answered *counter, delay *hdrhistogram.Histogram) error {
	body := make([]byte, b.size)
	for range n {
		start := time.Now()
		if _, err := ask(ctx, nc, &nats.Msg{Subject: b.subject, Data: body}, b.timeout); err != nil {
			return err
		}
		record(delay, time.Since(start))
		answered.n.Add(1)
	}
	return nil
}

// ask sends one request and waits for the reply.
func ask(ctx context.Context, nc *link, m *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	reply, err := nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("request to %s: %w", m.Subject, nc.unanswered(err, timeout))
	}
	return reply, nil
}
