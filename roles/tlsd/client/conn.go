package client

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"gatehouse/roles/tlsd/protocol"
)

// Conn is a shared session, as a net.Conn. Deadlines are those of this Conn, not of
// the session: a write that has begun is finished by tlsd.
type Conn struct {
	conn  *net.UnixConn
	id    string
	name  string
	mode  protocol.Mode
	state func() tls.ConnectionState

	reading sync.Mutex
	rest    []byte // came behind the answer
	left    int    // of a piece
	has     uint64 // bytes that were read
	wanted  bool   // raw: a read is asked for
	ended   error  // io.EOF, io.ErrUnexpectedEOF or errReleased

	writing sync.Mutex
	broken  error // a piece is cut short
	gone    bool
}

// ErrUnread is Detach's and Close's, but for framed mode: bytes of the session had come
// to this Conn that nobody had read. They are lost to the next one, so the session has
// ended.
var ErrUnread = errors.New("tlsd: the session was let go with bytes unread, and has ended")

var errReleased = errors.New("tlsd: the session has been let go")

func newConn(conn *net.UnixConn, r *protocol.Request, a *protocol.Answer, rest []byte) *Conn {
	c := &Conn{conn: conn, id: a.Get("Session-Id"), name: a.Get("Session"), rest: rest}
	for _, m := range []protocol.Mode{protocol.Exclusive, protocol.Framed, protocol.Raw} {
		if m.String() == a.Get("Mode") {
			c.mode = m
		}
	}
	sni := r.SNI
	if sni == "" {
		sni, _, _ = protocol.SplitTarget(r.Target)
	}
	c.state = sync.OnceValue(func() tls.ConnectionState { return stateOf(sni, a) })
	return c
}

// stateOf reads what an answer says of the session.
func stateOf(sni string, a *protocol.Answer) tls.ConnectionState {
	s := tls.ConnectionState{HandshakeComplete: true, ServerName: sni, NegotiatedProtocol: a.Get("ALPN"), PeerCertificates: certificates(a)}
	s.Version = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[a.Get("Version")]
	for _, suite := range tls.CipherSuites() {
		if suite.Name == a.Get("Cipher") {
			s.CipherSuite = suite.ID
		}
	}
	if len(s.PeerCertificates) > 0 {
		s.VerifiedChains = [][]*x509.Certificate{s.PeerCertificates}
	}
	return s
}

// Session gives name and id of the session.
func (c *Conn) Session() (name, id string) { return c.name, c.id }

// ConnectionState says what tlsd has agreed on with the server, whose certificate it
// has verified. Without PeerCertificates the answer had none that can be read.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.state() }

// LocalAddr is that of the connection to tlsd, as RemoteAddr.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr is tlsd's.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline is for Read and Write of this Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline is for Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline is for Write. A Write that has run into it must not be followed by
// another.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// Read reads what the session has for this Conn. io.EOF: the server has ended it;
// io.ErrUnexpectedEOF: it has broken off, or been ended by tlsd.
func (c *Conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	for c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.readRaw(b[:min(len(b), c.left)])
	c.left -= n
	c.has += uint64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// next reads the length of the next piece.
func (c *Conn) next() error {
	if c.ended != nil {
		return c.ended
	}
	if c.mode == protocol.Raw && !c.wanted {
		err := c.say(protocol.ReadWanted)
		if late(err) || errors.Is(err, net.ErrClosed) {
			return err
		}
		c.wanted = true // if tlsd hears no more it has said why
	}
	// A deadline in the middle of a length leaves what there is for the next call.
	for len(c.rest) < protocol.ChunkHeader {
		part := make([]byte, protocol.ChunkHeader-len(c.rest))
		n, err := c.conn.Read(part)
		c.rest = append(c.rest, part[:n]...)
		if err == io.EOF { // tlsd has gone
			err = io.ErrUnexpectedEOF
			c.ended = err
		}
		if err != nil {
			return err
		}
	}
	n := protocol.Chunk(binary.BigEndian.Uint32(c.rest))
	c.rest = c.rest[protocol.ChunkHeader:]
	c.wanted = false
	switch n {
	case protocol.Ended:
		c.ended = io.EOF
	case protocol.Released:
		c.ended = errReleased
	case protocol.Broken:
		c.ended = io.ErrUnexpectedEOF
	default:
		c.left = int(n)
	}
	return c.ended
}

func (c *Conn) readRaw(b []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.conn.Read(b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Write writes to the session; in raw mode up to protocol.MaxChunk bytes at once.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	written := 0
	for len(b) > 0 {
		n := min(len(b), protocol.MaxChunk)
		head := binary.BigEndian.AppendUint32(nil, uint32(n))
		if c.broken != nil || c.gone {
			return written, cmpError(c.broken, net.ErrClosed)
		}
		bufs := net.Buffers{head, b[:n]}
		if _, err := bufs.WriteTo(c.conn); err != nil {
			c.broken = err
			return written, err
		}
		written, b = written+n, b[n:]
	}
	return written, nil
}

// late tells whether an error is a deadline's.
func late(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func cmpError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// say writes what stands in the place of a length. c.reading is held.
func (c *Conn) say(what protocol.Chunk) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.broken != nil || c.gone {
		return cmpError(c.broken, net.ErrClosed)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(what))
	if what == protocol.Release {
		c.gone = true
		b = binary.BigEndian.AppendUint64(b, c.has)
	}
	_, err := c.conn.Write(b)
	if err != nil {
		c.broken = err
	}
	return err
}

// releaseTime is how long tlsd may take to let go.
const releaseTime = 10 * time.Second

// Detach lets the session go: it is the next one's. The Conn is closed in any case.
func (c *Conn) Detach() error {
	defer c.conn.Close()
	c.conn.SetDeadline(time.Unix(1, 0)) // whatever is under way ends
	c.reading.Lock()
	defer c.reading.Unlock()
	c.writing.Lock()
	c.conn.SetDeadline(time.Now().Add(releaseTime))
	c.writing.Unlock()
	err := c.say(protocol.Release)
	if late(err) { // in the middle of a piece, of which tlsd awaits the rest
		return err
	}
	err = nil // if tlsd hears no more it has said why
	unread := c.left > 0
	for c.ended == nil && err == nil {
		if c.left > 0 {
			var n int64
			n, err = io.CopyN(io.Discard, readerFunc(c.readRaw), int64(c.left))
			c.left -= int(n)
			continue
		}
		c.wanted = true // nothing is asked for any more
		err = c.next()
		unread = unread || c.left > 0
	}
	switch {
	case unread && c.mode != protocol.Framed: // there what is unread is nobody else's
		return ErrUnread
	case c.ended == nil:
		return err
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// Close is Detach.
func (c *Conn) Close() error { return c.Detach() }
