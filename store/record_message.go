package store

// RecPub is a published message: a body in the sender's own arena, the subject
// and the reply, empty for none.
type RecPub struct {
	Conn
	Seq            uint64 // 48 bits
	Off, Len       uint32 // bytes
	HeaderLen      int32  // bytes of the body that are headers; -1: no headers
	Subject, Reply []byte
	Facts          []byte // encoded, at most MaxFacts bytes
}

// Layout of RecPub; the reply takes what the facts leave:
//
//	0 kind u8, subject length u24 | 4 slot | 8 gen | 12 header length i32
//	16 seq u48, facts length u16 | 24 off u32 | 28 len u32 | 32 subject, reply, facts
const pubSize = 32

// Size returns the encoded size in bytes.
func (r *RecPub) Size() int { return pubSize + len(r.Subject) + len(r.Reply) + len(r.Facts) }

// Put encodes r.
func (r *RecPub) Put(dst []byte) int {
	_ = dst[pubSize-1]
	le.PutUint32(dst, uint32(KindPub)|uint32(len(r.Subject))<<8)
	le.PutUint32(dst[4:], r.Slot)
	le.PutUint32(dst[8:], r.Gen)
	le.PutUint32(dst[12:], uint32(r.HeaderLen))
	le.PutUint64(dst[16:], r.Seq&seqMask|uint64(len(r.Facts))<<seqBits)
	le.PutUint32(dst[24:], r.Off)
	le.PutUint32(dst[28:], r.Len)
	n := pubSize + copy(dst[pubSize:], r.Subject)
	if len(r.Reply)+len(r.Facts) > 0 { // mostly there is neither
		n += copy(dst[n:], r.Reply)
		n += copy(dst[n:], r.Facts)
	}
	return n
}

// Parse decodes rec. Headers longer than the body are refused; whether the body
// lies within the arena is ArenaView.Body's to say, what the facts are Facts.Parse's.
func (r *RecPub) Parse(rec []byte) error {
	if len(rec) < pubSize || Kind(rec) != KindPub {
		*r = RecPub{}
		return ErrRecord
	}
	subject, rest, ok := cut(rec[pubSize:], le.Uint32(rec)>>8)
	seq := le.Uint64(rec[16:])
	facts := int(seq >> seqBits)
	reply := len(rest) - facts
	if !ok || reply < 0 || facts > MaxFacts {
		*r = RecPub{}
		return ErrRecord
	}
	r.Slot, r.Gen = le.Uint32(rec[4:]), le.Uint32(rec[8:])
	r.HeaderLen = int32(le.Uint32(rec[12:]))
	r.Seq, r.Off, r.Len = seq&seqMask, le.Uint32(rec[24:]), le.Uint32(rec[28:])
	r.Subject, r.Reply, r.Facts = subject, rest[:reply:reply], rest[reply:]
	if !headersFit(r.HeaderLen, r.Len) {
		*r = RecPub{}
		return ErrRecord
	}
	return nil
}

// headersFit is the law of HeaderLen: -1, or within the body.
func headersFit(header int32, body uint32) bool {
	return header >= -1 && int64(header) <= int64(body)
}

// DeliverMore marks an instruction that another one about the same body and for
// the same cm follows: the body is finished only after that one.
const DeliverMore = 1

// MaxFrom is the most that a message can be told of its sender, in bytes.
const MaxFrom = 2048

// InsDeliver tells a cm to send one body to Recipients (see AppendRecipient).
// Without recipients the body is finished at once.
type InsDeliver struct {
	Handle
	HeaderLen      int32 // as in RecPub
	Flags          uint16
	Subject, Reply []byte
	From           []byte // who sent it, printable ASCII, at most MaxFrom bytes; empty: not told
	Recipients     []byte // encoded
}

// Layout of InsDeliver; the recipients take the rest:
//
//	0 kind u8, subject length u24 | 4 reply length u32 | 8 seq u48, arena u16
//	16 off u32 | 20 len u32 | 24 header length i32 | 28 from length u16 | 30 flags u16
//	32 subject, reply, from, recipients
const deliverSize = 32

// Size returns the encoded size in bytes.
func (r *InsDeliver) Size() int {
	return DeliverSize(len(r.Subject), len(r.Reply), len(r.From), len(r.Recipients))
}

// DeliverSize is Size of an InsDeliver whose parts have so many bytes.
func DeliverSize(subject, reply, from, recipients int) int {
	return deliverSize + subject + reply + from + recipients
}

// Put encodes r.
func (r *InsDeliver) Put(dst []byte) int {
	_ = dst[deliverSize-1]
	le.PutUint32(dst, uint32(KindDeliver)|uint32(len(r.Subject))<<8)
	le.PutUint32(dst[4:], uint32(len(r.Reply)))
	le.PutUint64(dst[8:], r.Seq&seqMask|uint64(r.Arena)<<seqBits)
	le.PutUint32(dst[16:], r.Off)
	le.PutUint32(dst[20:], r.Len)
	le.PutUint32(dst[24:], uint32(r.HeaderLen))
	le.PutUint16(dst[28:], uint16(len(r.From)))
	le.PutUint16(dst[30:], r.Flags)
	n := deliverSize + copy(dst[deliverSize:], r.Subject)
	if len(r.Reply)+len(r.From) > 0 {
		n += copy(dst[n:], r.Reply)
		n += copy(dst[n:], r.From)
	}
	return n + copy(dst[n:], r.Recipients)
}

// Parse decodes rec; the recipients are checked by NextRecipient.
func (r *InsDeliver) Parse(rec []byte) error {
	if len(rec) < deliverSize || Kind(rec) != KindDeliver {
		*r = InsDeliver{}
		return ErrRecord
	}
	subject, rest, ok := cut(rec[deliverSize:], le.Uint32(rec)>>8)
	reply, rest, ok2 := cut(rest, le.Uint32(rec[4:]))
	from, recipients, ok3 := cut(rest, uint32(le.Uint16(rec[28:])))
	seq := le.Uint64(rec[8:])
	r.Handle = Handle{uint16(seq >> seqBits), seq & seqMask, le.Uint32(rec[16:]), le.Uint32(rec[20:])}
	r.HeaderLen = int32(le.Uint32(rec[24:]))
	r.Flags = le.Uint16(rec[30:])
	r.Subject, r.Reply, r.From, r.Recipients = subject, reply, from, recipients
	if !ok || !ok2 || !ok3 || !headersFit(r.HeaderLen, r.Len) || !isFrom(from) {
		*r = InsDeliver{}
		return ErrRecord
	}
	return nil
}

// isFrom is the law of From: it ends no header line.
func isFrom(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(b) <= MaxFrom
}

// A recipient is slot u32 | gen u32 | sid length u16 | sid | zeros to 4.
const (
	recipientSize = 10

	// MaxSID is the longest subscription id of a recipient, in bytes.
	MaxSID = 1<<16 - 1
)

// AppendRecipient appends one connection and its subscription id, at most
// MaxSID bytes, to an encoded list; a longer one appends nothing.
func AppendRecipient(dst []byte, slot, gen uint32, sid []byte) []byte {
	if len(sid) > MaxSID {
		return dst
	}
	dst = le.AppendUint32(dst, slot)
	dst = le.AppendUint32(dst, gen)
	dst = le.AppendUint16(dst, uint16(len(sid)))
	dst = append(dst, sid...)
	var zeros [4]byte
	return append(dst, zeros[:-(recipientSize+len(sid))&3]...)
}

// NextRecipient takes the first entry off an encoded list. ok is false at the
// end, then rest is empty, and at a malformed entry, then rest is not.
func NextRecipient(b []byte) (slot, gen uint32, sid, rest []byte, ok bool) {
	if len(b) < recipientSize {
		return 0, 0, nil, b, false
	}
	end := recipientSize + int(le.Uint16(b[8:]))
	next := (end + 3) &^ 3
	if next > len(b) {
		return 0, 0, nil, b, false
	}
	for _, pad := range b[end:next] {
		if pad != 0 {
			return 0, 0, nil, b, false
		}
	}
	return le.Uint32(b), le.Uint32(b[4:]), b[recipientSize:end:end], b[next:], true
}
