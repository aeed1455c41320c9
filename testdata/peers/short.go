package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"
)

// short.go compares ways to have one request each answered by a server that speaks TLS:
// for short programs, whose start takes most of what they take; for processes that are
// forked and end, which is the least that a process can cost; and for short connections of
// one process (shorthere.go), where no start is measured. Whatever takes part is counted: the
// callers, what stands between them and the server, the server. The last way is none: in
// plaintext to the server, with nothing between, which is what a request costs anyway.

const (
	shortCase = "short-requests"
	shortGoal = 5 // times stunnel's requests per second
	// shortCallers are at work at the same time.
	shortCallers = 8
)

// shortWay is one of the ways.
type shortWay struct {
	name  string
	start func(ctx context.Context, s *shortRun) (*broker, error)  // what stands between; nil: nothing
	call  func(s *shortRun, between *broker) []string              // command of a caller
	here  func(s *shortRun, between *broker) (func() error, error) // a caller in this process
	forks bool                                                     // its callers can be forked ones
}

var shortWays = []shortWay{
	{"tlsd", startTLSD, (*shortRun).callTLSD, (*shortRun).tlsdHere, true},
	{"stunnel", startStunnel, (*shortRun).callStunnel, (*shortRun).stunnelHere, true},
	{"crypto/tls", nil, (*shortRun).callServer, (*shortRun).serverHere, false},
	{"plaintext", nil, (*shortRun).callPlainly, (*shortRun).plainlyHere, true},
}

// What callers are. Forked ones are of C, and so speak no TLS.
const (
	startedCallers = "started programs"
	forkedCallers  = "forked processes"
	callersHere    = "connections of one process"
)

var shortKinds = []string{startedCallers, forkedCallers, callersHere}

// shortRun is what all ways have in common.
type shortRun struct {
	o      *options
	work   string
	self   string // this program
	caller string // the one that speaks no TLS
	forks  bool   // it can be many
	id     *identity
	server *broker
	port   string // the server's

	whole, resumed int // handshakes that it made before anybody called
}

// shortFigures are what one way takes for a number of requests.
type shortFigures struct {
	rate                    float64 // requests a second
	callers, daemon, server time.Duration
	whole, resumed          int // handshakes that the server has made, to begin with among them
}

// compareShort runs every way in every round, and prints medians.
func compareShort(ctx context.Context, o *options, out io.Writer) error {
	work, err := os.MkdirTemp("", "peers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	s := &shortRun{o: o, work: work}
	if s.id, err = newIdentity(p256, work); err != nil {
		return err
	}
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	if err := s.buildCaller(ctx, out); err != nil {
		return err
	}
	ways := slices.Clone(shortWays)
	if stunnel() == "" {
		fmt.Fprintln(out, "SKIP stunnel: it is not installed (Debian's stunnel4)")
		ways = slices.DeleteFunc(ways, func(w shortWay) bool { return w.name == "stunnel" })
	}
	all := map[string]map[string][]shortFigures{}
	for _, kind := range shortKinds {
		all[kind] = map[string][]shortFigures{}
	}
	for round := 1; round <= o.rounds; round++ {
		for _, kind := range shortKinds {
			for _, w := range ways {
				if kind == forkedCallers && !(s.forks && w.forks) {
					continue
				}
				progress("round %d/%d  %s  %s  %s", round, o.rounds, shortCase, kind, w.name)
				f, err := s.measure(ctx, &w, kind)
				if err != nil {
					progress("")
					return fmt.Errorf("%s: %s: %s: %w", shortCase, kind, w.name, err)
				}
				all[kind][w.name] = append(all[kind][w.name], *f)
			}
		}
	}
	progress("")
	for _, kind := range shortKinds {
		if len(all[kind]) == 0 {
			fmt.Fprintf(out, "SKIP %s: no compiler\n", kind)
			continue
		}
		printShort(out, o, ways, kind, all[kind])
	}
	return nil
}

// buildCaller makes the program of the callers that speak no TLS: of C, whose programs
// start in a third of the time, if that can be.
func (s *shortRun) buildCaller(ctx context.Context, out io.Writer) error {
	s.caller = filepath.Join(s.work, "caller")
	if exec.CommandContext(ctx, "cc", "-O2", "-static", "-o", s.caller, "caller/c/caller.c").Run() == nil {
		s.forks = true
		return nil
	}
	fmt.Fprintln(out, "SKIP callers of C: no compiler, or no static library; they are of Go")
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", s.caller, "./caller").CombinedOutput(); err != nil {
		return fmt.Errorf("build caller: %w\n%s", err, text)
	}
	return nil
}

// measure starts a server and what stands between, and lets the callers go.
func (s *shortRun) measure(ctx context.Context, w *shortWay, kind string) (*shortFigures, error) {
	var err error
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if s.server, err = s.exec("server", []string{s.self, serverFlag, "127.0.0.1:" + s.port, s.id.cert, s.id.key}); err != nil {
		return nil, err
	}
	ready := func() (err error) {
		s.whole, s.resumed, err = handshakes("127.0.0.1:"+s.port, s.id.cert)
		return err
	}
	if err := awaitUp(ctx, s.server, ready); err != nil {
		return nil, errors.Join(err, s.server.stop())
	}
	var between *broker
	if w.start != nil {
		if between, err = w.start(ctx, s); err != nil {
			return nil, errors.Join(err, s.server.stop())
		}
	}
	calls := func() error { return s.callAll(func() error { return run(ctx, w.call(s, between), os.Stderr) }) }
	switch kind {
	case callersHere:
		var call func() error
		call, err = w.here(s, between)
		calls = func() error { return s.callAll(call) }
	case forkedCallers:
		argv := w.call(s, between)
		many := append([]string{argv[0], "many", strconv.Itoa(s.o.short), strconv.Itoa(shortCallers)}, argv[1:]...)
		calls = func() error { return run(ctx, many, os.Stderr) }
	}
	var f *shortFigures
	if err == nil {
		f, err = s.count(calls, between)
	}
	if between != nil {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, between.logTail())
		}
		err = errors.Join(err, between.stop())
	}
	return f, errors.Join(err, s.server.stop())
}

// count says what it takes that all requests are made.
func (s *shortRun) count(calls func() error, between *broker) (*shortFigures, error) {
	f := new(shortFigures)
	server, callers, began := cpuUsage(s.server.cmd.Process.Pid), callerTime(), time.Now()
	daemon := usage{}
	if between != nil {
		daemon = cpuUsage(between.cmd.Process.Pid)
	}
	if err := calls(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	f.rate = float64(s.o.short) / took.Seconds()
	f.callers = callerTime() - callers
	f.server = cpuUsage(s.server.cmd.Process.Pid).since(server)
	if between != nil {
		f.daemon = cpuUsage(between.cmd.Process.Pid).since(daemon)
	}
	whole, resumed, err := handshakes("127.0.0.1:"+s.port, s.id.cert)
	f.whole, f.resumed = whole-s.whole-1, resumed-s.resumed // one was the question
	return f, err
}

// callAll has the callers make all requests.
func (s *shortRun) callAll(call func() error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	failure := make(chan error, shortCallers)
	for range shortCallers {
		wg.Go(func() {
			for next.Add(1) <= int64(s.o.short) {
				if err := call(); err != nil {
					failure <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failure:
		return err
	default:
		return nil
	}
}

func (s *shortRun) callTLSD(b *broker) []string    { return []string{s.caller, "tlsd", b.addr, s.port} }
func (s *shortRun) callStunnel(b *broker) []string { return []string{s.caller, "tcp", b.addr} }
func (s *shortRun) callServer(*broker) []string {
	return []string{s.self, callerFlag, "127.0.0.1:" + s.port, s.id.cert}
}
func (s *shortRun) callPlainly(*broker) []string { return []string{s.caller, "tcp", s.port} }

// run runs a caller. What it says of a failure goes to a file, if to anybody: a pipe for
// each would cost as much as the caller.
func run(ctx context.Context, argv []string, errors *os.File) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if errors != nil {
		cmd.Stderr = errors
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("a call: %w", err)
	}
	return nil
}

// callerTime is the CPU time of this process, and of those that have ended and been
// waited for: starting them is a part of it.
func callerTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// exec starts a program that is no broker in a folder of its own.
func (s *shortRun) exec(name string, argv []string) (*broker, error) {
	dir, err := os.MkdirTemp(s.work, "b")
	if err != nil {
		return nil, err
	}
	b := &broker{command: &command{name, argv, s.work}, dir: dir, done: make(chan struct{})}
	return b, b.exec(argv)
}

// awaitUp waits until a program serves.
func awaitUp(ctx context.Context, b *broker, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve: %w\n%s", b.name, err, b.logTail())
		case <-b.done:
			return fmt.Errorf("%s ended at start\n%s", b.name, b.logTail())
		case <-again.C:
		}
	}
}

// startTLSD starts a gatehouse that is a tlsd and nothing else.
func startTLSD(ctx context.Context, s *shortRun) (*broker, error) {
	path, err := filepath.Abs(s.o.gatehouse)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.work, "t")
	if err != nil {
		return nil, err
	}
	config, socket := filepath.Join(dir, "broker.toml"), filepath.Join(dir, "tlsd")
	text := fmt.Sprintf("[tlsd]\nsocket = %q\nports = [%s]\nca = %q\n[[tls_session]]\nname = \"*\"\nremote = \"127.0.0.1:%[2]s\"\nopen = [\"*\"]\n[privsep]\nruntime_dir = %[4]q\n",
		socket, s.port, s.id.cert, filepath.Join(dir, "run"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	b, err := s.exec("tlsd", []string{path, "serve", "-c", config})
	if err != nil {
		return nil, err
	}
	b.addr = socket
	if err := awaitUp(ctx, b, func() error { return run(ctx, s.callTLSD(b), nil) }); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// stunnel is its path, "" if it is not installed.
func stunnel() string {
	for _, name := range []string{"stunnel4", "stunnel"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startStunnel starts one as a client, which verifies the server as we do.
func startStunnel(ctx context.Context, s *shortRun) (*broker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(s.work, "stunnel.conf")
	text := fmt.Sprintf("foreground = yes\npid =\ndebug = err\n[server]\nclient = yes\naccept = 127.0.0.1:%s\nconnect = 127.0.0.1:%s\nCAfile = %s\nverifyChain = yes\ncheckIP = 127.0.0.1\n",
		port, s.port, s.id.cert)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	b, err := s.exec("stunnel", []string{stunnel(), config})
	if err != nil {
		return nil, err
	}
	b.addr = port
	if err := awaitUp(ctx, b, func() error { return run(ctx, s.callStunnel(b), nil) }); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// printShort prints medians, and how the first way does beside the others.
func printShort(out io.Writer, o *options, ways []shortWay, kind string, all map[string][]shortFigures) {
	fmt.Fprintf(out, "\n%d short requests of as many %s, %d at the same time, %d rounds; medians, CPU per request\n", o.short, kind, shortCallers, o.rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "way\treq/s\t\ttlsd to it\tcallers us\tbetween us\tserver us\tall us\thandshakes\tresumed\t\n")
	of := func(name string, get func(shortFigures) float64) (v []float64) {
		for _, f := range all[name] {
			v = append(v, get(f))
		}
		return v
	}
	rate := func(f shortFigures) float64 { return f.rate }
	us := func(name string, get func(shortFigures) time.Duration) string {
		return number(median(of(name, func(f shortFigures) float64 { return float64(get(f).Microseconds()) / float64(o.short) })))
	}
	first := median(of(ways[0].name, rate))
	for _, way := range ways {
		if len(all[way.name]) == 0 {
			continue
		}
		rates, last := of(way.name, rate), all[way.name][len(all[way.name])-1]
		ratio := fmt.Sprintf("%.2f", first/median(rates))
		if way.name == "stunnel" {
			ratio += fmt.Sprintf(" (goal >= %d)", shortGoal)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t\n", way.name, number(median(rates)), spread(rates), ratio,
			us(way.name, func(f shortFigures) time.Duration { return f.callers }), us(way.name, func(f shortFigures) time.Duration { return f.daemon }),
			us(way.name, func(f shortFigures) time.Duration { return f.server }),
			us(way.name, func(f shortFigures) time.Duration { return f.callers + f.daemon + f.server }), last.whole, last.resumed)
	}
	w.Flush()
	if o.short < 1000 {
		fmt.Fprintln(out, "quick run: too short to judge by")
	}
}
