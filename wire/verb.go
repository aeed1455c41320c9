package wire

import "encoding/binary"

// The verbs are recognised by an automaton made of the table: one step a byte,
// from node 0. A step of 0 leads nowhere; a step with the bit verbDone ends in
// the row of its other bits.
const (
	verbDone    = 0x80
	verbNodes   = 64 // more than the verbs have bytes
	verbClasses = 32
)

var (
	verbClass [256]uint8 // folds case and separators; 0: in no verb
	verbStep  [verbNodes][verbClasses]uint8
	verbFree  uint8 // the first node that no verb leads to
)

func init() {
	for c := byte('a'); c <= 'z'; c++ {
		verbClass[c], verbClass[c-'a'+'A'] = c-'a'+1, c-'a'+1
	}
	verbClass[' '], verbClass['\t'], verbClass['+'], verbClass['-'] = 27, 27, 28, 29
	verbFree = 1
	for row, o := range ops {
		node, last := uint8(0), len(o.verb)-1
		for i := range last {
			to := &verbStep[node][verbClass[o.verb[i]]]
			if *to == 0 {
				*to, verbFree = verbFree, verbFree+1
			}
			node = *to
		}
		verbStep[node][verbClass[o.verb[last]]] = verbDone | uint8(row)
	}
}

// verb walks the automaton and reports whether b may go on like this.
func (p *Parser) verb(b []byte) (int, bool) {
	node := p.node
	for i, c := range b {
		node = verbStep[node%verbNodes][verbClass[c]%verbClasses]
		if node == 0 {
			return i, false
		}
		if node >= verbDone {
			p.node, p.row, p.state = 0, node-verbDone, atGap
			if ops[p.row].form == formJunk {
				p.state = inJunk
			}
			return i + 1, true
		}
	}
	p.node = node
	return len(b), true
}

// PUB, which there are millions of for one of any other, is recognised by its
// first four bytes at once.
const (
	rowPub  = 0
	pubLen  = 4
	pubFold = 0xffdfdfdf // takes the case out of three letters
	pubWord = 'P' | 'U'<<8 | 'B'<<16 | ' '<<24
)

// isPub reports whether b begins with PUB, one SP and an argument's byte.
func isPub(b []byte) bool {
	return len(b) > pubLen && binary.LittleEndian.Uint32(b)&pubFold == pubWord && b[pubLen] > ' '
}
