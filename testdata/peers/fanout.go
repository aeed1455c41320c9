package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// fanout is the case of one request that n sessions answer, again and again: how long
// until all answers are there, and the broker's CPU for each. Gatehouse says itself when
// it is complete, and must be right; for another broker the client counts.
type fanout struct {
	label string
	n     int
}

const (
	fanoutSubject = "bench.fanout"
	fanoutInbox   = "_INBOX.fanout"
	fanoutHeader  = "NATS/1.0\r\nGatehouse-Mode: fanout\r\n\r\n"
)

// asker is the requester with what it has had of the answers.
type asker struct {
	*conn
	told     bool // the broker says when all have answered
	answers  int
	complete bool
	sent     time.Time
}

func (f fanout) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	conns := make([]*conn, 0, f.n+1)
	defer func() {
		for _, c := range conns {
			c.close()
		}
	}()
	open := func(sub string) ([]byte, error) {
		c, info, err := b.open(connectLine)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
		return info, c.ask(sub)
	}
	for range f.n {
		if _, err := open("SUB " + fanoutSubject + " 1\r\n"); err != nil {
			return nil, err
		}
	}
	info, err := open("SUB " + fanoutInbox + " 1\r\n")
	if err != nil {
		return nil, err
	}
	q := &asker{conn: conns[f.n], told: bytes.Contains(info, []byte(`"gatehouse":`))}
	return f.measure(ctx, o, b, conns, q)
}

func (f fanout) measure(ctx context.Context, o *options, b *broker, conns []*conn, q *asker) (map[string]float64, error) {
	request := newFrames(fmt.Sprintf("HMSG %s 1 %s %d %d\r\n", fanoutSubject, fanoutInbox, len(fanoutHeader), len(fanoutHeader)), len(fanoutHeader))
	answer := []byte("PUB " + fanoutInbox + " 2\r\nok\r\n")
	var times []time.Duration
	cpu, until := cpuUsage(b.cmd.Process.Pid), time.Now().Add(o.span)
	if err := q.ask(); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	err := poll(ctx, conns, func(i int) (bool, error) {
		if i < f.n {
			return false, conns[i].reply(request, answer, buf)
		}
		done, err := q.take(buf, f.n)
		if !done || err != nil {
			return false, err
		}
		if times = append(times, time.Since(q.sent)); time.Now().After(until) {
			return true, nil
		}
		return false, q.ask()
	})
	if err != nil {
		return nil, err
	}
	used := cpuUsage(b.cmd.Process.Pid).since(cpu)
	slices.Sort(times)
	return map[string]float64{
		f.label + " time":           float64(times[len(times)/2].Microseconds()) / 1e3,
		f.label + " CPU per answer": float64(used.Nanoseconds()) / float64(f.n*len(times)) / 1e3,
	}, nil
}

// reply answers each whole request that a read completes.
func (c *conn) reply(request frames, answer, buf []byte) error {
	held := copy(buf, c.buf)
	n, err := c.read(buf[held:])
	if err != nil {
		return err
	}
	msgs, used, err := request.count(buf[:held+n], c.control)
	c.buf = append(c.buf[:0], buf[used:held+n]...)
	for ; msgs > 0 && err == nil; msgs-- {
		err = c.write(answer)
	}
	return err
}

func (q *asker) ask() error {
	q.answers, q.complete, q.sent = 0, !q.told, time.Now()
	return q.write(fmt.Appendf(nil, "HPUB %s %s %d %d\r\n%s\r\n", fanoutSubject, fanoutInbox, len(fanoutHeader), len(fanoutHeader), fanoutHeader))
}

// take reads once and tells whether all n answers are there.
func (q *asker) take(buf []byte, n int) (bool, error) {
	held := copy(buf, q.buf)
	k, err := q.read(buf[held:])
	if err != nil {
		return false, err
	}
	b := buf[:held+k]
	for err == nil {
		used := 0
		if used, err = q.message(b, n); used == 0 {
			break
		}
		b = b[used:]
	}
	q.buf = append(q.buf[:0], b...)
	return q.answers == n && q.complete, err
}

var errAnswer = errors.New("fanout: not the answer that was to come")

// message consumes one message or line, nothing if it is not whole.
func (q *asker) message(b []byte, n int) (int, error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return 0, nil
	}
	args := bytes.Fields(b[:i])
	if len(args) < 4 || !bytes.HasSuffix(args[0], []byte("MSG")) {
		return i + 1, q.control(b[:i+1])
	}
	size, err := strconv.Atoi(string(args[len(args)-1]))
	if err != nil || size > 4096 {
		return 0, errAnswer
	}
	end := i + 1 + size + 2
	if len(b) < end {
		return 0, nil
	}
	if args[0][0] == 'M' {
		q.answers++
		return end, nil
	}
	status := b[i+1 : end]
	want := fmt.Sprintf("NATS/1.0 204\r\nGatehouse-Answered: %d\r\nGatehouse-Lost: 0\r\n\r\n\r\n", n)
	switch {
	case string(status) == want && q.answers == n:
		q.complete = true
	case !bytes.HasPrefix(status, []byte("NATS/1.0 100\r\n")):
		return 0, fmt.Errorf("%w: %.80q after %d answers", errAnswer, status, q.answers)
	}
	return end, nil
}
