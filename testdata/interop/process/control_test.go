package process

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// request is a frame of the control socket.
func request(verb, zero uint32) []byte {
	b := binary.LittleEndian.AppendUint32([]byte("GHCTL1\x00\x00"), verb)
	return binary.LittleEndian.AppendUint32(b, zero)
}

// ask writes bytes to the control socket and returns everything that comes
// back, and whether the broker then closed.
func (b *broker) ask(bytes []byte) (answer string, closed bool) {
	b.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(b.run, "control"))
	must(b.t, err)
	defer conn.Close()
	conn.Write(bytes) // may be refused in the middle
	c := client{conn: conn}
	conn.SetReadDeadline(time.Now().Add(patience))
	var all strings.Builder
	for buf := make([]byte, 4096); ; {
		n, err := c.conn.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			return all.String(), !os.IsTimeout(err)
		}
	}
}

// Garbage, other verbs, frames that are too long or never end, and too many at
// a time: nobody is answered, nobody holds anything up, the broker goes on.
func TestControlGarbage(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	before := b.processes()
	calm := startCalm(t, b.client(""), b.client(""), time.Millisecond)
	rnd := rand.New(rand.NewPCG(seed(t), 0))
	noise := make([]byte, 16)
	for range 200 {
		for i := range noise {
			noise[i] = byte(rnd.Uint32())
		}
		if answer, closed := b.ask(noise); answer != "" || !closed {
			t.Fatalf("%x: answer %q", noise, answer)
		}
	}
	for _, bad := range [][]byte{request(0, 0), request(5, 0), request(4, 0), request(4, 7), append(request(4, 8), make([]byte, 9)...), request(3, 1<<20), append(request(2, 0), 0), append(request(1, 0), 0), append(request(1, 0), request(1, 0)...),
		make([]byte, 1<<20), []byte("GET / HTTP/1.1\r\n\r\n")} {
		if answer, closed := b.ask(bad); answer != "" || !closed {
			t.Errorf("%.32x: answer %q", bad, answer)
		}
	}
	if answer, _ := b.ask(request(1, 0)); !strings.HasPrefix(answer, "{") {
		t.Errorf("a true request was answered %q", answer)
	}
	b.halfFrames()
	b.unchanged(before)
	calm.end(t)
}

// halfFrames opens more connections than are served, all of which stop in the
// middle. They are closed before long, and then there is an answer again.
func (b *broker) halfFrames() {
	b.t.Helper()
	const many = 50
	conns := make([]net.Conn, many)
	for i := range conns {
		var err error
		conns[i], err = net.Dial("unix", filepath.Join(b.run, "control"))
		must(b.t, err)
		defer conns[i].Close()
		conns[i].Write(request(1, 0)[:i%16])
	}
	for i, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
			b.t.Fatalf("half frame %d: %d bytes, %v", i, n, err)
		}
	}
	if st := b.status(); st.PID != b.pid {
		b.t.Errorf("status after half frames: %+v", st)
	}
}

// Another uid gets no status: by the socket's mode, and when somebody has
// changed that, by who asks.
func TestControlOtherUser(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	asNobody := func() (out string, err error) {
		cmd := exec.Command(gatehouse, "status", "--runtime-dir", b.run, "--json")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	check := func() (line string) {
		t.Helper()
		out, err := asNobody()
		if err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, b.run) {
			t.Errorf("%v: %q, want a line about %s", err, out, b.run)
		}
		return out
	}
	if line := check(); !strings.Contains(line, "answers root") {
		t.Error(line)
	}
	control := filepath.Join(b.run, "control")
	must(t, os.Chmod(control, 0o666))
	check() // whether it can still ask, or only misses the answer
	must(t, os.Chmod(control, 0o600))
	b.status()
}
