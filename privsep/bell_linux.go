package privsep

import "syscall"

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

// CloseFD closes a descriptor that a message brought or a system call gave.
func CloseFD(fd int) { closeFD(fd) }

// ShutdownWrite ends the sending side of a connection.
func ShutdownWrite(fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_WR) }
