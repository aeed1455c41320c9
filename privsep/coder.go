package privsep

import (
	"encoding/binary"
	"math"
	"time"
)

// layout is what a payload struct tells about itself: its fields in wire
// order. The same list encodes and decodes, so the two cannot differ.
type layout[T any] interface {
	*T
	fields(c *coder)
}

// encode appends p's fields to dst.
func encode[T any, P layout[T]](p P, dst []byte) []byte {
	c := coder{out: dst, encoding: true}
	p.fields(&c)
	return c.out
}

// decode sets p from b. Unless b is exactly one valid encoding, p becomes zero
// and the error is ErrShape.
func decode[T any, P layout[T]](p P, b []byte) error {
	var zero T
	*p = zero
	c := coder{in: b}
	p.fields(&c)
	if c.bad || len(c.in) != 0 {
		*p = zero
		return ErrShape
	}
	return nil
}

// coder walks a payload, little endian. Once bad it stays bad and reads zeros.
type coder struct {
	encoding bool
	bad      bool
	in       []byte // what is left to decode
	out      []byte
}

// take gives the next n bytes to decode, or nil and bad.
func (c *coder) take(n int) []byte {
	if c.bad || n > len(c.in) {
		c.bad = true
		return nil
	}
	b := c.in[:n]
	c.in = c.in[n:]
	return b
}

// check makes a decoded message bad unless ok: for what a type cannot say.
func (c *coder) check(ok bool) {
	if !c.encoding && !ok {
		c.bad = true
	}
}

func (c *coder) u8(v *uint8) {
	if c.encoding {
		c.out = append(c.out, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *coder) u16(v *uint16) {
	if c.encoding {
		c.out = binary.LittleEndian.AppendUint16(c.out, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.LittleEndian.Uint16(b)
	}
}

func (c *coder) u32(v *uint32) {
	if c.encoding {
		c.out = binary.LittleEndian.AppendUint32(c.out, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.LittleEndian.Uint32(b)
	}
}

func (c *coder) u64(v *uint64) {
	if c.encoding {
		c.out = binary.LittleEndian.AppendUint64(c.out, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.LittleEndian.Uint64(b)
	}
}

// flag is a bool: 0 or 1 and nothing else, so that there is one encoding.
func (c *coder) flag(v *bool) {
	var n uint8
	if *v {
		n = 1
	}
	c.u8(&n)
	c.check(n <= 1)
	if !c.encoding {
		*v = n == 1
	}
}

// number is a count or size that is never negative.
func (c *coder) number(v *int) {
	n := uint64(*v)
	c.u64(&n)
	c.check(n <= math.MaxInt)
	if !c.encoding {
		*v = int(n)
	}
}

// duration is a time that is never negative, in nanoseconds.
func (c *coder) duration(v *time.Duration) {
	n := uint64(*v)
	c.u64(&n)
	c.check(n <= math.MaxInt64)
	if !c.encoding {
		*v = time.Duration(n)
	}
}

// milliseconds is a time that is never negative, in whole milliseconds.
func (c *coder) milliseconds(v *time.Duration) {
	ms := uint64(*v / time.Millisecond)
	c.u64(&ms)
	c.check(ms <= maxMilliseconds)
	if !c.encoding {
		*v = time.Duration(ms) * time.Millisecond
	}
}

// maxMilliseconds is what a duration holds.
const maxMilliseconds = uint64(1<<63-1) / uint64(time.Millisecond)

// text is at most max bytes after a length. A longer one is encoded whole, and
// refused by rule and decoder, rather than cut in silence.
func (c *coder) text(v *string, max int) {
	n := uint16(min(len(*v), math.MaxUint16))
	c.u16(&n)
	if c.encoding {
		c.out = append(c.out, (*v)[:n]...)
		return
	}
	c.check(int(n) <= max)
	*v = string(c.take(int(n)))
}

// texts are at most most of them after their number, none empty, each at most max
// bytes.
func (c *coder) texts(v *[]string, most, max int) {
	n := uint16(min(len(*v), math.MaxUint16))
	c.u16(&n)
	if !c.encoding {
		c.check(int(n) <= most)
		if c.bad || n == 0 {
			return
		}
		*v = make([]string, n)
	}
	for i := range (*v)[:n] {
		c.text(&(*v)[i], max)
		c.check((*v)[i] != "")
	}
}

// blob is at most max bytes after a length. Decoded, it aliases the payload.
func (c *coder) blob(v *[]byte, max int) {
	n := uint16(min(len(*v), math.MaxUint16))
	c.u16(&n)
	if c.encoding {
		c.out = append(c.out, (*v)[:n]...)
		return
	}
	c.check(int(n) <= max)
	*v = c.take(int(n))
}

// rest is what is left of the payload, at most max bytes. Decoded, it aliases the
// payload.
func (c *coder) rest(v *[]byte, max int) {
	if c.encoding {
		c.out = append(c.out, *v...)
		return
	}
	c.check(len(c.in) <= max)
	if *v = c.take(len(c.in)); len(*v) == 0 {
		*v = nil
	}
}

// words are what is left of the payload, at most max of them.
func (c *coder) words(v *[]uint64, max int) {
	if !c.encoding {
		c.check(len(c.in) <= 8*max)
		if c.bad || len(c.in) == 0 {
			return
		}
		*v = make([]uint64, (len(c.in)+7)/8) // a part word is bad below
	}
	for i := range *v {
		c.u64(&(*v)[i])
	}
}

// fixed is len(v) bytes as they are.
func (c *coder) fixed(v []byte) {
	if c.encoding {
		c.out = append(c.out, v...)
		return
	}
	copy(v, c.take(len(v)))
}

// index is the number of a component or segment.
func (c *coder) index(v *int) {
	n := uint16(*v)
	c.u16(&n)
	c.check(n <= maxIndex)
	if !c.encoding {
		*v = int(n)
	}
}

// id is a component that the parent may start.
func (c *coder) id(v *ID) {
	c.u8((*uint8)(&v.Role))
	c.index(&v.Index)
	c.check(v.Role.child() && v.valid())
}
