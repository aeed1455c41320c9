package transcript

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse.test/interop/certs"
)

// broker is a running broker, ours or theirs.
type broker struct {
	kind   string
	addr   string
	tls    string // how: a value of "config: tls", or ""
	ca     *certs.Authority
	cmd    *exec.Cmd
	log    *logBook
	exited chan struct{}
}

// programs are what to run, by kind; theirs is missing when nobody asked for it.
var programs = map[string]string{}

// started counts brokers: each has a range of uids.
var started atomic.Int64

// start runs a broker that ends with the test.
func start(t *testing.T, kind, limits string) *broker {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh") // short, for the sockets in it
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "config")
	b := &broker{kind: kind, exited: make(chan struct{})}
	limits, listen := b.secure(t, limits, dir)
	if kind == ours {
		// Two connection managers, so that the clients of one transcript are on
		// different ones.
		must(t, os.WriteFile(config, fmt.Appendf(nil, "[console]\nunix = \"\"\n[listen]\n%s[privsep]\nruntime_dir = %q\nuid_base = %d\n"+
			"[cm]\ncount = 2\n[log]\nformat = \"json\"\n[limits]\n%s", listen, filepath.Join(dir, "run"), 71100+100*started.Add(1), limits), 0o644))
		b.cmd = exec.Command(programs[ours], "serve", "-c", config)
	} else {
		limits = onlyOurs.ReplaceAllString(strings.ReplaceAll(limits, " = ", ": "), "")
		must(t, os.WriteFile(config, fmt.Appendf(nil, "listen: \"127.0.0.1:-1\"\n%s%s", listen, limits), 0o644))
		b.cmd = exec.Command(programs[theirs], "-c", config)
	}
	stderr, err := b.cmd.StderrPipe()
	must(t, err)
	must(t, b.cmd.Start())
	b.log = &logBook{ready: make(chan string, 1)}
	go func() {
		b.log.read(stderr, ready[kind])
		b.cmd.Wait()
		close(b.exited)
	}()
	t.Cleanup(func() { b.stop(t) })
	select {
	case b.addr = <-b.log.ready:
	case <-b.exited:
		t.Fatalf("%s ended at start:\n%s", kind, b.log.String())
	case <-time.After(patience):
		t.Fatalf("%s not ready after %v:\n%s", kind, patience, b.log.String())
	}
	return b
}

// onlyOurs are the options that nats-server doesn't have.
var onlyOurs = regexp.MustCompile(`(?m)^auth_timeout: .*$`)

// ready is the log line that says where to connect.
var ready = map[string]*regexp.Regexp{
	ours:   regexp.MustCompile(`"listen":\["([^"]+)"\].*"message":"ready"`),
	theirs: regexp.MustCompile(`Listening for client connections on (\S+)`),
}

// leave tells the broker to stop in its own time.
func (b *broker) leave() error {
	if b.kind == theirs {
		return b.cmd.Process.Signal(syscall.SIGUSR2)
	}
	return b.cmd.Process.Signal(syscall.SIGTERM)
}

// stop ends the broker. Ours must have done nothing that it complains about.
func (b *broker) stop(t *testing.T) {
	t.Helper()
	if b.kind == theirs {
		b.cmd.Process.Kill() // one that leaves takes its time
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() {
		t.Errorf("%s has not ended after %v", b.kind, patience)
		b.cmd.Process.Kill()
	})
	<-b.exited
	timer.Stop()
	if b.kind == ours {
		if code := b.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if complaint.MatchString(b.log.String()) {
			t.Error("the log complains")
		}
	}
	if t.Failed() {
		t.Logf("log:\n%s", b.log.String())
	}
}

// complaint is what no client may make a log say.
var complaint = regexp.MustCompile(`"role died"|"security"`)

// crowd is how many new connections surely are on every connection manager,
// the least busy ones first, beside those of a transcript.
const crowd = 6

// settle waits until the broker has dealt with the past: n new connections are
// served, each connection manager's after all that its old ones left behind.
func (b *broker) settle(n int) error {
	deadline := time.Now().Add(patience)
	for {
		err := b.visit(n)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (b *broker) visit(n int) error {
	var errs []error
	for range n {
		c, err := dial(b.addr, false, true)
		if err != nil {
			return err
		}
		defer c.leave()
		errs = append(errs, errors.Join(b.welcome(c), c.open()))
	}
	return errors.Join(errs...)
}

// logBook keeps what a broker writes to standard error.
type logBook struct {
	ready chan string
	mu    sync.Mutex
	text  bytes.Buffer
}

func (l *logBook) read(from interface{ Read([]byte) (int, error) }, ready *regexp.Regexp) {
	for in := bufio.NewScanner(from); in.Scan(); {
		l.mu.Lock()
		l.text.WriteString(in.Text() + "\n")
		l.mu.Unlock()
		if m := ready.FindStringSubmatch(in.Text()); m != nil {
			l.ready <- m[1]
		}
	}
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
