package wire

import (
	"encoding/binary"
	"math/bits"
)

// maxArgs is the longest argument list of any op: HPUB with a reply.
const maxArgs = 4

// maxDigits bounds numbers as nats-server does, leading zeros included.
const maxDigits = 9

// args is a control line cut into arguments. It lies in the frame: a variable
// would escape through the table of decoders.
type args struct {
	line []byte
	n    int // -1: malformed, maxArgs+1: too many
	at   [maxArgs]struct{ from, to int32 }
}

// arg returns argument i < n.
func (a *args) arg(i int) []byte { return a.line[a.at[i].from:a.at[i].to:a.at[i].to] }

// last returns the argument that ends the list.
func (a *args) last() []byte { return a.arg(a.n - 1) }

// split cuts a line at runs of SP and TAB. A CR within the line is malformed:
// it belongs only before LF, and would travel on in a MSG line.
func (a *args) split(line []byte) {
	a.line, a.n = line, -1
	n, i := 0, 0
	for ; i < len(line); i++ {
		switch line[i] {
		case ' ', '\t':
			continue
		case '\r':
			return
		}
		if n == maxArgs {
			n++
			break
		}
		at := &a.at[n]
		at.from = int32(i)
		i = argEnd(line, i)
		at.to = int32(i)
		n++
		if i < len(line) && line[i] == '\r' {
			return
		}
	}
	a.n = n
}

// argEnd returns where the argument that begins at line[i] ends. It looks at
// eight bytes at a time for one that is not above SP: the lowest bit that is
// left in low is the first such byte's.
func argEnd(line []byte, i int) int {
	const ones = 0x0101010101010101
	for i+8 <= len(line) {
		w := binary.LittleEndian.Uint64(line[i:])
		low := (w - (' '+1)*ones) &^ w & (0x80 * ones)
		if low != 0 {
			i += bits.TrailingZeros64(low) / 8
			break
		}
		i += 8
	}
	for i < len(line) && (line[i] > ' ' || !endsArg(line[i])) {
		i++
	}
	return i
}

func endsArg(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// whole makes the line one argument, or none when it is empty.
func (a *args) whole(line []byte) {
	a.line, a.n = line, min(len(line), 1)
	a.at[0].from, a.at[0].to = 0, int32(len(line))
}

// number reads 1 to maxDigits decimal digits, nothing else.
func number(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > maxDigits {
		return 0, false
	}
	n := 0
	for _, c := range b {
		d := c - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + int(d)
	}
	return n, true
}
