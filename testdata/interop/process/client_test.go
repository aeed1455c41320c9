package process

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is a client without a library: what it sends is what the test says.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	info string
}

// frame is what the broker sent: a line, and the body of a message.
type frame struct {
	line string
	body []byte
}

func (f *frame) verb() string {
	verb, _, _ := strings.Cut(f.line, " ")
	return verb
}

// quiet is the CONNECT of a client that wants no +OK.
const quiet = `CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":0}` + "\r\n"

// dial connects and reads INFO. Addresses with a slash are Unix sockets.
func dial(addr string) (*client, error) { return dialWith(&net.Dialer{Timeout: patience}, addr) }

func dialWith(d *net.Dialer, addr string) (*client, error) {
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	conn, err := d.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}
	f, err := c.next()
	if err == nil && f.verb() != "INFO" {
		err = fmt.Errorf("greeted with %q", f.line)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.info = f.line
	return c, nil
}

// from is a dialer with a loopback address of its own, so that many
// connections find free ports.
func from(i int) *net.Dialer {
	ip := net.IPv4(127, 0, 1, byte(1+i%250))
	return &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: ip}}
}

// next reads one frame, and for a message its body.
func (c *client) next() (frame, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	if err != nil {
		return frame{}, err
	}
	f := frame{line: strings.TrimSuffix(line, "\r\n")}
	if v := f.verb(); v != "MSG" && v != "HMSG" {
		return f, nil
	}
	n, err := strconv.Atoi(f.line[strings.LastIndexByte(f.line, ' ')+1:])
	if err != nil {
		return f, fmt.Errorf("%q: %w", f.line, err)
	}
	f.body = make([]byte, n+2)
	if _, err := io.ReadFull(c.in, f.body); err != nil {
		return f, err
	}
	if string(f.body[n:]) != "\r\n" {
		return f, fmt.Errorf("%q: no CRLF after the body", f.line)
	}
	f.body = f.body[:n]
	return f, nil
}

func (c *client) send(s string) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c.conn, s)
	return err
}

// sync waits until the broker has dealt with all that was sent. Messages that
// come before the PONG are thrown away.
func (c *client) sync() error {
	if err := c.send("PING\r\n"); err != nil {
		return err
	}
	for {
		f, err := c.next()
		if err != nil || f.line == "PONG" {
			return err
		}
		if f.verb() == "-ERR" {
			return fmt.Errorf("broker says %s", f.line)
		}
	}
}

// rest reads up to the end of the connection. The end may be a reset: what was
// sent into a closing connection is refused.
func (c *client) rest() string {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	b, _ := io.ReadAll(c.in)
	return string(b)
}

// reset closes without the usual farewell, which would keep the port a while.
func (c *client) reset() {
	conn := c.conn
	if s, ok := conn.(*tls.Conn); ok {
		conn = s.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// client connects over TCP, until the test ends. first is sent after CONNECT
// and dealt with when client returns.
func (b *broker) client(first string) *client {
	b.t.Helper()
	return b.clientBy(&net.Dialer{Timeout: patience}, first)
}

func (b *broker) clientBy(d *net.Dialer, first string) *client {
	b.t.Helper()
	c, err := dialWith(d, b.addr)
	must(b.t, err)
	return b.login(c, first)
}

func (b *broker) login(c *client, first string) *client {
	b.t.Helper()
	b.t.Cleanup(c.reset)
	must(b.t, c.send(quiet+first))
	must(b.t, c.sync())
	return c
}

// expect reads the next frame, which must be line, and returns its body.
func (c *client) expect(t testing.TB, line string) string {
	t.Helper()
	f, err := c.next()
	if err != nil || f.line != line {
		t.Fatalf("read %q, %v, want %q", f.line, err, line)
	}
	return string(f.body)
}

// pub is a PUB with its body.
func pub(subject, body string) string {
	return fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(body), body)
}

// hexAddr is an IPv4 address and port as /proc/net/tcp has it.
func hexAddr(a net.Addr) string {
	tcp := a.(*net.TCPAddr)
	return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(tcp.IP.To4()), tcp.Port)
}
