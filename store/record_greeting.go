package store

// Way is how a client has connected, of which its INFO depends.
type Way uint8

// Ways.
const (
	WayTCP Way = iota
	WayTLS
	WayUnix
	NumWays
)

// InsGreeting tells a cm the INFO of clients that connect in one way from now on. Their
// UID, address and challenge stand between its parts, in this order.
type InsGreeting struct {
	Way   Way
	Parts [4][]byte
}

const greetingSize = headSize + 3*4

// Size returns the encoded size in bytes.
func (r *InsGreeting) Size() int {
	n := greetingSize
	for _, p := range r.Parts {
		n += len(p)
	}
	return n
}

// Put encodes r.
func (r *InsGreeting) Put(dst []byte) int {
	putHead(dst, KindGreeting, uint8(r.Way), 0, Conn{})
	n := greetingSize
	for i, p := range r.Parts {
		if i < len(r.Parts)-1 {
			le.PutUint32(dst[headSize+4*i:], uint32(len(p)))
		}
		n += copy(dst[n:], p)
	}
	return n
}

// Parse decodes rec.
func (r *InsGreeting) Parse(rec []byte) error {
	*r = InsGreeting{}
	way, wide, c, ok := parseHead(rec, KindGreeting, greetingSize)
	if !ok || Way(way) >= NumWays || wide != 0 || c != (Conn{}) {
		return ErrRecord
	}
	var parts [4][]byte
	rest := rec[greetingSize:]
	for i := range len(parts) - 1 {
		if parts[i], rest, ok = cut(rest, le.Uint32(rec[headSize+4*i:])); !ok {
			return ErrRecord
		}
	}
	parts[3] = rest
	*r = InsGreeting{Way(way), parts}
	return nil
}

// ChallengeLen is the length of a challenge in bytes, as it stands in INFO.
const ChallengeLen = 32

// MaxChallenges is how many challenges a cm may have that no connection has yet.
const MaxChallenges = 256

// InsChallenges gives a cm challenges for connections to come, numbered from First on.
// In RecOpen it says which one a connection has; each is for one, and none for one after
// a later one.
type InsChallenges struct {
	First uint64 // never 0
	Texts []byte // one after the other
}

const challengesSize = headSize + 8

// Size returns the encoded size in bytes.
func (r *InsChallenges) Size() int { return challengesSize + len(r.Texts) }

// Put encodes r.
func (r *InsChallenges) Put(dst []byte) int {
	putHead(dst, KindChallenges, 0, 0, Conn{})
	le.PutUint64(dst[headSize:], r.First)
	return challengesSize + copy(dst[challengesSize:], r.Texts)
}

// Parse decodes rec.
func (r *InsChallenges) Parse(rec []byte) error {
	*r = InsChallenges{}
	small, wide, c, ok := parseHead(rec, KindChallenges, challengesSize)
	if !ok || small != 0 || wide != 0 || c != (Conn{}) {
		return ErrRecord
	}
	first, texts := le.Uint64(rec[headSize:]), rec[challengesSize:]
	n := uint64(len(texts) / ChallengeLen)
	if first == 0 || first+n < first || n == 0 || n > MaxChallenges || len(texts)%ChallengeLen != 0 {
		return ErrRecord
	}
	*r = InsChallenges{first, texts}
	return nil
}
