package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// secureConn is TLS on the socket of a conn. What crypto/tls writes for one
// write of ours goes out in one system call, and it reads out of a buffer: the
// client must not be the bottleneck.
type secureConn struct {
	*tls.Conn
	mu  sync.Mutex // one writer at a time
	raw *rawConn
}

// startTLS does the handshake; what was read before it must be consumed.
func (c *conn) startTLS(config *tls.Config) error {
	if len(c.buf) > 0 {
		return fmt.Errorf("%d bytes in plaintext after INFO", len(c.buf))
	}
	raw := &rawConn{c: &conn{fd: c.fd}, store: make([]byte, 4<<10)}
	s := tls.Client(raw, config)
	if err := s.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.tls = &secureConn{Conn: s, raw: raw}
	return nil
}

func (s *secureConn) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.hold = true
	_, err := s.Conn.Write(b)
	s.raw.hold = false
	return errors.Join(err, s.raw.flush())
}

// rawConn is a blocking socket as crypto/tls wants it. Deadlines are those of
// the socket's options.
type rawConn struct {
	c         *conn
	in, store []byte // in: read and not yet taken, part of store
	out       []byte
	hold      bool // keep what is written until flush
}

func (r *rawConn) Read(b []byte) (int, error) {
	if len(r.in) == 0 {
		n, err := r.c.read(r.store)
		if err != nil {
			return 0, err
		}
		r.in = r.store[:n]
	}
	n := copy(b, r.in)
	r.in = r.in[n:]
	return n, nil
}

// widen enlarges the buffer for a connection that gets a lot.
func (r *rawConn) widen(size int) {
	store := make([]byte, size)
	r.in = store[:copy(store, r.in)]
	r.store = store
}

func (r *rawConn) Write(b []byte) (int, error) {
	r.out = append(r.out, b...)
	if r.hold {
		return len(b), nil
	}
	return len(b), r.flush()
}

func (r *rawConn) flush() error {
	err := r.c.write(r.out)
	r.out = r.out[:0]
	return err
}

func (r *rawConn) Close() error                     { return nil } // the conn closes
func (r *rawConn) LocalAddr() net.Addr              { return nil }
func (r *rawConn) RemoteAddr() net.Addr             { return nil }
func (r *rawConn) SetDeadline(time.Time) error      { return nil }
func (r *rawConn) SetReadDeadline(time.Time) error  { return nil }
func (r *rawConn) SetWriteDeadline(time.Time) error { return nil }
