package privsep

// Kick has a cm close one connection, whoever it is.
type Kick struct {
	ID         uint64 // comes back
	Connection uint64 // UID
}

func (p *Kick) fields(c *coder) {
	c.u64(&p.ID)
	c.u64(&p.Connection)
}

// Kicked answers a Kick.
type Kicked struct {
	ID      uint64
	Outcome KickOutcome
}

func (p *Kicked) fields(c *coder) {
	c.u64(&p.ID)
	c.u8((*uint8)(&p.Outcome))
	c.check(p.Outcome < numKickOutcomes)
}

// KickOutcome is what became of a Kick.
type KickOutcome uint8

// The outcomes. Values are frozen: they travel.
const (
	KickUnknown KickOutcome = iota // it is not here
	KickClosed                     // it is no more
	KickMoving                     // it is on its way to another cm
	numKickOutcomes
)

var kickOutcomeNames = [numKickOutcomes]string{"unknown", "closed", "moving"}

// String gives the outcome's name.
func (o KickOutcome) String() string {
	if o < numKickOutcomes {
		return kickOutcomeNames[o]
	}
	return "outcome"
}

// Append encodes p.
func (p *Kick) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Kick) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Kicked) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Kicked) Parse(b []byte) error { return decode(p, b) }
