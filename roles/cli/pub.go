package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"
)

func (p *program) pubCommand() *cli.Command {
	return &cli.Command{
		Name:      "pub",
		Category:  groupClient,
		Usage:     "publish a message",
		UsageText: "gatehouse pub [options] SUBJECT [BODY]",
		Description: "Without BODY, or with -, the body is standard input. Returns when the broker has\n" +
			"taken the message.\n\n" +
			"   gatehouse pub px.eur.usd 1.0832\n" +
			"   gatehouse pub -H 'Unit: bp' --count 3 px.eur.usd < quote.json",
		Flags: []cli.Flag{
			serverFlag(), caFlag(), tlsFirstFlag(),
			headerFlag(),
			&cli.StringFlag{Name: "reply", Usage: "ask receivers to answer to `SUBJECT`"},
			&cli.IntFlag{Name: "count", Value: 1, Usage: "publish it `N` times"},
		},
		Action: p.pub,
	}
}

func (p *program) pub(c *cli.Context) error {
	if err := cmp.Or(arguments(c, 1, 2, "SUBJECT"), atLeast(c, 1, "count")); err != nil {
		return err
	}
	h, err := headers(c)
	if err != nil {
		return err
	}
	nc, err := p.connect(c, nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	body, err := p.body(c, 1, nc.MaxPayload())
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: c.Args().First(), Reply: c.String("reply"), Header: h, Data: body}
	for range c.Int("count") {
		if err := nc.PublishMsg(m); err != nil {
			return fmt.Errorf("publish to %s: %w", m.Subject, plain(err))
		}
	}
	return nc.settle()
}

func (p *program) requestCommand() *cli.Command {
	return &cli.Command{
		Name:      "request",
		Category:  groupClient,
		Usage:     "send a request and print the reply",
		UsageText: "gatehouse request [options] SUBJECT [BODY]",
		Description: "Without BODY, or with -, the body is standard input. It fails when nobody subscribes\n" +
			"to SUBJECT, or when no reply comes in time.\n\n" +
			"   gatehouse request convert '100 USD EUR'\n" +
			"   gatehouse request --raw --timeout 10s report < query.sql > report.csv",
		Flags: []cli.Flag{
			serverFlag(), caFlag(), tlsFirstFlag(),
			headerFlag(),
			&cli.IntFlag{Name: "count", Value: 1, Usage: "send `N` requests, one after the other"},
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "wait `TIME` for each reply"},
			rawFlag(),
		},
		Action: p.request,
	}
}

func (p *program) request(c *cli.Context) error {
	if err := cmp.Or(arguments(c, 1, 2, "SUBJECT"), atLeast(c, 1, "count"), positive(c, "timeout")); err != nil {
		return err
	}
	h, err := headers(c)
	if err != nil {
		return err
	}
	nc, err := p.connect(c, nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	body, err := p.body(c, 1, nc.MaxPayload())
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	out := p.printer(c.Bool("raw"))
	for range c.Int("count") {
		m := &nats.Msg{Subject: c.Args().First(), Header: h, Data: body}
		reply, err := ask(ctx, nc, m, c.Duration("timeout"))
		if err != nil {
			return err
		}
		out.answer(reply)
		if err := out.flush(); err != nil {
			return err
		}
	}
	return nil
}

// ask sends one request and waits for the reply.
func ask(ctx context.Context, nc *client, m *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	reply, err := nc.RequestMsgWithContext(ctx, m)
	refused := nc.LastError()
	switch {
	case err == nil:
		return reply, nil
	case errors.Is(err, nats.ErrNoResponders):
		err = errors.New("nobody subscribes to it")
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	case refused != nil:
		err = plain(refused)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no reply in %s", timeout)
	default:
		err = plain(err)
	}
	return nil, fmt.Errorf("request to %s: %w", m.Subject, err)
}

// positive checks durations that cannot be zero.
func positive(c *cli.Context, flags ...string) error {
	for _, name := range flags {
		if c.Duration(name) <= 0 {
			return misuse(c, "--%s must be more than zero", name)
		}
	}
	return nil
}
