package process

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gatehouse/testdata/tree"
)

// Every role has walls of its own around it, the operator is told which, and
// the ones that come after a death have the same.
func TestSandbox(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	for range 2 {
		seen := map[string]string{}
		for role, pid := range b.processes() {
			if role == "parent" {
				continue
			}
			checkTasks(t, pid)
			checkLimits(t, role, pid)
			for _, ns := range []string{"net", "ipc"} {
				id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
				must(t, err)
				ours, err := os.Readlink("/proc/self/ns/" + ns)
				must(t, err)
				if other, ok := seen[id]; ok || id == ours {
					t.Errorf("%s shares %s with us or with %q", role, id, other)
				}
				seen[id] = role
			}
			if up := interfacesUp(t, pid); len(up) > 0 {
				t.Errorf("%s has a network: %v", role, up)
			}
		}
		checkWalls(t, b)
		for _, role := range []string{"router", "dispatcher", "cm/0", "cm/1"} {
			mark := b.log.Mark()
			b.kill(role)
			if b.log.Find(mark, "role ready", patience, "role", role) == nil {
				t.Fatalf("%s did not come back", role)
			}
		}
	}
}

// checkWalls holds status against what this kernel has.
func checkWalls(t *testing.T, b *broker) {
	t.Helper()
	st := b.status()
	if slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, "this kernel does not give") }) !=
		slices.ContainsFunc(st.Processes, func(p tree.Process) bool { return len(p.Missing) > 0 }) {
		t.Errorf("warnings %q, processes %+v", st.Warnings, st.Processes)
	}
	for _, p := range st.Processes {
		if p.Role == "parent" {
			continue
		}
		if p.Seccomp != 2 || !p.OwnNetwork || (p.Landlock == 0) != slices.Contains(p.Missing, "landlock") || len(p.Capabilities) > 0 {
			t.Errorf("status: %+v", p)
		}
	}
}

// checkLimits reads /proc/PID/limits.
func checkLimits(t *testing.T, role string, pid int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	must(t, err)
	most := map[string]uint64{"Max core file size": 0, "Max msgqueue size": 0, "Max file size": 0, "Max locked memory": 64 << 10, "Max processes": 1 << 14}
	switch role {
	case "router":
		most["Max open files"] = 2048
	case "dispatcher":
		most["Max open files"] = 4096
	}
	for line := range strings.Lines(string(b)) {
		for name, n := range most {
			rest, ok := strings.CutPrefix(line, name+" ")
			if !ok {
				continue
			}
			delete(most, name)
			for _, word := range strings.Fields(rest)[:2] { // soft and hard
				if got, err := strconv.ParseUint(word, 10, 64); err != nil || got > n {
					t.Errorf("%s: %s is %s, want at most %d", role, name, word, n)
				}
			}
		}
	}
	if len(most) > 0 {
		t.Errorf("%s: no limit for %v", role, slices.Sorted(maps.Keys(most)))
	}
}

// interfacesUp lists what is up in a process's network namespace.
func interfacesUp(t *testing.T, pid int) []string {
	t.Helper()
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	type answer struct {
		up  []string
		err error
	}
	found := make(chan answer)
	go inThread(func() {
		up, err := interfacesOf(fd)
		found <- answer{up, err}
	})
	a := <-found
	must(t, a.err)
	return a.up
}

// inThread runs f on a thread that ends with it, and so not on the process's
// first one, which never does and is whose /proc/net everybody sees.
func inThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() { defer close(done); inThread(f) }() // elsewhere, as long as we are here
	<-done
	runtime.UnlockOSThread()
}

func interfacesOf(ns int) (up []string, err error) {
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	all, err := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 {
			up = append(up, i.Name)
		}
	}
	return up, err
}

// parentCaps are what the parent keeps: CAP_KILL, SETGID, SETUID, SETPCAP,
// IPC_LOCK, SYS_CHROOT, SYS_ADMIN, by number.
var parentCaps = []int{5, 6, 7, 8, 14, 18, 21}

func TestParentCapabilities(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	var set uint64
	for _, c := range parentCaps {
		set |= 1 << c
	}
	kept := fmt.Sprintf("%016x", set)
	none := fmt.Sprintf("%016x", 0)
	want := map[string]string{"CapInh": none, "CapPrm": kept, "CapEff": kept, "CapBnd": kept, "CapAmb": none, "NoNewPrivs": "1"}
	for range 2 {
		for _, task := range tree.Tasks(b.pid) {
			for key, value := range want {
				if task[key] != value {
					t.Errorf("thread %s: %s is %s, want %s", task["Pid"], key, task[key], value)
				}
			}
		}
		b.kill("router")
		await(t, "service", patience, func() bool { return b.serves() == nil })
	}
	if p := b.status(); len(p.Role("parent").Capabilities) != len(parentCaps) {
		t.Errorf("status: %+v", p.Role("parent"))
	}
}

// A role that its filter ends is said to have ended so, and comes back.
func TestFilterEndsRole(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 1, seccomp: "kill"})
	for _, role := range []string{"router", "cm/0", "dispatcher"} {
		mark := b.log.Mark()
		b.force(role, unix.SYS_PTRACE)
		died := b.log.Find(mark, "role died", patience, "role", role)
		if died == nil {
			t.Fatalf("%s has not died", role)
		}
		name, _, _ := strings.Cut(role, "/")
		if reason, _ := died.Fields["reason"].(string); !strings.Contains(reason, "a system call that role "+name+" may not make") {
			t.Errorf("%s died of %q", role, reason)
		}
		await(t, "service", patience, func() bool { return b.serves() == nil })
	}
}

// All that roles do, in the mode that names the system call when one is made
// that its role's table does not have: traffic of all sizes, slow and rude
// clients, stops and continuations, deaths.
func TestNothingIsTrapped(t *testing.T) {
	b := startBroker(t, settings{cms: 2, seccomp: "trap", limits: "auth_timeout = \"200ms\"\nping_interval = \"100ms\"\nconnect_rate = 0\nmax_connections = 30"})
	calm := startCalm(t, b.client(""), b.client(""), 0)
	nc := b.natsClient()
	var all sync.WaitGroup
	for size := range 4 {
		all.Go(func() {
			for range 50 {
				nc.Request("echo", make([]byte, 100<<(4*size)), patience)
			}
		})
	}
	for n := range 60 { // beyond max_connections too
		c, err := dial(b.addr)
		if err != nil {
			continue
		}
		switch n % 4 {
		case 0:
			c.send("SUB > 1\r\n") // and never reads
		case 1:
			c.send("nonsense\r\n")
			c.rest()
		case 2:
			c.reset()
		}
		t.Cleanup(c.reset)
	}
	for role, pid := range b.processes() {
		if role != "parent" {
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
			must(t, syscall.Kill(pid, syscall.SIGCONT))
		}
	}
	all.Wait()
	calm.end(t)
	for _, role := range []string{"cm/0", "router", "dispatcher"} {
		mark := b.log.Mark()
		b.kill(role)
		if b.log.Find(mark, "role ready", patience, "role", role) == nil {
			t.Fatalf("%s did not come back", role)
		}
	}
	awaitAnswer(t, nc)
	b.checkTraps()
}

// checkTraps names the forbidden system calls of which the log has traces.
func (b *broker) checkTraps() {
	b.t.Helper()
	for _, name := range trapped(b.t, b.log.Text()) {
		b.t.Errorf("a role made the system call %s: privsep/sandbox/table.go has no row for it", name)
	}
}

// register is where the Go runtime's trace shows the number of the call.
var register = regexp.MustCompile(`(?m)^(?:rax|r8)\s+(0x[0-9a-f]+)`)

// trapped finds the system calls in the Go runtime's traces.
func trapped(t testing.TB, log string) (names []string) {
	t.Helper()
	traces := strings.Split(log, "SIGSYS: bad system call")[1:]
	if len(traces) == 0 {
		return nil
	}
	known := syscallNames(t)
	for _, trace := range traces {
		name := "of an unknown number: no registers in the trace"
		if m := register.FindStringSubmatch(trace); m != nil {
			n, _ := strconv.ParseUint(m[1], 0, 64)
			if name = known[n]; name == "" {
				name = m[1]
			}
		}
		names = append(names, name)
	}
	return names
}

// syscallNames reads the numbers from the source of x/sys: no list of ours.
func syscallNames(t testing.TB) map[uint64]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	must(t, err)
	file := filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+runtime.GOARCH+".go")
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	must(t, err)
	names := map[uint64]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				number, _ := strconv.ParseUint(lit.Value, 10, 64)
				names[number] = strings.ToLower(strings.TrimPrefix(v.Names[0].Name, "SYS_"))
			}
		}
		return true
	})
	return names
}

// The names come from a trace as the Go runtime of this very version writes it.
func TestTrappedNames(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{seccomp: "trap"})
	b.traces = true
	for _, nr := range []uint64{unix.SYS_PTRACE, unix.SYS_KEYCTL} {
		mark := b.log.Mark()
		b.force("router", nr)
		if b.log.Find(mark, "role died", patience, "role", "router", "reason", "exit 2") == nil {
			t.Fatal("the router has not died")
		}
		b.log.Find(mark, "role ready", patience, "role", "router")
	}
	if names := trapped(t, b.log.Text()); !slices.Equal(names, []string{"ptrace", "keyctl"}) {
		t.Errorf("names %q", names)
	}
}
