package privsep

import "time"

// This file has the payloads of a cm's replacement while it runs: its
// connections move to the process in its partner's place.

// CMRetire says that a cm gets no more connections, and that those it has may
// move to another one and nowhere else.
type CMRetire struct {
	CM         int // index of the place that is left
	Generation uint64
	To         int // index of its successor's
}

func (p *CMRetire) fields(c *coder) {
	c.index(&p.CM)
	c.u64(&p.Generation)
	c.index(&p.To)
}

// Retire comes with the channel to the successor: connections that can move are
// moved, the others may stay for as long as Drain.
type Retire struct {
	To         int // index
	Generation uint64
	Key        Key
	Drain      time.Duration // whole milliseconds
}

func (p *Retire) fields(c *coder) {
	c.index(&p.To)
	c.u64(&p.Generation)
	c.fixed(p.Key[:])
	c.milliseconds(&p.Drain)
}

// Retiring says how far a cm has come that was told to retire.
type Retiring struct {
	Moved uint64 // connections that have left
	Left  uint32 // that will move, or are about to end
	Stay  uint32 // that cannot move: TLS
}

func (p *Retiring) fields(c *coder) {
	c.u64(&p.Moved)
	c.u32(&p.Left)
	c.u32(&p.Stay)
}

// MaxMoveBytes bounds the payload of a MOVE_BYTES.
const MaxMoveBytes = 32 << 10

// MoveConn comes with the socket of a connection that moves. What it is in the
// middle of follows in MOVE_BYTES, one part after the other without a gap. Who
// receives it bounds the parts by what its own connections may come to.
type MoveConn struct {
	UID      uint64
	Slot     uint32
	Flags    MoveFlags
	Pings    uint8
	Idle     uint32 // milliseconds since the client was last heard
	Deadline uint32 // milliseconds that are left for its first operation, 0: none
	InMsgs   uint64
	InBytes  uint64
	OutMsgs  uint64
	OutBytes uint64
	// Of a message whose payload is not complete, or waits for room.
	HeaderLen int32 // bytes of the payload; -1: no headers
	Size      uint32
	// Parts, in bytes.
	Parser  uint32
	Subject uint32 // of that message, as the next two
	Reply   uint32
	Body    uint32
	Rest    uint32 // read and not parsed
	Output  uint32
}

// MoveFlags are a connection's in a MoveConn.
type MoveFlags uint8

// The flags.
const (
	MoveUnix      MoveFlags = 1 << iota // its socket is a Unix socket
	MoveConnected                       // has sent its first operation
	MoveWide                            // is sent much at once
	MoveMessage                         // is in the middle of a message
	MoveWaiting                         // which is complete
	MoveSystem                          // is the console's
	allMoveFlags  = 1<<iota - 1
)

func (p *MoveConn) fields(c *coder) {
	header := uint32(p.HeaderLen)
	c.u64(&p.UID)
	c.u32(&p.Slot)
	c.u8((*uint8)(&p.Flags))
	c.check(p.Flags <= allMoveFlags)
	c.u8(&p.Pings)
	c.u32(&p.Idle)
	c.u32(&p.Deadline)
	c.u64(&p.InMsgs)
	c.u64(&p.InBytes)
	c.u64(&p.OutMsgs)
	c.u64(&p.OutBytes)
	c.u32(&header)
	c.u32(&p.Size)
	for _, n := range []*uint32{&p.Parser, &p.Subject, &p.Reply, &p.Body, &p.Rest, &p.Output} {
		c.u32(n)
	}
	if !c.encoding {
		p.HeaderLen = int32(header)
	}
	message := p.Flags&MoveMessage != 0
	c.check(p.HeaderLen >= -1 && int64(p.HeaderLen) <= int64(p.Size) && p.Body <= p.Size)
	c.check(message || p.HeaderLen == 0 && p.Size == 0 && p.Subject == 0 && p.Reply == 0)
	c.check(p.Flags&MoveWaiting == 0 || message && p.Body == p.Size)
}

// Append encodes p.
func (p *CMRetire) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *CMRetire) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Retire) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Retire) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Retiring) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Retiring) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *MoveConn) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *MoveConn) Parse(b []byte) error { return decode(p, b) }
