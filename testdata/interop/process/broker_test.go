package process

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse.test/interop/certs"
	"gatehouse/testdata/tree"
)

const (
	// patience is how long anything may take that must happen.
	patience = 20 * time.Second
	// soon is how long a broker without clients may take to start or to end.
	soon = 5 * time.Second
	// nobody is a uid that owns nothing here.
	nobody = 65534
)

// gatehouse is the program under test, where every uid may execute it.
var gatehouse string

func TestMain(m *testing.M) {
	if steps := os.Getenv(programSteps); steps != "" {
		program(steps)
	}
	for env, life := range map[string]func([]string) error{callEnv: call, framesEnv: callFrames} {
		words := os.Getenv(env)
		if words == "" {
			continue
		}
		if err := life(strings.Split(words, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIP needs root: processes under uids of their own")
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "gh")
	gatehouse = filepath.Join(dir, "gatehouse")
	if err == nil {
		err = errorsOf(os.Chmod(dir, 0o755), tree.RaiseFileLimit(), tree.Install(gatehouse))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// settings is the configuration that a test asks for; zero is the default.
type settings struct {
	cms     int    // default 1
	limits  string // lines of [limits]
	store   string // lines of [store]
	uid     uint32 // who runs the broker
	tls     string // key_use of a listener with TLS; "": there is none
	clients string // lines of [tls], about the certificates of clients
	users   string // lines of [auth], and [[user]]

	binary string // default: gatehouse

	seccomp string // privsep.seccomp; default: what GATEHOUSE_SECCOMP says, or kill
}

// broker is one running broker and what the test did to it.
type broker struct {
	t      testing.TB
	dir    string // holds everything below
	run    string // runtime directory
	unix   string // Unix socket
	config string
	binary string
	addr   string // TCP address, as bound
	tls    string // that of the listener with TLS
	ca     *certs.Authority
	// released tells that each cm gets the private key, which is a security event.
	released bool
	uid      uint32

	cmd      *exec.Cmd
	log      *tree.Log
	exited   chan struct{} // closed once code is set
	code     int
	pid      int
	seen     map[int]bool // every process of the tree that the test saw
	deaths   int          // that the test caused
	over     bool
	attacked bool     // security events are the test's doing
	ownRun   bool     // the runtime directory is the test's
	traces   bool     // the test made roles die with one
	mortal   bool     // roles die by themselves
	env      []string // beside the test's own
}

var brokers atomic.Int64 // started so far: each has a range of uids

// newBroker writes a configuration and starts nothing.
func newBroker(t testing.TB, s settings) *broker {
	t.Helper()
	// Not t.TempDir: the path of a Unix socket in it must stay short.
	dir, err := os.MkdirTemp("", "gh")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chown(dir, int(s.uid), int(s.uid)))
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &broker{t: t, dir: dir, uid: s.uid, run: filepath.Join(dir, "run"), unix: filepath.Join(dir, "client"),
		config: filepath.Join(dir, "broker.toml"), binary: cmp.Or(s.binary, gatehouse), seen: map[int]bool{}}
	b.write(b.config, fmt.Sprintf("[console]\nunix = \"\"\n[listen]\ntcp = [\"127.0.0.1:0\"]\nunix = [%q]\n%s[privsep]\nruntime_dir = %q\nuid_base = %d\nseccomp = %q\n"+
		"[cm]\ncount = %d\n[log]\nformat = \"json\"\n[limits]\n%s\n[store]\n%s\n[auth]\n%s\n",
		b.unix, b.secure(s.tls)+s.clients, b.run, 61100+100*(brokers.Add(1)%40), cmp.Or(s.seccomp, os.Getenv("GATEHOUSE_SECCOMP"), "kill"), max(s.cms, 1), s.limits, s.store, s.users))
	return b
}

func (b *broker) write(file, content string) {
	b.t.Helper()
	must(b.t, os.WriteFile(file, []byte(content), 0o600))
	must(b.t, os.Chown(file, int(b.uid), int(b.uid)))
}

// startBroker runs a broker until it is ready; it ends with the test.
func startBroker(t testing.TB, s settings) *broker {
	t.Helper()
	b := newBroker(t, s)
	b.start()
	return b
}

// start launches the broker and waits until it says that it is ready.
func (b *broker) start() {
	b.t.Helper()
	b.launch()
	b.ready()
}

// ready waits for what start waits for.
func (b *broker) ready() {
	b.t.Helper()
	if b.log.Find(0, "ready", soon) == nil {
		b.t.Fatalf("not ready after %v:\n%s", soon, b.log.Text())
	}
	st := b.status()
	b.addr, b.pid = st.Listeners[0], st.PID
	if b.ca != nil {
		b.tls = st.Listeners[1]
	}
	b.processes()
}

// launch starts the process.
func (b *broker) launch() {
	b.t.Helper()
	b.cmd = exec.Command(b.binary, "serve", "-c", b.config)
	b.cmd.Dir = b.dir
	b.cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_SECRET=for nobody's eyes")
	b.cmd.Env = append(b.cmd.Env, b.env...)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if b.uid != 0 {
		b.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: b.uid, Gid: b.uid}
	}
	r, w, err := os.Pipe()
	must(b.t, err)
	b.cmd.Stderr = w
	b.log = tree.Follow(r)
	err = b.cmd.Start()
	w.Close()
	must(b.t, err)
	b.pid, b.over = b.cmd.Process.Pid, false
	b.seen[b.pid] = true
	exited := make(chan struct{})
	b.exited = exited
	go func(cmd *exec.Cmd) {
		cmd.Wait()
		b.code = cmd.ProcessState.ExitCode()
		close(exited)
	}(b.cmd)
	b.t.Cleanup(b.finish)
}

// finish stops a broker that the test has not stopped itself.
func (b *broker) finish() {
	if !b.over {
		b.stop(soon)
	}
	if b.t.Failed() {
		b.t.Logf("broker's log:\n%s", b.log.Text())
	}
}

// stop ends the broker by SIGTERM and wants it gone in time, without a trace.
func (b *broker) stop(in time.Duration) {
	b.t.Helper()
	if !b.over {
		b.processes()
		b.cmd.Process.Signal(syscall.SIGTERM)
	}
	b.checkEnd(0, in)
	b.checkLog()
}

// checkEnd waits for the end of the whole tree: its exit code, no process, no
// runtime directory, no socket.
func (b *broker) checkEnd(code int, in time.Duration) {
	b.t.Helper()
	b.over = true
	defer b.killAll()
	timer := time.NewTimer(in)
	defer timer.Stop()
	select {
	case <-b.exited:
	case <-timer.C:
		b.t.Errorf("the broker has not ended in %v", in)
		return
	}
	if b.code != code {
		b.t.Errorf("exit code %d, want %d", b.code, code)
	}
	if !b.log.Ended(in) {
		b.t.Errorf("a process has outlived the broker: standard error is still open")
	}
	for _, path := range []string{b.run, b.unix} {
		if _, err := os.Lstat(path); err == nil && !(b.ownRun && path == b.run) {
			b.t.Errorf("%s was left behind", path)
		}
	}
}

// killAll makes sure of the next test: what is left of this tree must not stay.
func (b *broker) killAll() {
	for pid := range b.seen {
		if tree.Title(pid) != "" {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	<-b.exited
}

// checkLog holds the log against what the test did to the broker.
func (b *broker) checkLog() {
	b.t.Helper()
	if n := len(b.log.All("role died")); n != b.deaths && !b.mortal {
		b.t.Errorf("%d roles died, the test killed %d", n, b.deaths)
	}
	if !b.traces {
		b.checkTraps()
	}
	for _, l := range b.log.Lines(0) {
		if l.Fields == nil && b.traces {
			continue
		}
		if l.Fields == nil {
			b.t.Errorf("not a log line: %s", l.Text)
		} else if l.Fields["security"] != nil && !b.attacked && !(b.released && l.Is("private key released", nil)) {
			b.t.Errorf("security event: %s", l.Text)
		}
	}
}

// kill ends a role without warning and returns the pid that it had.
func (b *broker) kill(role string) int {
	b.t.Helper()
	pid := b.processes()[role]
	if pid == 0 {
		b.t.Fatalf("%s is not there to be killed", role)
	}
	must(b.t, syscall.Kill(pid, syscall.SIGKILL))
	b.deaths++
	return pid
}

// crash ends a role as a fault of its own would, with a trace.
func (b *broker) crash(role string) {
	b.t.Helper()
	pid := b.processes()[role]
	if pid == 0 {
		b.t.Fatalf("%s is not there to crash", role)
	}
	must(b.t, syscall.Kill(pid, syscall.SIGABRT))
	b.deaths++
	b.traces = true
}

// signal sends sig to a role.
func (b *broker) signal(role string, sig syscall.Signal) {
	b.t.Helper()
	pid := b.processes()[role]
	if pid == 0 { // which would be ourselves
		b.t.Fatalf("%s is not there to be signalled", role)
	}
	must(b.t, syscall.Kill(pid, sig))
}

// unchanged fails the test when a process of before is another one now.
func (b *broker) unchanged(before map[string]int) {
	b.t.Helper()
	if now := b.processes(); !maps.Equal(before, now) {
		b.t.Errorf("processes are %v, were %v", now, before)
	}
}

// roles are the names in order.
func roles(of map[string]int) []string { return slices.Sorted(maps.Keys(of)) }

// await polls for a state of another process, which sends no event.
func await(t testing.TB, what string, in time.Duration, ok func() bool) {
	t.Helper()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(in); !ok(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", in, what)
		}
	}
}

// within receives one value, or fails the test when none comes.
func within[T any](t testing.TB, what string, c <-chan T) T {
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
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
