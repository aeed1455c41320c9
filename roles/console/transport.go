package console

import (
	"net"
	"net/netip"
	"os"
	"time"

	"gatehouse/privsep"
)

// transport is one connection as net/http wants it.
type transport struct {
	file  *os.File
	from  netip.AddrPort // zero for a Unix socket
	at    *listener
	ended func() // once
}

func newTransport(fd int, from netip.AddrPort, at *listener) *transport {
	return &transport{file: privsep.Stream(fd), from: from, at: at}
}

// CloseWrite lets an answer arrive though more was sent than is read.
func (t *transport) CloseWrite() error {
	conn, err := t.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { privsep.ShutdownWrite(int(fd)) })
}

func (t *transport) Close() error {
	err := t.file.Close()
	if err == nil && t.ended != nil {
		t.ended()
	}
	return err
}

// Read and Write give errors as net/http knows them.
func (t *transport) Read(b []byte) (int, error) {
	n, err := t.file.Read(b)
	return n, bare(err)
}

func (t *transport) Write(b []byte) (int, error) {
	n, err := t.file.Write(b)
	return n, bare(err)
}

// bare takes the path from an error of a file's: net/http looks for a timeout's own type.
func bare(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}

func (t *transport) LocalAddr() net.Addr                { return &net.UnixAddr{Name: t.at.address, Net: "unix"} }
func (t *transport) RemoteAddr() net.Addr               { return net.TCPAddrFromAddrPort(t.from) }
func (t *transport) SetDeadline(d time.Time) error      { return t.file.SetDeadline(d) }
func (t *transport) SetReadDeadline(d time.Time) error  { return t.file.SetReadDeadline(d) }
func (t *transport) SetWriteDeadline(d time.Time) error { return t.file.SetWriteDeadline(d) }

// inbox is the listener of net/http: it gets connections from the loop.
type inbox struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (b *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b *inbox) Close() error   { return nil }
func (b *inbox) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
