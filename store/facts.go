package store

// Mode is how a message wants to be routed.
type Mode uint8

// Modes are append-only.
const (
	ModeNone Mode = iota // the message does not say
	ModeBroadcast
	ModeSemaphore
	ModeSession
	ModeFanout
	ModeDirect
	modeEnd
)

// String returns the name that clients know a mode by, empty for none.
func (m Mode) String() string {
	if m < modeEnd {
		return modeNames[m]
	}
	return ""
}

var modeNames = [modeEnd]string{"", "broadcast", "semaphore", "session", "fanout", "direct"}

// Which header of a message makes no sense.
const (
	BadNone uint8 = iota
	BadMode
	BadSession
	BadTimeout
	BadType
	BadOrganisation
	badEnd
)

// Facts are what the headers of a message say to the broker. A cm reads them and
// sends them along with RecPub: the router sees no body. The zero value is a
// message that says nothing, and no bytes.
type Facts struct {
	Mode                            Mode
	Bad                             uint8  // with which the rest is zero
	End                             bool   // of the session
	Timeout                         uint32 // ms, 0: none
	Session, ToType, ToOrganisation []byte // each printable ASCII without blanks, at most MaxFact bytes
}

// Layout of Facts:
//
//	0 mode u8 | 1 bad u8 | 2 flags u8 | 3 session length u8 | 4 timeout u32
//	8 type length u8 | 9 organisation length u8 | 10 session, type, organisation
const factsSize = 10

const (
	// MaxFact bounds each text of Facts, in bytes.
	MaxFact = 128

	// MaxFacts bounds encoded Facts, in bytes.
	MaxFacts = factsSize + 3*MaxFact

	factEnd = 1
)

// Append appends the encoded facts to dst.
func (f *Facts) Append(dst []byte) []byte {
	if f.none() {
		return dst
	}
	flags := uint8(0)
	if f.End {
		flags = factEnd
	}
	dst = append(dst, byte(f.Mode), f.Bad, flags, byte(len(f.Session)))
	dst = le.AppendUint32(dst, f.Timeout)
	dst = append(dst, byte(len(f.ToType)), byte(len(f.ToOrganisation)))
	dst = append(dst, f.Session...)
	dst = append(dst, f.ToType...)
	return append(dst, f.ToOrganisation...)
}

// Parse decodes b, of which the texts are parts. It takes exactly what Append
// writes; an error leaves a zero value.
func (f *Facts) Parse(b []byte) error {
	*f = Facts{}
	if len(b) == 0 {
		return nil
	}
	if len(b) < factsSize || b[0] >= byte(modeEnd) || b[1] >= badEnd || b[2] > factEnd || !textsOnly(b) {
		return ErrRecord
	}
	next := Facts{Mode: Mode(b[0]), Bad: b[1], End: b[2] == factEnd, Timeout: le.Uint32(b[4:])}
	rest := b[factsSize:]
	next.Session, rest, _ = cut(rest, uint32(b[3]))
	next.ToType, rest, _ = cut(rest, uint32(b[8]))
	next.ToOrganisation = rest[:len(rest):len(rest)]
	if next.none() || next.Bad != BadNone && !next.onlyBad() {
		return ErrRecord
	}
	*f = next
	return nil
}

// textsOnly tells whether encoded facts end with texts as long as they say, of
// what texts may hold.
func textsOnly(b []byte) bool {
	lens := [3]int{int(b[3]), int(b[8]), int(b[9])}
	if max(lens[0], lens[1], lens[2]) > MaxFact || len(b) != factsSize+lens[0]+lens[1]+lens[2] {
		return false
	}
	for _, c := range b[factsSize:] {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func (f *Facts) none() bool { return f.Bad == BadNone && f.onlyBad() }

// onlyBad tells whether nothing but Bad is set.
func (f *Facts) onlyBad() bool {
	return f.Mode == ModeNone && !f.End && f.Timeout == 0 && len(f.Session)+len(f.ToType)+len(f.ToOrganisation) == 0
}
