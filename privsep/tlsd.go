package privsep

import (
	"math"
	"time"
)

// This file has what tlsd is told, of sessions that local processes share (TLS_POLICY),
// how it gets a signature by the key of its own certificate (TLS_SIGN), and the ways by
// which several pass callers on to each other (SHARD). What its callers execute it asks as
// auth does (INSPECT).

// Bounds of what tlsd is told.
const (
	MaxTLSPorts     = 32
	MaxTLSPolicies  = 256
	MaxTLSAddresses = 8
	MaxTLSHost      = 253
	MaxTLSGrants    = 64 // of each right
	MaxTLSProtocols = 8
	MaxTLSPolicy    = 8 << 10 // bytes of a whole TLS_POLICY
	MaxTLSFrame     = 16 << 20
	MaxTLSShards    = 4
)

// Shard comes with one end of a way to another tlsd: sessions are the one's or the
// other's by their names.
type Shard struct {
	Number int // whose the other end is, its Index
	Of     int // tlsds, 2 at least
}

func (p *Shard) fields(c *coder) {
	c.number(&p.Number)
	c.number(&p.Of)
	c.check(p.Of >= 2 && p.Of <= MaxTLSShards && p.Number < p.Of)
}

// Append appends the encoding.
func (p *Shard) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes b.
func (p *Shard) Parse(b []byte) error { return decode(p, b) }

// TLSDSettings bound what callers can use. 0 never means that there is no bound.
type TLSDSettings struct {
	MaxSessions, MaxCallers int
	UIDSessions, UIDCallers int // that one uid has opened, or holds
	UIDMemory               int // bytes that wait for callers of one uid, or are not yet a whole frame
}

func (p *TLSDSettings) fields(c *coder) {
	for _, n := range []*int{&p.MaxSessions, &p.MaxCallers, &p.UIDSessions, &p.UIDCallers, &p.UIDMemory} {
		c.number(n)
	}
}

// TLSGrant is somebody to whom a right is given: a uid, a gid or everybody.
type TLSGrant struct {
	To         TLSGrantee
	ID         uint32 // 0 for everybody
	Executable string // path of the one that a uid's or gid's process must run, "": any; at most MaxExecutable
}

// TLSGrantee says what a TLSGrant's ID is.
type TLSGrantee uint8

// The grantees.
const (
	GrantUID TLSGrantee = iota
	GrantGID
	GrantAll
	numGrantees
)

// TLSPolicy says what sessions of some names are, and who may do what with them. It
// comes with a parcel.
type TLSPolicy struct {
	Set  uint32 // number of the set that it belongs to
	Last bool   // it completes the set
	Name string // of a session, or with * at the end of all that begin so; at most MaxSettingsText; "": a set without any, all else is zero

	Host      string // that the certificate must be for, and callers name
	Port      uint16
	Addresses []string // where it is, in the order in which they are tried
	ALPN      []string // that callers may ask for; empty: whatever they like
	MinTLS    uint16   // version: 0x0303 or 0x0304

	Open, Read, Write, Admin []TLSGrant // beside whoever has opened a session, and root for Admin

	Keep        bool          // a session lives on whose holder has gone without a word
	IdleTimeout time.Duration // without a caller
	Revalidate  time.Duration // how often the certificate is looked at again; 0: never
	MaxFrame    int           // bytes

	Roots uint32 // bytes of the parcel: PEM of those who say who a server is
	Chain uint32 // and of our own certificate, 0: none is shown
	Key   uint32 // number of its key
}

func (p *TLSPolicy) fields(c *coder) {
	c.u32(&p.Set)
	c.flag(&p.Last)
	c.text(&p.Name, MaxSettingsText)
	if p.Name == "" {
		c.check(p.Last)
		return
	}
	c.text(&p.Host, MaxTLSHost)
	c.u16(&p.Port)
	c.texts(&p.Addresses, MaxTLSAddresses, MaxSettingsText)
	c.texts(&p.ALPN, MaxTLSProtocols, math.MaxUint8)
	c.u16(&p.MinTLS)
	for _, g := range []*[]TLSGrant{&p.Open, &p.Read, &p.Write, &p.Admin} {
		c.grants(g)
	}
	c.flag(&p.Keep)
	c.duration(&p.IdleTimeout)
	c.duration(&p.Revalidate)
	c.number(&p.MaxFrame)
	c.u32(&p.Roots)
	c.u32(&p.Chain)
	c.u32(&p.Key)
	c.check(p.Host != "" && p.Port != 0 && len(p.Addresses) > 0 && p.MaxFrame > 0 && p.MaxFrame <= MaxTLSFrame &&
		p.Roots <= MaxCertificates && p.Chain <= MaxCertificates && (p.Chain == 0) == (p.Key == 0))
}

// grants are at most MaxTLSGrants after their number.
func (c *coder) grants(v *[]TLSGrant) {
	n := uint16(len(*v))
	c.u16(&n)
	if !c.encoding {
		c.check(n <= MaxTLSGrants)
		if c.bad || n == 0 {
			return
		}
		*v = make([]TLSGrant, n)
	}
	for i := range (*v)[:n] {
		g := &(*v)[i]
		c.u8((*uint8)(&g.To))
		c.u32(&g.ID)
		c.text(&g.Executable, MaxExecutable)
		c.check(g.To < numGrantees && (g.To != GrantAll || g.ID == 0 && g.Executable == ""))
	}
}

// ports are at most MaxTLSPorts after their number, none of them 0.
func (c *coder) ports(v *[]uint16) {
	n := uint16(len(*v))
	c.u16(&n)
	if !c.encoding {
		c.check(n <= MaxTLSPorts)
		if c.bad || n == 0 {
			return
		}
		*v = make([]uint16, n)
	}
	for i := range (*v)[:n] {
		c.u16(&(*v)[i])
		c.check((*v)[i] != 0)
	}
}

// Append encodes p.
func (p *TLSPolicy) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *TLSPolicy) Parse(b []byte) error { return decode(p, b) }

// TLSPolicyText is a TLSPolicy with what its parcel holds.
type TLSPolicyText struct {
	TLSPolicy
	RootsPEM, ChainPEM []byte
}

// TLSPolicySet puts the TLS_POLICYs of a set together.
type TLSPolicySet struct{ parts[TLSPolicyText] }

// Take takes the next TLS_POLICY and closes its parcel: see parts.add.
func (s *TLSPolicySet) Take(m *Message) (all []TLSPolicyText, whole bool, err error) {
	defer m.CloseFDs()
	var p TLSPolicyText
	if err := p.Parse(m.Payload); err != nil {
		return nil, false, err
	}
	if p.Name == "" {
		return s.add(p.Set, p.Last, MaxTLSPolicies)
	}
	b, err := ReadParcel(m.FDs[0], int(p.Roots)+int(p.Chain))
	if err != nil {
		return nil, false, err
	}
	p.RootsPEM, p.ChainPEM = b[:p.Roots], b[p.Roots:]
	return s.add(p.Set, p.Last, MaxTLSPolicies, p)
}

// TLSSign asks for the signature of one handshake in which tlsd shows a certificate.
type TLSSign struct {
	ID     uint64 // tlsd's, comes back
	Key    uint32 // of the TLSPolicy
	Scheme uint16 // TLS SignatureScheme
	Input  []byte // what the TLS 1.3 CertificateVerify covers, whole; at most MaxSignInput
}

func (p *TLSSign) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Key)
	c.u16(&p.Scheme)
	c.blob(&p.Input, MaxSignInput)
}

// Append encodes p.
func (p *TLSSign) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *TLSSign) Parse(b []byte) error { return decode(p, b) }

// TLSSigned answers a TLSSign, as a Signed does a Sign.
type TLSSigned struct {
	ID        uint64
	Signature []byte // at most MaxSignature
}

func (p *TLSSigned) fields(c *coder) {
	c.u64(&p.ID)
	c.blob(&p.Signature, MaxSignature)
}

// Append encodes p.
func (p *TLSSigned) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *TLSSigned) Parse(b []byte) error { return decode(p, b) }
