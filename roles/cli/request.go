package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/tickets/client"
)

// grace is how much longer a fanout is waited for than the broker was asked to.
const grace = 5 * time.Second

func (p *program) requestCommand() *cli.Command {
	return &cli.Command{
		Name:     "request",
		Category: groupClient,
		Usage:    "send a request and print the reply",
		UsageText: "gatehouse request [options] SUBJECT [BODY]\n" +
			"gatehouse request [options] --direct TYPE/INSTANCE [BODY]",
		Description: "Without BODY, or with -, the body is standard input. It fails when nobody subscribes\n" +
			"to SUBJECT, when who had the request was lost, or when no reply comes in time.\n\n" +
			"A queue group's member with the fewest requests outstanding gets it; with --session\n" +
			"all of --count go to the same member. With --fanout everybody gets it: each reply is\n" +
			"printed as it comes, and at the end, on standard error, how many there were; the exit\n" +
			"code is 1 unless all have answered. With --direct one application instance gets it.\n\n" +
			"   gatehouse request convert '100 USD EUR'\n" +
			"   gatehouse request --raw --timeout 10s report < query.sql > report.csv\n" +
			"   gatehouse request --fanout --to-type pricer version ''\n" +
			"   gatehouse request --session 7 --count 3 --session-end cart 'one more'\n" +
			"   gatehouse request --direct pricer/1 reload",
		Flags: append(connectFlags(),
			headerFlag(),
			&cli.IntFlag{Name: "count", Value: 1, Usage: "send `N` requests, one after the other"},
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "wait `TIME` for each reply, or for all of a fanout"},
			&cli.StringFlag{Name: "session", Usage: "have all of --count go to the same member, as session `ID`; it ends with the command"},
			&cli.BoolFlag{Name: "session-end", Usage: "tell the member with the last request that it is the last"},
			&cli.BoolFlag{Name: "fanout", Usage: "ask everybody who subscribes, and every member of a queue group"},
			&cli.StringFlag{Name: "direct", Usage: "ask the client that is connected as `TYPE/INSTANCE`"},
			&cli.StringFlag{Name: "to-type", Usage: "ask only clients connected as `TYPE`/..."},
			&cli.StringFlag{Name: "to-organisation", Usage: "ask only clients of organisation `NAME`"},
			rawFlag(),
		),
		Action: p.request,
	}
}

// requester is one run of the command.
type requester struct {
	*link
	subject string
	header  nats.Header
	body    []byte
	to      []client.Option
	timeout time.Duration
	direct  string          // the name that was given for it
	session *client.Session // nil: there is none
	last    bool            // its last request is to say so
	out     *printer
}

func (p *program) request(c *cli.Context) error {
	q, err := newRequester(c)
	if err != nil {
		return err
	}
	if q.link, err = p.connect(c, nats.NoReconnect()); err != nil {
		return err
	}
	defer q.Close()
	at := 1
	if q.direct != "" {
		at = 0
	}
	if q.body, err = p.body(c, at, q.MaxPayload()); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	q.out = p.printer(c.Bool("raw"))
	if c.IsSet("session") {
		q.session = client.NewSession(q.Conn)
		q.session.ID = c.String("session")
	}
	for n := range c.Int("count") {
		if c.Bool("fanout") {
			err = q.fanout(ctx, p)
		} else {
			err = q.one(ctx, n == c.Int("count")-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newRequester reads the command line.
func newRequester(c *cli.Context) (*requester, error) {
	q := &requester{subject: c.Args().First(), direct: c.String("direct"), timeout: c.Duration("timeout"), last: c.Bool("session-end")}
	if err := q.checkMode(c); err != nil {
		return nil, err
	}
	err := cmp.Or(atLeast(c, 1, "count"), positive(c, "timeout"))
	if err == nil {
		q.header, err = headers(c)
	}
	if err != nil {
		return nil, err
	}
	if kind := c.String("to-type"); kind != "" {
		q.to = append(q.to, client.ToType(kind))
	}
	if name := c.String("to-organisation"); name != "" {
		q.to = append(q.to, client.ToOrganisation(name))
	}
	return q, nil
}

// checkMode checks what says whom a request goes to.
func (q *requester) checkMode(c *cli.Context) error {
	modes := 0
	for _, flag := range []string{"session", "fanout", "direct"} {
		if c.IsSet(flag) {
			modes++
		}
	}
	switch {
	case modes > 1:
		return misuse(c, "give one of --session, --fanout and --direct")
	case q.last && !c.IsSet("session"):
		return misuse(c, "--session-end is for --session")
	}
	for _, flag := range []string{"session", "to-type", "to-organisation"} {
		if c.IsSet(flag) && !isWord(c.String(flag)) {
			return misuse(c, "--%s %q is not 1 to 128 printable ASCII characters without a blank", flag, c.String(flag))
		}
	}
	if !c.IsSet("direct") {
		return arguments(c, 1, 2, "SUBJECT")
	}
	kind, instance, err := instanceOf(c, "direct")
	q.subject = client.Direct(kind, instance)
	return cmp.Or(err, arguments(c, 0, 1))
}

// isWord tells whether s can be a value of the broker's own headers.
func isWord(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b >= 0x7f {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 128
}

func (q *requester) message() *nats.Msg {
	return &nats.Msg{Subject: q.subject, Header: q.header, Data: q.body}
}

// one sends a request and prints the reply.
func (q *requester) one(ctx context.Context, last bool) error {
	ctx, stop := context.WithTimeout(ctx, q.timeout)
	defer stop()
	var reply *nats.Msg
	var err error
	if m := q.message(); q.session == nil {
		reply, err = client.Request(ctx, q.Conn, m, q.to...)
	} else {
		if last && q.last {
			m.Header = withHeaders(m.Header, nats.Header{client.HeaderSessionEnd: {"true"}})
		}
		reply, err = q.session.Request(ctx, m, q.to...)
	}
	if err != nil {
		return q.failed("request", err)
	}
	q.out.answer(reply)
	return q.out.flush()
}

// fanout sends a request to everybody and prints the replies.
func (q *requester) fanout(ctx context.Context, p *program) error {
	ctx, stop := context.WithTimeout(ctx, q.timeout+grace)
	defer stop()
	n := 0
	for m, err := range client.Fanout(ctx, q.Conn, q.message(), append(q.to, client.Within(q.timeout))...) {
		if err != nil {
			return q.failed("fanout", err)
		}
		n++
		q.out.numbered(m)
		if err := q.out.flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.env.Stderr, "%d of %d answered, 0 lost\n", n, n)
	return nil
}

// failed says what an error means and what can be done about it.
func (q *requester) failed(what string, err error) error {
	var fanout *client.FanoutError
	switch {
	case errors.As(err, &fanout):
		err = fmt.Errorf("%d of %d answered, %d lost%s", fanout.Answered, fanout.Expected, fanout.Lost, ending(fanout.Err))
	case errors.Is(err, nats.ErrNoResponders):
		err = errors.New(q.nobody())
	case errors.Is(err, client.ErrResponderLost):
		err = errors.New("who had it went away before answering, and may have acted on it")
	case errors.Is(err, client.ErrSessionGone):
		err = fmt.Errorf("the member of session %s went away: begin it anew", q.session.ID)
	case errors.Is(err, client.ErrNoFanout):
		err = fmt.Errorf("%s knows no fanout: it is not a Gatehouse broker", q.server)
	default:
		err = q.unanswered(err, q.timeout)
	}
	return fmt.Errorf("%s to %s: %w", what, q.subject, err)
}

// unanswered gives the meaning of an error that a request ended with. What the broker
// refused it has told the connection.
func (l *link) unanswered(err error, timeout time.Duration) error {
	refused := l.LastError()
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return errors.New("nobody subscribes to it")
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case refused != nil:
		return plain(refused)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no reply in %s: --timeout waits for longer", timeout)
	}
	return plain(err)
}

// nobody says why a request found nobody.
func (q *requester) nobody() string {
	switch {
	case q.direct != "":
		return fmt.Sprintf("nobody connected as %s subscribes to it (gatehouse reply --name %s --direct does)", q.direct, q.direct)
	case len(q.to) > 0:
		return "nobody whom it is for subscribes to it"
	}
	return "nobody subscribes to it"
}

// ending says what ended a fanout before all had answered, beside those that were lost.
func ending(err error) string {
	switch {
	case errors.Is(err, client.ErrResponderLost):
		return ""
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ", the others not in time"
	case errors.Is(err, context.Canceled):
		return ", interrupted"
	}
	return ", " + plain(err).Error()
}
