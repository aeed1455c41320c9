package privsep

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"time"
)

// MaxPayload bounds every message's payload in bytes; bigger things travel as
// memfds. No row of the rules may exceed it. The biggest is a CONNECT, and whose it
// is.
const MaxPayload = MaxConnect + MaxChain + 256

// A frame is one packet:
//
//	 0       1      2      4      8      16       32
//	+-------+------+------+------+------+--------+---------+
//	| vers. | nfds | kind | len  | seq  | mac 16 | payload |
//	+-------+------+------+------+------+--------+---------+
//
// Little endian. len counts the payload, seq the frames of this direction from
// 1. The MAC is HMAC-SHA256 cut to 16 bytes over the 16 bytes before it and
// the payload, under a key of this channel and direction.
const (
	frameVersion = 1
	frameSigned  = 16 // bytes of header before the MAC
	macSize      = 16
	headerSize   = frameSigned + macSize
)

// What a channel can refuse. Each of them closes it.
var (
	ErrShape     = errors.New("privsep: malformed message")
	ErrTruncated = errors.New("privsep: message or control data cut short")
	ErrForged    = errors.New("privsep: bad message authentication code")
	ErrReplayed  = errors.New("privsep: sequence number out of order")
)

// Key authenticates one channel. Only its two ends and the parent know it.
type Key [32]byte

// NewKey draws a random key.
func NewKey() (k Key) {
	rand.Read(k[:])
	return k
}

// String hides the key from logs and error texts.
func (Key) String() string { return "********" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "********" }

// Derive gives a key for one other purpose, which label names: whoever has k
// can derive it, nobody can go back from it.
func (k Key) Derive(label string) (d Key) {
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte("gatehouse derived key\x00" + label))
	h.Sum(d[:0])
	return d
}

// direction is one way of a channel: whoever seals and whoever opens keep the
// same state. The roles of sender and receiver are mixed into the key, so a
// frame sent back at its sender does not verify.
type direction struct {
	from, to Role
	mac      hash.Hash
	seq      uint64 // of the last good frame
	used     [numKinds]bool
	budget   [numKinds]Pace
	sum      [sha256.Size]byte
}

func newDirection(key Key, from, to Role) direction {
	sub := key.Derive("channel from " + from.String() + " to " + to.String())
	return direction{from: from, to: to, mac: hmac.New(sha256.New, sub[:])}
}

// tag computes the MAC of a whole frame, whose own MAC field is left out. The
// result is valid until the next call.
func (d *direction) tag(frame []byte) []byte {
	d.mac.Reset()
	d.mac.Write(frame[:frameSigned])
	d.mac.Write(frame[headerSize:])
	return d.mac.Sum(d.sum[:0])[:macSize]
}

// frame is a packet taken apart; payload aliases the packet.
type frame struct {
	nfds    int
	kind    Kind
	seq     uint64
	mac     [macSize]byte
	payload []byte
}

// append encodes f; parse of the result gives f again.
func (f *frame) append(dst []byte) []byte {
	dst = append(dst, frameVersion, byte(f.nfds))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(f.kind))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.payload)))
	dst = binary.LittleEndian.AppendUint64(dst, f.seq)
	dst = append(dst, f.mac[:]...)
	return append(dst, f.payload...)
}

// parse takes packet b apart. It fails with ErrShape, and f zero, unless b is
// a frame to its last byte.
func (f *frame) parse(b []byte) error {
	*f = frame{}
	if len(b) < headerSize || len(b) > headerSize+MaxPayload || b[0] != frameVersion {
		return ErrShape
	}
	if int64(binary.LittleEndian.Uint32(b[4:])) != int64(len(b)-headerSize) {
		return ErrShape
	}
	f.nfds = int(b[1])
	f.kind = Kind(binary.LittleEndian.Uint16(b[2:]))
	f.seq = binary.LittleEndian.Uint64(b[8:])
	f.mac = [macSize]byte(b[frameSigned:])
	f.payload = b[headerSize:]
	return nil
}

// seal appends the next frame of this direction to dst[:0]. The caller calls
// sent once the kernel has taken it.
func (d *direction) seal(dst []byte, phase Phase, k Kind, payload []byte, nfds int) ([]byte, error) {
	r, err := permit(k, d.from, d.to, phase, len(payload), nfds)
	if err != nil {
		return nil, err
	}
	if r.once && d.used[k] {
		return nil, &PermitError{k, d.from, d.to, phase, len(payload), nfds, "once"}
	}
	f := frame{nfds: nfds, kind: k, seq: d.seq + 1, payload: payload}
	dst = f.append(dst[:0])
	copy(dst[frameSigned:headerSize], d.tag(dst))
	return dst, nil
}

// sent counts a frame of kind k that was sealed and has left.
func (d *direction) sent(k Kind) {
	d.seq++
	d.used[k] = true
}

// open verifies packet b with its nfds received fds: shape, MAC, sequence
// number, rules, in this order. Nothing of the payload has been decoded then.
func (d *direction) open(b []byte, phase Phase, nfds int) (k Kind, payload []byte, err error) {
	var f frame
	if err := f.parse(b); err != nil {
		return 0, nil, err
	}
	if f.nfds != nfds {
		return 0, nil, ErrShape
	}
	if !hmac.Equal(d.tag(b), f.mac[:]) {
		return 0, nil, ErrForged
	}
	if f.seq != d.seq+1 { // a packet socket loses nothing: a gap is a theft
		return 0, nil, ErrReplayed
	}
	r, err := permit(f.kind, d.from, d.to, phase, len(f.payload), nfds)
	if err != nil {
		return 0, nil, err
	}
	if r.once && d.used[f.kind] {
		return 0, nil, &PermitError{f.kind, d.from, d.to, phase, len(f.payload), nfds, "once"}
	}
	if r.rate > 0 && !d.budget[f.kind].Take(r.rate, time.Now()) {
		return 0, nil, &PermitError{f.kind, d.from, d.to, phase, len(f.payload), nfds, "rate"}
	}
	d.sent(f.kind)
	return f.kind, f.payload, nil
}

// Pace is a token bucket: so many a second, and at most as many at once. The
// zero value is full.
type Pace struct {
	spent float64 // tokens that are missing
	at    time.Time
}

// Take takes a token, if there is one.
func (b *Pace) Take(rate int, now time.Time) bool {
	b.spent = max(0, b.spent-float64(rate)*now.Sub(b.at).Seconds())
	b.at = now
	if b.spent+1 > float64(rate) {
		return false
	}
	b.spent++
	return true
}
