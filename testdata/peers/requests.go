package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	service     = "bench.service"
	requestSize = 16 // payload bytes of request and reply
)

// requests is the request-reply case: n requesters with one request under way
// each, all on one thread, and one responder on another.
type requests struct {
	label string
	n     int
}

// requester is one connection with its request under way.
type requester struct {
	*conn
	reply   frames
	request []byte
	sent    time.Time
}

func (r requests) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	var times []time.Duration
	err := r.serve(ctx, b, func(ctx context.Context, rs []*requester) (err error) {
		times, err = exchange(ctx, o.warm, o.rrSpan, rs)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.figures(times, o.rrSpan), nil
}

// serve connects responder and requesters for as long as talk takes.
func (r requests) serve(ctx context.Context, b *broker, talk func(context.Context, []*requester) error) error {
	responder, _, err := b.open(connectLine)
	if err != nil {
		return err
	}
	defer responder.close()
	if err := responder.ask("SUB " + service + " 1\r\n"); err != nil {
		return err
	}
	rs, err := r.connect(b)
	defer func() {
		for _, q := range rs {
			q.close()
		}
	}()
	if err != nil {
		return err
	}
	// The responder ends with its context, a broken one takes the requesters along.
	ctx, cancel := context.WithCancelCause(ctx)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := respond(ctx, responder); err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("responder: %w", err))
		}
	})
	defer serving.Wait()
	defer cancel(nil)
	err = talk(ctx, rs)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return err
}

func (r requests) connect(b *broker) (rs []*requester, err error) {
	for i := range r.n {
		c, _, err := b.open(connectLine)
		if err != nil {
			return rs, err
		}
		inbox := fmt.Sprintf("_INBOX.%d", i)
		q := &requester{conn: c}
		q.reply = newFrames(fmt.Sprintf("MSG %s 1 %d\r\n", inbox, requestSize), requestSize)
		q.request = fmt.Appendf(nil, "PUB %s %s %d\r\n%s\r\n", service, inbox, requestSize, strings.Repeat("x", requestSize))
		rs = append(rs, q)
		if err := c.ask("SUB " + inbox + " 1\r\n"); err != nil {
			return rs, err
		}
	}
	return rs, nil
}

// exchange keeps all requesters busy and returns the round-trip times of what was
// asked in the span after the warm-up, however long they are.
func exchange(ctx context.Context, warm, span time.Duration, rs []*requester) (times []time.Duration, err error) {
	from := time.Now().Add(warm)
	until := from.Add(span)
	conns := make([]*conn, len(rs))
	for i, q := range rs {
		conns[i] = q.conn
		if err := q.send(time.Now()); err != nil {
			return nil, err
		}
	}
	open := len(rs)
	buf := make([]byte, 4096)
	err = poll(ctx, conns, func(i int) (bool, error) {
		q := rs[i]
		n, err := q.take(buf)
		if n == 0 || err != nil {
			return false, err
		}
		now := time.Now()
		if n > 1 {
			return false, fmt.Errorf("requester %d: %d replies to one request", i, n)
		}
		if q.sent.After(from) {
			times = append(times, now.Sub(q.sent))
		}
		if now.After(until) {
			open--
			return open == 0, nil
		}
		return false, q.send(now)
	})
	return times, err
}

func (q *requester) send(now time.Time) error {
	q.sent = now
	return q.write(q.request)
}

// take reads once and returns how many replies that completed.
func (q *requester) take(buf []byte) (int, error) {
	held := copy(buf, q.buf)
	n, err := q.read(buf[held:])
	if err != nil {
		return 0, err
	}
	msgs, used, err := q.reply.count(buf[:held+n], q.control)
	q.buf = append(q.buf[:0], buf[used:held+n]...)
	return msgs, err
}

// respond answers every request of one read with one write.
func respond(ctx context.Context, c *conn) error {
	buf, out := make([]byte, 64<<10), make([]byte, 0, 64<<10)
	return poll(ctx, []*conn{c}, func(int) (bool, error) {
		held := copy(buf, c.buf)
		n, err := c.read(buf[held:])
		if err != nil {
			return false, err
		}
		var used int
		out, used, err = answer(out[:0], buf[:held+n], c.control)
		c.buf = append(c.buf[:0], buf[used:held+n]...)
		if err != nil || len(out) == 0 {
			return false, err
		}
		return false, c.write(out)
	})
}

// answer appends a reply for every whole request in b.
func answer(out, b []byte, control func([]byte) error) (_ []byte, used int, err error) {
	for {
		i := bytes.IndexByte(b[used:], '\n')
		if i < 0 {
			return out, used, nil
		}
		line := b[used : used+i+1]
		head, ok := bytes.CutPrefix(line, []byte("MSG "+service+" 1 "))
		if !ok {
			if err := control(line); err != nil {
				return out, used, err
			}
			used += i + 1
			continue
		}
		body := used + i + 1
		if len(b) < body+requestSize+2 {
			return out, used, nil
		}
		out = append(append(out, "PUB "...), head...) // head: reply, size, CRLF
		out = append(out, b[body:body+requestSize+2]...)
		used = body + requestSize + 2
	}
}

func (r requests) figures(times []time.Duration, span time.Duration) map[string]float64 {
	slices.Sort(times)
	us := func(q float64) float64 {
		if len(times) == 0 {
			return 0
		}
		return float64(times[int(q*float64(len(times)-1))].Nanoseconds()) / 1e3
	}
	return map[string]float64{
		r.label + " p50":  us(0.50),
		r.label + " p99":  us(0.99),
		r.label + " rate": float64(len(times)) / span.Seconds(),
	}
}
