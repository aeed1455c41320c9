package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// The test binary becomes a role when it is started with this variable: "role
// probe" or "role probe trap".
const probeEnv = "SANDBOX_PROBE"

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(probeEnv)); len(words) > 1 {
		probe(words)
	}
	if len(os.Args) > 1 && os.Args[1] == privsep.ChildFlag {
		os.Exit(2) // the self-test has got through execve
	}
	os.Exit(m.Run())
}

// probe enters the role's sandbox and tries one thing. Exit 0: it worked; 3
// with the error in words: it failed.
func probe(words []string) {
	id, err := privsep.ParseID(words[0])
	if err == nil {
		err = privsep.NoNewPrivs()
	}
	if errors.Is(err, syscall.ENOTSUP) {
		os.Exit(77)
	}
	trap := len(words) > 2 && words[2] == "trap"
	var walls privsep.Sandbox
	if err == nil {
		walls, err = Enter(id.Role, Options{Trap: trap})
	}
	if err != nil {
		fmt.Println("enter:", err)
		os.Exit(4)
	}
	fmt.Printf("landlock=%d missing=%v\n", walls.Landlock, walls.Missing)
	if err := probes[words[1]](); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	os.Exit(0)
}

// raw makes a system call with small arguments.
func raw(nr uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

var probes = map[string]func() error{
	"work":   work,
	"cost":   cost,
	"panic":  func() error { panic("last words") },
	"openat": raw(unix.SYS_OPENAT),
	"execve": raw(unix.SYS_EXECVE),
	"capset": raw(unix.SYS_CAPSET),
	"socket": raw(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM),
	"udp":    raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK),
	"tcp":    raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP),
	"bind":   raw(unix.SYS_BIND),
	"connect": func() error {
		_, err := privsep.ConnectTCP(netip.MustParseAddrPort("127.0.0.1:9"))
		return err
	},
	"kill":     raw(unix.SYS_KILL, 1),
	"ptrace":   raw(unix.SYS_PTRACE),
	"io_uring": raw(unix.SYS_IO_URING_SETUP),
	"fork":     raw(unix.SYS_CLONE, uintptr(syscall.SIGCHLD)),
	"tgkill":   raw(unix.SYS_TGKILL, 1, 1),
	"exec_map": raw(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0)),
	"prctl":    raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
	"accept4":  raw(unix.SYS_ACCEPT4, 0),
	"ioctl":    raw(unix.SYS_IOCTL, 0, unix.SIOCOUTQ),
}

// work is what the Go runtime does under load: threads, garbage, timers,
// preemption.
func work() error {
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			runtime.LockOSThread() // a thread of its own, which ends with it
			keep := make([][]byte, 50)
			for i := range 200 {
				keep[i%50] = make([]byte, 64<<10)
				if i%50 == 0 {
					runtime.GC()
					<-time.After(time.Millisecond) // the runtime's timers, too, must pass the filter
				}
			}
			runtime.KeepAlive(keep)
		})
	}
	all.Wait()
	if time.Now().Format(time.RFC1123Z) == "" { // may look for a time zone file
		return errors.New("no time")
	}
	return nil
}

// cost prints the time of a call that the table allows whatever the arguments,
// and of one with a condition.
func cost() error {
	for name, call := range map[string]func(){
		"gettid": func() { syscall.RawSyscall(unix.SYS_GETTID, 0, 0, 0) },
		"mmap":   func() { syscall.RawSyscall(unix.SYS_MMAP, 0, 0, 0) }, // EINVAL
	} {
		const n = 1 << 20
		start := time.Now()
		for range n {
			call()
		}
		fmt.Println(name, time.Since(start).Nanoseconds()/n)
	}
	return nil
}

// runProbe starts the test binary as a role.
func runProbe(t testing.TB, words ...string) (*os.ProcessState, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	// As privsep.Start has it: no files of the cgroup to be read again later.
	cmd.Env = append(os.Environ(), "GODEBUG=containermaxprocs=0", probeEnv+"="+strings.Join(words, " "))
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skip("SKIP needs a binary without cgo")
	}
	return cmd.ProcessState, out.String()
}

// Each answer of the filter, from the kernel, in each role that differs.
func TestEnter(t *testing.T) {
	const killed = "signal: bad system call"
	for _, tt := range []struct{ role, probe, want string }{
		{"router", "work", "exit status 0"},
		{"cm/0", "work", "exit status 0"},
		{"dispatcher", "work", "exit status 0"},
		{"auth", "work", "exit status 0"},
		{"auth", "socket", "operation not permitted"},
		{"auth", "accept4", killed},
		{"auth", "ioctl", killed},
		{"router", "openat", "operation not permitted"},
		{"cm/0", "execve", "operation not permitted"},
		{"dispatcher", "socket", "operation not permitted"},
		{"dispatcher", "capset", "operation not permitted"},
		{"router", "kill", killed},
		{"cm/0", "ptrace", killed},
		{"router", "io_uring", killed},
		{"cm/0", "fork", killed},
		{"cm/0", "tgkill", killed},
		{"cm/0", "exec_map", killed},
		{"router", "prctl", killed},
		{"router", "accept4", killed},
		{"dispatcher", "accept4", "socket operation on non-socket"},
		{"dispatcher", "ioctl", killed},
		{"cm/0", "ioctl", "inappropriate ioctl for device"},
		{"tlsd", "work", "exit status 0"},
		{"tlsd", "socket", "operation not permitted"}, // a Unix socket
		{"tlsd", "udp", "operation not permitted"},
		{"tlsd", "tcp", "exit status 0"},
		{"tlsd", "connect", "permission denied"}, // Landlock's
		{"tlsd", "bind", "operation not permitted"},
		{"tlsd", "ioctl", killed},
		{"console", "work", "exit status 0"},
		{"console", "socket", "operation not permitted"},
		{"console", "tcp", "operation not permitted"},
		{"console", "connect", "operation not permitted"},
		{"console", "openat", "operation not permitted"},
		{"console", "accept4", killed}, // without the flags
		{"console", "ioctl", killed},
		{"parent", "work", "no profile for parent"},
	} {
		t.Run(tt.role+" "+tt.probe, func(t *testing.T) {
			t.Parallel()
			state, out := runProbe(t, tt.role, tt.probe)
			if got := state.String() + "\n" + out; !strings.Contains(got, tt.want) {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// With Trap the Go runtime shows which call it was and who made it.
func TestTrap(t *testing.T) {
	state, out := runProbe(t, "router", "ptrace", "trap")
	if state.ExitCode() != 2 || !strings.Contains(out, "SIGSYS: bad system call") || !strings.Contains(out, "sandbox.probe") {
		t.Fatalf("%v\n%s", state, out)
	}
	if runtime.GOARCH == "amd64" && !strings.Contains(out, fmt.Sprintf("rax    %#x", unix.SYS_PTRACE)) {
		t.Fatalf("the number is not shown:\n%s", out)
	}
}

// A role that fails can still say why.
func TestPanicIsSeen(t *testing.T) {
	state, out := runProbe(t, "cm/0", "panic")
	if state.ExitCode() != 2 || !strings.Contains(out, "panic: last words") || !strings.Contains(out, "goroutine ") {
		t.Fatalf("%v\n%s", state, out)
	}
}

// What the kernel of this machine has is in force and reported.
func TestReport(t *testing.T) {
	_, out := runProbe(t, "router", "work")
	if want := "landlock=" + strconv.Itoa(kernelABI()) + " missing="; !strings.Contains(out, want) {
		t.Errorf("%q, want %s", out, want)
	}
}

// What an older kernel's Landlock cannot keep out is said.
func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		abi     int
		connect []uint16
		want    string
	}{{0, nil, "landlock"}, {0, []uint16{443}, "landlock,landlock-ports"}, {1, nil, ""}, {3, []uint16{443}, "landlock-ports"}, {tcpABI, []uint16{443}, ""}} {
		if got := missingAt(tt.abi, tt.connect).String(); got != tt.want {
			t.Errorf("ABI %d, ports %d: %q, want %q", tt.abi, tt.connect, got, tt.want)
		}
	}
}

// BenchmarkFilter shows what the filter adds to a call, in ns: to one that is
// always allowed, which the kernel remembers, and to one with a condition, for
// which the program runs.
func BenchmarkFilter(b *testing.B) {
	before := measured(b)
	for b.Loop() {
		_, out := runProbe(b, "cm/0", "cost")
		for name, ns := range parseCost(out) {
			b.ReportMetric(ns, "ns/"+name)
			b.ReportMetric(ns-before[name], "more-ns/"+name)
		}
	}
}

func measured(b *testing.B) map[string]float64 {
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	stdout := os.Stdout
	os.Stdout = w
	err = cost()
	os.Stdout = stdout
	w.Close()
	if err != nil {
		b.Fatal(err)
	}
	text := make([]byte, 256)
	n, _ := r.Read(text)
	return parseCost(string(text[:n]))
}

func parseCost(out string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(out) {
		var name string
		var ns float64
		if _, err := fmt.Sscan(line, &name, &ns); err == nil {
			all[name] = ns
		}
	}
	return all
}
