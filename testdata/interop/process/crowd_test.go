package process

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Ten thousand connections are held and served: a message to all reaches each,
// one of each reaches the one who listens.
func TestCrowd(t *testing.T) {
	const crowd, dialers = 10_000, 16
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur < crowd+1000 {
		t.Skipf("SKIP needs %d open files, the hard limit is %d", crowd+1000, limit.Max)
	}
	b := startBroker(t, settings{cms: 2})
	before := b.processes()
	all := make([]*client, crowd)
	began := time.Now()
	b.each(dialers, crowd, func(i int) (err error) {
		if all[i], err = dialWith(from(i), b.addr); err != nil {
			return err
		}
		if err := all[i].send(quiet + "SUB all 1\r\n"); err != nil {
			return err
		}
		return all[i].sync()
	})
	defer func() {
		for _, c := range all {
			if c != nil {
				c.reset()
			}
		}
	}()
	if t.Failed() {
		return
	}
	t.Logf("%d connections after %v", crowd, time.Since(began))
	b.checkCrowd(crowd)

	listener := b.client("SUB each 1\r\n")
	began = time.Now()
	must(t, listener.send(pub("all", "hello")))
	b.each(1, crowd, func(i int) error {
		_, err := all[i].numbered("hello")
		return err
	})
	t.Logf("a message to all after %v", time.Since(began))
	began = time.Now()
	heard := make(chan error, 1)
	go func() { heard <- listener.hearEach(crowd) }()
	b.each(dialers, crowd, func(i int) error { return all[i].send(pub("each", fmt.Sprint(i))) })
	must(t, within(t, "a message of each", heard))
	t.Logf("a message of each after %v", time.Since(began))
	b.unchanged(before)
}

// each does something for every one of n, several at a time.
func (b *broker) each(workers, n int, do func(i int) error) {
	b.t.Helper()
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < n; i += workers {
				if err := do(i); err != nil {
					b.t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// checkCrowd wants the connections shared out evenly, and little memory for
// each.
func (b *broker) checkCrowd(n uint64) {
	b.t.Helper()
	st := b.status()
	memory := uint64(0)
	for _, p := range st.Processes {
		memory += p.Memory
	}
	b.t.Logf("%d MiB in all processes, %d bytes a connection", memory>>20, memory/n)
	for _, role := range []string{"cm/0", "cm/1"} {
		if got := st.Role(role).Connections; got < n*45/100 || got > n*55/100 {
			b.t.Errorf("%s has %d of %d connections", role, got, n)
		}
	}
	if got := st.Role("router").Subscriptions; got != n {
		b.t.Errorf("%d subscriptions, want %d", got, n)
	}
}

// numbered reads one message with this body.
func (c *client) numbered(body string) (frame, error) {
	f, err := c.next()
	if err == nil && (f.verb() != "MSG" || string(f.body) != body) {
		err = fmt.Errorf("read %q with %q, want %q", f.line, f.body, body)
	}
	return f, err
}

// hearEach reads the numbers up to n, each once, in any order.
func (c *client) hearEach(n int) error {
	seen := make(map[string]bool, n)
	for len(seen) < n {
		f, err := c.next()
		if err != nil {
			return fmt.Errorf("after %d messages: %w", len(seen), err)
		}
		if f.verb() != "MSG" || seen[string(f.body)] {
			return fmt.Errorf("read %q with %q", f.line, f.body)
		}
		seen[string(f.body)] = true
	}
	return nil
}

// Above max_connections a client is told so in words that it knows, and a place
// that is freed can be taken again.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	const limit, refused = 10, 200
	b := startBroker(t, settings{cms: 2, limits: fmt.Sprintf("max_connections = %d", limit)})
	var held []*client
	for range limit {
		held = append(held, b.client(""))
	}
	began := time.Now()
	for i := range refused {
		addr := []string{b.addr, b.unix}[i%2]
		c, err := dial(addr)
		must(t, err)
		if !strings.HasPrefix(c.info, "INFO {") || !strings.Contains(c.info, `"max_payload":1048576`) {
			t.Errorf("greeted with %q", c.info)
		}
		if rest := c.rest(); rest != "-ERR 'maximum connections exceeded'\r\n" {
			t.Fatalf("told %q", rest)
		}
		c.reset()
	}
	took := time.Since(began)
	if _, err := nats.Connect("nats://" + b.addr); err == nil || !strings.Contains(err.Error(), "maximum connections exceeded") {
		t.Errorf("nats.go: %v", err)
	}
	b.checkComplaints("max_connections", refused+1, took)
	for i, c := range held {
		must(t, c.sync())
		c.reset()
		await(t, "the free place", patience, func() bool {
			again, err := dial(b.addr)
			must(t, err)
			if again.send("PING\r\n") == nil {
				if f, err := again.next(); err == nil && f.line == "PONG" {
					held[i] = again
					return true
				}
			}
			again.reset()
			return false
		})
	}
	for _, c := range held {
		must(t, c.sync())
		c.reset()
	}
}

// One address has no more than address_connections at a time, whichever dispatcher is
// there; other addresses and Unix sockets are not its affair.
func TestAddressConnections(t *testing.T) {
	t.Parallel()
	const limit = 4
	b := startBroker(t, settings{cms: 2, limits: fmt.Sprintf("address_connections = %d", limit)})
	// full fills an address up, and wants room for n.
	full := func(n int) (held []*client) {
		t.Helper()
		for {
			c, err := dialWith(from(1), b.addr)
			must(t, err)
			if c.send("PING\r\n") == nil {
				if f, err := c.next(); err == nil && f.line == "PONG" {
					held = append(held, c)
					continue
				}
			}
			c.reset()
			if len(held) != n {
				t.Fatalf("%d connections, want %d", len(held), n)
			}
			return held
		}
	}
	mark := b.log.Mark()
	held := full(limit)
	for range limit {
		for addr, d := range map[string]*net.Dialer{b.addr: from(2), b.unix: {}} {
			c, err := dialWith(d, addr)
			must(t, err)
			must(t, c.sync())
			held = append(held, c)
		}
	}
	c, err := dialWith(from(1), b.addr)
	must(t, err)
	if rest := c.rest(); rest != "-ERR 'maximum connections exceeded'\r\n" {
		t.Errorf("told %q", rest)
	}
	c.reset()
	if b.log.Find(mark, "connection refused", patience, "reason", "address_connections", "addr", "127.0.1.2") == nil {
		t.Error("the log does not say whose")
	}
	b.kill("dispatcher")
	await(t, "another dispatcher", patience, func() bool { return b.serves() == nil })
	full(0)
	for _, c := range held[:limit] {
		c.reset()
	}
	await(t, "the places of who has gone", patience, func() bool {
		c, err := dialWith(from(1), b.addr)
		must(t, err)
		defer c.reset()
		return c.sync() == nil
	})
	b.edit(fmt.Sprintf("address_connections = %d", limit), fmt.Sprintf("address_connections = %d", limit+2))
	b.reload("reloaded")
	await(t, "more of them", patience, func() bool {
		var got []*client
		for range limit + 2 {
			c, err := dialWith(from(1), b.addr)
			must(t, err)
			got = append(got, c)
			if c.sync() != nil {
				break
			}
		}
		for _, c := range got {
			c.reset()
		}
		return len(got) == limit+2
	})
}

// checkComplaints wants the log to tell of all refusals and to name them at
// most once a second.
func (b *broker) checkComplaints(reason string, least int, took time.Duration) {
	b.t.Helper()
	lines := b.log.All("connection refused", "reason", reason)
	if len(lines) == 0 || len(lines) > 2+int(took/time.Second) {
		b.t.Errorf("%d log lines about %s in %v", len(lines), reason, took)
	}
	for i := 1; i < len(lines); i++ {
		if gap := lines[i].At.Sub(lines[i-1].At); gap < 900*time.Millisecond {
			b.t.Errorf("two lines about %s within %v", reason, gap)
		}
	}
	told := 0
	for _, l := range lines {
		n, _ := l.Fields["n"].(float64)
		told += int(n)
	}
	if told > least || told < 1 {
		b.t.Errorf("the log tells of %d refusals, there were %d", told, least)
	}
}

// Above connect_rate a connection is closed without a word. The rate is that of
// one address; Unix sockets have none.
func TestConnectRate(t *testing.T) {
	t.Parallel()
	const rate, burst = 5, 10
	b := startBroker(t, settings{limits: fmt.Sprintf("connect_rate = %d\nconnect_burst = %d", rate, burst)})
	began := time.Now()
	served, refused := 0, 0
	for range 500 {
		switch c, err := dialWith(from(1), b.addr); {
		case err == nil:
			served++
			c.reset()
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			refused++
		default:
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	t.Logf("%d served, %d refused in %v", served, refused, took)
	if most := burst + int(took.Seconds()*rate) + 1; served < burst || served > most {
		t.Errorf("%d connections were served in %v, want %d to %d", served, took, burst, most)
	}
	for _, other := range []struct {
		addr string
		from *net.Dialer
	}{{b.addr, from(2)}, {b.unix, &net.Dialer{}}} {
		for range burst {
			c, err := dialWith(other.from, other.addr)
			must(t, err)
			c.reset()
		}
	}
	b.checkComplaints("rate", refused, took)
	await(t, "the rate's next connection", patience, func() bool {
		c, err := dialWith(from(1), b.addr)
		if err != nil {
			return false
		}
		c.reset()
		return true
	})
}
