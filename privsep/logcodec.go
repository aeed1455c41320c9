package privsep

import (
	"strconv"
	"strings"
)

// Limits of a log line, in bytes. All keys at full length fit into a LOG.
const (
	MaxLogEvent = 48
	MaxLogText  = 128
)

// LogLine is a log line as a child sent it: role, pid and time are not in it,
// for the parent knows better. Text is whatever the child, or a client behind
// it, chose: quote it (Field.Value).
type LogLine struct {
	Level   Level
	Dropped uint32 // lines lost before this one
	Event   string // lower case words
	Fields  []Field
}

// A LOG payload is
//
//	level u8, dropped u32, length u8, event, count u8,
//	then per field: key u8, type u8 (0 text: length u8, bytes; 1 number: i64)
//
// with no key twice.
const (
	logText   = 0
	logNumber = 1
)

// append encodes what of l a decoder takes: a field with a key that is not a
// child's, or a second one with the same key, is left out; an event is forced
// into its alphabet.
func (l *LogLine) append(dst []byte) []byte {
	c := coder{out: dst, encoding: true}
	c.u8((*uint8)(&l.Level))
	c.u32(&l.Dropped)
	c.short(cleanEvent(l.Event))
	at := len(c.out)
	c.out = append(c.out, 0)
	var seen [numLogKeys]bool
	for i := range l.Fields {
		f := &l.Fields[i]
		if !f.Key.forChild() || seen[f.Key] {
			continue
		}
		seen[f.Key] = true
		c.out[at]++
		c.out = append(c.out, byte(f.Key))
		if f.Number {
			n := uint64(f.Int)
			c.out = append(c.out, logNumber)
			c.u64(&n)
		} else {
			c.out = append(c.out, logText)
			c.short(f.Text[:min(len(f.Text), MaxLogText)])
		}
	}
	return c.out
}

// short encodes a text with a length of one byte.
func (c *coder) short(s string) {
	c.out = append(c.out, byte(len(s)))
	c.out = append(c.out, s...)
}

// readShort decodes it; longer than max is bad.
func (c *coder) readShort(max int) string {
	var n uint8
	c.u8(&n)
	c.check(int(n) <= max)
	return string(c.take(int(n)))
}

// DecodeLog decodes the payload of a LOG, the inverse of what a Logger sends.
// Anything else is ErrShape and the zero LogLine.
func DecodeLog(b []byte) (LogLine, error) {
	var l LogLine
	c := coder{in: b}
	c.u8((*uint8)(&l.Level))
	c.check(l.Level < numLevels)
	c.u32(&l.Dropped)
	l.Event = c.readShort(MaxLogEvent)
	c.check(l.Event != "" && cleanEvent(l.Event) == l.Event)
	var count uint8
	c.u8(&count)
	var seen [numLogKeys]bool
	for range count {
		f := c.logField()
		c.check(f.Key.forChild() && !seen[f.Key])
		if c.bad {
			return LogLine{}, ErrShape
		}
		seen[f.Key] = true
		l.Fields = append(l.Fields, f)
	}
	if c.bad || len(c.in) != 0 {
		return LogLine{}, ErrShape
	}
	return l, nil
}

func (c *coder) logField() (f Field) {
	var typ uint8
	c.u8((*uint8)(&f.Key))
	c.u8(&typ)
	c.check(typ == logText || typ == logNumber)
	if f.Number = typ == logNumber; f.Number {
		var n uint64
		c.u64(&n)
		f.Int = int64(n)
	} else {
		f.Text = c.readShort(MaxLogText)
	}
	return f
}

// cleanEvent cuts an event to its length and turns what is not of its alphabet
// into '_'; an empty one becomes "_". A clean event stays as it is.
func cleanEvent(s string) string {
	s = s[:min(len(s), MaxLogEvent)]
	clean := true
	for i := range len(s) {
		clean = clean && eventByte(s[i])
	}
	if clean && s != "" {
		return s
	}
	b := []byte(s)
	for i := range b {
		if !eventByte(b[i]) {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		return "_"
	}
	return string(b)
}

func eventByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == ' ' || c == '_' || c == '-'
}

// Value gives the value for a terminal or a text file: a number, a plain word,
// or a quoted string in ASCII. It never holds a control character.
func (f *Field) Value() string {
	if f.Number {
		return strconv.FormatInt(f.Int, 10)
	}
	plain := f.Text != "" && strings.IndexFunc(f.Text, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '=' || r == '\\'
	}) < 0
	if plain {
		return f.Text
	}
	return strconv.QuoteToASCII(f.Text)
}
