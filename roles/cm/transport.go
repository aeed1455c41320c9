package cm

import (
	"io"
	"net"
	"syscall"
	"time"

	"gatehouse/privsep"
)

// transport is the socket under a tls.Conn. During the handshake it belongs to
// the handshake, which may wait; from then on to the loop, which may not: it
// reads what the loop has read and writes for the loop to write.
type transport struct {
	hs  *handshake // nil once it is the loop's
	rec *records
}

// records are the loop's two ends of whichever tls.Conn it is at.
type records struct {
	in  []byte // to be opened
	out []byte // sealed, to be written
}

// Read gives what there is, io.EOF at the end of the stream.
func (t *transport) Read(b []byte) (int, error) {
	if t.hs != nil {
		return t.hs.read(b)
	}
	n := copy(b, t.rec.in)
	t.rec.in = t.rec.in[n:]
	if n == 0 {
		return 0, errBlock
	}
	return n, nil
}

// Write takes all of b.
func (t *transport) Write(b []byte) (int, error) {
	if t.hs != nil {
		return t.hs.write(b)
	}
	t.rec.out = append(t.rec.out, b...)
	return len(b), nil
}

// wouldBlock is what a tls.Conn survives: a net.Error that is temporary.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errBlock error = wouldBlock{}

// The rest of net.Conn: the loop closes sockets and keeps deadlines itself.

// Close does nothing.
func (t *transport) Close() error { return nil }

// LocalAddr is not known here.
func (t *transport) LocalAddr() net.Addr { return noAddr{} }

// RemoteAddr is not known here.
func (t *transport) RemoteAddr() net.Addr { return noAddr{} }

// SetDeadline does nothing.
func (t *transport) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (t *transport) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

type noAddr struct{}

func (noAddr) Network() string { return "tcp" }
func (noAddr) String() string  { return "" }

// read is a Read that waits for the socket.
func (h *handshake) read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, errno := privsep.RawRead(h.fd, b)
		switch errno {
		case 0:
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			if err := h.await(); err != nil {
				return 0, err
			}
		default:
			return 0, errno
		}
	}
}

// write is a Write that waits for the socket.
func (h *handshake) write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, errno := privsep.RawWrite(h.fd, b[done:])
		switch errno {
		case 0:
			done += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			if err := h.awaitRoom(); err != nil {
				return done, err
			}
		default:
			return done, errno
		}
	}
	return done, nil
}

// awaitRoom waits for the socket to take more, for which few handshakes must.
func (h *handshake) awaitRoom() error {
	if !h.wide {
		h.wide = true
		if err := h.shop.poll.Mod(h.fd, h.token, privsep.In|privsep.Out|privsep.Edge); err != nil {
			return err
		}
	}
	return h.await()
}
