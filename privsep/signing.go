package privsep

// This file has what is said of the private key of TLS: which certificate to show
// (CERTIFICATE), the key itself where it is released (KEY), and what a cm asks the
// parent to sign (SIGN, SIGNED).

// Certificate comes with a sealed memfd: the certificate chain to show, then
// the authorities that sign certificates of clients, both PEM. It replaces an
// earlier one for new handshakes.
type Certificate struct {
	Number      uint32 // of this certificate and its key, from 1
	Chain       uint32 // bytes
	Authorities uint32 // bytes, 0: none
}

func (p *Certificate) fields(c *coder) {
	c.u32(&p.Number)
	c.u32(&p.Chain)
	c.u32(&p.Authorities)
	c.check(p.Chain <= MaxCertificates && p.Authorities <= MaxCertificates)
}

// MaxCertificates bounds each part of a Certificate, in bytes.
const MaxCertificates = 1 << 20

// ReleasedKey is the payload of KEY, which comes with the secret memory of the
// private key to the Certificate of the same number.
type ReleasedKey struct {
	Number uint32
	Size   uint32 // bytes of PKCS#8
}

func (p *ReleasedKey) fields(c *coder) {
	c.u32(&p.Number)
	c.u32(&p.Size)
}

// Sign asks for the signature of one handshake.
type Sign struct {
	ID       uint64 // the cm's, comes back
	Number   uint32 // of the certificate
	Scheme   uint16 // TLS SignatureScheme
	Listener uint16 // this and the following as in CONN_HANDOFF
	UID      uint64
	Issued   uint64
	Ticket   [32]byte
	Input    []byte // what the TLS 1.3 CertificateVerify covers, whole; at most MaxSignInput
}

// MaxSignInput and MaxSignature bound what is signed and the result, in bytes:
// RFC 8446, 4.4.3, with SHA-384; RSA of 8192 bits.
const (
	MaxSignInput = 146
	MaxSignature = 1024
)

func (p *Sign) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Number)
	c.u16(&p.Scheme)
	c.u16(&p.Listener)
	c.u64(&p.UID)
	c.u64(&p.Issued)
	c.fixed(p.Ticket[:])
	c.blob(&p.Input, MaxSignInput)
}

// Signed answers a Sign. Without a signature the key is not to be had now: it
// has been replaced, or cannot sign.
type Signed struct {
	ID        uint64
	Signature []byte // at most MaxSignature
}

func (p *Signed) fields(c *coder) {
	c.u64(&p.ID)
	c.blob(&p.Signature, MaxSignature)
}
