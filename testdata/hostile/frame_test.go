package hostile

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// A frame, as privsep/frame.go draws it, written by somebody who may get it
// wrong.
const (
	headerLen = 32
	macAt     = 16
)

// pen writes frames of one direction of one channel.
type pen struct {
	fd  int
	key []byte // of this direction
	seq uint64 // of the last frame
}

// newPen makes the pen of from, for the channel to to whose key is key.
func newPen(fd int, key privsep.Key, from, to privsep.Role) *pen {
	return &pen{fd: fd, key: subkey(key, from, to)}
}

func subkey(key privsep.Key, from, to privsep.Role) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte("gatehouse derived key\x00channel from " + from.String() + " to " + to.String()))
	return m.Sum(nil)
}

// frame is the next good frame.
func (p *pen) frame(k privsep.Kind, payload []byte) []byte {
	p.seq++
	return p.sealed(p.seq, k, payload)
}

// sealed is a frame with the number seq and a MAC that is right.
func (p *pen) sealed(seq uint64, k privsep.Kind, payload []byte) []byte {
	b := make([]byte, headerLen, headerLen+len(payload))
	b[0] = 1
	binary.LittleEndian.PutUint16(b[2:], uint16(k))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[8:], seq)
	b = append(b, payload...)
	p.mac(b)
	return b
}

// mac writes the right MAC into b, whatever else is wrong with it.
func (p *pen) mac(b []byte) {
	m := hmac.New(sha256.New, p.key)
	m.Write(b[:macAt])
	m.Write(b[headerLen:])
	copy(b[macAt:headerLen], m.Sum(nil))
}

// send writes the next good frame.
func (p *pen) send(k privsep.Kind, payload []byte) error {
	return p.write(p.frame(k, payload), nil)
}

// write sends one packet with control messages, and waits for room.
func (p *pen) write(b, oob []byte) error {
	for {
		err := unix.Sendmsg(p.fd, b, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != syscall.EAGAIN && err != syscall.EINTR && err != syscall.ENOBUFS {
			return err
		}
		if err := waitFor(p.fd, unix.POLLOUT); err != nil {
			return err
		}
	}
}

func waitFor(fd int, events int16) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, -1)
	if err == syscall.EINTR {
		return nil
	}
	return err
}
