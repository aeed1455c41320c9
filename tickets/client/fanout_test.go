package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// answers collects what a fanout gives, and the error at its end.
func answers(ctx context.Context, nc *nats.Conn, opts ...Option) (bodies []string, err error) {
	for m, err := range Fanout(ctx, nc, &nats.Msg{Subject: "in", Data: []byte("all")}, opts...) {
		if err != nil {
			return bodies, err
		}
		bodies = append(bodies, string(m.Data))
	}
	return bodies, nil
}

const (
	expect2  = "100\r\nGatehouse-Expect: 2"
	complete = "204\r\nGatehouse-Answered: 2\r\nGatehouse-Lost: 0"
)

func TestFanout(t *testing.T) {
	asked := make(chan *pub, 1)
	f, nc := startFake(t, func(f *fake, p *pub) {
		f.status(p.reply, expect2)
		f.answer(p.reply, "one")
		f.say(p.reply, "NATS/1.0 503\r\n\r\n", "") // an answer, whatever it looks like
		f.status(p.reply, complete)
		asked <- p
	})
	got, err := answers(within(t), nc, ToType("pricer"), ToOrganisation("ORGA"), Within(1500*time.Millisecond))
	if err != nil || !slices.Equal(got, []string{"one", ""}) {
		t.Errorf("answers %q, %v", got, err)
	}
	p := <-asked
	for name, want := range map[string]string{HeaderMode: "fanout", HeaderToType: "pricer", HeaderToOrganisation: "ORGA", HeaderTimeout: "1.5s"} {
		if got := p.header(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if p.subject != "in" || p.body != "all" {
		t.Errorf("sent %+v", p)
	}
	await(t, "the end of the subscription", func() bool { return f.open() == 0 })
}

// What the loop's last error says.
func TestFanoutErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		say    []string // statuses; "": an answer
		is     error
		want   *FanoutError
		answer int
	}{
		{"nobody", []string{"503\r\nNats-Subject: in"}, nats.ErrNoResponders, nil, 0},
		{"lost", []string{expect2, "", "204\r\nGatehouse-Answered: 1\r\nGatehouse-Lost: 1"}, ErrResponderLost, &FanoutError{2, 1, 1, ErrResponderLost}, 1},
		{"timeout", []string{expect2, "", "504\r\nGatehouse-Answered: 1\r\nGatehouse-Lost: 0"}, nats.ErrTimeout, &FanoutError{2, 1, 0, nats.ErrTimeout}, 1},
		{"malformed", []string{"400 Bad Gatehouse-Timeout"}, &StatusError{400, "Bad Gatehouse-Timeout"}, nil, 0},
		{"too many", []string{"503 Too Many Requests"}, &StatusError{503, "Too Many Requests"}, nil, 0},
		{"another broker", []string{""}, ErrNoFanout, nil, 0},
		{"another broker, slow", nil, ErrNoFanout, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, nc := startFake(t, func(f *fake, p *pub) {
				for _, s := range tt.say {
					if s == "" {
						f.answer(p.reply, "here")
					} else {
						f.status(p.reply, s)
					}
				}
			})
			got, err := answers(within(t), nc)
			var status, wantStatus *StatusError
			same := errors.Is(err, tt.is)
			if errors.As(tt.is, &wantStatus) {
				same = errors.As(err, &status) && *status == *wantStatus
			}
			if !same || len(got) != tt.answer {
				t.Errorf("%d answers, %v, want %d, %v", len(got), err, tt.answer, tt.is)
			}
			var e *FanoutError
			if errors.As(err, &e) != (tt.want != nil) || e != nil && *e != *tt.want {
				t.Errorf("%+v, want %+v", e, tt.want)
			}
		})
	}
}

// What the broker says of permissions it says to the connection.
func TestFanoutNotPermitted(t *testing.T) {
	_, nc := startFake(t, func(f *fake, p *pub) { f.write("-ERR 'Permissions Violation for Publish to \"in\"'\r\n") },
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if _, err := answers(within(t), nc); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("error %v", err)
	}
}

// A deadline is the broker's, too.
func TestFanoutEndsWithContext(t *testing.T) {
	asked := make(chan *pub, 2)
	f, nc := startFake(t, func(f *fake, p *pub) {
		f.status(p.reply, expect2)
		f.answer(p.reply, "one")
		asked <- p
	})
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	got, err := answers(ctx, nc)
	var e *FanoutError
	if !errors.As(err, &e) || *e != (FanoutError{2, 1, 0, context.DeadlineExceeded}) || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}
	if d, err := time.ParseDuration((<-asked).header(HeaderTimeout)); err != nil || d <= 0 || d > 50*time.Millisecond {
		t.Errorf("timeout %v, %v", d, err)
	}
	if _, err := answers(ctx, nc); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its end: %v", err)
	}
	await(t, "the end of the subscriptions", func() bool { return f.open() == 0 })
	if len(asked) > 0 {
		t.Error("a request was sent whose time was over")
	}
}

// A lost connection ends the wait; what had come is kept.
func TestFanoutDisconnected(t *testing.T) {
	for _, last := range []bool{false, true} {
		var opts []nats.Option
		want := nats.ErrDisconnected
		if last {
			opts, want = append(opts, nats.NoReconnect()), nats.ErrConnectionClosed
		}
		f, nc := startFake(t, func(f *fake, p *pub) {
			f.status(p.reply, expect2)
			f.answer(p.reply, "one")
		}, opts...)
		n := 0
		for _, err := range Fanout(within(t), nc, &nats.Msg{Subject: "in"}) {
			var e *FanoutError
			switch {
			case err == nil:
				n++
				f.hangUp()
			case !errors.As(err, &e) || e.Expected != 2 || e.Answered != 1 || !errors.Is(err, want):
				t.Errorf("error %v, want %v", err, want)
			}
		}
		if n != 1 {
			t.Errorf("%d answers", n)
		}
	}
}

// Whoever leaves the loop leaves nothing behind, and a second loop asks again.
func TestFanoutLeft(t *testing.T) {
	f, nc := startFake(t, func(f *fake, p *pub) {
		f.status(p.reply, expect2)
		f.answer(p.reply, "one")
		f.answer(p.reply, "two")
	})
	all := Fanout(within(t), nc, &nats.Msg{Subject: "in"})
	for range 3 {
		for m, err := range all {
			if err != nil || string(m.Data) != "one" {
				t.Fatalf("%v, %v", m, err)
			}
			break
		}
	}
	await(t, "the end of the subscriptions", func() bool { return f.open() == 0 && nc.NumSubscriptions() == 0 })
}

// More answers at once than nats.go would keep for a reader that is busy.
func TestFanoutOfMany(t *testing.T) {
	const n = 20_000
	_, nc := startFake(t, func(f *fake, p *pub) {
		f.status(p.reply, fmt.Sprintf("100\r\nGatehouse-Expect: %d", n))
		for range n {
			f.answer(p.reply, "x")
		}
		f.status(p.reply, fmt.Sprintf("204\r\nGatehouse-Answered: %d\r\nGatehouse-Lost: 0", n))
	}, nats.SyncQueueLen(10))
	all, busy := 0, true
	for _, err := range Fanout(within(t), nc, &nats.Msg{Subject: "in"}) {
		if err != nil {
			t.Fatal(err)
		}
		if all++; busy {
			await(t, "all of them", func() bool { return nc.Stats().InMsgs == n+2 })
			busy = false
		}
	}
	if all != n {
		t.Errorf("%d answers of %d", all, n)
	}
}
