package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager stands in for a service manager.
type manager struct {
	conn  *net.UnixConn
	news  chan notice
	alive chan time.Time // signs of life
}

// notice is one datagram, but for signs of life.
type notice map[string]string

// newManager listens at address: a path, or an abstract name after "@".
func newManager(t *testing.T, address string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	must(t, err)
	m := &manager{conn: conn, news: make(chan notice, 100), alive: make(chan time.Time, 1000)}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			state := notice{}
			for _, l := range strings.Split(string(b[:n]), "\n") {
				name, value, _ := strings.Cut(l, "=")
				state[name] = value
			}
			if state["WATCHDOG"] == "1" {
				m.alive <- time.Now()
			}
			if len(state) > 1 || state["WATCHDOG"] == "" {
				m.news <- state
			}
		}
	}()
	return m
}

// managed starts a broker under the manager.
func (m *manager) managed(t *testing.T, s settings, env ...string) *broker {
	t.Helper()
	b := newBroker(t, s)
	b.env = append(env, "NOTIFY_SOCKET="+m.conn.LocalAddr().String())
	b.start()
	return b
}

// A service manager is told of every turn in the broker's life.
func TestNotify(t *testing.T) {
	for _, kind := range []string{"path", "abstract"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address := "@gatehouse-test-" + strconv.Itoa(os.Getpid())
			if kind == "path" {
				address = filepath.Join(t.TempDir(), "notify")
			}
			m := newManager(t, address)
			b := m.managed(t, settings{cms: 2})
			n := within(t, "READY", m.news)
			if n["READY"] != "1" || n["MAINPID"] != strconv.Itoa(b.pid) || !strings.Contains(n["STATUS"], b.addr) {
				t.Errorf("at the start: %v", n)
			}
			before := uptime(t)
			b.edit("[limits]\n", "[limits]\nping_max = 7\n")
			b.edit("count = 2", "count = 3")
			b.reload("reloaded")
			n = within(t, "RELOADING", m.news)
			us, err := strconv.ParseInt(n["MONOTONIC_USEC"], 10, 64)
			if n["RELOADING"] != "1" || err != nil || us < before || us > uptime(t)+10_000 {
				t.Errorf("reload: %v", n)
			}
			n = within(t, "READY", m.news)
			if n["READY"] != "1" || !strings.Contains(n["STATUS"], "cm.count") {
				t.Errorf("after the reload: %v", n)
			}
			b.edit("ping_max = 7", "ping_max = 0")
			b.reload("reload failed: everything stays as it is")
			if n = within(t, "RELOADING", m.news); n["RELOADING"] != "1" {
				t.Errorf("second reload: %v", n)
			}
			if n = within(t, "READY", m.news); n["READY"] != "1" || !strings.Contains(n["STATUS"], "limits.ping_max") {
				t.Errorf("after the second reload: %v", n)
			}
			b.stop(soon)
			if n = within(t, "STOPPING", m.news); n["STOPPING"] != "1" {
				t.Errorf("at the end: %v", n)
			}
			if len(m.alive) > 0 && len(m.news) == 0 {
				t.Error("signs of life that nobody asked for")
			}
		})
	}
}

// uptime is the clock of MONOTONIC_USEC where the machine has never slept, in
// hundredths of a second.
func uptime(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/uptime")
	must(t, err)
	s, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	must(t, err)
	return int64(s * 1e6)
}

// Signs of life come in time, and only while every role answers: a broker whose
// router hangs is not alive, however well its parent is.
func TestNotifyWatchdog(t *testing.T) {
	const every = 400 * time.Millisecond
	for _, role := range []string{"router", "dispatcher", "cm/0"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, filepath.Join(t.TempDir(), "notify"))
			b := m.managed(t, settings{}, fmt.Sprintf("WATCHDOG_USEC=%d", every.Microseconds()))
			for range 5 {
				within(t, "a sign of life", m.alive)
			}
			mark := b.log.Mark()
			b.signal(role, syscall.SIGSTOP)
			if b.log.Find(mark, "role does not answer: no sign of life to the service manager", patience, "role", role) == nil {
				t.Error("the log does not say who")
			}
			for len(m.alive) > 0 {
				<-m.alive
			}
			select {
			case <-m.alive:
				t.Error("a sign of life")
			case <-time.After(2 * every):
			}
			b.signal(role, syscall.SIGCONT)
			within(t, "a sign of life", m.alive)
			b.kill(role) // one that is replaced does not count against it
			b.log.Find(mark, "role ready", patience, "role", role)
			within(t, "a sign of life", m.alive)
		})
	}
}

// The line that a service manager shows is brought up to date, but for why a reload
// failed, which stands there until the next one.
func TestNotifyStatus(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	b := m.managed(t, settings{cms: 2}, "WATCHDOG_USEC=100000")
	shows := func(text string) {
		t.Helper()
		for !strings.Contains(within(t, text, m.news)["STATUS"], text) {
		}
	}
	shows("2 cms, 0 connections, listening on ")
	c := b.client("")
	shows("2 cms, 1 connection, listening on ")
	b.edit("[limits]\n", "[limits]\nping_max = 0\n")
	b.reload("reload failed: everything stays as it is")
	shows("reload failed: ")
	c.conn.Close()
	for len(m.alive) > 0 {
		<-m.alive
	}
	for range 3 {
		within(t, "a sign of life", m.alive)
	}
	for len(m.news) > 0 {
		t.Errorf("and then: %v", <-m.news)
	}
	b.edit("ping_max = 0", "ping_max = 3")
	b.reload("reloaded")
	shows("2 cms, 0 connections, listening on ")
}

// A watchdog for another process is none of ours.
func TestNotifyOthersWatchdog(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	m.managed(t, settings{}, "WATCHDOG_USEC=100000", "WATCHDOG_PID=1")
	within(t, "READY", m.news)
	select {
	case <-m.alive:
		t.Error("a sign of life")
	case <-time.After(300 * time.Millisecond):
	}
}

// While messages are delivered at the end, the manager is asked for time.
func TestNotifyDrain(t *testing.T) {
	t.Parallel()
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	b := m.managed(t, settings{limits: "drain_timeout = \"60s\""})
	within(t, "READY", m.news)
	b.clientBy(smallWindow(4<<10), "SUB flood 1\r\n")
	p := b.client("")
	must(t, p.publishNumbered("flood", 2000, 8<<10))
	must(t, p.sync())
	b.cmd.Process.Signal(syscall.SIGTERM)
	if n := within(t, "STOPPING", m.news); n["STOPPING"] != "1" {
		t.Errorf("at the end: %v", n)
	}
	for range 2 {
		if n := within(t, "EXTEND_TIMEOUT_USEC", m.news); n["EXTEND_TIMEOUT_USEC"] != "10000000" {
			t.Errorf("while draining: %v", n)
		}
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	b.checkEnd(0, soon)
	b.checkLog()
}

// A manager that is not there is a warning, no reason not to start.
func TestNotifyNobody(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{})
	b.env = []string{"NOTIFY_SOCKET=" + filepath.Join(b.dir, "nobody")}
	b.start()
	if w := b.status().Warnings; !strings.Contains(strings.Join(w, "\n"), "nobody") {
		t.Errorf("warnings %q", w)
	}
}
