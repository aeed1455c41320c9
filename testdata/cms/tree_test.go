package cms

import (
	"bytes"
	"math/rand/v2"
)

// node is a value of BER.
type node struct {
	tag   byte
	body  []byte  // of a primitive one, or of one that does not divide
	parts []*node // nil: primitive
	form  form
}

// form is how a value's length is written.
type form uint8

const (
	der        form = iota
	long            // in more bytes than it takes
	indefinite      // until two zeros
	wrong           // by one
	numForms
)

// parse divides DER all the way down. Of what is none there is nothing.
func parse(b []byte) (list []*node) {
	for len(b) > 0 {
		if len(b) < 2 {
			return nil
		}
		n, size := &node{tag: b[0]}, int(b[1])
		b = b[2:]
		if size >= 0x80 {
			more := size & 0x7f
			if more > 3 || more > len(b) {
				return nil
			}
			size = 0
			for _, c := range b[:more] {
				size = size<<8 | int(c)
			}
			b = b[more:]
		}
		if size > len(b) {
			return nil
		}
		if n.body = b[:size]; n.tag&0x20 != 0 {
			n.parts = parse(n.body)
		}
		list, b = append(list, n), b[size:]
	}
	return list
}

func (n *node) write() []byte {
	body := n.body
	if n.parts != nil {
		body = writeAll(n.parts)
	}
	out := []byte{n.tag}
	size := len(body)
	switch n.form {
	case long:
		out = append(out, 0x84, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
		return append(out, body...)
	case indefinite:
		return append(append(append(out, 0x80), body...), 0, 0)
	case wrong:
		size += 1 - 2*(size&1)
	}
	switch {
	case size < 0x80:
		out = append(out, byte(size))
	case size < 0x100:
		out = append(out, 0x81, byte(size))
	default:
		out = append(out, 0x82, byte(size>>8), byte(size))
	}
	return append(out, body...)
}

func writeAll(list []*node) []byte {
	var out [][]byte
	for _, n := range list {
		out = append(out, n.write())
	}
	return bytes.Join(out, nil)
}

// all adds the values that list has, at any depth.
func all(found, list []*node) []*node {
	for _, n := range list {
		found = all(append(found, n), n.parts)
	}
	return found
}

// tags that a value may get in the place of its own.
var tags = []byte{2, 3, 4, 5, 6, 12, 19, 22, 23, 24, 0x24, 0x30, 0x31, 0x80, 0x81, 0x82, 0xa0, 0xa1, 0xa2, 0x1f}

// change makes something of DER that is a little different from it.
func change(r *rand.Rand, good []byte, stock [][]byte) []byte {
	list := parse(good)
	for range 1 + r.IntN(2) {
		nodes := all(make([]*node, 0, 128), list)
		if len(nodes) == 0 {
			return good
		}
		n := nodes[r.IntN(len(nodes))]
		switch r.IntN(10) {
		case 0:
			n.tag = tags[r.IntN(len(tags))]
		case 1:
			n.form = form(r.IntN(int(numForms)))
		case 2, 3: // a byte of it
			if n.parts == nil && len(n.body) > 0 {
				n.body = bytes.Clone(n.body)
				n.body[r.IntN(len(n.body))] ^= 1 << r.IntN(8)
			}
		case 4: // one of its parts is not there
			if len(n.parts) > 0 {
				i := r.IntN(len(n.parts))
				n.parts = append(n.parts[:i:i], n.parts[i+1:]...)
			}
		case 5: // or is there twice
			if len(n.parts) > 0 {
				i := r.IntN(len(n.parts))
				n.parts = append(n.parts[:i:i], append([]*node{n.parts[i]}, n.parts[i:]...)...)
			}
		case 6: // or has changed places
			if len(n.parts) > 1 {
				i, j := r.IntN(len(n.parts)), r.IntN(len(n.parts))
				n.parts[i], n.parts[j] = n.parts[j], n.parts[i]
			}
		case 7: // it is something else
			*n = *parse(stock[r.IntN(len(stock))])[0]
		case 8: // and has that within
			if n.parts != nil {
				i := r.IntN(len(n.parts) + 1)
				n.parts = append(n.parts[:i:i], append(parse(stock[r.IntN(len(stock))]), n.parts[i:]...)...)
			}
		case 9: // a string in pieces
			if n.parts == nil && len(n.body) > 1 {
				i := 1 + r.IntN(len(n.body)-1)
				n.parts = []*node{{tag: n.tag, body: n.body[:i]}, {tag: n.tag, body: n.body[i:]}}
				n.tag |= 0x20
			}
		}
	}
	return writeAll(list)
}
