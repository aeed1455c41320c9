package store

// RecOpen says that a connection arrived. Addr is the IPv4-mapped or IPv6
// address, zero for a Unix socket. Challenge is the number of that which its client has
// been told in INFO (InsChallenges), 0: it has not been told anything.
type RecOpen struct {
	Conn
	UID       uint64
	Challenge uint64
	Listener  uint16
	Port      uint16
	Addr      [16]byte
	Unix      bool
	TLS       bool // by TLS, or will be after INFO
}

const openSize = headSize + 8 + 8 + 2 + 16

// Size returns the encoded size in bytes.
func (r *RecOpen) Size() int { return openSize }

// Put encodes r.
func (r *RecOpen) Put(dst []byte) int {
	small := uint8(0)
	if r.Unix {
		small |= 1
	}
	if r.TLS {
		small |= 2
	}
	putHead(dst, KindOpen, small, r.Listener, r.Conn)
	le.PutUint64(dst[12:], r.UID)
	le.PutUint64(dst[20:], r.Challenge)
	le.PutUint16(dst[28:], r.Port)
	copy(dst[30:openSize], r.Addr[:])
	return openSize
}

// Parse decodes rec.
func (r *RecOpen) Parse(rec []byte) error {
	*r = RecOpen{}
	small, wide, c, ok := parseHead(rec, KindOpen, openSize)
	if !ok || len(rec) != openSize || small > 3 {
		return ErrRecord
	}
	r.Conn, r.Listener, r.Unix = c, wide, small&1 != 0
	r.TLS = small&2 != 0
	r.UID, r.Challenge, r.Port = le.Uint64(rec[12:]), le.Uint64(rec[20:]), le.Uint16(rec[28:])
	copy(r.Addr[:], rec[30:])
	return nil
}

// RecConnect carries the argument of a CONNECT and, where clients must log in, the
// certificates that the client has shown in its TLS handshake. Again says that an
// earlier router was told, too, and may have dealt with it.
type RecConnect struct {
	Conn
	Again bool
	Chain []byte // DER, one certificate after the other, the client's own first
	JSON  []byte
}

// MaxChain bounds RecConnect.Chain, in bytes.
const MaxChain = 32 << 10

// Size returns the encoded size in bytes.
func (r *RecConnect) Size() int { return headSize + len(r.Chain) + len(r.JSON) }

// Put encodes r.
func (r *RecConnect) Put(dst []byte) int {
	small := uint8(0)
	if r.Again {
		small = 1
	}
	putHead(dst, KindConnect, small, uint16(len(r.Chain)), r.Conn)
	n := headSize + copy(dst[headSize:], r.Chain)
	return n + copy(dst[n:], r.JSON)
}

// Parse decodes rec.
func (r *RecConnect) Parse(rec []byte) error {
	*r = RecConnect{}
	small, wide, c, ok := parseHead(rec, KindConnect, headSize)
	if !ok || small > 1 || wide > MaxChain || len(rec) < headSize+int(wide) {
		return ErrRecord
	}
	r.Conn, r.Again, r.JSON = c, small == 1, rec[headSize+int(wide):]
	if wide > 0 {
		r.Chain = rec[headSize : headSize+int(wide)]
	}
	return nil
}

// RecSub is a SUB; Queue is empty for a plain subscription.
type RecSub struct {
	Conn
	Subject, Queue, SID []byte
}

const subSize = headSize + 4

// Size returns the encoded size in bytes.
func (r *RecSub) Size() int { return subSize + len(r.Subject) + len(r.Queue) + len(r.SID) }

// Put encodes r.
func (r *RecSub) Put(dst []byte) int {
	putHead(dst, KindSub, 0, 0, r.Conn)
	le.PutUint32(dst, uint32(KindSub)|uint32(len(r.Subject))<<8)
	le.PutUint32(dst[headSize:], uint32(len(r.Queue)))
	n := subSize
	n += copy(dst[n:], r.Subject)
	n += copy(dst[n:], r.Queue)
	return n + copy(dst[n:], r.SID)
}

// Parse decodes rec.
func (r *RecSub) Parse(rec []byte) error {
	*r = RecSub{}
	_, _, c, ok := parseHead(rec, KindSub, subSize)
	if !ok {
		return ErrRecord
	}
	subject, rest, ok := cut(rec[subSize:], le.Uint32(rec)>>8)
	if !ok {
		return ErrRecord
	}
	queue, sid, ok := cut(rest, le.Uint32(rec[headSize:]))
	if !ok {
		return ErrRecord
	}
	*r = RecSub{c, subject, queue, sid}
	return nil
}

// RecUnsub is an UNSUB; Max is the number of messages to go to, 0 for at once.
type RecUnsub struct {
	Conn
	Max uint32
	SID []byte
}

const unsubSize = headSize + 4

// Size returns the encoded size in bytes.
func (r *RecUnsub) Size() int { return unsubSize + len(r.SID) }

// Put encodes r.
func (r *RecUnsub) Put(dst []byte) int {
	putHead(dst, KindUnsub, 0, 0, r.Conn)
	le.PutUint32(dst[headSize:], r.Max)
	return unsubSize + copy(dst[unsubSize:], r.SID)
}

// Parse decodes rec.
func (r *RecUnsub) Parse(rec []byte) error {
	*r = RecUnsub{}
	small, wide, c, ok := parseHead(rec, KindUnsub, unsubSize)
	if !ok || small != 0 || wide != 0 {
		return ErrRecord
	}
	r.Conn, r.Max, r.SID = c, le.Uint32(rec[headSize:]), rec[unsubSize:]
	return nil
}

// RecPing is a PING, or the end of a batch that wants an answer.
type RecPing struct{ Conn }

// Size returns the encoded size in bytes.
func (r *RecPing) Size() int { return headSize }

// Put encodes r.
func (r *RecPing) Put(dst []byte) int { return putBare(dst, KindPing, 0, r.Conn) }

// Parse decodes rec.
func (r *RecPing) Parse(rec []byte) (err error) {
	r.Conn, _, err = parseBare(rec, KindPing, 0)
	return err
}

// RecFail says that a client broke the protocol; Code is a wire.Code.
type RecFail struct {
	Conn
	Code uint8
}

// Size returns the encoded size in bytes.
func (r *RecFail) Size() int { return headSize }

// Put encodes r.
func (r *RecFail) Put(dst []byte) int { return putBare(dst, KindFail, r.Code, r.Conn) }

// Parse decodes rec.
func (r *RecFail) Parse(rec []byte) (err error) {
	r.Conn, r.Code, err = parseBare(rec, KindFail, 0xff)
	return err
}

// RecClosed says that a connection is gone; Reason is the cm's.
type RecClosed struct {
	Conn
	Reason uint8
}

// Size returns the encoded size in bytes.
func (r *RecClosed) Size() int { return headSize }

// Put encodes r.
func (r *RecClosed) Put(dst []byte) int { return putBare(dst, KindClosed, r.Reason, r.Conn) }

// Parse decodes rec.
func (r *RecClosed) Parse(rec []byte) (err error) {
	r.Conn, r.Reason, err = parseBare(rec, KindClosed, 0xff)
	return err
}

// RecCongested says that a client reads more slowly than it is sent to.
type RecCongested struct{ Conn }

// Size returns the encoded size in bytes.
func (r *RecCongested) Size() int { return headSize }

// Put encodes r.
func (r *RecCongested) Put(dst []byte) int { return putBare(dst, KindCongested, 0, r.Conn) }

// Parse decodes rec.
func (r *RecCongested) Parse(rec []byte) (err error) {
	r.Conn, _, err = parseBare(rec, KindCongested, 0)
	return err
}

// RecRelieved takes RecCongested back.
type RecRelieved struct{ Conn }

// Size returns the encoded size in bytes.
func (r *RecRelieved) Size() int { return headSize }

// Put encodes r.
func (r *RecRelieved) Put(dst []byte) int { return putBare(dst, KindRelieved, 0, r.Conn) }

// Parse decodes rec.
func (r *RecRelieved) Parse(rec []byte) (err error) {
	r.Conn, _, err = parseBare(rec, KindRelieved, 0)
	return err
}

// RecReset is the first record of a new cm process: the connections of earlier
// generations are no more. It lies in the ring after all that they had sent.
type RecReset struct{ Generation uint64 }

const resetSize = headSize + 8

// Size returns the encoded size in bytes.
func (r *RecReset) Size() int { return resetSize }

// Put encodes r.
func (r *RecReset) Put(dst []byte) int {
	putHead(dst, KindReset, 0, 0, Conn{})
	le.PutUint64(dst[headSize:], r.Generation)
	return resetSize
}

// Parse decodes rec.
func (r *RecReset) Parse(rec []byte) error {
	*r = RecReset{}
	small, wide, c, ok := parseHead(rec, KindReset, resetSize)
	if !ok || len(rec) != resetSize || small != 0 || wide != 0 || c != (Conn{}) {
		return ErrRecord
	}
	r.Generation = le.Uint64(rec[headSize:])
	return nil
}

// RecStuck says that the arena of the cm waits for body Seq, and has for a while:
// a cm that was named for it has not reported it as finished.
type RecStuck struct{ Seq uint64 } // 48 bits

const stuckSize = headSize + 8

// Size returns the encoded size in bytes.
func (r *RecStuck) Size() int { return stuckSize }

// Put encodes r.
func (r *RecStuck) Put(dst []byte) int {
	putHead(dst, KindStuck, 0, 0, Conn{})
	le.PutUint64(dst[headSize:], r.Seq&seqMask)
	return stuckSize
}

// Parse decodes rec.
func (r *RecStuck) Parse(rec []byte) error {
	*r = RecStuck{}
	small, wide, c, ok := parseHead(rec, KindStuck, stuckSize)
	if !ok || len(rec) != stuckSize || small != 0 || wide != 0 || c != (Conn{}) {
		return ErrRecord
	}
	seq := le.Uint64(rec[headSize:])
	if seq > seqMask {
		return ErrRecord
	}
	r.Seq = seq
	return nil
}
