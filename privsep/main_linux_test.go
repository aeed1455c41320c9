package privsep

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary takes the place of Gatehouse: started with -x, by Start, it
// is a child that does what CONFIG's environment names.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildFlag {
		os.Exit(childMain())
	}
	// The parent's first act, and ours: whoever started us may have left fds open.
	if err := CloseRange(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The Go runtime opens its own poller with the first file that can be
	// polled; the tests that count fds want it to be there already.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	code := m.Run()
	if pureDir != "" {
		os.RemoveAll(pureDir)
	}
	os.Exit(code)
}

// childModes are the tests' child halves. An error becomes a log line.
var childModes = map[string]func(*Boot, *Channel, *Logger, *Settings) error{
	"idle":         func(*Boot, *Channel, *Logger, *Settings) error { return nil },
	"exit 3":       func(*Boot, *Channel, *Logger, *Settings) error { os.Exit(3); return nil },
	"drop":         childDrop,
	"drop cgo":     childDropCgo,
	"no new privs": childNoNewPrivs,
	"keep":         childKeep,
	"keep cgo":     childKeepCgo,
	"pong":         childPong,
}

func childMain() int {
	boot, ch, err := Inherit()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	log := NewLogger(ch)
	var m Message
	var s Settings
	if err = ch.RecvWait(&m, 10*time.Second); err == nil {
		err = s.Parse(m.Payload)
	}
	mode := childModes[s.Environment]
	if err != nil || mode == nil {
		log.Error("bad config", Err(err))
		return 1
	}
	if err := mode(boot, ch, log, &s); err != nil {
		log.Error("child failed", Err(err))
		return 1
	}
	log.Info("child ready")
	for ch.RecvWait(&m, -1) == nil { // until the parent closes
		m.CloseFDs()
	}
	return 0
}

var isCgo = sync.OnceValue(func() bool {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	return errno == syscall.ENOTSUP
})

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP needs root")
	}
}

// self gives this test binary as an executable to start.
func self(t testing.TB) *os.File {
	t.Helper()
	return openExe(t, "/proc/self/exe")
}

func openExe(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// pure gives this test binary built without cgo, as -race is not: where there
// is cgo no promise reaches every thread.
func pure(t *testing.T) *os.File {
	t.Helper()
	if !isCgo() {
		return self(t)
	}
	out, err := buildPure()
	if err != nil {
		t.Skipf("SKIP needs a binary without cgo: %v", err)
	}
	return openExe(t, out)
}

// buildPure leaves its binary in pureDir, which TestMain removes.
var buildPure = sync.OnceValues(func() (string, error) {
	var err error
	if pureDir, err = os.MkdirTemp("", "privsep"); err != nil {
		return "", err
	}
	out := filepath.Join(pureDir, "child.test")
	cmd := exec.Command("go", "test", "-c", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, b)
	}
	return out, nil
})

var pureDir string

// started is a child and our end of its channel, past BOOT and CONFIG.
type started struct {
	*Child
	ch *Channel
}

// someDoor is a socket at which nobody will be looked for.
func someDoor(t testing.TB) int {
	t.Helper()
	fd, err := ListenForHeir(filepath.Join(t.TempDir(), "door"))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// startChild starts exe as id in a mode, with room for what the mode needs: its
// Broker. The child is ended and reaped with the test.
func startChild(t testing.TB, exe *os.File, boot Boot, s Settings) *started {
	t.Helper()
	ours, theirs := socketpair(t)
	boot.Key = NewKey()
	door := someDoor(t)
	c, err := Start(exe, boot.ID, theirs, door)
	closeFD(theirs)
	closeFD(door)
	if err != nil {
		closeFD(ours)
		t.Fatal(err)
	}
	ch := NewChannel(ours, RoleParent, boot.ID.Role, boot.Key)
	st := &started{c, ch}
	t.Cleanup(func() { st.end(t) })
	if err := ch.Send(KindBoot, boot.Append(nil)); err != nil {
		t.Fatal(err)
	}
	ch.SetPhase(PhaseSetup)
	if err := ch.Send(KindConfig, s.Append(nil)); err != nil {
		t.Fatal(err)
	}
	return st
}

// end closes the channel, which the child obeys, and reaps it.
func (s *started) end(t testing.TB) string {
	t.Helper()
	s.ch.Close()
	if s.PidFD < 0 {
		return ""
	}
	if err := waitFD(s.PidFD, false, 10*time.Second); err != nil {
		t.Error(err)
	}
	status, err := s.Wait()
	if err == ErrAgain {
		t.Errorf("%v did not end with its channel", s.ID)
		_ = s.Signal(syscall.SIGKILL)
		_ = waitFD(s.PidFD, false, 10*time.Second)
		status, err = s.Wait()
	}
	if err != nil {
		t.Error(err)
	}
	return status
}

// ready waits for the child's line that says so.
func (s *started) ready(t testing.TB) {
	t.Helper()
	line, err := s.line()
	if err != nil || line.Event != "child ready" {
		t.Fatalf("child says %+v, %v", line, err)
	}
}

func (s *started) line() (LogLine, error) {
	var m Message
	if err := s.ch.RecvWait(&m, 10*time.Second); err != nil {
		return LogLine{}, err
	}
	if m.Kind != KindLog {
		return LogLine{}, errors.New("not a log line")
	}
	return DecodeLog(m.Payload)
}

// threads makes sure that n more threads exist, each held by a goroutine.
func threads(n int) {
	var up sync.WaitGroup
	for range n {
		up.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			select {}
		}()
	}
	up.Wait()
}
