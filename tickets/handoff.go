package tickets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// handoffDomain keeps a handoff ticket from being any other MAC under a key
// that was derived or reused by mistake.
const handoffDomain = "gatehouse handoff ticket 1\x00"

// HandoffPurpose is what dispatcher and parent derive the HandoffKey for, from
// the key of the channel between them.
const HandoffPurpose = "handoff tickets"

// HandoffKey makes and checks handoff tickets. Only the dispatcher and the
// parent know it.
type HandoffKey [32]byte

// NewHandoffKey draws a random key.
func NewHandoffKey() (k HandoffKey) {
	rand.Read(k[:])
	return k
}

// String hides the key from logs and error texts.
func (HandoffKey) String() string { return "********" }

// GoString hides the key from %#v.
func (HandoffKey) GoString() string { return "********" }

// Handoff is what a handoff ticket says: connection UID, which came in on a
// listener, was handed to connection manager CM in its life number Generation
// at the time Issued, in milliseconds of a clock that the key's two holders
// share.
type Handoff struct {
	UID        uint64
	CM         uint16
	Listener   uint16
	Generation uint64
	Issued     uint64
}

// Maker makes tickets under one key, faster than Make. One goroutine uses it.
type Maker struct {
	mac hash.Hash
	buf []byte
}

// NewMaker gives a Maker that goes on with key.
func NewMaker(key HandoffKey) *Maker { return &Maker{mac: hmac.New(sha256.New, key[:])} }

// Make gives the ticket for h.
func (m *Maker) Make(h Handoff) (ticket [32]byte) {
	b := append(m.buf[:0], handoffDomain...)
	b = binary.LittleEndian.AppendUint64(b, h.UID)
	b = binary.LittleEndian.AppendUint16(b, h.CM)
	b = binary.LittleEndian.AppendUint16(b, h.Listener)
	b = binary.LittleEndian.AppendUint64(b, h.Generation)
	m.buf = binary.LittleEndian.AppendUint64(b, h.Issued)
	m.mac.Reset()
	m.mac.Write(m.buf)
	copy(ticket[:], m.mac.Sum(m.buf[:0]))
	return ticket
}

// Make gives the ticket for h under key.
func Make(key HandoffKey, h Handoff) (ticket [32]byte) { return NewMaker(key).Make(h) }

// Verify reports whether ticket is what Make gives for h, in a time that does
// not depend on how much of it is right.
func Verify(key HandoffKey, ticket [32]byte, h Handoff) bool {
	want := Make(key, h)
	return hmac.Equal(want[:], ticket[:])
}
