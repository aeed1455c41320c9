package process

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/testdata/tree"
)

// restart replaces a role as the operator does, and returns what was printed.
func (b *broker) restart(role string) string {
	b.t.Helper()
	out, err := exec.Command(gatehouse, "restart", "--runtime-dir", b.run, role).CombinedOutput()
	if err != nil {
		b.t.Fatalf("restart %s: %v\n%s", role, err, out)
	}
	b.processes()
	return string(out)
}

// cms are the connection managers that take new connections, in order.
func (b *broker) cms() (roles []string) {
	b.t.Helper()
	st := b.status()
	for _, p := range st.Processes {
		if strings.HasPrefix(p.Role, "cm/") && p.Successor == "" {
			roles = append(roles, p.Role)
		}
	}
	return roles
}

// moveAll replaces every cm once.
func (b *broker) moveAll() {
	b.t.Helper()
	for _, role := range b.cms() {
		b.restart(role)
	}
}

// script is what a client says, and what it must be told whatever happens on
// the way.
var script = []struct{ says, hears string }{
	{"CONNECT {\"verbose\":true,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":0}\r\n", "+OK\r\n"},
	{"SUB s.$ 1\r\n", "+OK\r\n"},
	{"PUB s.$ 5\r\nhello\r\n", "+OK\r\nMSG s.$ 1 5\r\nhello\r\n"},
	{"HPUB s.$ back 18 20\r\nNATS/1.0\r\na: b\r\n\r\nhi\r\n", "+OK\r\nHMSG s.$ 1 back 18 20\r\nNATS/1.0\r\na: b\r\n\r\nhi\r\n"},
	{"PUB s.$ 0\r\n\r\n", "+OK\r\nMSG s.$ 1 0\r\n\r\n"},
	{"UNSUB 1 4\r\n", "+OK\r\n"},
	{"PUB s.$ 3\r\nabc\r\n", "+OK\r\nMSG s.$ 1 3\r\nabc\r\n"},
	{"PUB s.$ 3\r\ndef\r\n", "+OK\r\n"},
	{"PUB nobody.$ s.$ 1\r\nx\r\n", "+OK\r\n"},
	{"ping\r\n", "PONG\r\n"},
}

func scriptOf(subject string) (says, hears string) {
	for _, line := range script {
		says += strings.ReplaceAll(line.says, "$", subject)
		hears += strings.ReplaceAll(line.hears, "$", subject)
	}
	return says, hears
}

// A client is cut off at every single byte of what it says, its connection is
// moved, and it says the rest: it hears what it would have heard.
func TestMoveAnywhere(t *testing.T) {
	t.Parallel()
	for _, listener := range []string{"tcp", "unix"} {
		t.Run(listener, func(t *testing.T) {
			b := startBroker(t, settings{cms: 1, limits: `auth_timeout = "1m"`})
			addr := b.addr
			if listener == "unix" {
				addr = b.unix
			}
			says, _ := scriptOf("000")
			var all []*client
			sent := uint64(0)
			for i := range len(says) + 1 {
				c, err := dial(addr)
				must(t, err)
				t.Cleanup(c.reset)
				all = append(all, c)
				says, _ := scriptOf(fmt.Sprintf("%03d", i))
				must(t, c.send(says[:i]))
				sent += uint64(i)
			}
			await(t, "the first parts to be read", patience, func() bool {
				st := b.status()
				return st.Role("cm/0").InBytes == sent
			})
			b.restart("cm/0")
			for i, c := range all {
				says, hears := scriptOf(fmt.Sprintf("%03d", i))
				must(t, c.send(says[i:]))
				got := make([]byte, len(hears))
				c.conn.SetReadDeadline(time.Now().Add(patience))
				if n, err := io.ReadFull(c.in, got); err != nil || string(got) != hears {
					t.Fatalf("moved after %q, %v:\nheard %q\nwant  %q", says[:i], err, got[:n], hears)
				}
			}
			b.checkMoved(len(all), "cm/1")
		})
	}
}

// checkMoved wants all connections in one place, and the old process gone.
func (b *broker) checkMoved(n int, role string) {
	b.t.Helper()
	var st *tree.Status
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%+v", st.Processes)
		}
	}()
	await(b.t, "the old process to end", patience, func() bool {
		st = b.status()
		return len(st.Processes) == 4 && st.Role(role).Connections == uint64(n) && st.Role("router").Connections == uint64(n) &&
			st.Role("dispatcher").Connections == uint64(n)
	})
}

// A large message goes on through several moves, and so does a line that is
// longer than a parser likes to keep.
func TestMoveLargeMessage(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 1, limits: `auth_timeout = "1m"`})
	reader := b.client("SUB big 1\r\n")
	c := b.client("")
	body := strings.Repeat("0123456789abcdef", 60<<10)
	m := pub("big", body)
	for i, n := 0, len(m)/7; i < len(m); i += n {
		must(t, c.send(m[i:min(i+n, len(m))]))
		b.moveAll()
	}
	if got := reader.expect(t, fmt.Sprintf("MSG big 1 %d", len(body))); got != body {
		t.Error("the body has changed")
	}
	long := "CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"" + strings.Repeat("n", 50<<10) + "\"}\r\n"
	must(t, c.send(long[:20<<10]))
	b.moveAll()
	must(t, c.send(long[20<<10:]))
	must(t, c.sync())
}

// A reader with megabytes to come is moved again and again: it gets all of them,
// once and in order, while its sender waits for it.
func TestMoveSlowReader(t *testing.T) {
	t.Parallel()
	const n, size = 3000, 16 << 10
	b := startBroker(t, settings{cms: 1, limits: "max_pending = \"16MiB\""})
	reader, publisher := b.clientBy(smallWindow(16<<10), "SUB flood 1\r\n"), b.client("")
	tick := time.NewTicker(pace)
	defer tick.Stop()
	fast := make(chan struct{})
	reader.in.Reset(&paced{from: reader.conn, rate: 10 << 20, fast: fast, tick: tick})
	read, published := make(chan error, 1), make(chan error, 1)
	go func() { read <- reader.readNumbered(n, size) }()
	go func() { published <- publisher.publishNumbered("flood", n, size) }()
	moves := 0
	for done := false; !done; {
		select {
		case err := <-published:
			must(t, err)
			done = true
		default:
			b.moveAll()
			moves++
		}
	}
	close(fast)
	must(t, within(t, "the reader", read))
	must(t, publisher.sync())
	t.Logf("%d MiB over %d moves", n*size>>20, moves)
	if moves < 5 {
		t.Errorf("only %d moves", moves)
	}
}

// Connections by TLS stay where they are and are served, also beside those that
// have moved, until their time is up.
func TestMoveTLSStays(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 1, tls: "sign", limits: `drain_timeout = "4s"`})
	secure := b.tlsClient("SUB a 1\r\n")
	plain := b.client("SUB a 1\r\n")
	out := b.restart("cm/0")
	if !strings.Contains(out, "1 connections moved") || !strings.Contains(out, "1 by TLS stay") {
		t.Errorf("told %q", out)
	}
	st := b.status()
	if p := st.Role("cm/0"); p.State != "retiring" || p.Successor != "cm/1" || p.Stay != 1 || p.Connections != 1 {
		t.Errorf("%+v", p)
	}
	if p := st.Role("cm/1"); p.Connections != 1 {
		t.Errorf("%+v", p)
	}
	for i := range 50 {
		from, to := plain, secure
		if i%2 == 1 {
			from, to = to, from
		}
		must(t, from.send(pub("a", fmt.Sprint(i))))
		for _, c := range []*client{from, to} {
			if got := c.expect(t, fmt.Sprintf("MSG a 1 %d", len(fmt.Sprint(i)))); got != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, got)
			}
		}
	}
	if again, err := exec.Command(gatehouse, "restart", "--runtime-dir", b.run, "cm/1").CombinedOutput(); err == nil ||
		!strings.Contains(string(again), "cm/0 keeps 1 connections by TLS") {
		t.Errorf("a second restart: %v, %q", err, again)
	}
	if rest := secure.rest(); rest != "" {
		t.Errorf("at the end told %q", rest)
	}
	must(t, plain.sync())
	b.checkMoved(1, "cm/1")
	b.restart("cm/1")
	must(t, plain.sync())
}

// The new process does not get ready, or is killed in the middle, or the old one
// is: who is not concerned does not notice, and the broker is whole afterwards.
func TestMoveAndKill(t *testing.T) {
	b := startBroker(t, settings{cms: 2})
	var here []*client
	for range 400 {
		here = append(here, b.client("SUB x 1\r\n"))
	}
	calm := startCalm(t, b.onCM("cm/1"), b.onCM("cm/1"), 0)
	for i, victim := range []string{"old", "new", "old", "new"} {
		old := b.cms()[0]
		if old == "cm/1" {
			old = b.cms()[1]
		}
		fresh := map[string]string{"cm/0": "cm/2", "cm/2": "cm/0"}[old]
		cmd := exec.Command(gatehouse, "restart", "--runtime-dir", b.run, old)
		must(t, cmd.Start())
		if victim == "old" {
			b.kill(old)
		} else {
			await(t, "the new process", patience, func() bool { return b.processes()[fresh] != 0 })
			b.kill(fresh)
		}
		cmd.Wait()
		await(t, fmt.Sprintf("a whole broker after %d", i), patience, func() bool {
			st := b.status()
			return len(st.Processes) == 5 && !slices.ContainsFunc(st.Processes, func(p tree.Process) bool { return p.State != "running" })
		})
		must(t, b.serves())
	}
	calm.end(t)
	for _, c := range here {
		c.reset()
	}
	await(t, "no connection but the calm ones'", patience, func() bool {
		st := b.status()
		return st.Role("router").Connections == st.Role("dispatcher").Connections && st.Role("dispatcher").Connections <= 8
	})
}

// onCM is a client that this cm holds.
func (b *broker) onCM(role string) *client {
	b.t.Helper()
	for {
		c := b.client("")
		if b.homeOf(c) == role {
			return c
		}
	}
}

// Router and dispatcher are replaced: connections of the cms stay with a new
// dispatcher, none that comes meanwhile is refused.
func TestRestartDispatcher(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	calm := startCalm(t, b.client(""), b.client(""), 0)
	stop, dialed := make(chan struct{}), make(chan error, 1)
	n := 0
	go func() {
		var err error
		for ; err == nil; n++ {
			select {
			case <-stop:
				dialed <- nil
				return
			default:
			}
			var c *client
			if c, err = dial(b.addr); err == nil {
				err = errors.Join(c.send(quiet), c.sync())
				c.reset()
			}
		}
		dialed <- err
	}()
	for range 10 {
		b.restart("dispatcher")
	}
	close(stop)
	must(t, within(t, "the last connection", dialed))
	t.Logf("%d connections over 10 dispatchers", n)
	calm.end(t)
}
