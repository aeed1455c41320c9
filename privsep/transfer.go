package privsep

import (
	"crypto/sha256"
	"encoding/binary"
)

// This file has what is said of transfer tickets: one is asked for (TICKET_SIGN,
// TICKET_SIGNED), and whose are taken (ISSUER).

// Bounds of what is said of tickets. Names in them are at most MaxSettingsText.
const (
	NonceSize     = 24      // bytes of a challenge
	MaxTicket     = 4 << 10 // of a ticket
	MaxIssuers    = 256     // in a set
	MaxIssuerKeys = 2       // the present and the next one
	MaxIssuerKey  = 65      // bytes, as package tickets has it
	MaxIssuerList = 256     // entries of each list
	MaxIssuer     = 32 << 10
)

// TicketSign asks for a ticket. The parent adds who signs it, when, and a number.
type TicketSign struct {
	ID           uint64 // the router's, comes back
	Connection   uint64 // UID of the one that has asked
	Nonce        [NonceSize]byte
	User         string
	Organisation string
	Audience     string // environment
}

func (p *TicketSign) fields(c *coder) {
	c.u64(&p.ID)
	c.u64(&p.Connection)
	c.fixed(p.Nonce[:])
	c.text(&p.User, MaxSettingsText)
	c.text(&p.Organisation, MaxSettingsText)
	c.text(&p.Audience, MaxSettingsText)
}

// TicketSigned answers a TicketSign. Without a ticket there is none to be had now: no
// key, too many, or no profile may transfer there any more.
type TicketSigned struct {
	ID     uint64
	Ticket []byte // at most MaxTicket
}

func (p *TicketSigned) fields(c *coder) {
	c.u64(&p.ID)
	c.blob(&p.Ticket, MaxTicket)
}

// Issuer is an environment whose tickets are taken.
type Issuer struct {
	Set           uint32 // number of the set that it belongs to
	Last          bool   // it completes the set
	Environment   string // "": a set without any issuer, all else is zero
	Mark          uint64 // of all that is known of the issuer, as a User's; never 0
	Keys          []string
	Organisations []string // whose users it may send
	Users         []string // that it may send; empty: all of them
	Profile       string   // that they have here; "": their own
}

func (p *Issuer) fields(c *coder) {
	c.u32(&p.Set)
	c.flag(&p.Last)
	c.text(&p.Environment, MaxSettingsText)
	if p.Environment == "" {
		c.check(p.Last)
		return
	}
	c.u64(&p.Mark)
	c.check(p.Mark != 0)
	c.texts(&p.Keys, MaxIssuerKeys, MaxIssuerKey)
	c.texts(&p.Organisations, MaxIssuerList, MaxSettingsText)
	c.texts(&p.Users, MaxIssuerList, MaxSettingsText)
	c.text(&p.Profile, MaxSettingsText)
}

// MarkThrough is the mark of a user who comes by a ticket of an issuer: another one as
// soon as anything about either of them is.
func MarkThrough(user, issuer uint64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], user)
	binary.LittleEndian.PutUint64(b[8:], issuer)
	sum := sha256.Sum256(b[:])
	return max(1, binary.LittleEndian.Uint64(sum[:]))
}

// Append encodes p.
func (p *TicketSign) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *TicketSign) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *TicketSigned) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *TicketSigned) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Issuer) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Issuer) Parse(b []byte) error { return decode(p, b) }
