package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/tickets/client"
)

func (p *program) subCommand() *cli.Command {
	return &cli.Command{
		Name:      "sub",
		Category:  groupClient,
		Usage:     "subscribe and print what comes",
		UsageText: "gatehouse sub [options] SUBJECT",
		Description: "SUBJECT may hold wildcards: * stands for one part, > at the end for all that follow.\n" +
			"Says so on standard error when the broker has taken the subscription. Runs until it\n" +
			"is interrupted, and connects again when the broker was restarted; with --count, until\n" +
			"that many messages came.\n\n" +
			"   gatehouse sub 'px.>'\n" +
			"   gatehouse sub --queue workers --count 10 --raw jobs",
		Flags: append(connectFlags(),
			queueFlag(),
			&cli.IntFlag{Name: "count", Usage: "stop after `N` messages", DefaultText: "never"},
			&cli.DurationFlag{Name: "timeout", Usage: "fail when --count messages have not come in `TIME`", DefaultText: "never"},
			rawFlag(),
		),
		Action: p.sub,
	}
}

func (p *program) sub(c *cli.Context) error {
	if err := cmp.Or(arguments(c, 1, 1, "SUBJECT"), atLeast(c, 0, "count")); err != nil {
		return err
	}
	out := p.printer(c.Bool("raw"))
	return p.receive(c, c.Args().First(), func(_ *link, s *nats.Subscription, m *nats.Msg) error {
		out.message(m)
		if n, _, err := s.Pending(); err == nil && n > 0 {
			return nil // written with the next one
		}
		return out.flush()
	})
}

// receive subscribes as the flags say and calls f for every message, until
// --count, --timeout, an interrupt or f's error ends it.
func (p *program) receive(c *cli.Context, subject string, f func(*link, *nats.Subscription, *nats.Msg) error) error {
	most := c.Int("count")
	ctx, stop := interruptible(c)
	defer stop()
	if d := c.Duration("timeout"); d > 0 && most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	nc, err := p.connect(c, p.staying()...)
	if err != nil {
		return err
	}
	defer nc.Close()
	s, err := nc.QueueSubscribeSync(subject, c.String("queue"))
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, plain(err))
	}
	if most > 0 {
		// The broker must not send more: in a queue group another member gets it.
		if err := s.AutoUnsubscribe(most); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, plain(err))
		}
	}
	if err := nc.settle(); err != nil {
		return notYours(err, nc, subject)
	}
	nc.loud.Store(true)
	fmt.Fprintf(p.env.Stderr, "subscribed to %s\n", visible(subject))
	for n := 0; most == 0 || n < most; n++ {
		m, err := s.NextMsgWithContext(ctx)
		if err != nil {
			return ended(err, n, most, c.Duration("timeout"))
		}
		if err := f(nc, s, m); err != nil {
			return err
		}
	}
	if nc.Stats().OutMsgs > 0 { // replies
		if err := nc.FlushTimeout(flushTimeout); err != nil {
			return fmt.Errorf("%s: %w", nc.server, plain(err))
		}
	}
	return nil
}

// notYours says why a subscription to an application instance's subject was refused.
func notYours(err error, nc *link, subject string) error {
	if !strings.HasPrefix(subject, client.DirectPrefix) || !errors.Is(nc.LastError(), nats.ErrPermissionViolation) {
		return err
	}
	return fmt.Errorf("subscribe to %s: it belongs to the client that is connected under that name (--name) first, if its profile lets it", subject)
}

// ended gives the meaning of an error that ended receiving. An interrupt is how
// an endless subscription is meant to end.
func ended(err error, n, most int, timeout time.Duration) error {
	switch {
	case errors.Is(err, context.Canceled) && most == 0:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted after %d of %d messages", n, most)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%d of %d messages in %s", n, most, timeout)
	default:
		return fmt.Errorf("after %d messages: %w", n, plain(err))
	}
}
