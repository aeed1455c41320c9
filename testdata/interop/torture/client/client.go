// Package client is a NATS client that does nothing by itself: no reconnect, no
// buffer that survives a connection, no answer to what it was not asked but PONG.
// What it sends and gets can therefore be counted to the message.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// User is who clients log in as, with itself for a password, whose hash is Hash.
const (
	User = "torture"
	Hash = "$2a$04$hlecWex2jeUisP9c9xlMu.K67bKpRUWckNJ1vpAuLmi4mVLbkEjNO"
)

// connect opens a session as current clients do.
const connect = `CONNECT {"verbose":false,"pedantic":false,"lang":"torture","version":"1","protocol":1,"headers":true,"no_responders":true,"user":"` + User + `","pass":"` + User + `"}` +
	"\r\nPING\r\n"

// Address is a listener.
type Address struct {
	Network, Addr string
	TLS           *tls.Config // nil: plaintext
}

// Conn is one connection. One goroutine reads, any may write.
type Conn struct {
	Socket net.Conn // below TLS
	conn   net.Conn
	in     *bufio.Reader
	fields [6][]byte
	line   []byte // of the message in whole
	whole  []byte

	mu sync.Mutex // of writes
}

// Frame is what the broker sent; its bytes are good until the next one is read.
type Frame struct {
	Verb                string
	Subject, SID, Reply []byte
	Header, Body        []byte
	Line                []byte // of anything but a message
}

// Step is an error that tells how far an opening connection came.
type Step struct {
	At  string
	Err error
}

func (s *Step) Error() string { return s.At + ": " + s.Err.Error() }
func (s *Step) Unwrap() error { return s.Err }

// Open connects, tells of the socket as soon as there is one, and takes the
// greeting up to the first PONG, until ctx ends.
func Open(ctx context.Context, a Address, buffer int, dialed func(net.Conn)) (*Conn, error) {
	s, err := new(net.Dialer).DialContext(ctx, a.Network, a.Addr)
	if err != nil {
		return nil, &Step{"connect", err}
	}
	dialed(s)
	c := &Conn{Socket: s, conn: s, in: bufio.NewReaderSize(s, buffer)}
	stop := context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })
	err = c.greet(a.TLS, buffer)
	if !stop() && err == nil {
		err = &Step{"PONG", ctx.Err()}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) greet(config *tls.Config, buffer int) error {
	if err := c.await("INFO"); err != nil {
		return err
	}
	if config != nil {
		s := tls.Client(c.Socket, config)
		if err := s.Handshake(); err != nil {
			return &Step{"handshake", err}
		}
		c.conn, c.in = s, bufio.NewReaderSize(s, buffer)
	}
	if err := c.Write([]byte(connect)); err != nil {
		return &Step{"CONNECT", err}
	}
	return c.await("PONG")
}

func (c *Conn) await(verb string) error {
	for {
		f, err := c.Next()
		switch {
		case err != nil:
			return &Step{verb, err}
		case f.Verb == verb:
			return nil
		case f.Verb == "-ERR":
			return &Step{verb, fmt.Errorf("broker says %s", f.Line)}
		}
	}
}

// Close ends the connection at once, so that its port is free again.
func (c *Conn) Close() {
	if t, ok := c.Socket.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Socket.Close()
}

// Write sends b, behind what others are sending.
func (c *Conn) Write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(b)
	return err
}

var errFrame = errors.New("not a frame")

// Next reads one frame and answers PING.
func (c *Conn) Next() (Frame, error) {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return Frame{}, err
		}
		line = bytes.TrimSuffix(line, []byte("\r\n"))
		switch {
		case bytes.HasPrefix(line, []byte("MSG ")):
			return c.message("MSG", line[4:])
		case bytes.HasPrefix(line, []byte("HMSG ")):
			return c.message("HMSG", line[5:])
		case string(line) == "PING":
			if err := c.Write([]byte("PONG\r\n")); err != nil {
				return Frame{}, err
			}
		default:
			verb, _, _ := bytes.Cut(line, []byte(" "))
			return Frame{Verb: string(verb), Line: line}, nil
		}
	}
}

// message reads MSG subject sid [reply] size, or HMSG with the header's size
// before that of all, and what follows.
func (c *Conn) message(verb string, line []byte) (Frame, error) {
	f, fields := Frame{Verb: verb}, c.fields[:0]
	c.line = append(c.line[:0], line...) // the reader's buffer is about to move
	for word := range bytes.FieldsSeq(c.line) {
		if len(fields) == cap(fields) {
			return f, fmt.Errorf("%w: %s %q", errFrame, verb, line)
		}
		fields = append(fields, word)
	}
	sizes := 1
	if verb == "HMSG" {
		sizes = 2
	}
	n := len(fields)
	if n != sizes+2 && n != sizes+3 {
		return f, fmt.Errorf("%w: %s %q", errFrame, verb, line)
	}
	size, err := strconv.Atoi(string(fields[n-1]))
	head := 0
	if err == nil && sizes == 2 {
		head, err = strconv.Atoi(string(fields[n-2]))
	}
	if err != nil || size < 0 || size > 64<<20 || head < 0 || head > size {
		return f, fmt.Errorf("%w: %s %q", errFrame, verb, line)
	}
	f.Subject, f.SID = fields[0], fields[1]
	if n == sizes+3 {
		f.Reply = fields[2]
	}
	if cap(c.whole) < size+2 {
		c.whole = make([]byte, size+2)
	}
	whole := c.whole[:size+2]
	if _, err := io.ReadFull(c.in, whole); err != nil {
		return f, err
	}
	if string(whole[size:]) != "\r\n" {
		return f, fmt.Errorf("%w: no CRLF after the body of %s %q", errFrame, verb, c.line)
	}
	f.Header, f.Body = whole[:head], whole[head:size]
	return f, nil
}
