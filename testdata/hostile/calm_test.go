package hostile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// client is a NATS client without a library.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

const hello = `CONNECT {"verbose":false,"pedantic":false,"protocol":0,"auth_token":"battery"}` + "\r\n"

// tokenHash is that of the token, for brokers whose clients must log in.
const tokenHash = "$2b$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO"

// client connects and is served when it returns; it ends with the test.
func (b *broker) client() *client {
	b.t.Helper()
	conn, err := net.DialTimeout("tcp", b.addr, patience)
	must(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	c := &client{conn: conn, in: bufio.NewReader(conn)}
	must(b.t, c.greet())
	return c
}

func (c *client) greet() error {
	if info, err := c.line(); err != nil || !strings.HasPrefix(info, "INFO ") {
		return fmt.Errorf("greeted with %q: %w", info, err)
	}
	return c.sync(hello)
}

// sync sends s and waits until it has been dealt with.
func (c *client) sync(s string) error {
	if err := c.send(s + "PING\r\n"); err != nil {
		return err
	}
	if got, err := c.line(); err != nil || got != "PONG" {
		return fmt.Errorf("%q instead of PONG, %v", got, err)
	}
	return nil
}

func (c *client) send(s string) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c.conn, s)
	return err
}

func (c *client) line() (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	s, err := c.in.ReadString('\n')
	return strings.TrimSuffix(s, "\r\n"), err
}

// message reads the message with this body, which no other may precede.
func (c *client) message(want string) error {
	head, err := c.line()
	if err == nil && strings.HasPrefix(head, "MSG ") {
		var body string
		if body, err = c.line(); err == nil && body == want {
			return nil
		}
		return fmt.Errorf("%q with %q, not %q: %v", head, body, want, err)
	}
	return fmt.Errorf("%q, not a message %q: %v", head, want, err)
}

// calm is a pair of well-behaved clients: what one sends, numbered, the other
// must get, all of it, once and in order, whatever happens beside them.
type calm struct {
	from, to *client
	stop     chan struct{}
	done     sync.WaitGroup
	err      error
	sent     int
	slowest  time.Duration
}

const calmBatch = 8

func startCalm(t testing.TB, from, to *client) *calm {
	t.Helper()
	c := &calm{from: from, to: to, stop: make(chan struct{})}
	must(t, to.sync("SUB calm 1\r\n"))
	c.done.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for c.err == nil {
			c.err = c.round()
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
		}
	})
	return c
}

func (c *calm) round() error {
	var out strings.Builder
	for i := range calmBatch {
		body := fmt.Sprint(c.sent + i)
		fmt.Fprintf(&out, "PUB calm %d\r\n%s\r\n", len(body), body)
	}
	began := time.Now()
	if err := c.from.send(out.String()); err != nil {
		return err
	}
	for range calmBatch {
		if err := c.to.message(fmt.Sprint(c.sent)); err != nil {
			return err
		}
		c.sent++
	}
	c.slowest = max(c.slowest, time.Since(began))
	return nil
}

// end stops the exchange, which must have gone on without a fault.
func (c *calm) end(t testing.TB) {
	t.Helper()
	close(c.stop)
	c.done.Wait()
	if c.err != nil || c.sent == 0 {
		t.Errorf("well-behaved clients, after %d messages: %v", c.sent, c.err)
	}
	t.Logf("well-behaved clients: %d messages, slowest round %v", c.sent, c.slowest)
}

// home is the role that holds the broker's end of a connection.
func (b *broker) home(conn net.Conn) string {
	b.t.Helper()
	inode := ""
	table, err := os.ReadFile("/proc/net/tcp")
	must(b.t, err)
	for row := range strings.Lines(string(table)) {
		f := strings.Fields(row)
		if len(f) > 9 && f[1] == hexAddr(conn.RemoteAddr()) && f[2] == hexAddr(conn.LocalAddr()) {
			inode = "socket:[" + f[9] + "]"
		}
	}
	for role, pid := range b.processes() {
		if !strings.HasPrefix(role, "cm/") {
			continue
		}
		fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == inode {
				return role
			}
		}
	}
	return ""
}

// hexAddr is an IPv4 address and port as /proc/net/tcp has it.
func hexAddr(a net.Addr) string {
	tcp := a.(*net.TCPAddr)
	return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(tcp.IP.To4()), tcp.Port)
}
