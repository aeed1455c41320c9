package tickets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// handoffDomain keeps a handoff ticket from being any other MAC under a key
// that was derived or reused by mistake.
const handoffDomain = "gatehouse handoff ticket 1\x00"

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

// Make gives the ticket that says: connection uid was handed to connection
// manager cmIndex in its life number cmGeneration.
func Make(key HandoffKey, uid uint64, cmIndex uint32, cmGeneration uint64) (ticket [32]byte) {
	m := make([]byte, 0, len(handoffDomain)+20)
	m = append(m, handoffDomain...)
	m = binary.LittleEndian.AppendUint64(m, uid)
	m = binary.LittleEndian.AppendUint32(m, cmIndex)
	m = binary.LittleEndian.AppendUint64(m, cmGeneration)
	h := hmac.New(sha256.New, key[:])
	h.Write(m)
	h.Sum(ticket[:0])
	return ticket
}

// Verify reports whether ticket is what Make gives for the rest, in a time that
// does not depend on how much of it is right.
func Verify(key HandoffKey, ticket [32]byte, uid uint64, cmIndex uint32, cmGeneration uint64) bool {
	want := Make(key, uid, cmIndex, cmGeneration)
	return hmac.Equal(want[:], ticket[:])
}
