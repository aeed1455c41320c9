package cli_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden files inside the scripts")

// patience bounds every wait in a script.
const patience = 20 * time.Second

// The scripts run the real binary: serve re-executes it for its roles, which a
// test binary is not.
func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "gatehouse-cli")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if err := build(filepath.Join(dir, "gatehouse")); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(out string) error {
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version=test", "-o", out, "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret", "GOFLAGS=-buildvcs=false")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("build gatehouse: %w\n%s", err, text)
	}
	return nil
}

func TestScripts(t *testing.T) {
	example, err := filepath.Abs("../../broker.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Abs("../../privsep/keyfile/testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "../../testdata/scripts",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLE", example)
			env.Setenv("KEYS", keys)
			env.Values[running{}] = map[string]*process{}
			env.Values[talking{}] = map[string]*talk{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  cmdExits,
			"broker": cmdBroker,
			"start":  cmdStart,
			"await":  cmdAwait,
			"finish": cmdFinish,
			"talk":   cmdTalk,
			"say":    cmdSay,
			"hear":   cmdHear,
			"bye":    cmdBye,
		},
	})
}

// running is the key of a script's processes by name.
type running struct{}

// process is one that a script started. Its output goes to files in $WORK,
// NAME.out and NAME.err.
type process struct {
	cmd    *exec.Cmd
	lines  chan string   // standard error, also in the file
	exited chan struct{} // closed when err is set
	err    error
}

// spawn starts a process that is ended with the script, by its pid.
func spawn(ts *testscript.TestScript, name string, args ...string) *process {
	p := &process{cmd: exec.Command(args[0], args[1:]...), lines: make(chan string, 1000), exited: make(chan struct{})}
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	p.cmd.Path = path
	p.cmd.Dir = ts.MkAbs(".")
	for _, key := range []string{"PATH", "HOME", "TMPDIR", "WORK", "GATEHOUSE_URL"} {
		if v := ts.Getenv(key); v != "" {
			p.cmd.Env = append(p.cmd.Env, key+"="+v)
		}
	}
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	p.cmd.Stdout = out
	stderr, err := p.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	go p.follow(stderr, log, out)
	ts.Value(running{}).(map[string]*process)[name] = p
	ts.Defer(p.kill)
	return p
}

// follow copies standard error until it ends, then collects the process. Lines
// that no script awaits are dropped.
func (p *process) follow(stderr io.Reader, log, out *os.File) {
	for lines := bufio.NewReader(stderr); ; {
		line, err := lines.ReadString('\n')
		log.WriteString(line)
		select {
		case p.lines <- line:
		default:
		}
		if err != nil {
			break
		}
	}
	p.err = p.cmd.Wait()
	log.Close()
	out.Close()
	close(p.exited)
}

// await waits for a line of standard error that begins with text.
func (p *process) await(text string) error {
	return p.awaitLine(text, strings.HasPrefix)
}

// awaitLine waits for a line of standard error that is as like says.
func (p *process) awaitLine(text string, like func(line, text string) bool) error {
	late := time.After(patience)
	for {
		select {
		case line := <-p.lines:
			if like(line, text) {
				return nil
			}
		case <-p.exited:
			return fmt.Errorf("ended before it said %q: %v", text, p.err)
		case <-late:
			return fmt.Errorf("did not say %q in %s", text, patience)
		}
	}
}

// stop sends a signal and waits for the end.
func (p *process) stop(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.wait()
}

func (p *process) wait() error {
	select {
	case <-p.exited:
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("pid %d still runs after %s", p.cmd.Process.Pid, patience)
	}
}

// kill ends a process whatever state a script left it in.
func (p *process) kill() {
	select {
	case <-p.exited:
		return
	default:
	}
	if p.stop(syscall.SIGTERM) != nil {
		_ = p.stop(syscall.SIGKILL)
	}
}

// logOf is what to show when something went wrong with a process.
func logOf(ts *testscript.TestScript, name string) string {
	text, err := os.ReadFile(ts.MkAbs(name + ".err"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// exits CODE PROGRAM ARGS...: runs a program that must end with that code.
// Its output is there for stdout and stderr as after exec.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := fmt.Sprint(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// broker start [CONFIG]: runs gatehouse serve on a free port and sets
// GATEHOUSE_URL. CONFIG is added to what the command writes itself and may not
// have the sections listen and privsep. broker stop: ends it, which must work.
// broker again: starts it as before. broker reload CONFIG TEXT: puts CONFIG in
// the place of what was added, sends SIGHUP and waits until the log has TEXT.
func cmdBroker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 3 || len(args) == 2 && args[0] != "start" || len(args) == 3 != (args[0] == "reload") {
		ts.Fatalf("usage: broker start [CONFIG] | broker reload CONFIG TEXT | broker again | broker stop")
	}
	switch args[0] {
	case "start":
		addr := freeAddress(ts)
		ts.Setenv("GATEHOUSE_URL", "nats://"+addr)
		writeConfig(ts, addr, args[1:])
		startBroker(ts)
	case "reload":
		writeConfig(ts, strings.TrimPrefix(ts.Getenv("GATEHOUSE_URL"), "nats://"), args[1:2])
		p := processOf(ts, "broker")
		ts.Check(p.cmd.Process.Signal(syscall.SIGHUP))
		if err := p.awaitLine(args[2], strings.Contains); err != nil {
			ts.Fatalf("broker: %v\n%s", err, logOf(ts, "broker"))
		}
	case "again":
		startBroker(ts)
	case "stop":
		p := processOf(ts, "broker")
		if err := p.stop(syscall.SIGTERM); err != nil {
			ts.Fatalf("broker: %v\n%s", err, logOf(ts, "broker"))
		}
	default:
		ts.Fatalf("broker %s is unknown", args[0])
	}
}

func writeConfig(ts *testscript.TestScript, addr string, more []string) {
	config := fmt.Sprintf("[listen]\ntcp = [%q]\nunix = [\"client.sock\"]\n[privsep]\nruntime_dir = \"run\"\n", addr)
	if len(more) > 0 {
		config += ts.ReadFile(more[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs("broker.toml"), []byte(config), 0o600))
}

func startBroker(ts *testscript.TestScript) {
	p := spawn(ts, "broker", "gatehouse", "serve", "-c", "broker.toml")
	addr := strings.TrimPrefix(ts.Getenv("GATEHOUSE_URL"), "nats://")
	late := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !greets(addr) {
		select {
		case <-p.exited:
			ts.Fatalf("broker ended: %v\n%s", p.err, logOf(ts, "broker"))
		case <-late:
			ts.Fatalf("broker does not answer on %s\n%s", addr, logOf(ts, "broker"))
		case <-again.C:
		}
	}
}

func freeAddress(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return l.Addr().String()
}

// greets tells whether a whole broker, not only a listening socket, is there.
func greets(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "INFO ")
}

// start NAME PROGRAM ARGS...: runs a sub or reply command in the background and
// waits until the broker has its subscription.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM ARGS...")
	}
	p := spawn(ts, args[0], args[1:]...)
	if err := p.await("subscribed to "); err != nil {
		ts.Fatalf("%s: %v\n%s", args[0], err, logOf(ts, args[0]))
	}
}

// await NAME TEXT: waits until what start began has a line of standard error
// that begins with TEXT.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await NAME TEXT")
	}
	if err := processOf(ts, args[0]).await(args[1]); err != nil {
		ts.Fatalf("%s: %v\n%s", args[0], err, logOf(ts, args[0]))
	}
}

// finish [-INT] NAME: waits for the end of what start began, which must
// succeed, or fail after !. With -INT it is interrupted first.
func cmdFinish(ts *testscript.TestScript, neg bool, args []string) {
	var err error
	switch {
	case len(args) == 1:
		err = processOf(ts, args[0]).wait()
	case len(args) == 2 && args[0] == "-INT":
		args = args[1:]
		err = processOf(ts, args[0]).stop(syscall.SIGINT)
	default:
		ts.Fatalf("usage: [!] finish [-INT] NAME")
	}
	if (err != nil) != neg {
		ts.Fatalf("%s: %v\n%s", args[0], err, logOf(ts, args[0]))
	}
}

func processOf(ts *testscript.TestScript, name string) *process {
	p := ts.Value(running{}).(map[string]*process)[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}
