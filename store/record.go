package store

import (
	"encoding/binary"
	"errors"
)

// ErrRecord is returned by Parse for bytes that Put does not make.
var ErrRecord = errors.New("store: malformed record")

// Record is one entry of a ring. Put writes exactly Size bytes into dst, which
// must be as long, and returns Size. Parse takes exactly what Put wrote, or
// returns ErrRecord and leaves a zero value; its byte slices alias rec.
type Record interface {
	Size() int
	Put(dst []byte) int
	Parse(rec []byte) error
}

// RecKind is the first byte of a record.
type RecKind uint8

// Kinds are append-only: from 1 what a cm says, from 33 what the router says.
const (
	KindNone RecKind = iota
	KindOpen
	KindConnect
	KindSub
	KindUnsub
	KindPub
	KindPing
	KindFail
	KindClosed
	KindCongested
	KindRelieved
	KindReset
	KindStuck
	KindMove
	KindAsk
)

// Instructions of the router.
const (
	KindDeliver RecKind = iota + 33
	KindSend
	KindSession
	KindHold
	KindResume
	KindNewRouter
	KindArriving
	KindMoved
	KindGreeting
	KindChallenges
)

// kinds is the whole codec: a kind without a row does not exist.
var kinds = map[RecKind]struct {
	name string
	make func() Record
}{
	KindOpen:      {"OPEN", func() Record { return new(RecOpen) }},
	KindConnect:   {"CONNECT", func() Record { return new(RecConnect) }},
	KindSub:       {"SUB", func() Record { return new(RecSub) }},
	KindUnsub:     {"UNSUB", func() Record { return new(RecUnsub) }},
	KindPub:       {"PUB", func() Record { return new(RecPub) }},
	KindPing:      {"PING", func() Record { return new(RecPing) }},
	KindFail:      {"FAIL", func() Record { return new(RecFail) }},
	KindClosed:    {"CLOSED", func() Record { return new(RecClosed) }},
	KindCongested: {"CONGESTED", func() Record { return new(RecCongested) }},
	KindRelieved:  {"RELIEVED", func() Record { return new(RecRelieved) }},
	KindReset:     {"RESET", func() Record { return new(RecReset) }},
	KindStuck:     {"STUCK", func() Record { return new(RecStuck) }},
	KindMove:      {"MOVE", func() Record { return new(RecMove) }},
	KindAsk:       {"ASK", func() Record { return new(RecAsk) }},
	KindDeliver:   {"DELIVER", func() Record { return new(InsDeliver) }},
	KindSend:      {"SEND", func() Record { return new(InsSend) }},
	KindSession:   {"SESSION", func() Record { return new(InsSession) }},
	KindHold:      {"HOLD", func() Record { return new(InsHold) }},
	KindResume:    {"RESUME", func() Record { return new(InsResume) }},
	KindNewRouter: {"NEW_ROUTER", func() Record { return new(InsNewRouter) }},
	KindArriving:  {"ARRIVING", func() Record { return new(InsArriving) }},
	KindMoved:     {"MOVED", func() Record { return new(InsMoved) }},
	KindGreeting:  {"GREETING", func() Record { return new(InsGreeting) }},

	KindChallenges: {"CHALLENGES", func() Record { return new(InsChallenges) }},
}

// String returns the kind's name as it shows in logs, empty for none.
func (k RecKind) String() string { return kinds[k].name }

// NewRecord returns a zero record of kind k, nil when there is no such kind.
func NewRecord(k RecKind) Record {
	if row, ok := kinds[k]; ok {
		return row.make()
	}
	return nil
}

// Kind returns what rec claims to be; Parse of that kind tells whether it is.
func Kind(rec []byte) RecKind {
	if len(rec) == 0 {
		return KindNone
	}
	return RecKind(rec[0])
}

// Conn names a connection: its slot in the connection table and the low half of
// its UID, by which the reader knows that the slot has not been reused.
type Conn struct{ Slot, Gen uint32 }

// Every record about a connection begins with:
//
//	0 kind u8 | 1 small u8 | 2 wide u16 | 4 slot u32 | 8 gen u32
//
// RecPub, RecSub and InsDeliver use bytes 1 to 3 for the subject's length, which
// the rings' largest capacity keeps below 2^24.
const headSize = 12

var le = binary.LittleEndian

func putHead(dst []byte, k RecKind, small uint8, wide uint16, c Conn) {
	_ = dst[headSize-1]
	dst[0], dst[1] = byte(k), small
	le.PutUint16(dst[2:], wide)
	le.PutUint32(dst[4:], c.Slot)
	le.PutUint32(dst[8:], c.Gen)
}

// parseHead returns small, wide and the connection of a record of kind k with
// at least size bytes.
func parseHead(rec []byte, k RecKind, size int) (small uint8, wide uint16, c Conn, ok bool) {
	if len(rec) < size || RecKind(rec[0]) != k {
		return 0, 0, Conn{}, false
	}
	return rec[1], le.Uint16(rec[2:]), Conn{le.Uint32(rec[4:]), le.Uint32(rec[8:])}, true
}

// putBare and parseBare are the codec of records that are a head and one byte
// of which only the bits in mask may be set.
func putBare(dst []byte, k RecKind, small uint8, c Conn) int {
	putHead(dst, k, small, 0, c)
	return headSize
}

func parseBare(rec []byte, k RecKind, mask uint8) (Conn, uint8, error) {
	small, wide, c, ok := parseHead(rec, k, headSize)
	if !ok || len(rec) != headSize || wide != 0 || small&^mask != 0 {
		return Conn{}, 0, ErrRecord
	}
	return c, small, nil
}

// cut splits off the first n bytes of b.
func cut(b []byte, n uint32) (field, rest []byte, ok bool) {
	if uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}
