package privsep

import (
	"os"
	"syscall"
)

// DrainEvery is after how many edges a doorbell is read: an edge-triggered
// poller tells of every byte, so reading is only to keep the buffer from filling.
const DrainEvery = 64

var knock = [1]byte{1}

// Ring wakes whoever waits at the other end of a doorbell. A full buffer means
// that it has been rung and not yet heard, so an error is none.
func Ring(fd int) { RawWrite(fd, knock[:]) }

// DrainBell reads a doorbell empty.
func DrainBell(fd int) {
	var b [256]byte
	for {
		n, errno := RawRead(fd, b[:])
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || n < len(b) {
			return
		}
	}
}

// Deserted reads a doorbell empty and tells whether its other end is closed.
func Deserted(fd int) bool {
	DrainBell(fd)
	var b [1]byte
	n, errno := RawRead(fd, b[:])
	return n == 0 && errno == 0 || errno == syscall.ECONNRESET
}

// Ear is an end of a doorbell for a goroutine that has nothing else to wait for:
// it waits in the Go runtime's poller.
type Ear struct {
	f   *os.File
	buf [256]byte
}

// NewEar makes an Ear of fd, which it owns from now on.
func NewEar(fd int) *Ear { return &Ear{f: os.NewFile(uintptr(fd), "doorbell")} }

// Wait waits until it is rung; an error means that the Ear, or the other end, is
// closed.
func (e *Ear) Wait() error {
	_, err := e.f.Read(e.buf[:])
	return err
}

// Close ends a Wait, too.
func (e *Ear) Close() error { return e.f.Close() }

// CloseFD closes a descriptor that a message brought or a system call gave.
func CloseFD(fd int) { closeFD(fd) }

// ShutdownWrite ends the sending side of a connection.
func ShutdownWrite(fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_WR) }
