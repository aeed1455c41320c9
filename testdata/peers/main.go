package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line, plus the durations that --quick shortens.
type options struct {
	gatehouse, nats string // paths of the binaries
	a, b            string // command templates, empty: from the paths
	only            *regexp.Regexp
	rounds          int
	json            string
	cms             int
	window          int // bytes a publisher may be ahead of its slowest subscriber
	strict          bool
	identities      map[keyKind]*identity // what brokers show in TLS

	warm, span  time.Duration // throughput: before and while counting
	rrSpan      time.Duration // request-reply: while counting
	connSpan    time.Duration // new connections: while counting, in each turn
	balanceSpan time.Duration // requests to members of different speed
	loginSpan   time.Duration // request-reply, alone and beside logins
	idle        int           // idle connections for the memory figure
	short       int           // requests of short processes
}

func main() {
	program(os.Args)
	o, err := parseFlags(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := new(report)
	if slices.ContainsFunc(cases, func(c benchCase) bool { return o.only.MatchString(c.name) }) {
		r, err = compare(ctx, o)
	}
	if err == nil && o.only.MatchString(shortCase) {
		err = compareShort(ctx, o, os.Stdout)
	}
	if err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(1)
	}
	if o.strict && r.failed() {
		os.Exit(1)
	}
}

func parseFlags(args []string) (*options, error) {
	o := &options{
		warm: 300 * time.Millisecond, span: 1800 * time.Millisecond,
		rrSpan: 1200 * time.Millisecond, connSpan: 500 * time.Millisecond, idle: 5000, short: 1000,
		balanceSpan: 10 * time.Second, loginSpan: 5 * time.Second,
	}
	f := flag.NewFlagSet("bench-peers", flag.ContinueOnError)
	f.StringVar(&o.gatehouse, "gatehouse", "../../gatehouse", "`path` of the gatehouse binary")
	f.StringVar(&o.nats, "nats-server", "", "`path` of a nats-server binary; built from go.mod when empty")
	f.StringVar(&o.a, "a", "", "`command` of the first broker; {config} (ours), {natsconf}, {dir} and {port} are filled in")
	f.StringVar(&o.b, "b", "", "`command` of the second broker")
	only := f.String("only", "", "`regexp` of the cases to run: "+strings.Join(caseNames(), " "))
	f.IntVar(&o.rounds, "rounds", 5, "rounds; medians over them are compared")
	f.StringVar(&o.json, "json", "", "write every sample to this `file`")
	f.IntVar(&o.cms, "cms", 0, "connection managers of gatehouse (0: its default)")
	f.IntVar(&o.window, "window", 16<<20, "`bytes` that a publisher may be ahead of its slowest subscriber")
	f.BoolVar(&o.strict, "strict", false, "exit 1 when a bound is not met")
	quick := f.Bool("quick", false, "one short round: shows that everything works, not how fast")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 || o.rounds < 1 || o.window < 1<<20 {
		return nil, errors.New("bad arguments: see -h")
	}
	re, err := regexp.Compile(*only)
	if err != nil {
		return nil, fmt.Errorf("only: %w", err)
	}
	o.only = re
	if !slices.ContainsFunc(caseNames(), re.MatchString) {
		return nil, fmt.Errorf("only: %s matches none of %s", re, strings.Join(caseNames(), " "))
	}
	if *quick {
		o.rounds, o.idle, o.short = 1, 200, 50
		o.warm, o.span = 50*time.Millisecond, 200*time.Millisecond
		o.rrSpan, o.connSpan, o.balanceSpan, o.loginSpan = 200*time.Millisecond, 200*time.Millisecond, time.Second, time.Second
	}
	return o, nil
}

// compare runs every case in every round against both brokers in turns and
// prints the table.
func compare(ctx context.Context, o *options) (*report, error) {
	if err := raiseNoFile(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "peers")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	brokers, err := commands(ctx, o, work)
	if err != nil {
		return nil, err
	}
	if o.identities, err = identities(ctx, o, brokers, work); err != nil {
		return nil, err
	}
	began, others := time.Now(), watchBystanders()
	r := newReport(o, brokers)
	for round := 1; round <= o.rounds; round++ {
		for _, c := range cases {
			if !o.only.MatchString(c.name) {
				continue
			}
			progress("round %d/%d  %s", round, o.rounds, c.name)
			if err := measure(ctx, o, brokers, c, r); err != nil {
				progress("")
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	progress("")
	r.Seconds, r.Others = time.Since(began).Seconds(), others.share()
	r.print(os.Stdout)
	return r, r.write(o.json)
}

// progress rewrites the terminal's last line; a log file gets none of it.
func progress(format string, args ...any) {
	if st, err := os.Stderr.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
}

// measure runs one case against fresh brokers: one after the other, or both at once
// in turns, of which the mean counts.
func measure(ctx context.Context, o *options, cs []*command, c benchCase, r *report) error {
	if c.turns == 0 {
		for i := range cs {
			if err := measureThese(ctx, o, cs, c, r, []int{i}); err != nil {
				return err
			}
		}
		return nil
	}
	return measureThese(ctx, o, cs, c, r, []int{0, 1})
}

// measureThese starts those of the brokers and measures them in turns.
func measureThese(ctx context.Context, o *options, cs []*command, c benchCase, r *report, which []int) (err error) {
	brokers := make([]*broker, len(cs))
	for _, i := range which {
		if brokers[i], err = cs[i].start(ctx, o, &c); err != nil {
			return fmt.Errorf("%s: %w", cs[i].name, err)
		}
		defer func() { err = errors.Join(err, brokers[i].stop()) }()
		r.Brokers[i].Info = brokers[i].info
	}
	turns := max(c.turns, 1)
	sum := make([]map[string]float64, len(cs))
	for n := range turns {
		for k := range which {
			i := which[(k+n)%len(which)] // whoever was second is first
			values, err := c.run(ctx, o, brokers[i])
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", cs[i].name, err, brokers[i].logTail())
			}
			if sum[i] == nil {
				sum[i] = make(map[string]float64)
			}
			for name, v := range values {
				sum[i][name] += v
			}
		}
	}
	for i := range sum {
		for name, v := range sum[i] {
			r.add(name, i, v/float64(turns))
		}
	}
	return ctx.Err()
}

// raiseNoFile takes all file descriptors the hard limit allows. Set explicitly,
// the limit is inherited by the brokers too; what the Go runtime raises is not.
func raiseNoFile() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}
