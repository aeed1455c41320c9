package store

// RecMove asks for a connection to be moved to another cm: it says nothing more
// of it. InsMoved answers.
type RecMove struct {
	Conn
	To uint16 // index of the cm
}

// Size returns the encoded size in bytes.
func (r *RecMove) Size() int { return headSize }

// Put encodes r.
func (r *RecMove) Put(dst []byte) int {
	putHead(dst, KindMove, 0, r.To, r.Conn)
	return headSize
}

// Parse decodes rec.
func (r *RecMove) Parse(rec []byte) error {
	*r = RecMove{}
	small, to, c, ok := parseHead(rec, KindMove, headSize)
	if !ok || len(rec) != headSize || small != 0 {
		return ErrRecord
	}
	r.Conn, r.To = c, to
	return nil
}

// What the router knows of a connection that arrives.
const (
	ArrivingHeaders   = 1 << iota // takes headers
	ArrivingHeld                  // is not to be read from, see InsHold
	ArrivingCongested             // has been reported as RecCongested
	arrivingAll       = 1<<iota - 1
)

// InsArriving tells a cm of a connection that moves to it: what it is instructed
// about it from now on goes out after what the cm before it has left to send.
type InsArriving struct {
	Conn
	Flags uint8
	UID   uint64
}

const arrivingSize = headSize + 8

// Size returns the encoded size in bytes.
func (r *InsArriving) Size() int { return arrivingSize }

// Put encodes r.
func (r *InsArriving) Put(dst []byte) int {
	putHead(dst, KindArriving, r.Flags, 0, r.Conn)
	le.PutUint64(dst[headSize:], r.UID)
	return arrivingSize
}

// Parse decodes rec.
func (r *InsArriving) Parse(rec []byte) error {
	*r = InsArriving{}
	flags, wide, c, ok := parseHead(rec, KindArriving, arrivingSize)
	if !ok || len(rec) != arrivingSize || wide != 0 || flags > arrivingAll {
		return ErrRecord
	}
	r.Conn, r.Flags, r.UID = c, flags, le.Uint64(rec[headSize:])
	return nil
}

// MovedNot in InsMoved: the connection stays, for now.
const MovedNot = 1

// InsMoved answers RecMove: no instruction about the connection follows here.
type InsMoved struct {
	Conn
	Flags uint8
}

// Size returns the encoded size in bytes.
func (r *InsMoved) Size() int { return headSize }

// Put encodes r.
func (r *InsMoved) Put(dst []byte) int { return putBare(dst, KindMoved, r.Flags, r.Conn) }

// Parse decodes rec.
func (r *InsMoved) Parse(rec []byte) (err error) {
	r.Conn, r.Flags, err = parseBare(rec, KindMoved, MovedNot)
	return err
}
