package wire

import (
	"bytes"
	"encoding/binary"
)

// A saved parser is
//
//	0 state | 1 node | 2 row | 3 code | 4 headers | 5 left u32 | 9 unfinished line
//
// little endian. There is one encoding of each parser.
const savedHead = 9

// Save appends all that a parser knows to dst, for [Parser.Restore] in another
// process to go on in the middle of an op as if nothing had happened. It takes
// at most MaxSaved bytes.
func (p *Parser) Save(dst []byte) []byte {
	headers := byte(0)
	if p.headers {
		headers = 1
	}
	dst = append(dst, byte(p.state), p.node, p.row, byte(p.code), headers)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(p.left))
	if p.spill != nil {
		return append(dst, p.spill...)
	}
	return append(dst, p.small[:p.held]...)
}

// MaxSaved bounds what Save appends, in bytes.
func (l *Limits) MaxSaved() int { return savedHead + max(l.ControlLine, l.Connect) + 1 }

// Restore makes p the parser that Save has put into b, and reports whether one
// has: any other bytes, and a parser in the middle of what lim does not allow,
// leave p as it was.
func (p *Parser) Restore(b []byte, lim *Limits) bool {
	if len(b) < savedHead || b[4] > 1 {
		return false
	}
	line := b[savedHead:]
	left := binary.LittleEndian.Uint32(b[5:])
	if int64(left) > int64(lim.Payload) {
		return false
	}
	q := Parser{state: state(b[0]), node: b[1], row: b[2], code: Code(b[3]), headers: b[4] == 1, left: int(left)}
	if !q.sound(len(line)) || bytes.IndexByte(line, '\n') >= 0 {
		return false
	}
	if len(line) > 0 && !q.hold(line, ops[q.row].limit(lim)) {
		return false
	}
	*p = q
	return true
}

// sound tells whether a parser can be like this, with so many bytes of an
// unfinished line.
func (p *Parser) sound(line int) bool {
	switch {
	case int(p.row) >= len(ops), p.node != 0 && (p.state != atVerb || p.node >= verbFree):
		return false
	case p.left > 0 != (p.state == inBody), line > 0 && p.state != inArgs:
		return false
	case p.state == dead:
		return p.code.Known() && p.row == 0 && !p.headers
	case p.code != 0:
		return false
	}
	f := ops[p.row].form
	switch p.state {
	case atVerb:
		return true
	case atGap, inArgs:
		return f != formJunk
	case inJunk:
		return f == formJunk
	case inBody, atCR, atLF:
		return f == formBody
	}
	return false
}

// limit is the longest line of the op.
func (o *op) limit(lim *Limits) int {
	if o.op == OpConnect {
		return lim.Connect
	}
	return lim.ControlLine
}
