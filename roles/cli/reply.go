package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/tickets/client"
)

func (p *program) replyCommand() *cli.Command {
	return &cli.Command{
		Name:     "reply",
		Category: groupClient,
		Usage:    "answer requests",
		UsageText: "gatehouse reply [options] SUBJECT BODY\n" +
			"gatehouse reply [options] --echo SUBJECT\n" +
			"gatehouse reply [options] --command CMD SUBJECT\n" +
			"gatehouse reply [options] --name TYPE/INSTANCE --direct BODY | --echo | --command CMD",
		Description: "Answers every request on SUBJECT, one after the other, with BODY, with its own body\n" +
			"and headers (--echo), or with what CMD prints: sh -c CMD gets the request's body on\n" +
			"standard input, its subject in GATEHOUSE_SUBJECT, and where there are any its session in\n" +
			"GATEHOUSE_SESSION, with GATEHOUSE_SESSION_END in the last request of that, and its sender,\n" +
			"as the broker knows it, in GATEHOUSE_FROM. When CMD fails the requester gets an empty\n" +
			"body with the header Nats-Service-Error. Requests of every mode are answered; --direct\n" +
			"is for those to this client alone.\n\n" +
			"   gatehouse reply --queue clocks time 'five past three'\n" +
			"   gatehouse reply --command 'tr a-z A-Z' upper\n" +
			"   gatehouse reply --name pricer/1 --direct --echo",
		Flags: append(connectFlags(),
			queueFlag(),
			headerFlag(),
			&cli.BoolFlag{Name: "direct", Usage: "answer what is sent to this very client; it needs --name, and no SUBJECT"},
			&cli.BoolFlag{Name: "echo", Usage: "send each request back, without the headers that say how it was sent"},
			&cli.StringFlag{Name: "command", Usage: "run `CMD` for each request and send what it prints"},
			&cli.DurationFlag{Name: "command-timeout", Value: 10 * time.Second, Usage: "kill CMD after `TIME`"},
			&cli.IntFlag{Name: "count", Usage: "stop after `N` requests", DefaultText: "never"},
			&cli.DurationFlag{Name: "timeout", Usage: "fail when --count requests have not come in `TIME`", DefaultText: "never"},
			&cli.BoolFlag{Name: "print", Usage: "print each request as gatehouse sub does"},
		),
		Action: p.reply,
	}
}

// answerer makes the reply to a request.
type answerer func(most int64, m *nats.Msg) *nats.Msg

func (p *program) reply(c *cli.Context) error {
	subject, args, err := replySubject(c)
	if err := cmp.Or(err, atLeast(c, 0, "count"), positive(c, "command-timeout")); err != nil {
		return err
	}
	answer, err := p.answerer(c, args)
	if err != nil {
		return err
	}
	out := p.printer(false)
	return p.receive(c, subject, func(nc *link, _ *nats.Subscription, m *nats.Msg) error {
		if c.Bool("print") {
			out.message(m)
			if err := out.flush(); err != nil {
				return err
			}
		}
		if m.Reply == "" && m.Header.Get(client.HeaderSessionEnd) == "" {
			p.complain(fmt.Errorf("message on %s asks for no reply", m.Subject))
			return nil
		}
		r := answer(nc.MaxPayload(), m)
		if r.Subject = m.Reply; r.Subject == "" { // the end of a session
			return nil
		}
		if err := nc.PublishMsg(r); err != nil {
			p.complain(fmt.Errorf("reply to %s: %w", m.Subject, plain(err)))
		}
		return nil
	})
}

// replySubject gives the subject that the command line names, and the arguments after it.
func replySubject(c *cli.Context) (subject string, args []string, err error) {
	if !c.Bool("direct") {
		return c.Args().First(), c.Args().Tail(), arguments(c, 1, 2, "SUBJECT")
	}
	if !c.IsSet("name") {
		return "", nil, misuse(c, "--direct needs --name TYPE/INSTANCE")
	}
	kind, instance, err := instanceOf(c, "name")
	return client.Direct(kind, instance), c.Args().Slice(), cmp.Or(err, arguments(c, 0, 1))
}

// answerer picks the one of the three ways that the command line names.
func (p *program) answerer(c *cli.Context, body []string) (answerer, error) {
	h, err := headers(c)
	if err != nil {
		return nil, err
	}
	ways := 0
	for _, given := range []bool{c.Bool("echo"), c.IsSet("command"), len(body) == 1} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return nil, misuse(c, "give one of BODY, --echo and --command")
	}
	switch {
	case c.Bool("echo"):
		return func(_ int64, m *nats.Msg) *nats.Msg {
			return &nats.Msg{Header: withHeaders(forwardable(m.Header), h), Data: m.Data}
		}, nil
	case c.IsSet("command"):
		return p.commandAnswerer(c, h), nil
	default:
		return func(int64, *nats.Msg) *nats.Msg { return &nats.Msg{Header: h, Data: []byte(body[0])} }, nil
	}
}

// forwardable are the headers of a request without those that say how it was sent.
func forwardable(h nats.Header) nats.Header {
	own := nats.Header{}
	for name, values := range h {
		if !strings.HasPrefix(strings.ToLower(name), "gatehouse-") {
			own[name] = values
		}
	}
	return own
}

func (p *program) commandAnswerer(c *cli.Context, h nats.Header) answerer {
	return func(most int64, m *nats.Msg) *nats.Msg {
		body, err := run(c.Context, c.String("command"), c.Duration("command-timeout"), most, m)
		if err == nil {
			return &nats.Msg{Header: h, Data: body}
		}
		p.complain(fmt.Errorf("command for a request on %s: %w", m.Subject, err))
		return &nats.Msg{Header: withHeaders(h, nats.Header{
			"Nats-Service-Error":      {err.Error()},
			"Nats-Service-Error-Code": {"500"},
		})}
	}
}

// run gives what a shell command prints for a message. The command's process
// group ends with it, and it cannot print more than most bytes.
func run(ctx context.Context, command string, timeout time.Duration, most int64, m *nats.Msg) ([]byte, error) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "GATEHOUSE_SUBJECT="+m.Subject)
	for key, name := range map[string]string{"SESSION": client.HeaderSession, "SESSION_END": client.HeaderSessionEnd, "FROM": client.HeaderFrom} {
		if v := m.Header.Get(name); v != "" {
			cmd.Env = append(cmd.Env, "GATEHOUSE_"+key+"="+v)
		}
	}
	cmd.Stdin = bytes.NewReader(m.Data)
	out := &bounded{most: most}
	cmd.Stdout = out
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("killed after %s", timeout)
	case out.full:
		return nil, fmt.Errorf("printed more than the broker's largest message, %s", size(uint64(most)))
	case err != nil:
		return nil, err
	}
	return out.buf, nil
}

// bounded is a buffer that refuses to grow over most bytes.
type bounded struct {
	buf  []byte
	most int64
	full bool
}

// Write fails for good once the bound is met.
func (b *bounded) Write(p []byte) (int, error) {
	if b.full || int64(len(b.buf)+len(p)) > b.most {
		b.full = true
		return 0, errors.New("too much output")
	}
	b.buf = append(b.buf, p...)
	return len(p), nil
}

// withHeaders joins two sets into a new one.
func withHeaders(a, b nats.Header) nats.Header {
	all := nats.Header{}
	for _, h := range []nats.Header{a, b} {
		for name, values := range h {
			all[name] = append(all[name], values...)
		}
	}
	return all
}
