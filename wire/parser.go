package wire

import "bytes"

// smallLine is how much of an unfinished line fits in the parser itself: most
// lines that a read cuts in two then need no allocation.
const smallLine = 56

// Parser turns the bytes of one connection into frames, in whatever pieces
// they come. The zero value is ready and allows no HPUB. It is for one
// goroutine at a time and must not be copied.
//
//	atVerb --> atGap --> inArgs --> Control, Message: atVerb
//	   \                    \-----> MessageStart: inBody -> atCR -> atLF -> atVerb
//	    \--> inJunk --> Control: atVerb
//	any --> dead
type Parser struct {
	left    int    // payload bytes not seen yet
	spill   []byte // the unfinished line once it outgrew small
	small   [smallLine]byte
	held    uint8 // bytes in small
	state   state
	node    uint8 // atVerb: node of the automaton
	row     uint8 // later: row of ops
	code    Code  // dead: why
	headers bool
}

type state uint8

const (
	atVerb state = iota // between ops, or within a verb
	atGap               // verb complete, no argument byte yet
	inArgs
	inJunk // the rest of the line doesn't matter
	inBody
	atCR // payload complete
	atLF
	dead
)

// SetHeaders says whether HPUB is allowed: whether client and server have both
// announced headers.
func (p *Parser) SetHeaders(on bool) { p.headers = on }

// Started reports whether an op has begun and is not complete.
func (p *Parser) Started() bool { return p.state != atVerb || p.node != 0 }

// InPayload reports whether a payload has begun that is not complete, its CRLF
// included.
func (p *Parser) InPayload() bool { return p.state >= inBody && p.state <= atLF }

// Next takes the next bytes of the connection and returns how many of them it
// used and what they completed, described in f. Call it until b is used up. An
// error is an *Error; the parser is dead then and repeats its code.
func (p *Parser) Next(b []byte, lim *Limits, f *Frame) (n int, ev Event, err error) {
	i := 0
	if p.state == atVerb {
		if p.node == 0 && isPub(b) {
			p.row, p.state = rowPub, inArgs
			return p.args(b, pubLen, lim, f)
		}
		var ok bool
		if i, ok = p.verb(b); !ok {
			return i, NeedMore, p.fail(f, errVerb)
		}
	}
	if p.state == atGap {
		for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
			i++
		}
		if i < len(b) {
			p.state = inArgs
		}
	}
	switch p.state {
	case inArgs:
		return p.args(b, i, lim, f)
	case inJunk:
		return p.junk(b, i, f)
	case inBody, atCR, atLF:
		return p.payload(b, f)
	case dead:
		return 0, NeedMore, &Error{p.code, "parser is dead"}
	}
	return i, NeedMore, nil
}

// junk looks for the end of a line that nobody reads.
func (p *Parser) junk(b []byte, i int, f *Frame) (int, Event, error) {
	end := bytes.IndexByte(b[i:], '\n')
	if end < 0 {
		return len(b), NeedMore, nil
	}
	p.state = atVerb
	f.reset(ops[p.row].op)
	return i + end + 1, Control, nil
}

// args reads the arguments from b[i:] up to the line end and decodes them.
func (p *Parser) args(b []byte, i int, lim *Limits, f *Frame) (int, Event, error) {
	row := &ops[p.row]
	limit := row.limit(lim)
	end := bytes.IndexByte(b[i:], '\n')
	if end < 0 {
		if !p.hold(b[i:], limit) {
			return len(b), NeedMore, p.fail(f, errLine)
		}
		return len(b), NeedMore, nil
	}
	line := b[i : i+end]
	i += end + 1
	if p.held > 0 || p.spill != nil {
		if !p.hold(line, limit) {
			return i, NeedMore, p.fail(f, errLine)
		}
		line = p.release()
	}
	if k := len(line) - 1; k >= 0 && line[k] == '\r' {
		line = line[:k]
	}
	if len(line) > limit {
		return i, NeedMore, p.fail(f, errLine)
	}
	f.reset(row.op)
	if row.form <= formBody {
		f.args.split(line)
	} else {
		f.args.whole(line)
	}
	if f.args.n < row.min || f.args.n > row.max {
		return i, NeedMore, p.fail(f, errArgs)
	}
	if err := row.decode(p, lim, f); err != nil {
		return i, NeedMore, p.fail(f, err)
	}
	if row.form == formBody {
		return p.body(b, i, f)
	}
	p.state = atVerb
	return i, Control, nil
}

// hold keeps part of a line, unless the line is longer than limit: a CR that
// may turn out to belong to the line end is not counted.
func (p *Parser) hold(part []byte, limit int) bool {
	have := len(p.spill) + int(p.held)
	total := have + len(part)
	if total > limit+1 || total == limit+1 && len(part) > 0 && part[len(part)-1] != '\r' {
		return false
	}
	if p.spill == nil && total <= smallLine {
		p.held += uint8(copy(p.small[have:], part))
		return true
	}
	if total > cap(p.spill) {
		grown := make([]byte, have, min(max(2*total, 4*smallLine), limit+1))
		copy(grown, p.spill)
		copy(grown, p.small[:p.held])
		p.spill, p.held = grown, 0
	}
	p.spill = append(p.spill, part...)
	return true
}

// release hands out the held line, which the parser then forgets.
func (p *Parser) release() []byte {
	line := p.spill
	if line == nil {
		line = p.small[:p.held]
	}
	p.spill, p.held = nil, 0
	return line
}

// fail ends the parser.
func (p *Parser) fail(f *Frame, err *Error) error {
	*f = Frame{}
	*p = Parser{state: dead, code: err.Code}
	return err
}
