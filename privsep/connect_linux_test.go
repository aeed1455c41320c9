package privsep

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// accepted is a connection of a Unix socket at path, both ends.
func accepted(t *testing.T, path string) (here, there int) {
	t.Helper()
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(l) })
	there, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(there, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	here, _, errno := Accept(l)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { closeFDs([]int{here, there}) })
	return here, there
}

// What is passed on is a connection of that socket, or nothing; and no descriptor stays.
func TestTakeOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	mine, client := accepted(t, path)
	foreign, _ := accepted(t, filepath.Join(dir, "b"))
	from, to, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(to)
	if _, _, err := TakeOver(to, path); err != ErrAgain {
		t.Errorf("an empty way: %v", err)
	}
	if errno := PassOn(from, mine, 7); errno != 0 {
		t.Fatal(errno)
	}
	fd, word, err := TakeOver(to, path)
	if err != nil || fd < 0 || word != 7 {
		t.Fatalf("%d, %d, %v", fd, word, err)
	}
	unix.Write(client, []byte("abc"))
	b := make([]byte, 8)
	for range 2 {
		if n, errno := PeekFrom(fd, b); errno != 0 || string(b[:n]) != "abc" {
			t.Errorf("peek: %q, %v", b[:n], errno)
		}
	}
	unix.Write(client, []byte("de"))
	if n, errno := PeekFrom(fd, b); errno != 0 || string(b[:n]) != "abcde" {
		t.Errorf("peek of two writes: %q, %v", b[:n], errno)
	}
	closeFD(fd)

	pair, other, err := Connection()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFDs([]int{pair, other})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	open := openFDs(t)
	for name, m := range map[string]struct {
		text  string
		fds   []int
		waits bool
	}{
		"nothing":                  {"x", nil, false},
		"two":                      {"x", []int{mine, mine}, false},
		"a long word":              {"xy", []int{mine}, false},
		"another socket's":         {"x", []int{foreign}, false},
		"no socket's":              {"x", []int{pair}, false},
		"the way itself":           {"x", []int{from}, false},
		"TCP":                      {"x", []int{int(tcp.Fd())}, false},
		"a client's end":           {"x", []int{client}, false},
		"one whose reads may wait": {"x", []int{mine}, true},
	} {
		var rights []byte
		if len(m.fds) > 0 {
			rights = unix.UnixRights(m.fds...)
		}
		if err := unix.Sendmsg(from, []byte(m.text), rights, nil, 0); err != nil {
			t.Fatal(err)
		}
		unix.SetNonblock(mine, !m.waits)
		if fd, _, err := TakeOver(to, path); fd != -1 || err != nil {
			t.Errorf("%s: %d, %v", name, fd, err)
		}
	}
	if n := openFDs(t); n != open {
		t.Errorf("%d descriptors are open, were %d", n, open)
	}
	closeFD(from)
	if _, _, err := TakeOver(to, path); err != io.EOF {
		t.Errorf("a way without another end: %v", err)
	}
}

// The socket that listens has the same path, and the credentials of who made it: the
// parent's.
func TestTakeOverOfListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(l)
	from, to, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFDs([]int{from, to})
	open := openFDs(t)
	if errno := PassOn(from, l, 7); errno != 0 {
		t.Fatal(errno)
	}
	if fd, _, err := TakeOver(to, path); fd != -1 || err != nil {
		who, whoErr := CallerOf(fd)
		t.Errorf("took %d, %v, of %+v, %v", fd, err, who, whoErr)
	}
	if n := openFDs(t); n != open {
		t.Errorf("%d descriptors are open, were %d", n, open)
	}
}

// What one end has sent comes, also when it has ended without reading all.
func TestTakeOverOfDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	mine, _ := accepted(t, path)
	from, to, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(to)
	for _, end := range []int{from, to} {
		if errno := PassOn(end, mine, 7); errno != 0 {
			t.Fatal(errno)
		}
	}
	closeFD(from)
	var got []int
	for err = ErrAgain; err == nil || err == ErrAgain; {
		var fd int
		if fd, _, err = TakeOver(to, path); fd >= 0 {
			got = append(got, fd)
			closeFD(fd)
		}
	}
	if len(got) != 1 || err != io.EOF {
		t.Errorf("took %v, then %v", got, err)
	}
}

// A signal, such as the runtime's own, is nothing that has happened to an fd.
func TestPollNow(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("SKIP needs two processors: a signal in the middle of a call")
	}
	a, b, err := Connection()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(a)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, tid := os.Getpid(), unix.Gettid()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			default:
				unix.Tgkill(pid, tid, unix.SIGURG)
			}
		}
	}()
	defer func() {
		close(over)
		<-ended
	}()
	hit := 0
	for end := time.Now().Add(10 * time.Second); hit < 20; hit++ {
		for {
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(a), Events: unix.POLLIN}}, 0); err == unix.EINTR {
				break
			}
			if time.Now().After(end) {
				t.Fatal("no signal has interrupted a poll")
			}
		}
		for range 1000 {
			if is, err := pollNow(a, unix.POLLIN); is != 0 || err != nil {
				t.Fatalf("%#x, %v", is, err)
			}
		}
	}
	closeFD(b)
	if is, err := pollNow(a, unix.POLLIN); is&unix.POLLHUP == 0 || err != nil {
		t.Fatalf("after its end: %#x, %v", is, err)
	}
}
