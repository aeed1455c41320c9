package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.test/interop/certs"
	"gatehouse/testdata/tree"
	"github.com/nats-io/nats.go"
)

const (
	// patience is how long anything may take that must happen.
	patience = 20 * time.Second
	// standInEnv names the command of another broker to test instead.
	standInEnv = "INTEROP_BROKER"
)

// broker is one running broker and what it takes to start it again.
type broker struct {
	t     *testing.T
	argv  []string
	dir   string
	addr  string // of the listener that a test is about: TLS where it asks for that
	plain string // of the one in plaintext beside it; a stand-in has none
	ca    *certs.Authority
	tls   *tlsSettings
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
}

// settings is the configuration that a test asks for; zero is the default.
type settings struct {
	maxPayload int
	cms        int
	modes      string       // lines of [modes]
	profile    string       // lines of the profile that all clients have; "": everything is allowed
	tables     string       // users, and profiles
	tls        *tlsSettings // nil: plaintext
}

func standIn() string { return os.Getenv(standInEnv) }

// startBroker runs a broker that ends with the test.
func startBroker(t *testing.T, s settings) *broker {
	t.Helper()
	// Not t.TempDir: the path of a Unix socket in it must stay short.
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &broker{t: t, dir: dir, addr: freeAddr(t), plain: freeAddr(t), tls: s.tls}
	b.configure(s)
	b.start()
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(b.dir, "log"))
			t.Logf("broker's log:\n%s", log)
		}
	})
	return b
}

// configure writes the configuration, for gatehouse and for a stand-in.
func (b *broker) configure(s settings) {
	b.t.Helper()
	if s.maxPayload == 0 {
		s.maxPayload = 1 << 20
	}
	_, port, _ := net.SplitHostPort(b.addr)
	config, natsConf := filepath.Join(b.dir, "broker.toml"), filepath.Join(b.dir, "nats.conf")
	listen, natsTLS := fmt.Sprintf("[console]\nunix = \"\"\n[listen]\ntcp = [%q]\nunix = [%q]\n", b.addr, b.unixPath()), ""
	if s.tls != nil {
		listen, natsTLS = b.secure()
	}
	if s.profile != "" {
		listen += "profile = \"all\"\n"
		s.tables += "[[profile]]\nname = \"all\"\n" + s.profile
	}
	b.write(config, fmt.Sprintf("%s[privsep]\nruntime_dir = %q\n[cm]\ncount = %d\n[limits]\nmax_payload = %d\nauth_timeout = %q\n[modes]\n%s\n%s",
		listen, b.runtimeDir(), s.cms, s.maxPayload, b.authTimeout(), s.modes, s.tables))
	b.write(natsConf, fmt.Sprintf("host: 127.0.0.1\nport: %s\nmax_payload: %d\n%s", port, s.maxPayload, natsTLS))
	if standIn() != "" {
		b.argv = strings.Fields(strings.NewReplacer("{natsconf}", natsConf, "{port}", port, "{dir}", b.dir).Replace(standIn()))
		return
	}
	b.argv = []string{gatehouse(b.t), "serve", "-c", config}
}

func (b *broker) runtimeDir() string { return filepath.Join(b.dir, "run") }

func (b *broker) write(file, content string) {
	b.t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// gatehouse is the program under test. Without one there is nothing to skip to.
func gatehouse(t *testing.T) string {
	t.Helper()
	path := os.Getenv("GATEHOUSE")
	if path == "" {
		path = filepath.Join("..", "..", "gatehouse")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no binary to test: make build, or set GATEHOUSE: %v", err)
	}
	return path
}

// start runs the broker and waits until it greets; it may have run before.
func (b *broker) start() {
	b.t.Helper()
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd = exec.Command(b.argv[0], b.argv[1:]...)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		cmd.Wait()
		close(done)
	}(b.cmd, b.done)
	b.await("a greeting", func() bool {
		select {
		case <-b.done:
			out, _ := os.ReadFile(filepath.Join(b.dir, "log"))
			b.t.Fatalf("broker ended at start:\n%s", out)
		default:
		}
		c, err := b.dialRaw()
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(c).ReadBytes('\n')
		return err == nil && bytes.HasPrefix(line, []byte("INFO "))
	})
}

// dialRaw opens a connection on which INFO comes next.
func (b *broker) dialRaw() (net.Conn, error) {
	if b.tls != nil && b.tls.first {
		return tls.Dial("tcp", b.addr, b.clientTLS())
	}
	return net.Dial("tcp", b.addr)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// stop ends the broker by SIGTERM and fails the test if that takes too long or
// if a process of its group stays.
func (b *broker) stop() {
	b.t.Helper()
	b.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.NewTimer(patience)
	defer kill.Stop()
	select {
	case <-b.done:
	case <-kill.C:
		b.t.Errorf("broker still there %v after SIGTERM", patience)
	}
	if syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) == nil && !b.t.Failed() {
		b.t.Error("processes of the broker stayed after its end")
	}
	<-b.done
}

// await polls for a state of another process, which sends no event.
func (b *broker) await(what string, ok func() bool) {
	b.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); !ok(); <-again.C {
		if time.Now().After(end) {
			b.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// status is what the broker says of itself.
func (b *broker) status() *tree.Status {
	b.t.Helper()
	s, err := tree.AskStatus(gatehouse(b.t), b.runtimeDir())
	must(b.t, err)
	return s
}

// connect opens a nats.go connection that ends with the test. Asynchronous
// errors fail the test unless an option replaces the handler.
func (b *broker) connect(opts ...nats.Option) *nats.Conn {
	b.t.Helper()
	all := append([]nats.Option{nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		b.t.Errorf("asynchronous error: %v", err)
	})}, b.tlsOptions()...)
	all = append(all, opts...)
	nc, err := nats.Connect("nats://"+b.addr, all...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// within receives one value, or fails the test when none comes.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
