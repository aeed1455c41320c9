package privsep

// Approval comes with a parcel: who may vouch for the certificates of clients, and what
// has been revoked. Both are PEM.
type Approval struct {
	Number   uint32
	Mark     uint64 // of what is approved, as an Issuer's; 0: nothing is
	Approved uint32 // bytes of certificates and public keys
	Lists    uint32 // bytes of revocation lists, 0: there are none, and none is needed
	Soon     bool   // it holds with the next set of users, else at once
}

// Bounds of an Approval, in bytes.
const (
	MaxApproved = 1 << 20
	MaxLists    = 16 << 20
)

func (p *Approval) fields(c *coder) {
	c.u32(&p.Number)
	c.u64(&p.Mark)
	c.u32(&p.Approved)
	c.u32(&p.Lists)
	c.flag(&p.Soon)
	c.check(p.Approved <= MaxApproved && p.Lists <= MaxLists && (p.Mark != 0) == (p.Approved != 0) && (p.Approved != 0 || p.Lists == 0))
}

// Append encodes p.
func (p *Approval) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Approval) Parse(b []byte) error { return decode(p, b) }

// ApprovalText is an Approval with what its parcel holds.
type ApprovalText struct {
	Approval
	ApprovedPEM, ListsPEM []byte
}

// TakeApproval reads the parcel of an APPROVAL, whose fd it closes.
func TakeApproval(m *Message) (*ApprovalText, error) {
	defer m.CloseFDs()
	var a ApprovalText
	if err := a.Parse(m.Payload); err != nil {
		return nil, err
	}
	b, err := ReadParcel(m.FDs[0], int(a.Approved)+int(a.Lists))
	if err != nil {
		return nil, err
	}
	a.ApprovedPEM, a.ListsPEM = b[:a.Approved], b[a.Approved:]
	return &a, nil
}
