package privsep

import (
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListenTCP(t *testing.T) {
	noLeak(t)
	fd, addr, err := ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil || addr.Port() == 0 || !addr.Addr().IsLoopback() {
		t.Fatalf("%v %v", addr, err)
	}
	defer closeFD(fd)
	if proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || proto != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v: MPTCP passes by Landlock", proto, err)
	}
	if again, _, err := ListenTCP(addr); err == nil {
		closeFD(again)
		t.Error("a taken port was taken again")
	}
	if _, _, errno := Accept(fd); errno != syscall.EAGAIN {
		t.Errorf("nobody there: %v", errno)
	}
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(client)
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if err := waitFD(fd, false, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	conn, from, errno := Accept(fd)
	if errno != 0 || from.Addr() != addr.Addr() || from.Port() == 0 {
		t.Fatalf("%v %v", from, errno)
	}
	defer closeFD(conn)
	checkFlags(t, conn)
	if n, err := unix.GetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || n == 0 {
		t.Errorf("TCP_NODELAY %d, %v", n, err)
	}
}

// checkFlags wants what every fd of ours is.
func checkFlags(t *testing.T, fd int) {
	t.Helper()
	if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || f&unix.FD_CLOEXEC == 0 {
		t.Errorf("fd %d stays open on exec, %v", fd, err)
	}
	if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || f&unix.O_NONBLOCK == 0 {
		t.Errorf("fd %d blocks, %v", fd, err)
	}
}

func TestPairFlags(t *testing.T) {
	a, b := socketpair(t)
	c, d := doorbell(t)
	for _, fd := range []int{a, b, c, d} {
		checkFlags(t, fd)
	}
	closeFD(a)
	closeFD(b)
}

// A socket file left by a dead process is replaced; a live one, and what is no
// socket at all, is not.
func TestListenUnix(t *testing.T) {
	noLeak(t)
	path := filepath.Join(t.TempDir(), "s")
	fd, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 || OwnerUID(st) != os.Getuid() {
		t.Errorf("%v %v", st, err)
	}
	if second, err := ListenUnix(path, 0o600); err == nil {
		closeFD(second)
		t.Error("took the socket of a live process")
	}
	closeFD(fd)
	if fd, err = ListenUnix(path, 0o600); err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	closeFD(fd)
	RemoveSocket(path)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	RemoveSocket(path)
	if fd, err := ListenUnix(path, 0o600); err == nil {
		closeFD(fd)
		t.Error("replaced a file that is no socket")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("a file that is no socket was removed: %v", err)
	}
}

// WriteAll ends in time when nobody reads.
func TestWriteAll(t *testing.T) {
	a, b := doorbell(t)
	if err := WriteAll(a, []byte("all of it"), time.Second); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, errno := RawRead(b, buf); errno != 0 || string(buf[:n]) != "all of it" {
		t.Fatal(n, errno)
	}
	if err := WriteAll(a, make([]byte, 64<<20), 10*time.Millisecond); err != os.ErrDeadlineExceeded {
		t.Fatal(err)
	}
}

func TestBell(t *testing.T) {
	a, b := doorbell(t)
	for range 1000 {
		Ring(a)
	}
	DrainBell(b)
	if n, errno := RawRead(b, make([]byte, 1)); errno != syscall.EAGAIN {
		t.Fatal(n, errno)
	}
}

func TestChecks(t *testing.T) {
	if err := CheckKernel(); err != nil {
		t.Error(err)
	}
	if err := CheckBuild(); (err != nil) != isCgo() {
		t.Errorf("cgo %v: %v", isCgo(), err)
	}
	if PSS(os.Getpid()) == 0 || PSS(1<<30) != 0 {
		t.Error("PSS of ourselves is 0, or of nobody is not")
	}
	for l := range numLevels {
		if ParseLevel(l.String()) != l {
			t.Errorf("level %v", l)
		}
	}
}
