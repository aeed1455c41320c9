package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
)

// FanoutError ends the loop over a fanout's answers when there are not as many as
// were expected.
type FanoutError struct {
	Expected int // got the request
	Answered int
	Lost     int // have gone without an answer

	// Err is what ended it: ErrResponderLost when everybody else has answered,
	// nats.ErrTimeout when the broker's time for it was over, what the context says,
	// nats.ErrDisconnected or nats.ErrConnectionClosed.
	Err error
}

// Error gives the numbers and the reason.
func (e *FanoutError) Error() string {
	return fmt.Sprintf("gatehouse: %d of %d answered, %d lost: %v", e.Answered, e.Expected, e.Lost, e.Err)
}

// Unwrap gives Err.
func (e *FanoutError) Unwrap() error { return e.Err }

// Fanout sends a request to every subscriber of a subject and every member of its queue
// groups, and gives their answers in the order in which they come. The loop ends without
// an error when all have answered. An error is the last that comes:
//
//   - [nats.ErrNoResponders]: nobody has subscribed to it, or nobody whom the request
//     is for;
//   - a [*FanoutError]: not all have answered; what came before it is good;
//   - [nats.ErrPermissionViolation], a [*StatusError], [ErrNoFanout]: the broker has not
//     sent it on;
//   - what ctx or nats.go says.
//
// The broker ends it after the time of [Within], of ctx or of its own configuration,
// whichever is the shortest. The request is sent when the loop begins, each time; leaving
// the loop drops the answers that are still to come. msg is not changed; its reply subject
// is not used.
func Fanout(ctx context.Context, nc *nats.Conn, msg *nats.Msg, opts ...Option) iter.Seq2[*nats.Msg, error] {
	return func(yield func(*nats.Msg, error) bool) {
		c := newCall(nc)
		defer c.end()
		sub, err := c.inbox()
		if err != nil {
			yield(nil, err)
			return
		}
		defer sub.Unsubscribe()
		expected, err := c.begin(ctx, sub, ask(msg, sub.Subject, modeFanout, append([]Option{until(ctx)}, opts...)))
		if err != nil {
			yield(nil, err)
			return
		}
		for n := 0; ; n++ {
			m, err := c.next(ctx)
			if err != nil {
				err = &FanoutError{expected, n, 0, err}
			} else if over := outcome(m, expected); over != nil {
				m, err = nil, over
			}
			switch {
			case errors.Is(err, errComplete):
				return
			case !yield(m, err) || err != nil:
				return
			}
		}
	}
}

// until has the broker end a fanout when ctx does.
func until(ctx context.Context) Option {
	at, ok := ctx.Deadline()
	if !ok {
		return func(*nats.Msg) {}
	}
	return Within(time.Until(at).Round(time.Millisecond))
}

// begin sends the request and returns how many are to answer it. The status that says so
// is the first message, and the broker has sent it, or another one, before it answers a
// PING that came after the request.
func (c *call) begin(ctx context.Context, sub *nats.Subscription, m *nats.Msg) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := c.nc.PublishMsg(m); err != nil {
		return 0, err
	}
	if c.flush(ctx) == nil && c.silent(sub) {
		if err := c.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
			return 0, err
		}
		return 0, ErrNoFanout
	}
	first, err := c.next(ctx)
	if err != nil {
		return 0, err
	}
	if err := Status(first); err != nil {
		return 0, err
	}
	if n := count(first, HeaderExpect); n >= 0 {
		return n, nil
	}
	return 0, ErrNoFanout
}

func (c *call) flush(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, flushWait)
	defer stop()
	return c.nc.FlushWithContext(ctx)
}

// silent tells whether nothing has come so far.
func (c *call) silent(sub *nats.Subscription) bool {
	n, _, err := sub.Pending() // what is no longer pending is waiting
	c.mu.Lock()
	defer c.mu.Unlock()
	return err == nil && n == 0 && len(c.waiting) == 0
}

// errComplete: all have answered.
var errComplete = errors.New("complete")

// outcome gives what a fanout's last status says, nil: it is an answer. Nobody but the
// broker can send that header.
func outcome(m *nats.Msg, expected int) error {
	answered, lost := count(m, HeaderAnswered), count(m, HeaderLost)
	if answered < 0 || lost < 0 {
		return nil
	}
	e := &FanoutError{expected, answered, lost, ErrResponderLost}
	switch {
	case m.Header.Get(headerStatus) == "504":
		e.Err = nats.ErrTimeout
	case lost == 0:
		return errComplete
	}
	return e
}
