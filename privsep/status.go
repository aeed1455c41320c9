package privsep

// This file has what the console asks for: the parent's word on the broker (STATUS), and
// the router's on who has subscribed to what (SUBS).

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

// SubsGet asks the router for a Subs with the same ID.
type SubsGet struct {
	ID   uint64
	From uint32 // slot
}

func (p *SubsGet) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.From)
}

// Bounds of a Subs, MaxSubsBytes of Sub.Size of all.
const (
	MaxSubs      = 1024
	MaxSubsBytes = 63 << 10
	MaxSubText   = 1<<16 - 1
)

// Subs are the subscriptions of the connections in some slots, all of each.
type Subs struct {
	ID   uint64
	Next uint32 // the first slot that was not looked at, 0: there are no more
	Cut  bool   // the last connection has more
	List []Sub  // at most MaxSubs
}

func (p *Subs) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Next)
	c.flag(&p.Cut)
	n := uint16(min(len(p.List), MaxSubs))
	c.u16(&n)
	if !c.encoding {
		c.check(n <= MaxSubs)
		if c.bad || n == 0 {
			return
		}
		p.List = make([]Sub, n)
	}
	for i := range p.List[:n] {
		p.List[i].fields(c)
	}
}

// Sub is one subscription. Its texts are a client's.
type Sub struct {
	UID                 uint64 // of the connection
	Subject, Queue, SID string
	Max, Delivered      uint64 // Max 0: no limit
}

func (p *Sub) fields(c *coder) {
	c.u64(&p.UID)
	c.text(&p.Subject, MaxSubText)
	c.text(&p.Queue, MaxSubText)
	c.text(&p.SID, MaxSubText)
	c.u64(&p.Max)
	c.u64(&p.Delivered)
}

// Size is what it takes in a message.
func (p *Sub) Size() int { return 3*8 + 3*2 + len(p.Subject) + len(p.Queue) + len(p.SID) }

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

// Append encodes p.
func (p *SubsGet) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *SubsGet) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Subs) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Subs) Parse(b []byte) error { return decode(p, b) }
