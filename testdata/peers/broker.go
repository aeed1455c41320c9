package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 15 * time.Second
	stopLimit  = 5 * time.Second
)

// command is how one of the two brokers is started.
type command struct {
	name string
	argv []string // {config} {natsconf} {dir} {port} are filled in per start
	work string   // temporary folders are made below it
}

// broker is one running broker.
type broker struct {
	*command
	addr string
	tls  *tls.Config // of its clients; nil: plaintext
	as   string      // fields of their CONNECT, by which they log in
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when the started process has ended
	info brokerInfo
}

// brokerInfo is what a broker says of itself in INFO.
type brokerInfo struct {
	ServerName string `json:"server_name"`
	Version    string `json:"version"`
	Go         string `json:"go"`
	Gatehouse  *struct {
		Version string `json:"version"`
	} `json:"gatehouse,omitempty"`
}

// commands returns the two brokers of this run, nats-server built if needed.
func commands(ctx context.Context, o *options, work string) ([]*command, error) {
	a, b := strings.Fields(o.a), strings.Fields(o.b)
	if len(a) == 0 {
		path, err := filepath.Abs(o.gatehouse)
		if err != nil {
			return nil, err
		}
		a = []string{path, "serve", "-c", "{config}"}
	}
	if len(b) == 0 {
		path := o.nats
		if path == "" {
			path = filepath.Join(work, "nats-server")
			if err := buildPeer(ctx, path); err != nil {
				return nil, err
			}
		}
		b = []string{path, "-c", "{natsconf}"}
	}
	cs := []*command{{filepath.Base(a[0]), a, work}, {filepath.Base(b[0]), b, work}}
	for i, c := range cs {
		if _, err := exec.LookPath(c.argv[0]); err != nil {
			return nil, fmt.Errorf("broker %s: %w", c.argv[0], err)
		}
		if cs[0].name == cs[1].name || strings.HasSuffix(cs[0].name, " (a)") {
			c.name += [...]string{" (a)", " (b)"}[i]
		}
	}
	return cs, nil
}

// buildPeer builds the nats-server that go.mod names; go's cache keeps it.
func buildPeer(ctx context.Context, path string) error {
	fmt.Fprintln(os.Stderr, "building nats-server (the first time takes a minute)")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/nats-io/nats-server/v2")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return nil
}

// start runs the broker in a folder of its own, as a case wants it, and waits until it
// greets.
func (c *command) start(ctx context.Context, o *options, of *benchCase) (*broker, error) {
	dir, err := os.MkdirTemp(c.work, "b")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	b := &broker{command: c, dir: dir, addr: net.JoinHostPort("127.0.0.1", port), done: make(chan struct{})}
	var id *identity
	if of.tls != nil {
		id = o.identities[of.tls.key]
		b.tls = id.client()
	}
	ours, theirs := gatehouseConfig(b.addr, dir, o.cms, of.tls, id), natsConfig(port, id)
	if of.users != nil {
		b.as, ours, theirs = loginFields, ours+of.users.gatehouse(), theirs+of.users.nats()
	}
	config, natsConf := filepath.Join(dir, "broker.toml"), filepath.Join(dir, "nats.conf")
	err = errors.Join(
		os.WriteFile(config, []byte(ours), 0o600),
		os.WriteFile(natsConf, []byte(theirs), 0o600),
	)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("{config}", config, "{natsconf}", natsConf, "{dir}", dir, "{port}", port)
	argv := make([]string, len(c.argv))
	for i, a := range c.argv {
		argv[i] = fill.Replace(a)
	}
	if err := b.exec(argv); err != nil {
		return nil, err
	}
	if err := b.awaitGreeting(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, b.logTail()), b.stop())
	}
	return b, nil
}

func gatehouseConfig(addr, dir string, cms int, s *secured, id *identity) string {
	rest := fmt.Sprintf("[privsep]\nruntime_dir = %q\n[cm]\ncount = %d\n", filepath.Join(dir, "run"), cms)
	if id == nil {
		return fmt.Sprintf("[listen]\ntcp = [%q]\n%s", addr, rest)
	}
	return fmt.Sprintf("[listen]\ntcp = []\ntls = [%q]\n[tls]\ncert = %q\nkey = %q\nunlock_file = %q\nkey_use = %q\n%s",
		addr, id.cert, id.sealed, id.unlock, s.use, rest)
}

func natsConfig(port string, id *identity) string {
	conf := fmt.Sprintf("host: 127.0.0.1\nport: %s\n", port)
	if id != nil {
		conf += fmt.Sprintf("tls { cert_file: %q, key_file: %q, timeout: 5 }\n", id.cert, id.key)
	}
	return conf
}

func (b *broker) exec(argv []string) error {
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	b.cmd = exec.Command(argv[0], argv[1:]...)
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr, b.cmd.Env = b.dir, log, log, plainEnv()
	// A terminal's ^C is for this program alone, which then stops the broker.
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	go func() {
		_ = b.cmd.Wait() // how it ended is of no interest, that it has is
		close(b.done)
	}()
	return nil
}

// plainEnv is our environment without what tunes a Go runtime: brokers run
// with their own defaults.
func plainEnv() (env []string) {
	for _, kv := range os.Environ() {
		switch key, _, _ := strings.Cut(kv, "="); key {
		case "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK":
		default:
			env = append(env, kv)
		}
	}
	return env
}

// awaitGreeting connects until the broker answers with INFO and a PONG.
func (b *broker) awaitGreeting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		c, info, err := b.open(connectLine)
		if err == nil {
			c.close()
			if err := json.Unmarshal(info, &b.info); err != nil {
				return fmt.Errorf("INFO: %w", err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no greeting: %w", err)
		case <-b.done:
			return errors.New("ended at start")
		case <-again.C:
		}
	}
}

// stop ends the broker and makes sure that none of its processes stays.
func (b *broker) stop() error {
	family := tree(b.cmd.Process.Pid)
	_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	kill := time.NewTimer(stopLimit)
	defer kill.Stop()
	select {
	case <-b.done:
	case <-kill.C:
		_ = b.cmd.Process.Kill()
		<-b.done
	}
	left := survivors(family)
	for _, p := range left {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d processes stayed after the broker's end, first pid %d", len(left), left[0].pid)
	}
	return os.RemoveAll(b.dir)
}

// survivors waits a moment for the processes to go and returns those that don't.
func survivors(family []process) (left []process) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(2 * time.Second); ; <-again.C {
		left = left[:0]
		for _, p := range family {
			if now, err := readProcess(p.pid); err == nil && now.start == p.start && !now.dead {
				left = append(left, p)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// logTail is the end of what the broker wrote, for error messages.
func (b *broker) logTail() string {
	log, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(log[max(0, len(log)-1500):]))
}

func freePort() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("free port: %w", err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}
