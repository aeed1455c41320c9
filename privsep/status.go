package privsep

// This file has what the console is told of the broker: the parent's word, which it asks
// for.

// MaxStatus bounds what a STATUS comes with, in bytes.
const MaxStatus = 8 << 20

// StatusGet asks for a STATUS with the same ID.
type StatusGet struct{ ID uint64 }

func (p *StatusGet) fields(c *coder) { c.u64(&p.ID) }

// StatusText comes with a parcel: what `gatehouse status --json` shows.
type StatusText struct {
	ID   uint64
	Size uint32 // of the parcel, in bytes
}

func (p *StatusText) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Size)
	c.check(p.Size > 0 && p.Size <= MaxStatus)
}

// TakeStatus reads the parcel of a STATUS, whose fd it closes.
func TakeStatus(m *Message) (id uint64, text []byte, err error) {
	defer m.CloseFDs()
	var p StatusText
	if err := p.Parse(m.Payload); err != nil {
		return 0, nil, err
	}
	text, err = ReadParcel(m.FDs[0], int(p.Size))
	return p.ID, text, err
}

// Append encodes p.
func (p *StatusGet) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *StatusGet) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *StatusText) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *StatusText) Parse(b []byte) error { return decode(p, b) }
