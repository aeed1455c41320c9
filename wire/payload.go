package wire

import "encoding/binary"

const crlf = '\n'<<8 | '\r'

// body starts the payload at b[i:].
func (p *Parser) body(b []byte, i int, f *Frame) (int, Event, error) {
	rest := b[i:]
	if len(rest) >= f.Size+2 {
		if binary.LittleEndian.Uint16(rest[f.Size:]) != crlf {
			return i, NeedMore, p.fail(f, errPayloadEnd)
		}
		f.Body = rest[:f.Size:f.Size]
		p.state = atVerb
		return i + f.Size + 2, Message, nil
	}
	k := min(len(rest), f.Size)
	f.Body = rest[:k:k]
	p.setLeft(f.Size - k)
	return i + k, MessageStart, nil
}

// payload goes on with a payload that an earlier call started.
func (p *Parser) payload(b []byte, f *Frame) (int, Event, error) {
	if len(b) == 0 {
		return 0, NeedMore, nil
	}
	k := min(len(b), p.left)
	if p.state == inBody {
		p.setLeft(p.left - k)
		if p.left > 0 || k == len(b) {
			*f = Frame{Op: ops[p.row].op, HeaderLen: -1, Body: b[:k:k]}
			return k, MessagePart, nil
		}
	}
	n, ok := p.payloadEnd(b, k)
	if !ok {
		return n, NeedMore, p.fail(f, errPayloadEnd)
	}
	if p.state != atVerb {
		if k == 0 {
			return n, NeedMore, nil
		}
		*f = Frame{Op: ops[p.row].op, HeaderLen: -1, Body: b[:k:k]}
		return n, MessagePart, nil
	}
	*f = Frame{Op: ops[p.row].op, HeaderLen: -1, Body: b[:k:k]}
	return n, MessageEnd, nil
}

// payloadEnd reads what is there of the CRLF at b[i:]; the state tells how far
// it came.
func (p *Parser) payloadEnd(b []byte, i int) (int, bool) {
	for ; i < len(b) && p.state != atVerb; i++ {
		switch {
		case p.state == atCR && b[i] == '\r':
			p.state = atLF
		case p.state == atLF && b[i] == '\n':
			p.state = atVerb
		default:
			return i, false
		}
	}
	return i, true
}

// setLeft notes how many payload bytes are missing.
func (p *Parser) setLeft(n int) {
	p.left, p.state = n, inBody
	if n == 0 {
		p.state = atCR
	}
}

// Remaining returns the payload bytes still missing, without the CRLF; 0
// outside a payload.
func (p *Parser) Remaining() int { return p.left }

// Skip says that the caller has read n payload bytes itself, straight to where
// they belong. More than Remaining counts as Remaining.
func (p *Parser) Skip(n int) {
	if p.left > 0 {
		p.setLeft(p.left - min(n, p.left))
	}
}
