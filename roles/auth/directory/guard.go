package directory

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// What a server may say.
const (
	maxMessage = 128 << 10
	maxAnswer  = 256 << 10 // all messages to one question
	maxDepth   = 12        // of elements in each other; LDAP has seven
)

var errForm = errors.New("directory: not a message of LDAP, or too long a one")

// guard stands between a connection and the library. It lets whole messages through that
// are what LDAP allows: each a SEQUENCE, of definite lengths that fit in each other. The
// library's own bounds are for all of it together and far too wide.
type guard struct {
	net.Conn
	have []byte // of a message that is handed out

	mu   sync.Mutex
	left int   // bytes that may still come
	err  error // what has ended it
}

// allow says how much may come from now on.
func (g *guard) allow(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = n
}

// failure is what has ended it, nil: nothing has.
func (g *guard) failure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *guard) fail(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	return err
}

// Read gives some of a message that has been looked at.
func (g *guard) Read(b []byte) (int, error) {
	if len(g.have) == 0 {
		if err := g.next(); err != nil {
			return 0, g.fail(err)
		}
	}
	n := copy(b, g.have)
	g.have = g.have[n:]
	return n, nil
}

// Write wipes what it has written: it is the library's only copy of a password that can
// be reached, and it does not look at it again.
func (g *guard) Write(b []byte) (int, error) {
	defer clear(b)
	n, err := g.Conn.Write(b)
	if err != nil {
		g.fail(err)
	}
	return n, err
}

// next reads a message.
func (g *guard) next() (err error) {
	g.have, err = readMessage(g.Conn, g.take)
	return err
}

// readMessage reads one, and no byte more. What is read is bounded, by take, before there
// is room for it.
func readMessage(r io.Reader, take func(int) bool) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	if more := int(head[1]) - 0x80; more > 0 && more <= 4 {
		head = head[:2+more]
		if err := readRest(r, head[2:]); err != nil {
			return nil, err
		}
	}
	size, length, ok := header(head)
	if !ok || head[0] != sequence || length > maxMessage || !take(size+length) {
		return nil, errForm
	}
	message := make([]byte, size+length)
	copy(message, head)
	if err := readRest(r, message[size:]); err != nil {
		return nil, err
	}
	if !wellFormed(message[size:], maxDepth) {
		return nil, errForm
	}
	return message, nil
}

// readRest reads what must still come of a message.
func readRest(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (g *guard) take(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > g.left {
		return false
	}
	g.left -= n
	return true
}

const (
	sequence    = 0x30
	constructed = 0x20
	longTag     = 0x1f
)

// header reads the identifier and length of an element: how long they are, and what
// follows. Tags above 30 and indefinite lengths do not occur in LDAP (RFC 4511, 5.1).
func header(b []byte) (size, length int, ok bool) {
	if len(b) < 2 || b[0]&longTag == longTag {
		return 0, 0, false
	}
	n := int(b[1])
	if n < 0x80 {
		return 2, n, true
	}
	n &^= 0x80
	if n == 0 || n > 4 || len(b) < 2+n {
		return 0, 0, false
	}
	for _, c := range b[2 : 2+n] {
		length = length<<8 | int(c)
	}
	return 2 + n, length, true
}

// wellFormed tells whether b is elements, to its end.
func wellFormed(b []byte, depth int) bool {
	for len(b) > 0 {
		size, length, ok := header(b)
		if !ok || depth == 0 || length > len(b)-size || b[0] == 0 {
			return false // 0: the end of contents of an indefinite length
		}
		if number := b[0] == 0x02 || b[0] == 0x0a; number && (length == 0 || length > 4) {
			return false // the library takes one that is too long for zero
		}
		if b[0]&constructed != 0 && !wellFormed(b[size:size+length], depth-1) {
			return false
		}
		b = b[size+length:]
	}
	return true
}

// element takes the first one off b, which is well formed.
func element(b []byte) (tag byte, value, rest []byte) {
	size, length, ok := header(b)
	if !ok || length > len(b)-size {
		return 0, nil, nil
	}
	return b[0], b[size : size+length], b[size+length:]
}

// Stream is a connection that has begun to be made.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// socket makes a net.Conn of a Stream, as TLS and the library want it.
type socket struct{ Stream }

type nowhere struct{}

func (nowhere) Network() string { return "tcp" }
func (nowhere) String() string  { return "directory" }

// LocalAddr and RemoteAddr are not known here.
func (socket) LocalAddr() net.Addr { return nowhere{} }

// RemoteAddr is not known here.
func (socket) RemoteAddr() net.Addr { return nowhere{} }
