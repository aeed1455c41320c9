package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"
)

func (p *program) benchCommand() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Category:  groupClient,
		Usage:     "measure throughput and latency",
		UsageText: "gatehouse bench [options] [SUBJECT]",
		Description: "Publishers send --msgs messages as fast as the broker takes them; every subscriber\n" +
			"gets all of them, each publisher's in order. With --requests, requesters send that\n" +
			"many requests, each waiting for its reply before the next, and --subs members of a\n" +
			"queue group answer; then messages are published only if --msgs is given too.\n" +
			"Every publisher, subscriber and requester has a connection of its own. Latency is\n" +
			"from before the publish to the receiver's callback; at full speed that is mostly\n" +
			"waiting in line.\n\n" +
			"   gatehouse bench --msgs 1000000 --size 16 --subs 4\n" +
			"   gatehouse bench --requests 50000 --concurrency 32 --json",
		Flags: append(connectFlags(),
			&cli.IntFlag{Name: "msgs", Value: 100000, Usage: "publish `N` messages, divided among the publishers"},
			&cli.IntFlag{Name: "size", Value: 16, Usage: "`BYTES` of a body; below 16 nothing checks order and latency"},
			&cli.IntFlag{Name: "pubs", Value: 1, Usage: "`N` publishers"},
			&cli.IntFlag{Name: "subs", Value: 1, Usage: "`N` subscribers, or members that answer requests; 0: others do"},
			&cli.IntFlag{Name: "requests", Usage: "send `N` requests, divided among the requesters", DefaultText: "none"},
			&cli.IntFlag{Name: "concurrency", Value: 1, Usage: "`N` requesters"},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "give up when nothing moves for `TIME`"},
			&cli.BoolFlag{Name: "json", Usage: "print the result as JSON, durations in nanoseconds"},
		),
		Action: p.bench,
	}
}

// bench is one run of the command: what to do, and how to reach the broker.
type bench struct {
	subject     string
	msgs, size  int
	pubs, subs  int
	requests    int
	concurrency int
	timeout     time.Duration

	connect  func() (*link, error)
	progress *progress
}

// benchResult is what --json prints.
type benchResult struct {
	Server   string         `json:"server"`
	Subject  string         `json:"subject"`
	Size     int            `json:"size"`
	Publish  *publishResult `json:"publish,omitempty"`
	Requests *requestResult `json:"requests,omitempty"`
}

// speed is a number of messages in a time.
type speed struct {
	Messages  int           `json:"messages"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	PerSecond float64       `json:"per_second"`
	Bytes     float64       `json:"bytes_per_second"`
}

func speedOf(messages, size int, elapsed time.Duration) speed {
	perSecond := float64(messages) / max(elapsed, 1).Seconds()
	return speed{messages, elapsed, perSecond, perSecond * float64(size)}
}

func (p *program) bench(c *cli.Context) error {
	err := cmp.Or(arguments(c, 0, 1), atLeast(c, 1, "msgs", "pubs", "concurrency"),
		atLeast(c, 0, "size", "subs", "requests"), positive(c, "timeout"))
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	b := &bench{
		subject: c.Args().First(), size: c.Int("size"),
		msgs: c.Int("msgs"), pubs: min(c.Int("pubs"), c.Int("msgs")), subs: c.Int("subs"),
		requests: c.Int("requests"), concurrency: min(c.Int("concurrency"), max(1, c.Int("requests"))),
		timeout:  c.Duration("timeout"),
		connect:  func() (*link, error) { return p.connect(c, nats.NoReconnect()) },
		progress: &progress{out: p.env.Stderr, on: isTerminal(p.env.Stderr)},
	}
	if b.subject == "" {
		b.subject = "bench." + rand.Text()
	}
	res := &benchResult{Server: redacted(c.String("server")), Subject: b.subject, Size: b.size}
	if b.requests == 0 || c.IsSet("msgs") {
		if res.Publish, err = b.publish(ctx); err != nil {
			return err
		}
	}
	if b.requests > 0 {
		if res.Requests, err = b.request(ctx); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		enc := json.NewEncoder(p.env.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(res)
	}
	_, err = io.WriteString(p.env.Stdout, res.text())
	return err
}

// text is the result for people.
func (r *benchResult) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, subject %s, %d bytes a message\n", r.Server, r.Subject, r.Size)
	speeds := newTable("", "MESSAGES", "PER SECOND", "DATA PER SECOND", "SECONDS")
	speeds.left(0)
	delays := newTable("LATENCY", "MIN", "P50", "P90", "P99", "P99.9", "MAX", "MEAN")
	delays.left(0)
	if p := r.Publish; p != nil {
		speeds.speed(fmt.Sprintf("published by %d", p.Publishers), p.Published)
		if p.Subscribers > 0 {
			speeds.speed(fmt.Sprintf("delivered to %d", p.Subscribers), p.Delivered)
			delays.delay("delivery", p.Latency)
		}
	}
	if q := r.Requests; q != nil {
		speeds.speed(fmt.Sprintf("requests by %d", q.Requesters), q.Answered)
		delays.delay("request and reply", &q.Latency)
	}
	b.WriteString("\n" + speeds.String())
	if len(delays.rows) > 1 {
		b.WriteString("\n" + delays.String())
	}
	if p := r.Publish; p != nil && p.OutOfOrder > 0 {
		fmt.Fprintf(&b, "\n%s messages out of order or doubled\n", count(p.OutOfOrder))
	}
	return b.String()
}

func (t *table) speed(name string, s speed) {
	t.row(name, count(uint64(s.Messages)), rate(s.PerSecond), size(uint64(s.Bytes)), fmt.Sprintf("%.3f", s.Elapsed.Seconds()))
}

func (t *table) delay(name string, l *latencies) {
	if l != nil {
		t.row(name, latency(l.Min), latency(l.P50), latency(l.P90), latency(l.P99), latency(l.P999), latency(l.Max), latency(l.Mean))
	}
}

// share is how many of n items worker i of workers does.
func share(n, workers, i int) int {
	if i < n%workers {
		return n/workers + 1
	}
	return n / workers
}

// open makes n connections; done closes those that were made.
func (b *bench) open(ctx context.Context, n int) (list []*link, done func(), err error) {
	done = func() {
		for _, nc := range list {
			nc.Close()
		}
	}
	for len(list) < n {
		if ctx.Err() != nil {
			done()
			return nil, nil, errInterrupted
		}
		nc, err := b.connect()
		if err != nil {
			done()
			return nil, nil, err
		}
		list = append(list, nc)
		if most := nc.MaxPayload(); int64(b.size) > most {
			done()
			return nil, nil, fmt.Errorf("--size %d is more than the broker's largest message, %s", b.size, size(uint64(most)))
		}
	}
	return list, done, nil
}
