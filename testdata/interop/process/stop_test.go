package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// SIGTERM in the middle of traffic across both cms: what was accepted before is
// delivered in order, and the broker is gone soon after, with exit code 0.
func TestStopUnderTraffic(t *testing.T) {
	b := startBroker(t, settings{cms: 2})
	b.stopUnderTraffic(b.client)
}

func (b *broker) stopUnderTraffic(client func(first string) *client) {
	t := b.t
	t.Helper()
	const readers = 4
	counts := make(chan int, readers)
	for range readers {
		c := client("SUB flood 1\r\n")
		go func() { counts <- c.countNumbered() }()
	}
	var acked atomic.Int64
	p := client("")
	go p.publishForEver("flood", &acked)
	await(t, "traffic", patience, func() bool { return acked.Load() > 20_000 })
	want := int(acked.Load())
	b.cmd.Process.Signal(syscall.SIGTERM)
	began := time.Now()
	for range readers {
		if n := within(t, "a reader's end", counts); n < want {
			t.Errorf("a reader got %d messages in order, %d were accepted", n, want)
		}
	}
	b.checkEnd(0, soon)
	b.checkLog()
	t.Logf("%d messages accepted, end after %v", want, time.Since(began))
}

// publishForEver sends numbered messages and notes in acked how many of them
// the broker has dealt with.
func (c *client) publishForEver(subject string, acked *atomic.Int64) {
	go func() {
		for n := int64(0); ; {
			f, err := c.next()
			if err != nil {
				return
			}
			if f.line == "PONG" {
				n += 100
				acked.Store(n)
			}
		}
	}()
	for i := 0; ; i += 100 {
		var out bytes.Buffer
		for n := range 100 {
			out.WriteString(pub(subject, fmt.Sprintf("%08d", i+n)))
		}
		if c.send(out.String()+"PING\r\n") != nil {
			return
		}
	}
}

// countNumbered reads numbered messages up to the end of the connection.
func (c *client) countNumbered() int {
	for n := 0; ; n++ {
		f, err := c.next()
		if err != nil || f.verb() != "MSG" || string(f.body) != fmt.Sprintf("%08d", n) {
			return n
		}
	}
}

// A cm may only go when no other cm has anything left for its clients. Here the
// router has still before it what takes long for cm/0, and then something for
// cm/1, which has nothing to do when the signal comes.
func TestStopWithBacklog(t *testing.T) {
	const long, sids, late = 300, 1000, 100
	b := startBroker(t, settings{cms: 2})
	p, busy, idle := b.clientOn("cm/0"), b.clientOn("cm/0"), b.clientOn("cm/1")
	subs := ""
	for sid := range sids {
		subs += fmt.Sprintf("SUB long %d\r\n", sid)
	}
	must(t, busy.send(subs))
	must(t, busy.sync())
	must(t, idle.send("SUB late 1\r\n"))
	must(t, idle.sync())
	gotBusy, gotIdle := make(chan int, 1), make(chan int, 1)
	go func() { gotBusy <- busy.countMessages() }()
	go func() { gotIdle <- idle.countMessages() }()
	b.signal("router", syscall.SIGSTOP)
	must(t, p.publishNumbered("long", long, 16))
	must(t, p.publishNumbered("late", late, 16))
	await(t, "messages on their way", patience, func() bool {
		st := b.status()
		return st.Role("cm/0").InMsgs == long+late
	})
	b.cmd.Process.Signal(syscall.SIGTERM)
	if b.log.Find(0, "stopping", patience) == nil {
		t.Fatal("no reaction to SIGTERM")
	}
	b.signal("router", syscall.SIGCONT)
	if n := within(t, "the end of the busy reader", gotBusy); n != long*sids {
		t.Errorf("the busy reader got %d of %d messages", n, long*sids)
	}
	if n := within(t, "the end of the idle reader", gotIdle); n != late {
		t.Errorf("the idle reader got %d of %d messages", n, late)
	}
	b.checkEnd(0, soon)
	b.checkLog()
}

// clientOn connects until a connection lands on that cm.
func (b *broker) clientOn(role string) *client {
	b.t.Helper()
	for {
		if c := b.client(""); b.homeOf(c) == role {
			return c
		}
	}
}

// countMessages reads up to the end of the connection.
func (c *client) countMessages() (n int) {
	for {
		f, err := c.next()
		if err != nil {
			return n
		}
		if f.verb() == "MSG" {
			n++
		}
	}
}

// A subscriber that reads slowly, and sends something while the broker is
// ending, gets all that was accepted for it.
func TestStopWithSlowReader(t *testing.T) {
	const n, size = 1500, 8 << 10
	b := startBroker(t, settings{})
	c := b.clientBy(smallWindow(16<<10), "SUB flood 1\r\n")
	p := b.client("")
	must(t, p.publishNumbered("flood", n, size))
	must(t, p.sync())
	tick := time.NewTicker(pace)
	defer tick.Stop()
	c.in.Reset(&paced{from: c.conn, rate: 20 << 20, fast: make(chan struct{}), tick: tick})
	b.cmd.Process.Signal(syscall.SIGTERM)
	if b.log.Find(0, "stopping", patience) == nil {
		t.Fatal("no reaction to SIGTERM")
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				io.WriteString(c.conn, "PING\r\n")
			}
		}
	}()
	if err := c.readNumbered(n, size); err != nil {
		t.Error(err)
	}
	b.checkEnd(0, soon)
	b.checkLog()
}

// Somebody who reads nothing delays the end until drain_timeout, not longer,
// and a second signal ends the wait.
func TestStopWithStoppedReader(t *testing.T) {
	for _, signals := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d signals", signals), func(t *testing.T) {
			t.Parallel()
			drain := "500ms"
			if signals == 2 {
				drain = "60s"
			}
			b := startBroker(t, settings{limits: fmt.Sprintf("drain_timeout = %q", drain)})
			b.clientBy(smallWindow(4<<10), "SUB flood 1\r\n")
			p := b.client("")
			const n, size = 2000, 8 << 10
			must(t, p.publishNumbered("flood", n, size))
			must(t, p.sync())
			b.cmd.Process.Signal(syscall.SIGTERM)
			if b.log.Find(0, "stopping", patience) == nil {
				t.Fatal("no reaction to SIGTERM")
			}
			if signals == 2 {
				b.cmd.Process.Signal(syscall.SIGTERM)
			}
			b.checkEnd(0, soon)
			b.checkLog()
			l := b.log.Find(0, "messages not delivered", soon)
			if l == nil || l.Fields["n"] == nil || l.Fields["n"].(float64) > n || l.Fields["bytes"].(float64) < n*size/2 || l.Fields["bytes"].(float64) > n*(size+100) {
				t.Errorf("reported: %+v", l)
			}
		})
	}
}

// With the signal come the news to clients that want them, and no new ones.
func TestStopLameDuck(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	c, err := dial(b.addr)
	must(t, err)
	defer c.reset()
	must(t, c.send(strings.Replace(quiet, `"protocol":0`, `"protocol":1`, 1)+"SUB a 1\r\n"))
	must(t, c.sync())
	f, err := c.next() // the second INFO, after the first PONG
	if err != nil || f.verb() != "INFO" {
		t.Fatalf("%q, %v", f.line, err)
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	f, err = c.next()
	if err != nil || f.verb() != "INFO" || !strings.Contains(f.line, `"ldm":true`) {
		t.Errorf("%q, %v, want an INFO with ldm", f.line, err)
	}
	if f, err := c.next(); !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v, want the end", f.line, err)
	}
	b.checkEnd(0, soon)
	if conn, err := net.Dial("tcp", b.addr); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
}

// What was read before the signal counts as accepted, also what waits as bytes
// for room in the arena: it is delivered. Who sent more than was read is not told
// that it arrived.
func TestStopWithFullArena(t *testing.T) {
	const size, most = 8 << 10, 60
	for _, kind := range []string{"tcp", "tls"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, settings{cms: 2, tls: "sign", store: "arena = \"64KiB\"\nring = \"512KiB\"", limits: "max_payload = \"16KiB\""})
			on := b.clientOn
			if kind == "tls" {
				on = b.tlsClientOn
			}
			sub, p := on("cm/1"), on("cm/0")
			must(t, sub.send("SUB a 1\r\n"))
			must(t, sub.sync())
			got := make(chan int, 1)
			go func() { got <- sub.countNumberedOf(size) }()
			readBy := func() uint64 { st := b.status(); return st.Role("cm/0").InBytes }
			before := readBy()
			b.signal("router", syscall.SIGSTOP)
			sent := ""
			for n := range most {
				sent += pub("a", fmt.Sprintf("%0*d", size, n))
			}
			go p.send(sent + "PING\r\n")
			// It has read what it will when nothing more comes for a while.
			read, same := uint64(0), 0
			await(t, "a full arena", patience, func() bool {
				now := readBy() - before
				if same++; now != read || now == 0 {
					read, same = now, 0
				}
				return same == 4
			})
			b.cmd.Process.Signal(syscall.SIGTERM)
			if b.log.Find(0, "stopping", patience) == nil {
				t.Fatal("no reaction to SIGTERM")
			}
			b.signal("router", syscall.SIGCONT)
			want := int(read) / (len(sent) / most)
			// More may be read until the news has come to the cm.
			n := within(t, "the end of the reader", got)
			if n < want || want <= 64<<10/size {
				t.Errorf("the reader got %d messages, %d were read from their sender", n, want)
			}
			if rest := p.rest(); n < most && strings.Contains(rest, "PONG") {
				t.Errorf("the sender was told that all had arrived, the reader got %d of %d", n, most)
			}
			b.checkEnd(0, soon)
			b.checkLog()
			if len(b.log.All("messages not routed"))+len(b.log.All("messages not delivered")) > 0 {
				t.Error("messages are reported that were delivered")
			}
		})
	}
}

// countNumberedOf reads numbered messages of that size up to the end of the
// connection.
func (c *client) countNumberedOf(size int) int {
	for n := 0; ; n++ {
		f, err := c.next()
		if err != nil || f.verb() != "MSG" || string(f.body) != fmt.Sprintf("%0*d", size, n) {
			return n
		}
	}
}

// What the router never took is reported by sender, and no sender is told that it
// arrived: a router that hangs does not keep the end from being one in order.
func TestStopWithHungRouter(t *testing.T) {
	t.Parallel()
	const n = 100
	b := startBroker(t, settings{cms: 2, limits: "drain_timeout = \"500ms\""})
	p, idle := b.clientOn("cm/0"), b.clientOn("cm/1")
	b.signal("router", syscall.SIGSTOP)
	must(t, p.publishNumbered("a", n, 16))
	must(t, p.send("PING\r\n"))
	await(t, "messages read", patience, func() bool { st := b.status(); return st.Role("cm/0").InMsgs == n })
	b.cmd.Process.Signal(syscall.SIGTERM)
	if l := b.log.Find(0, "messages not routed", patience, "role", "cm/0"); l == nil || l.Fields["n"] != float64(n) || l.Fields["cid"] == nil {
		t.Errorf("reported: %+v", l)
	}
	for _, c := range []*client{p, idle} {
		if rest := c.rest(); rest != "" {
			t.Errorf("a client was told %q", rest)
		}
	}
	b.checkEnd(0, soon)
	if len(b.log.All("messages not routed")) != 1 || len(b.log.All("stopped before all was routed")) != 1 {
		t.Error("reported more than once, or for a client that sent nothing")
	}
}

// A router that comes when all messages are routed and the cms only wait for readers
// is told of what else happens: the end does not wait for what nobody will do.
func TestStopWithNewRouter(t *testing.T) {
	t.Parallel()
	const n, size = 1000, 8 << 10
	b := startBroker(t, settings{cms: 2})
	slow := func() *client {
		for {
			c := b.clientBy(smallWindow(16<<10), "SUB flood 1\r\n")
			if b.homeOf(c) == "cm/0" {
				return c
			}
			c.reset()
		}
	}
	stays, goes := slow(), slow()
	p := b.client("")
	must(t, p.publishNumbered("flood", n, size))
	must(t, p.sync())
	b.cmd.Process.Signal(syscall.SIGTERM)
	if b.log.Find(0, "role ended", patience, "role", "cm/1") == nil {
		t.Fatal("cm/1 has nothing to wait for and does not end")
	}
	mark := b.log.Mark()
	b.kill("router")
	if b.log.Find(mark, "took over", patience, "role", "router") == nil {
		t.Fatal("the router did not come back")
	}
	goes.reset()
	if err := stays.readNumbered(n, size); err != nil {
		t.Error(err)
	}
	b.checkEnd(0, soon)
	b.checkLog()
}

// A client that has ended its own stream gets all the same what it has coming.
func TestStopWithHalfClosedReader(t *testing.T) {
	t.Parallel()
	const n, size = 1000, 8 << 10
	b := startBroker(t, settings{})
	c := b.clientBy(smallWindow(16<<10), "SUB flood 1\r\n")
	p := b.client("")
	must(t, p.publishNumbered("flood", n, size))
	must(t, p.sync())
	b.cmd.Process.Signal(syscall.SIGTERM)
	if b.log.Find(0, "stopping", patience) == nil {
		t.Fatal("no reaction to SIGTERM")
	}
	await(t, "the end of reading", patience, func() bool { st := b.status(); return st.Role("cm/0").State == "stopping" })
	must(t, c.conn.(*net.TCPConn).CloseWrite())
	if err := c.readNumbered(n, size); err != nil {
		t.Error(err)
	}
	b.checkEnd(0, soon)
	b.checkLog()
}

// Clients that have just gone are told of the end, which nobody takes any more: the
// broker waits for all of them together, not for one after the other.
func TestStopAfterGone(t *testing.T) {
	b := startBroker(t, settings{})
	var gone []*client
	for range 300 {
		c, err := dial(b.addr)
		must(t, err)
		t.Cleanup(c.reset)
		must(t, c.send(strings.Replace(quiet, `"protocol":0`, `"protocol":1`, 1)))
		must(t, c.sync())
		gone = append(gone, c)
	}
	for _, c := range gone {
		c.conn.Close()
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	b.checkEnd(0, soon)
}
