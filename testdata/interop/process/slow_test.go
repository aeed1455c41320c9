package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/testdata/tree"
)

// smallWindow is a dialer whose connections take little that nobody reads.
func smallWindow(bytes int) *net.Dialer {
	return &net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
		})
	}}
}

// numbered is n messages of size bytes, each with its number, as a stream that
// goes on by writing: one message after the other, at the speed of the broker.
func (c *client) publishNumbered(subject string, n, size int) error {
	var out bytes.Buffer
	filler := strings.Repeat("x", size-8)
	for i := range n {
		fmt.Fprintf(&out, "PUB %s %d\r\n%08d%s\r\n", subject, size, i, filler)
		if out.Len() >= 64<<10 || i == n-1 {
			c.conn.SetWriteDeadline(time.Now().Add(patience))
			if _, err := out.WriteTo(c.conn); err != nil {
				return fmt.Errorf("message %d: %w", i, err)
			}
		}
	}
	return nil
}

// readNumbered reads what publishNumbered sends.
func (c *client) readNumbered(n, size int) error {
	for i := range n {
		f, err := c.next()
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if len(f.body) != size || string(f.body[:8]) != fmt.Sprintf("%08d", i) {
			return fmt.Errorf("%q with %.8q in place of message %d", f.line, f.body, i)
		}
	}
	return nil
}

// Subscribers that stop reading are cut off without a word; publisher, other
// subscribers of the same subject, and everybody else go on.
func TestStoppedReader(t *testing.T) {
	const stopped, n, size = 4, 30_000, 1024
	b := startBroker(t, settings{cms: 2, limits: `max_pending = "1MiB"`})
	var cut []*client
	for range stopped {
		cut = append(cut, b.clientBy(smallWindow(4<<10), "SUB flood 1\r\n"))
	}
	reader, publisher := b.client("SUB flood 1\r\n"), b.client("")
	calm := startCalm(t, b.client(""), b.client(""), 0)
	read, published := make(chan error, 1), make(chan error, 1)
	began := time.Now()
	go func() { read <- reader.readNumbered(n, size) }()
	go func() { published <- publisher.publishNumbered("flood", n, size) }()
	if err := errors.Join(within(t, "the publisher", published), within(t, "the reader", read)); err != nil {
		t.Error(err)
	}
	t.Logf("%d MiB to a reader in %v", n*size>>20, time.Since(began))
	for range stopped {
		if b.log.Find(0, "connection ended", patience, "reason", "slow_consumer") == nil {
			t.Fatal("no subscriber was cut off")
		}
	}
	for _, c := range cut {
		if text := c.rest(); strings.Contains(text, "-ERR") {
			t.Errorf("a slow consumer was told %.200q", text[strings.Index(text, "-ERR"):])
		}
	}
	calm.end(t)
	if calm.slowest > time.Second {
		t.Errorf("well-behaved clients waited %v", calm.slowest)
	}
	must(t, publisher.sync())
	st := b.status()
	if slow := st.Sum(func(p tree.Process) uint64 { return p.SlowConsumers }); slow != stopped {
		t.Errorf("status counts %d slow consumers, want %d", slow, stopped)
	}
	if n := len(b.log.All("connection ended", "reason", "slow_consumer")); n != stopped {
		t.Errorf("%d slow consumers in the log, want %d", n, stopped)
	}
}

// paced reads at most so many bytes a second, in small reads, until fast is
// closed.
type paced struct {
	from io.Reader
	rate int // bytes per second
	fast chan struct{}
	tick *time.Ticker
	left int // of this tick
}

const pace = 5 * time.Millisecond

func (p *paced) Read(b []byte) (int, error) {
	for p.left <= 0 {
		select {
		case <-p.fast:
			return p.from.Read(b)
		case <-p.tick.C:
			p.left += p.rate / int(time.Second/pace)
		}
	}
	n, err := p.from.Read(b[:min(len(b), 4<<10)])
	p.left -= n
	return n, err
}

// A publisher that is faster than its reader is slowed, whatever the reader's
// speed: everything arrives, nobody is disconnected.
func TestSlowReader(t *testing.T) {
	const size = 16 << 10
	for _, speed := range []struct {
		name   string
		rate   int           // MiB per second
		window int           // the reader's receive buffer, 0: what the kernel likes
		total  int           // MiB
		slow   time.Duration // after which it reads as fast as it can
		limits string
	}{
		{"40 MiB/s", 40, 64 << 10, 200, time.Minute, ""},
		{"4 MiB/s", 4, 0, 80, 3 * time.Second, ""},
		{"1 MiB/s", 1, 64 << 10, 60, 3 * time.Second, "write_deadline = \"400ms\""},
	} {
		t.Run(speed.name, func(t *testing.T) {
			t.Parallel() // most of the time is waiting
			b := startBroker(t, settings{cms: 2, limits: "max_pending = \"8MiB\"\n" + speed.limits})
			d := &net.Dialer{Timeout: patience}
			if speed.window > 0 {
				d = smallWindow(speed.window)
			}
			reader, publisher := b.clientBy(d, "SUB flood 1\r\n"), b.client("")
			fast := make(chan struct{})
			slow := time.AfterFunc(speed.slow, func() { close(fast) })
			defer slow.Stop()
			tick := time.NewTicker(pace)
			defer tick.Stop()
			reader.in.Reset(&paced{from: reader.conn, rate: speed.rate << 20, fast: fast, tick: tick})
			n := speed.total << 20 / size
			read, published := make(chan error, 1), make(chan error, 1)
			began := time.Now()
			go func() { read <- reader.readNumbered(n, size) }()
			go func() { published <- publisher.publishNumbered("flood", n, size) }()
			if err := within(t, "the publisher", published); err != nil {
				t.Error(err)
			}
			t.Logf("published after %v", time.Since(began))
			if err := within(t, "the reader", read); err != nil {
				t.Error(err)
			}
			t.Logf("%d MiB read after %v", speed.total, time.Since(began))
			must(t, publisher.sync())
			st := b.status()
			if slow := st.Sum(func(p tree.Process) uint64 { return p.SlowConsumers }); slow != 0 {
				t.Errorf("status counts %d slow consumers", slow)
			}
		})
	}
}
