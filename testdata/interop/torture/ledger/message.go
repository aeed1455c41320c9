package ledger

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// Overhead is the size of the smallest message: its header.
const Overhead = 32

// Largest is the size of the largest message.
const Largest = 1 << 20

const magic = 0x47485431

var (
	table  = crc32.MakeTable(crc32.Castagnoli)
	filler = newFiller()
)

// newFiller is twice as long as a body, so that each begins somewhere else: a
// piece of another message in its place does not go unnoticed.
func newFiller() []byte {
	b, r := make([]byte, 2*Largest), rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// Mark names a message.
type Mark struct {
	Stream uint32
	Seq    uint64
}

// Append appends a message of size bytes to b.
func Append(b []byte, m Mark, size int) []byte {
	size = min(max(size, Overhead), Largest)
	var h [Overhead]byte
	body := bodyOf(m, size-Overhead)
	binary.LittleEndian.PutUint32(h[0:], magic)
	binary.LittleEndian.PutUint32(h[4:], m.Stream)
	binary.LittleEndian.PutUint64(h[8:], m.Seq)
	binary.LittleEndian.PutUint32(h[16:], uint32(size))
	binary.LittleEndian.PutUint32(h[20:], crc32.Checksum(body, table))
	binary.LittleEndian.PutUint32(h[28:], crc32.Checksum(h[:28], table))
	return append(append(b, h[:]...), body...)
}

func bodyOf(m Mark, n int) []byte {
	at := (uint64(m.Stream)*7919 + m.Seq*104729) % (Largest - 1)
	return filler[at : at+uint64(n)]
}

// State is how a message arrived.
type State uint8

// A message with a bad header has no number that could be believed.
const (
	Sound State = iota
	BadBody
	BadHeader
)

// Read checks a message.
func Read(b []byte) (Mark, State) {
	if len(b) < Overhead || binary.LittleEndian.Uint32(b) != magic ||
		binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], table) {
		return Mark{}, BadHeader
	}
	m := Mark{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])}
	if int(binary.LittleEndian.Uint32(b[16:])) != len(b) || !bytes.Equal(b[Overhead:], bodyOf(m, len(b)-Overhead)) ||
		binary.LittleEndian.Uint32(b[20:]) != crc32.Checksum(b[Overhead:], table) {
		return m, BadBody
	}
	return m, Sound
}
