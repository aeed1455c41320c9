package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

const (
	// connectLine opens a session as current clients do.
	connectLine = `CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":1,"headers":true,"no_responders":true}` + "\r\n"
	// shortConnectLine asks for no INFO after the first PONG: whoever closes
	// after that PONG then leaves nothing unread, which would be a reset.
	shortConnectLine = `CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":0}` + "\r\n"
)

// silence is the longest wait for bytes that must come; tests have less time.
var silence = 10 * time.Second

// conn is a client connection on a blocking socket outside the Go poller: one
// system call per read and write, nothing else.
type conn struct {
	fd  int
	buf []byte      // bytes read and not yet consumed
	tls *secureConn // nil: plaintext
}

// open connects to the broker and takes the greeting through to the first PONG;
// it returns the JSON of INFO.
func (b *broker) open(connect string) (*conn, []byte, error) {
	return b.openFrom([4]byte{}, connect)
}

// openFrom connects from the address from, or any when it is zero.
func (b *broker) openFrom(from [4]byte, connect string) (*conn, []byte, error) {
	c, err := dial(b.addr, from)
	if err != nil {
		return nil, nil, err
	}
	info, err := c.greet(withLogin(connect, b.as), b.tls)
	if err != nil {
		c.close()
		return nil, nil, err
	}
	return c, info, nil
}

// dial connects from the address from, or any when it is zero.
func dial(addr string, from [4]byte) (*conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	to := &syscall.SockaddrInet4{}
	copy(to.Addr[:], net.ParseIP(host).To4())
	if to.Port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	c := &conn{fd: fd}
	if err := c.prepare(from); err != nil {
		c.close()
		return nil, err
	}
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Connect(fd, to)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("connect %s: %w", addr, err)
	}
	return c, nil
}

// prepare sets the options: no delay, an end to every wait, the local address
// (its port chosen at connect, so that each address has all ports).
func (c *conn) prepare(from [4]byte) error {
	wait := syscall.NsecToTimeval(int64(silence))
	err := errors.Join(
		syscall.SetsockoptInt(c.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(c.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait),
		syscall.SetsockoptTimeval(c.fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &wait),
	)
	if err == nil && from != [4]byte{} {
		const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT, missing in syscall
		err = errors.Join(
			syscall.SetsockoptInt(c.fd, syscall.IPPROTO_IP, bindAddressNoPort, 1),
			syscall.Bind(c.fd, &syscall.SockaddrInet4{Addr: from}),
		)
	}
	return err
}

func (c *conn) close() {
	if c.tls != nil {
		_ = c.tls.Close() // says so to the broker, if that is still there
	}
	_ = syscall.Close(c.fd)
}

// hangUp wakes whoever is in read or write on c; it still has to close.
func (c *conn) hangUp() { _ = syscall.Shutdown(c.fd, syscall.SHUT_RDWR) }

// greet reads INFO, goes on in TLS if config says how, and logs in.
func (c *conn) greet(connect string, config *tls.Config) ([]byte, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	info, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok {
		return nil, fmt.Errorf("greeting %.60q", line)
	}
	info = bytes.Clone(info)
	if config != nil {
		if err := c.startTLS(config); err != nil {
			return nil, err
		}
	}
	return info, c.ask(connect)
}

// ask writes s and a PING and takes lines up to the PONG: for use where no
// messages are expected.
func (c *conn) ask(s string) error {
	if err := c.write([]byte(s + "PING\r\n")); err != nil {
		return err
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if string(line) == "PONG\r\n" {
			return nil
		}
		if err := c.control(line); err != nil {
			return err
		}
	}
}

// control acts on a line that is no message: PING is answered, -ERR and
// anything unknown is an error.
func (c *conn) control(line []byte) error {
	op, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	switch string(op) {
	case "PING":
		return c.write([]byte("PONG\r\n"))
	case "INFO", "PONG", "+OK":
		return nil
	}
	return fmt.Errorf("broker said %.80q", line)
}

// line takes one line out of the connection, CRLF included; valid until the
// next read.
func (c *conn) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			line := c.buf[:i+1]
			c.buf = c.buf[i+1:]
			return line, nil
		}
		if len(c.buf) > 64<<10 {
			return nil, errors.New("line without end")
		}
		b := make([]byte, 2048)
		n, err := c.read(b)
		if err != nil {
			return nil, err
		}
		c.buf = append(c.buf, b[:n]...)
	}
}

var errClosed = errors.New("broker closed the connection")

func (c *conn) read(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(b)
	}
	for {
		n, err := syscall.Read(c.fd, b)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return 0, fmt.Errorf("nothing from the broker for %v", silence)
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return 0, errClosed
		default:
			return n, nil
		}
	}
}

func (c *conn) write(b []byte) error {
	if c.tls != nil {
		return c.tls.write(b)
	}
	for len(b) > 0 {
		n, err := syscall.Write(c.fd, b)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return fmt.Errorf("broker takes nothing for %v", silence)
		case err != nil:
			return fmt.Errorf("write: %w", err)
		default:
			b = b[n:]
		}
	}
	return nil
}
