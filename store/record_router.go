package store

// FlagClose in InsSend closes the connection after the data is written.
const FlagClose = 1

// InsSend tells a cm to write Data to a connection as it is.
type InsSend struct {
	Conn
	Flags uint8
	Data  []byte
}

// Size returns the encoded size in bytes.
func (r *InsSend) Size() int { return headSize + len(r.Data) }

// Put encodes r.
func (r *InsSend) Put(dst []byte) int {
	putHead(dst, KindSend, r.Flags, 0, r.Conn)
	return headSize + copy(dst[headSize:], r.Data)
}

// Parse decodes rec.
func (r *InsSend) Parse(rec []byte) error {
	*r = InsSend{}
	small, wide, c, ok := parseHead(rec, KindSend, headSize)
	if !ok || wide != 0 {
		return ErrRecord
	}
	*r = InsSend{c, small, rec[headSize:]}
	return nil
}

// Flags of InsSession.
const (
	SessionOpen     = 1 << iota // CONNECT was accepted: every op is allowed
	SessionHeaders              // HPUB is allowed, HMSG may be sent
	SessionVerbose              // every op is answered +OK
	SessionPedantic             // subjects are checked strictly
)

// InsSession tells a cm the state of a connection's session, and its limits: 0 is
// the limit that all have.
type InsSession struct {
	Conn
	Flags      uint8
	MaxPayload uint32 // bytes
	MaxPending uint32 // bytes
	Rate       uint32 // messages a second that are read
}

const sessionSize = headSize + 12

// Size returns the encoded size in bytes.
func (r *InsSession) Size() int { return sessionSize }

// Put encodes r.
func (r *InsSession) Put(dst []byte) int {
	putHead(dst, KindSession, r.Flags, 0, r.Conn)
	le.PutUint32(dst[headSize:], r.MaxPayload)
	le.PutUint32(dst[headSize+4:], r.MaxPending)
	le.PutUint32(dst[headSize+8:], r.Rate)
	return sessionSize
}

// Parse decodes rec.
func (r *InsSession) Parse(rec []byte) error {
	*r = InsSession{}
	flags, wide, c, ok := parseHead(rec, KindSession, sessionSize)
	if !ok || len(rec) != sessionSize || wide != 0 {
		return ErrRecord
	}
	*r = InsSession{c, flags, le.Uint32(rec[headSize:]), le.Uint32(rec[headSize+4:]), le.Uint32(rec[headSize+8:])}
	return nil
}

// InsHold tells a cm to stop reading from a connection.
type InsHold struct{ Conn }

// Size returns the encoded size in bytes.
func (r *InsHold) Size() int { return headSize }

// Put encodes r.
func (r *InsHold) Put(dst []byte) int { return putBare(dst, KindHold, 0, r.Conn) }

// Parse decodes rec.
func (r *InsHold) Parse(rec []byte) (err error) {
	r.Conn, _, err = parseBare(rec, KindHold, 0)
	return err
}

// InsResume takes InsHold back.
type InsResume struct{ Conn }

// Size returns the encoded size in bytes.
func (r *InsResume) Size() int { return headSize }

// Put encodes r.
func (r *InsResume) Put(dst []byte) int { return putBare(dst, KindResume, 0, r.Conn) }

// Parse decodes rec.
func (r *InsResume) Parse(rec []byte) (err error) {
	r.Conn, _, err = parseBare(rec, KindResume, 0)
	return err
}

// InsNewRouter tells a cm that what follows is a new router's, which knows of no
// hold, no reader that is behind and no body that is waited for. With Forget it
// knows of no connection either: they must end.
type InsNewRouter struct{ Forget bool }

// Size returns the encoded size in bytes.
func (r *InsNewRouter) Size() int { return headSize }

// Put encodes r.
func (r *InsNewRouter) Put(dst []byte) int {
	small := uint8(0)
	if r.Forget {
		small = 1
	}
	return putBare(dst, KindNewRouter, small, Conn{})
}

// Parse decodes rec.
func (r *InsNewRouter) Parse(rec []byte) error {
	*r = InsNewRouter{}
	c, small, err := parseBare(rec, KindNewRouter, 1)
	if err != nil || c != (Conn{}) {
		return ErrRecord
	}
	r.Forget = small == 1
	return nil
}
