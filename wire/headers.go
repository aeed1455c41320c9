package wire

import "bytes"

// Facts are what the headers of a message say to the broker. With Bad the rest
// is zero.
type Facts struct {
	Mode    Mode
	Bad     BadHeader
	End     bool   // of the session
	Timeout uint32 // ms, 0: none; longer than fits: the most that fits
	// Each printable ASCII without blanks, at most maxFact bytes; parts of the block.
	Session, ToType, ToOrganisation []byte

	said uint8 // bits: which headers there were, of those that may come once
}

// Mode is how a message wants to be routed.
type Mode uint8

// The modes.
const (
	ModeNone Mode = iota // the message does not say
	ModeBroadcast
	ModeSemaphore
	ModeSession
	ModeFanout
	ModeDirect
)

// modes are the values of Gatehouse-Mode.
var modes = [...]string{
	ModeBroadcast: "broadcast",
	ModeSemaphore: "semaphore",
	ModeSession:   "session",
	ModeFanout:    "fanout",
	ModeDirect:    "direct",
}

// BadHeader says which header of a message makes no sense.
type BadHeader uint8

// The headers that can be malformed. One that is there twice is.
const (
	BadNone BadHeader = iota
	BadMode
	BadSession
	BadTimeout
	BadType
	BadOrganisation
)

// maxFact bounds the text of a header that names something, in bytes.
const maxFact = 128

// headerPrefix begins the name of each header that is the broker's concern.
const headerPrefix = "gatehouse-"

// headers are those names without the prefix, in lower case. One without a
// function is the broker's own: from a client it does not go on.
var headers = [...]struct {
	name string
	bad  BadHeader
	take func(f *Facts, value []byte) bool // false: it makes no sense
}{
	{"mode", BadMode, (*Facts).takeMode},
	{"session", BadSession, func(f *Facts, v []byte) bool { return takeText(&f.Session, v) }},
	{"session-end", BadNone, func(f *Facts, _ []byte) bool { f.End = true; return true }},
	{"timeout", BadTimeout, (*Facts).takeTimeout},
	{"to-type", BadType, func(f *Facts, v []byte) bool { return takeText(&f.ToType, v) }},
	{"to-organisation", BadOrganisation, func(f *Facts, v []byte) bool { return takeText(&f.ToOrganisation, v) }},
	{name: "from"},
	{name: "expect"},
	{name: "answered"},
	{name: "lost"},
}

// firstLine begins a header block.
const firstLine = "NATS/1.0"

// ReadHeaders reads into f what the header block of an HPUB says to the broker,
// and returns the block without what a client must not say: in place, so what
// follows the block has to move up if it got shorter.
func ReadHeaders(block []byte, f *Facts) []byte {
	*f = Facts{}
	if !f.readPlain(block) {
		block = strip(block)
		*f = Facts{}
		f.readAny(block)
	}
	if f.Bad != BadNone {
		*f = Facts{Bad: f.Bad}
	}
	return block
}

// StripHeaders is ReadHeaders for who does not ask.
func StripHeaders(block []byte) []byte {
	var f *Facts
	if f.readPlain(block) {
		return block
	}
	return strip(block)
}

// readPlain reads a block of the form that clients write, and reports whether it
// is one, with nothing to be taken out. f may be nil.
func (f *Facts) readPlain(b []byte) bool {
	if len(b) < len(firstLine)+4 || string(b[:len(firstLine)+2]) != firstLine+"\r\n" {
		return false
	}
	for b = b[len(firstLine)+2:]; len(b) > 2; {
		end := bytes.IndexByte(b, '\n') - 1
		if end < 1 || b[end] != '\r' || bytes.IndexByte(b, '\r') != end {
			return false
		}
		switch c := b[0]; {
		case c|0x20 == 'g':
			if i, rest := lookup(b[:end]); i >= 0 {
				if headers[i].take == nil {
					return false
				}
				if f != nil {
					f.hear(i, rest)
				}
			}
		case !inName(c):
			return false
		}
		b = b[end+2:]
	}
	return len(b) == 2 && b[0] == '\r' && b[1] == '\n'
}

// readAny reads any block as far as clients do that find its end themselves: up
// to the first empty line.
func (f *Facts) readAny(b []byte) {
	if !bytes.HasPrefix(b, []byte(firstLine)) {
		return
	}
	for first := true; len(b) > 0; first = false {
		line, n := cutLine(b)
		b = b[n:]
		if len(line) == 0 {
			return
		}
		if i, rest := lookup(line); i >= 0 && !first {
			f.hear(i, rest)
		}
	}
}

// hear takes what follows the name of a header.
func (f *Facts) hear(i int, rest []byte) {
	rest = trimBlanks(rest)
	if len(rest) == 0 || rest[0] != ':' {
		return // no header
	}
	h := &headers[i]
	once := uint8(1) << h.bad &^ 1
	if sound := f.said&once == 0 && h.take(f, trimBlanks(rest[1:])); !sound && f.Bad == BadNone {
		f.Bad = h.bad
	}
	f.said |= once
}

func (f *Facts) takeMode(v []byte) bool {
	for m, name := range modes {
		if name != "" && string(v) == name {
			f.Mode = Mode(m)
			return true
		}
	}
	return false
}

func (f *Facts) takeTimeout(v []byte) (ok bool) {
	f.Timeout, ok = parseTimeout(v)
	return ok
}

func takeText(to *[]byte, v []byte) bool {
	*to = v
	for _, c := range v {
		if !visible(c) {
			return false
		}
	}
	return len(v) > 0 && len(v) <= maxFact
}

// lookup returns which of headers a line names and what follows the name, -1 if
// none.
func lookup(line []byte) (int, []byte) {
	k := matchFold(line, headerPrefix)
	if k < 0 {
		return -1, nil
	}
	for i := range headers {
		if n := matchFold(line[k:], headers[i].name); n >= 0 {
			if rest := line[k+n:]; len(rest) == 0 || !inName(rest[0]) {
				return i, rest
			}
		}
	}
	return -1, nil
}

// matchFold returns how many bytes at the beginning of b are name, which is lower
// case, without regard to case; -1 if they are not. There is one letter beyond
// ASCII that counts as one of its letters for who compares so, the long s.
func matchFold(b []byte, name string) int {
	k := 0
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case k < len(b) && (b[k] == c || b[k]|0x20 == c && c >= 'a'):
			k++
		case c == 's' && k+1 < len(b) && b[k] == 0xc5 && b[k+1] == 0xbf:
			k += 2
		default:
			return -1
		}
	}
	return k
}

// visible is the law of what a text is made of, inName of what a name is made of
// for any reader: none takes anything else for part of one.
func visible(c byte) bool { return c > ' ' && c <= '~' }
func inName(c byte) bool  { return visible(c) && c != ':' }

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// cutLine returns the first line of b without its end, and its length with it: a
// line ends with CR LF, LF or CR, whichever some client takes for an end.
func cutLine(b []byte) (line []byte, n int) {
	end := bytes.IndexAny(b, "\r\n")
	switch {
	case end < 0:
		return b, len(b)
	case b[end] == '\r' && end+1 < len(b) && b[end+1] == '\n':
		return b[:end], end + 2
	}
	return b[:end], end + 1
}
