package tlsd

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// transport is the connection under a tls.Conn. It counts records, which crypto/tls
// does not tell.
type transport struct {
	file    *os.File
	remote  netip.AddrPort
	in, out counter
	cut     bool        // the stream has ended, and crypto/tls does not say if before its time
	bounded atomic.Bool // crypto/tls has a deadline of its own, for its last record
}

// writeStall is how long a server may take nothing of what is written to it: whoever
// writes, and all who wait for their turn, would wait for ever. It ends the session.
const writeStall = 2 * time.Minute

func (t *transport) Read(b []byte) (int, error) {
	n, err := t.file.Read(b)
	t.cut = err == io.EOF
	t.in.add(b[:n])
	return n, err
}

func (t *transport) Write(b []byte) (int, error) {
	if !t.bounded.Load() {
		t.file.SetWriteDeadline(time.Now().Add(writeStall))
	}
	n, err := t.file.Write(b)
	t.out.add(b[:n])
	return n, err
}

func (t *transport) Close() error                      { return t.file.Close() }
func (t *transport) LocalAddr() net.Addr               { return &net.TCPAddr{} }
func (t *transport) RemoteAddr() net.Addr              { return net.TCPAddrFromAddrPort(t.remote) }
func (t *transport) SetDeadline(d time.Time) error     { return t.file.SetDeadline(d) }
func (t *transport) SetReadDeadline(d time.Time) error { return t.file.SetReadDeadline(d) }

// SetWriteDeadline is called by crypto/tls when it closes.
func (t *transport) SetWriteDeadline(d time.Time) error {
	t.bounded.Store(true)
	return t.file.SetWriteDeadline(d)
}

// counter counts the records of one direction by their headers: type, version, length.
// add is one goroutine's at a time.
type counter struct {
	records atomic.Uint64
	header  [recordHeader]byte
	have    int // bytes of the header
	body    int // bytes of the body that are still to come
}

const recordHeader = 5

func (c *counter) add(b []byte) {
	for len(b) > 0 {
		if c.body > 0 {
			n := min(c.body, len(b))
			c.body, b = c.body-n, b[n:]
			continue
		}
		n := copy(c.header[c.have:], b)
		c.have, b = c.have+n, b[n:]
		if c.have == recordHeader {
			c.have, c.body = 0, int(binary.BigEndian.Uint16(c.header[3:]))
			c.records.Add(1)
		}
	}
}
