package cm

import (
	"gatehouse/store"
	"gatehouse/wire"
)

// readHeaders reads what the headers of a complete body say to the broker, and
// takes out what its client must not say: here, before anybody else can see it. It
// returns the body, with its block of n bytes or fewer, and the facts for RecPub,
// good until the next call.
func (m *cm) readHeaders(body []byte, n int) ([]byte, int, []byte) {
	a := &m.asked
	k := len(wire.ReadHeaders(body[:n:n], a))
	if k < n {
		body = body[:k+copy(body[k:], body[n:])]
	}
	f := store.Facts{Mode: store.Mode(a.Mode), Bad: uint8(a.Bad), End: a.End, Timeout: a.Timeout,
		Session: a.Session, ToType: a.ToType, ToOrganisation: a.ToOrganisation}
	m.facts = f.Append(m.facts[:0])
	return body, k, m.facts
}

// scratchMost bounds the scratch space that is kept for the next message.
const scratchMost = 64 << 10

// headersFor returns the header block for readers, where it is not the one that
// lies in the arena; else nil. That of another cm's is not believed: if that one
// was taken over, it speaks for its own connections and not for the broker.
func (m *cm) headersFor(ins *store.InsDeliver, block []byte) []byte {
	if len(ins.From) == 0 && (len(block) == 0 || int(ins.Arena) == m.index) {
		return nil
	}
	if cap(m.block) > scratchMost {
		m.block, m.told = nil, nil
	}
	m.block = append(m.block[:0], block...)
	rest := wire.StripHeaders(m.block)
	if len(ins.From) == 0 {
		return rest
	}
	m.told = wire.AppendFrom(m.told[:0], rest, ins.From)
	return m.told
}
