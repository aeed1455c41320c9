package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// balance is the case of a queue group whose members are not equally fast: a stream of
// requests at a share of what all of them can do together, at random times that are the
// same for both brokers. Each member serves one request after the other; to serve is to
// wait, so that the machine's processors are the broker's.
type balance struct {
	label string
	share float64
}

// serviceTimes are those of the members.
var serviceTimes = []time.Duration{1, 2, 4, 7, 12, 20, 35, 50} // ms

const balanceQueue = "bench.balance"

// capacity is how many requests a second all members serve together.
func capacity() (perSecond float64) {
	for _, t := range serviceTimes {
		perSecond += 1e3 / float64(t)
	}
	return perSecond
}

func (c balance) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	url := "nats://" + b.addr
	for _, t := range serviceTimes {
		nc, err := serveAt(url, t*time.Millisecond)
		if err != nil {
			return nil, err
		}
		defer nc.Close()
	}
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	a, err := newAnswers(nc)
	if err != nil {
		return nil, err
	}
	if err := a.ask(ctx, c.share*capacity(), o.balanceSpan); err != nil {
		return nil, err
	}
	if err := nc.LastError(); err != nil {
		return nil, err
	}
	return c.figures(a.times()), nil
}

// serveAt connects one member.
func serveAt(url string, each time.Duration) (*nats.Conn, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	_, err = nc.QueueSubscribe(balanceQueue, "members", func(m *nats.Msg) {
		time.Sleep(each)
		_ = m.Respond(nil) // the connection may have been closed meanwhile
	})
	return nc, errors.Join(err, nc.Flush())
}

// answers are the requests with their times; one without an answer has waited until
// the end.
type answers struct {
	nc    *nats.Conn
	inbox string

	mu   sync.Mutex
	sent []time.Time
	took []time.Duration // 0: no answer yet
	end  time.Time
	errs error
}

func newAnswers(nc *nats.Conn) (*answers, error) {
	a := &answers{nc: nc, inbox: nc.NewInbox()}
	_, err := nc.Subscribe(a.inbox+".*", func(m *nats.Msg) {
		now := time.Now()
		a.mu.Lock()
		defer a.mu.Unlock()
		i, err := strconv.Atoi(m.Subject[len(a.inbox)+1:])
		if err != nil || i >= len(a.sent) || a.took[i] != 0 || len(m.Header) > 0 {
			a.errs = fmt.Errorf("answer on %s, headers %v: not the first one, or none", m.Subject, m.Header)
			return
		}
		a.took[i] = now.Sub(a.sent[i])
	})
	return a, errors.Join(err, nc.Flush())
}

// ask sends requests for a while, so many a second on the average.
func (a *answers) ask(ctx context.Context, rate float64, span time.Duration) error {
	rnd := rand.New(rand.NewPCG(1, 2))
	begin := time.Now()
	for at := time.Duration(0); at < span; at += time.Duration(rnd.ExpFloat64() / rate * float64(time.Second)) {
		if wait := time.Until(begin.Add(at)); wait > 0 {
			time.Sleep(wait)
		}
		a.mu.Lock()
		i := len(a.sent)
		a.sent, a.took = append(a.sent, time.Now()), append(a.took, 0)
		a.mu.Unlock()
		if err := a.nc.PublishRequest(balanceQueue, a.inbox+"."+strconv.Itoa(i), nil); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end = time.Now()
	return a.errs
}

func (a *answers) times() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.Clone(a.took)
	for i, d := range list {
		if d == 0 {
			list[i] = a.end.Sub(a.sent[i])
		}
	}
	slices.Sort(list)
	return list
}

func (c balance) figures(times []time.Duration) map[string]float64 {
	values := map[string]float64{}
	for _, q := range []struct {
		name string
		at   float64
	}{{" p50", 0.50}, {" p90", 0.90}, {" p99", 0.99}} {
		values[c.label+q.name] = float64(times[int(q.at*float64(len(times)-1))].Microseconds()) / 1e3
	}
	return values
}
