package store

// MaxAsk bounds the body of a RecAsk, in bytes.
const MaxAsk = 512

// RecAsk is a message to the broker itself: it goes to nobody else, and so its body,
// without headers, is here and not in an arena.
type RecAsk struct {
	Conn
	Long                 bool // the body is longer than MaxAsk, and not here
	Subject, Reply, Body []byte
}

const askSize = headSize + 8

// Size returns the encoded size in bytes.
func (r *RecAsk) Size() int { return askSize + len(r.Subject) + len(r.Reply) + len(r.Body) }

// Put encodes r.
func (r *RecAsk) Put(dst []byte) int {
	small := uint8(0)
	if r.Long {
		small = 1
	}
	putHead(dst, KindAsk, small, 0, r.Conn)
	le.PutUint32(dst[headSize:], uint32(len(r.Subject)))
	le.PutUint32(dst[headSize+4:], uint32(len(r.Reply)))
	n := askSize
	n += copy(dst[n:], r.Subject)
	n += copy(dst[n:], r.Reply)
	return n + copy(dst[n:], r.Body)
}

// Parse decodes rec.
func (r *RecAsk) Parse(rec []byte) error {
	*r = RecAsk{}
	small, wide, c, ok := parseHead(rec, KindAsk, askSize)
	if !ok || small > 1 || wide != 0 {
		return ErrRecord
	}
	subject, rest, ok := cut(rec[askSize:], le.Uint32(rec[headSize:]))
	if !ok {
		return ErrRecord
	}
	reply, body, ok := cut(rest, le.Uint32(rec[headSize+4:]))
	if !ok || len(body) > MaxAsk || small == 1 && len(body) > 0 {
		return ErrRecord
	}
	*r = RecAsk{c, small == 1, subject, reply, body}
	return nil
}
