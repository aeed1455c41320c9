package cli

import (
	"cmp"
	"fmt"

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
		Flags: append(connectFlags(),
			headerFlag(),
			&cli.StringFlag{Name: "reply", Usage: "ask receivers to answer to `SUBJECT`"},
			&cli.IntFlag{Name: "count", Value: 1, Usage: "publish it `N` times"},
		),
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
