package hostile

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/roles/parent"
	"gatehouse/testdata/tree"
)

// patience is how long anything may take that must happen.
const patience = 30 * time.Second

// broker is one running broker.
type broker struct {
	t      testing.TB
	dir    string // of its link to the program, its plans, its configuration
	run    string // runtime directory
	addr   string // plaintext
	tls    string // TLS, "" without
	pid    int
	log    *tree.Log
	cmd    *exec.Cmd
	exited chan struct{} // closed once code is set
	code   int
	over   bool
}

// settings of a broker; zero is the default.
type settings struct {
	cms     int
	program string // instead of this one: no plans then
	tls     *identity
	limits  string // lines of [limits]
	logins  bool   // clients must log in
	shares  bool   // there is a tlsd
	watched bool   // there is a console
	plans   map[string][]plan
	env     []string
}

var brokers atomic.Int64 // so far: each has a range of uids

// startBroker runs a broker until it is ready; it ends with the test.
func startBroker(t testing.TB, s settings) *broker {
	t.Helper()
	b := newBroker(t, s)
	b.launch(s.env)
	if b.log.Await(0, patience, func(l *tree.Line) bool { return l.Str("message") == "ready" }) == nil {
		t.Fatalf("not ready:\n%s", b.log.Text())
	}
	listeners := b.status().Listeners
	b.addr = listeners[0]
	if s.tls != nil {
		b.tls = listeners[1]
	}
	return b
}

// newBroker writes what a broker needs and starts nothing.
func newBroker(t testing.TB, s settings) *broker {
	t.Helper()
	dir, err := os.MkdirTemp(base, "b")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &broker{t: t, dir: dir, run: filepath.Join(dir, "run")}
	if s.program == "" {
		s.program = program
	}
	must(t, os.Link(s.program, filepath.Join(dir, "gatehouse")))
	must(t, os.Mkdir(filepath.Join(dir, "plans"), 0o700))
	for role, plans := range s.plans {
		b.plan(role, plans...)
	}
	text := fmt.Sprintf("[listen]\ntcp = [\"127.0.0.1:0\"]\n%s\n[privsep]\nruntime_dir = %q\nuid_base = %d\n[cm]\ncount = %d\n"+
		"[log]\nformat = \"json\"\n[store]\narena = \"8MiB\"\nring = \"512KiB\"\n[limits]\ndrain_timeout = \"3s\"\norphan_grace = \"1s\"\n%s\n",
		s.tls.listen(), b.run, 71100+100*(brokers.Add(1)%200), max(s.cms, 1), s.limits)
	text += s.tls.config(t, dir)
	if s.logins {
		text += fmt.Sprintf("[auth]\ntoken = %q\n", tokenHash)
	}
	if !s.watched {
		text += "[console]\nunix = \"\"\n"
	}
	if s.shares {
		text += sharing(t, dir)
	}
	must(t, os.WriteFile(filepath.Join(dir, "broker.toml"), []byte(text), 0o600))
	return b
}

func (b *broker) launch(env []string) {
	b.t.Helper()
	b.cmd = exec.Command(filepath.Join(b.dir, "gatehouse"), "serve", "-c", filepath.Join(b.dir, "broker.toml"))
	b.cmd.Dir = b.dir
	b.cmd.Env = append(os.Environ(), env...)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	must(b.t, err)
	b.cmd.Stderr = w
	b.log = tree.Follow(r)
	err = b.cmd.Start()
	w.Close()
	must(b.t, err)
	b.pid, b.exited = b.cmd.Process.Pid, make(chan struct{})
	go func() {
		b.cmd.Wait()
		b.code = b.cmd.ProcessState.ExitCode()
		close(b.exited)
	}()
	b.t.Cleanup(func() {
		if !b.over {
			b.stop(0)
		}
		if b.t.Failed() {
			b.t.Logf("broker's log:\n%s", b.log.Text())
		}
	})
}

// stop ends the broker in order and wants nothing of it left.
func (b *broker) stop(code int) {
	b.t.Helper()
	b.cmd.Process.Signal(syscall.SIGTERM)
	b.ended(code)
}

// ended waits for the end of the whole tree.
func (b *broker) ended(code int) {
	b.t.Helper()
	b.over = true
	children := tree.ChildrenOf(b.pid)
	defer func() {
		for _, pid := range append(children, b.pid) {
			if tree.Title(pid) != "" {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		<-b.exited
	}()
	if !happens(b.exited) {
		b.t.Errorf("the broker does not end")
		return
	}
	if b.code != code {
		b.t.Errorf("exit code %d, want %d", b.code, code)
	}
	if !b.log.Ended(patience) {
		b.t.Error("a process has outlived the broker")
	}
	if _, err := os.Lstat(b.run); err == nil {
		b.t.Errorf("%s was left behind", b.run)
	}
	for _, l := range b.log.Where(func(l *tree.Line) bool { return l.Fields == nil }) {
		b.t.Errorf("not a log line: %s", l.Text)
	}
}

func happens(c <-chan struct{}) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// plan puts villains in the place of the next processes of a component.
func (b *broker) plan(role string, plans ...plan) {
	b.t.Helper()
	for n, p := range plans {
		content, err := json.Marshal(p)
		must(b.t, err)
		must(b.t, replace(planFile(b.dir, role, n), string(content)))
	}
}

// villain is the pid of the process that took the n-th plan, 0 before.
func (b *broker) villain(role string, n int) int {
	text, _ := os.ReadFile(planFile(b.dir, role, n) + taken)
	pid, _ := strconv.Atoi(string(text))
	return pid
}

func (b *broker) status() *parent.Status {
	b.t.Helper()
	out, err := exec.Command(filepath.Join(b.dir, "gatehouse"), "status", "--runtime-dir", b.run, "--json").Output()
	if err != nil {
		text := ""
		if e, ok := err.(*exec.ExitError); ok {
			text = string(e.Stderr)
		}
		b.t.Fatalf("status: %v\n%s\n%s", err, text, b.log.Text())
	}
	s := new(parent.Status)
	must(b.t, json.Unmarshal(out, s))
	return s
}

// processes are the broker's by role, with the parent.
func (b *broker) processes() map[string]int {
	found := map[string]int{"parent": b.pid}
	for _, pid := range tree.ChildrenOf(b.pid) {
		if role := tree.Title(pid); role != "" && role != "parent" {
			found[role] = pid
		}
	}
	return found
}

// kill ends a role without warning.
func (b *broker) kill(role string) {
	b.t.Helper()
	pid := b.processes()[role]
	if pid == 0 {
		b.t.Fatalf("%s is not there to be killed", role)
	}
	must(b.t, syscall.Kill(pid, syscall.SIGKILL))
}

// openFiles counts a process's descriptors.
func openFiles(t testing.TB, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return len(fds)
}

// await polls for a state of another process, which sends no event.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); !ok(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
