package transcript

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long anything may take that must happen.
	patience = 10 * time.Second
	// aftermath is how long more is read of what was not expected, to show it.
	aftermath = 50 * time.Millisecond
	// bytewise is how much of each end of a burst is written byte by byte; the
	// middle of a longer one goes in pieces of an odd size.
	bytewise, piece = 6 << 10, 4999
)

// conn is one client connection of a transcript.
type conn struct {
	tcp   *net.TCPConn
	in    net.Conn // tcp, or TLS on it
	split bool     // bursts go byte by byte
	// lossy tells that the broker may end a connection by a reset, which takes
	// what it said last along.
	lossy, lost bool

	have  []byte // read, but not looked at
	info  map[string]json.RawMessage
	ended bool
	segs  uint32 // data segments received before what is awaited
}

func dial(addr string, split, lossy bool) (*conn, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{tcp: c.(*net.TCPConn), in: c, split: split, lossy: lossy}, nil // Go sets TCP_NODELAY
}

// secure does the handshake of TLS, byte by byte where bursts go so.
func (c *conn) secure(config *tls.Config) error {
	if len(c.have) > 0 {
		return c.surprise(nil)
	}
	pieces := &inPieces{c.tcp, c.split}
	s := tls.Client(pieces, config)
	c.tcp.SetDeadline(time.Now().Add(patience))
	c.in = s
	err := s.Handshake()
	pieces.split = false // then each byte has a record of its own
	return err
}

// inPieces writes byte by byte.
type inPieces struct {
	*net.TCPConn
	split bool
}

func (p *inPieces) Write(b []byte) (n int, err error) {
	if !p.split {
		return p.TCPConn.Write(b)
	}
	for n < len(b) && err == nil {
		_, err = p.TCPConn.Write(b[n : n+1])
		n++
	}
	return n, err
}

// send writes a burst. A broker that has closed may refuse some of it, which
// reading will show.
func (c *conn) send(b []byte) error {
	c.in.SetWriteDeadline(time.Now().Add(patience))
	c.segs = c.segments()
	for sent := 0; sent < len(b); {
		n := len(b) - sent
		switch left := n - bytewise; {
		case c.split && sent >= bytewise && left > 0:
			n = min(piece, left)
		case c.split:
			n = 1
		}
		_, err := c.in.Write(b[sent : sent+n])
		sent += n
		if err != nil {
			if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
				return nil
			}
			return err
		}
	}
	return nil
}

// segments is how many TCP segments with data came so far.
func (c *conn) segments() uint32 {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return 0
	}
	n := uint32(0)
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = info.Data_segs_in
		}
	})
	return n
}

// fill reads once. At the end it returns io.EOF; a reset counts as one only
// from a lossy broker.
func (c *conn) fill(in time.Duration) error {
	var b [64 << 10]byte
	c.in.SetReadDeadline(time.Now().Add(in))
	n, err := c.in.Read(b[:])
	c.have = append(c.have, b[:n]...)
	if errors.Is(err, syscall.ECONNRESET) && c.lossy {
		c.lost = true
		return io.EOF
	}
	if n > 0 {
		return nil
	}
	return err
}

// expect reads exactly want.
func (c *conn) expect(want []byte) error {
	for {
		n := min(len(want), len(c.have))
		if !bytes.Equal(want[:n], c.have[:n]) {
			return c.surprise(nil)
		}
		if n == len(want) {
			c.have = c.have[n:]
			return nil
		}
		if err := c.fill(patience); err != nil {
			if c.lost {
				return nil
			}
			return c.surprise(err)
		}
	}
}

// surprise is an error that shows what came, and some more of it.
func (c *conn) surprise(err error) error {
	for err == nil && len(c.have) < 4<<10 {
		err = c.fill(aftermath)
	}
	text := fmt.Sprintf("%q", c.have)
	if len(text) > 600 {
		text = text[:600] + "..."
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("got %s, then the end", text)
	}
	return fmt.Errorf("got %s, then %v", text, err)
}

// line reads one line and cuts its CRLF off.
func (c *conn) line() (string, error) {
	for {
		if i := bytes.IndexByte(c.have, '\n'); i >= 0 {
			line := string(c.have[:i+1])
			c.have = c.have[i+1:]
			if !strings.HasSuffix(line, "\r\n") {
				return "", fmt.Errorf("got %q: no CRLF", line)
			}
			return line[:len(line)-2], nil
		}
		if err := c.fill(patience); err != nil {
			return "", c.surprise(err)
		}
	}
}

// greeting reads an INFO line.
func (c *conn) greeting() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	text, ends := strings.CutSuffix(text, " ")
	if !ok || !ends || len(line) >= 4094 {
		return fmt.Errorf("got %q: no INFO line", line)
	}
	c.info = nil
	return json.Unmarshal([]byte(text), &c.info)
}

// end reads the end of the connection, and nothing before it.
func (c *conn) end() error {
	c.ended = true
	if len(c.have) > 0 {
		return c.surprise(nil)
	}
	err := c.fill(patience)
	if err == io.EOF {
		return nil
	}
	return c.surprise(err)
}

// prefix reads up to the end, which may come anywhere within repeated text.
func (c *conn) prefix(text []byte) error {
	for {
		n := min(len(text), len(c.have))
		if !bytes.Equal(text[:n], c.have[:n]) {
			return c.surprise(nil)
		}
		if n == len(text) {
			c.have = c.have[n:]
			continue
		}
		err := c.fill(patience)
		if err == io.EOF {
			c.have = nil
			return nil
		}
		if err != nil {
			return c.surprise(err)
		}
	}
}

// message reads one MSG or HMSG and returns its line, or any other line.
func (c *conn) message() (string, error) {
	line, err := c.line()
	if err != nil || !strings.HasPrefix(strings.TrimPrefix(line, "H"), "MSG ") {
		return line, err
	}
	size, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
	if err != nil {
		return line, err
	}
	for len(c.have) < size+2 {
		if err := c.fill(patience); err != nil {
			return line, c.surprise(err)
		}
	}
	c.have = c.have[size+2:]
	return line, nil
}

// ping asks for a PONG.
func (c *conn) ping() error { return c.send([]byte("PING\r\n")) }

// open tells whether the connection lives and nothing came that was not read.
func (c *conn) open() error {
	if c.lost {
		return fmt.Errorf("was reset")
	}
	if err := c.ping(); err != nil {
		return err
	}
	err := c.expect([]byte("PONG\r\n"))
	c.segs = c.segments()
	return err
}

// leave closes, and waits until the broker has closed too.
func (c *conn) leave() {
	c.closeWrite()
	c.tcp.SetDeadline(time.Now().Add(patience))
	io.Copy(io.Discard, c.tcp)
	c.tcp.Close()
}

// closeWrite says that no more will come, in TLS too.
func (c *conn) closeWrite() error {
	if s, ok := c.in.(*tls.Conn); ok {
		s.SetWriteDeadline(time.Now().Add(patience))
		s.CloseWrite() // fails where the handshake is not complete
	}
	return c.tcp.CloseWrite()
}
