package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of a message.
const (
	MaxSize         = 32 << 10 // bytes
	MaxCertificates = 10
)

// Message is a parsed one. It shares memory with what it was parsed from.
type Message struct {
	// Signer is the certificate of the key that is said to have signed, and Others
	// the rest of them in the order in which they came.
	Signer *x509.Certificate
	Others []*x509.Certificate

	hash      crypto.Hash
	scheme    x509.SignatureAlgorithm
	attrs     cryptobyte.String // DER of the SET OF, as it came but for the tag
	digest    []byte            // message-digest
	signature []byte

	parts parts
}

// parts is the rest of a message as it came: with it there is all to write the message
// again.
type parts struct {
	certs                    []*x509.Certificate
	sid                      cryptobyte.String
	listed, digest, signedBy algorithm
}

// The versions of SignedData and SignerInfo, which go together here.
const (
	versionIssuer = 1 // the signer is named by issuer and serial number
	versionKeyID  = 3
)

// Parse reads all of der. It verifies nothing.
func Parse(der []byte) (*Message, error) {
	if len(der) > MaxSize {
		return nil, fail(Form, "larger than 32 KiB")
	}
	in := cryptobyte.String(der)
	var info, content, data cryptobyte.String
	if !in.ReadASN1(&info, tag.SEQUENCE) {
		return nil, fail(Form, "not DER")
	}
	if !in.Empty() {
		return nil, fail(Form, "bytes after the end")
	}
	var oid asn1.ObjectIdentifier
	if !info.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidSignedData) {
		return nil, fail(Form, "not SignedData")
	}
	if !info.ReadASN1(&content, field(0)) || !info.Empty() ||
		!content.ReadASN1(&data, tag.SEQUENCE) || !content.Empty() {
		return nil, fail(Form, "SignedData is not DER")
	}
	m := new(Message)
	version, signer, err := m.readSignedData(data)
	if err != nil {
		return nil, err
	}
	if err := m.readSigner(signer, version); err != nil {
		return nil, err
	}
	return m, nil
}

// RawCertificates gives those of a message as they came, without a look at them: what
// tells one sender from another at little cost. Nil: it is no such message.
func RawCertificates(der []byte) []byte {
	in := cryptobyte.String(der)
	var certs cryptobyte.String
	if len(der) > MaxSize || !in.ReadASN1(&in, tag.SEQUENCE) || !in.SkipASN1(tag.OBJECT_IDENTIFIER) ||
		!in.ReadASN1(&in, field(0)) || !in.ReadASN1(&in, tag.SEQUENCE) ||
		!in.SkipASN1(tag.INTEGER) || !in.SkipASN1(tag.SET) || !in.SkipASN1(tag.SEQUENCE) || !in.ReadASN1(&certs, field(0)) {
		return nil
	}
	return certs
}

// field is the tag of a constructed field [n].
func field(n uint8) tag.Tag { return tag.Tag(n).ContextSpecific().Constructed() }

// readSignedData reads what does not depend on the signer, and gives the version and
// the one SignerInfo.
func (m *Message) readSignedData(in cryptobyte.String) (version int, signer cryptobyte.String, err error) {
	var digests, encap, certs, signers cryptobyte.String
	if !in.ReadASN1Integer(&version) || !in.ReadASN1(&digests, tag.SET) || !in.ReadASN1(&encap, tag.SEQUENCE) {
		return 0, nil, fail(Form, "SignedData is not DER")
	}
	var ok bool
	if m.parts.listed, ok = readAlgorithm(&digests); !ok || !digests.Empty() {
		return 0, nil, fail(Form, "not one digest algorithm")
	}
	var oid asn1.ObjectIdentifier
	if !encap.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidData) {
		return 0, nil, fail(Form, "the content is not id-data")
	}
	if !encap.Empty() {
		return 0, nil, fail(Form, "the content is not detached")
	}
	if !in.ReadASN1(&certs, field(0)) {
		return 0, nil, fail(Certificates, "no certificates")
	}
	if m.parts.certs, err = readCertificates(certs); err != nil {
		return 0, nil, err
	}
	if in.PeekASN1Tag(field(1)) {
		return 0, nil, fail(Form, "revocation lists inside")
	}
	if !in.ReadASN1(&signers, tag.SET) || !in.Empty() {
		return 0, nil, fail(Form, "SignedData is not DER")
	}
	if !signers.ReadASN1(&signer, tag.SEQUENCE) || !signers.Empty() {
		return 0, nil, fail(Form, "not one signer")
	}
	return version, signer, nil
}

func readCertificates(in cryptobyte.String) (list []*x509.Certificate, err error) {
	for !in.Empty() {
		var raw cryptobyte.String
		if !in.ReadASN1Element(&raw, tag.SEQUENCE) {
			return nil, fail(Certificates, "something else among the certificates")
		}
		for _, c := range list {
			if bytes.Equal(c.Raw, raw) {
				return nil, fail(Certificates, "a certificate comes twice")
			}
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil || !isWhole(raw) {
			return nil, fail(Certificates, "a certificate cannot be read")
		}
		if list = append(list, cert); len(list) > MaxCertificates {
			return nil, fail(Certificates, "more than 10 certificates")
		}
	}
	return list, nil
}

// isWhole tells whether a certificate ends with its signature, of whole bytes: what
// crypto/x509 does not ask.
func isWhole(cert cryptobyte.String) bool {
	var signature []byte
	return cert.ReadASN1(&cert, tag.SEQUENCE) && cert.SkipASN1(tag.SEQUENCE) && cert.SkipASN1(tag.SEQUENCE) &&
		cert.ReadASN1BitStringAsBytes(&signature) && cert.Empty()
}

// readSigner reads the SignerInfo of a SignedData of that version.
func (m *Message) readSigner(in cryptobyte.String, outer int) error {
	var version int
	p := &m.parts
	if !in.ReadASN1Integer(&version) {
		return fail(Form, "SignerInfo is not DER")
	}
	if err := m.readIdentifier(&in, version); err != nil {
		return err
	}
	if version != outer {
		return fail(Form, "the versions do not fit what there is")
	}
	var ok bool
	if p.digest, ok = readAlgorithm(&in); !ok {
		return fail(Form, "SignerInfo is not DER")
	}
	if !in.PeekASN1Tag(field(0)) {
		return fail(Attributes, "no signed attributes")
	}
	var attrs, signature cryptobyte.String
	if !in.ReadASN1Element(&attrs, field(0)) {
		return fail(Form, "SignerInfo is not DER")
	}
	m.attrs = append(cryptobyte.String{byte(tag.SET)}, attrs[1:]...)
	if !attrs.ReadASN1(&attrs, field(0)) {
		return fail(Form, "SignerInfo is not DER")
	}
	var err error
	if m.digest, err = readAttributes(attrs); err != nil {
		return err
	}
	if p.signedBy, ok = readAlgorithm(&in); !ok || !in.ReadASN1(&signature, tag.OCTET_STRING) {
		return fail(Form, "SignerInfo is not DER")
	}
	m.signature = signature
	if in.PeekASN1Tag(field(1)) {
		return fail(Form, "unsigned attributes")
	}
	if !in.Empty() {
		return fail(Form, "SignerInfo is not DER")
	}
	return m.choose()
}

// readIdentifier finds the signer's certificate.
func (m *Message) readIdentifier(in *cryptobyte.String, version int) error {
	keyID := tag.Tag(0).ContextSpecific()
	if in.PeekASN1Tag(keyID) {
		var id cryptobyte.String
		if version != versionKeyID || !in.ReadASN1Element(&m.parts.sid, keyID) {
			return fail(Form, "the versions do not fit what there is")
		}
		id = m.parts.sid
		if !id.ReadASN1(&id, keyID) || id.Empty() {
			return fail(Form, "SignerInfo is not DER")
		}
		return m.pick(func(c *x509.Certificate) bool { return bytes.Equal(c.SubjectKeyId, id) })
	}
	var body, issuer cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1Element(&m.parts.sid, tag.SEQUENCE) {
		return fail(Form, "SignerInfo is not DER")
	}
	body = m.parts.sid
	if !body.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1Element(&issuer, tag.SEQUENCE) ||
		!body.ReadASN1Integer(serial) || !body.Empty() {
		return fail(Form, "SignerInfo is not DER")
	}
	if version != versionIssuer {
		return fail(Form, "the versions do not fit what there is")
	}
	return m.pick(func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawIssuer, issuer) && c.SerialNumber.Cmp(serial) == 0
	})
}

// pick divides the certificates into the signer's and the others.
func (m *Message) pick(is func(*x509.Certificate) bool) error {
	for _, c := range m.parts.certs {
		switch {
		case !is(c):
			m.Others = append(m.Others, c)
		case m.Signer != nil:
			return fail(Certificates, "two certificates could be the signer's")
		default:
			m.Signer = c
		}
	}
	if m.Signer == nil {
		return fail(Certificates, "the signer's certificate is not there")
	}
	return nil
}

// choose finds out how the message was signed.
func (m *Message) choose() error {
	hash, ok := m.parts.digest.digest()
	if !ok {
		return fail(Algorithm, "another digest than SHA-256, 384 and 512")
	}
	if listed, ok := m.parts.listed.digest(); !ok || listed != hash {
		return fail(Algorithm, "the digest is not the one that is listed")
	}
	if m.scheme, ok = m.parts.signedBy.scheme(hash); !ok {
		return fail(Algorithm, "a signature that is not accepted, or not with this digest")
	}
	m.hash = hash
	if len(m.digest) != hash.Size() {
		return fail(Attributes, "the message-digest is not as long as its algorithm has it")
	}
	return CheckKey(m.Signer.PublicKey)
}
