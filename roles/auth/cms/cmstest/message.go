package cmstest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	_ "crypto/sha1" // what must be refused, too
	_ "crypto/sha256"
	_ "crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// OID gives the DER of an object identifier.
func OID(n ...int) []byte {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(n))
	if err != nil {
		panic(fmt.Sprintf("cmstest: %v", err))
	}
	return b
}

// What messages are made of, as DER.
var (
	Data          = OID(1, 2, 840, 113549, 1, 7, 1)
	SignedData    = OID(1, 2, 840, 113549, 1, 7, 2)
	ContentType   = OID(1, 2, 840, 113549, 1, 9, 3)
	MessageDigest = OID(1, 2, 840, 113549, 1, 9, 4)
	SigningTime   = OID(1, 2, 840, 113549, 1, 9, 5)
	Null          = []byte{5, 0}

	SHA1   = OID(1, 3, 14, 3, 2, 26)
	SHA224 = OID(2, 16, 840, 1, 101, 3, 4, 2, 4)
	SHA256 = OID(2, 16, 840, 1, 101, 3, 4, 2, 1)
	SHA384 = OID(2, 16, 840, 1, 101, 3, 4, 2, 2)
	SHA512 = OID(2, 16, 840, 1, 101, 3, 4, 2, 3)

	RSA     = OID(1, 2, 840, 113549, 1, 1, 1)
	RSAPSS  = OID(1, 2, 840, 113549, 1, 1, 10)
	MGF1    = OID(1, 2, 840, 113549, 1, 1, 8)
	Ed25519 = OID(1, 3, 101, 112)
)

// Sequence and the next three put elements together.
func Sequence(parts ...[]byte) []byte { return element(tag.SEQUENCE, parts) }

// Set keeps the order of its elements.
func Set(parts ...[]byte) []byte { return element(tag.SET, parts) }

// Field is a constructed [n].
func Field(n uint8, parts ...[]byte) []byte {
	return element(tag.Tag(n).ContextSpecific().Constructed(), parts)
}

// Octets is an octet string.
func Octets(b []byte) []byte { return element(tag.OCTET_STRING, [][]byte{b}) }

func element(t tag.Tag, parts [][]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(t, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	return b.BytesOrPanic()
}

// Int is an integer.
func Int(n int64) []byte {
	var b cryptobyte.Builder
	b.AddASN1Int64(n)
	return b.BytesOrPanic()
}

// Message is a SignedData in pieces, each of them DER.
type Message struct {
	Type    []byte // of the ContentInfo
	Version int64
	Digests []byte // SET
	Content []byte // SEQUENCE
	Certs   []byte // field 0; nil: none
	Lists   []byte // field 1; nil: none
	Signers []*Signer
}

// Signer is a SignerInfo in pieces.
type Signer struct {
	Version   int64
	ID        []byte // SEQUENCE, or field 0
	Digest    []byte // SEQUENCE
	Attrs     []byte // SET as it is signed; nil: none
	Scheme    []byte // SEQUENCE
	Signature []byte
	Unsigned  []byte // field 1; nil: none

	Key     crypto.Signer
	Options crypto.SignerOpts
}

// schemes are how a key signs unless a test wants it otherwise.
func schemeOf(key crypto.Signer) (hash crypto.Hash, digest, scheme []byte) {
	ecdsaWith := func(n int) []byte { return Sequence(OID(1, 2, 840, 10045, 4, 3, n)) }
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		return crypto.SHA512, SHA512, Sequence(Ed25519)
	case *ecdsa.PublicKey:
		switch size := public.Curve.Params().BitSize; {
		case size <= 256:
			return crypto.SHA256, SHA256, ecdsaWith(2)
		case size <= 384:
			return crypto.SHA384, SHA384, ecdsaWith(3)
		}
		return crypto.SHA512, SHA512, ecdsaWith(4)
	}
	return crypto.SHA256, SHA256, Sequence(RSA, Null)
}

// Attribute makes one.
func Attribute(oid []byte, values ...[]byte) []byte { return Sequence(oid, Set(values...)) }

// SetOf puts its elements in the order of DER.
func SetOf(list ...[]byte) []byte {
	return Set(slices.SortedFunc(slices.Values(list), bytes.Compare)...)
}

// Sum hashes content.
func Sum(hash crypto.Hash, content []byte) []byte {
	h := hash.New()
	h.Write(content)
	return h.Sum(nil)
}

// Time is a signing time.
func Time(t time.Time) []byte {
	var b cryptobyte.Builder
	b.AddASN1UTCTime(t)
	return b.BytesOrPanic()
}

// New makes a message that is right. What a test changes of what is signed counts after
// Sign.
func New(content []byte, by *Holder, others ...*Holder) *Message {
	m := Unsigned(content, by, others...)
	m.Signers[0].Sign()
	return m
}

// Unsigned makes one that is to be signed.
func Unsigned(content []byte, by *Holder, others ...*Holder) *Message {
	hash, digest, scheme := schemeOf(by.Key)
	certs := [][]byte{by.Raw}
	for _, o := range others {
		certs = append(certs, o.Raw)
	}
	s := &Signer{
		Version: 1, ID: ByIssuer(by), Digest: Sequence(digest), Scheme: scheme, Key: by.Key, Options: hash,
		Attrs: SetOf(Attribute(ContentType, Data), Attribute(MessageDigest, Octets(Sum(hash, content))),
			Attribute(SigningTime, Time(time.Now()))),
	}
	if _, ok := by.Key.(ed25519.PrivateKey); ok {
		s.Options = crypto.Hash(0)
	}
	return &Message{Type: SignedData, Version: 1, Digests: Set(s.Digest), Content: Sequence(Data), Certs: Field(0, certs...), Signers: []*Signer{s}}
}

// ByIssuer names a signer by issuer and serial number.
func ByIssuer(h *Holder) []byte {
	var serial cryptobyte.Builder
	serial.AddASN1BigInt(h.SerialNumber)
	return Sequence(h.RawIssuer, serial.BytesOrPanic())
}

// ByKeyID names it by its subject key identifier.
func ByKeyID(h *Holder) []byte {
	return element(tag.Tag(0).ContextSpecific(), [][]byte{h.SubjectKeyId})
}

// Sign signs the attributes as they are now.
func (s *Signer) Sign() { s.SignThis(s.Attrs) }

// SignThis signs anything else in their place.
func (s *Signer) SignThis(b []byte) {
	if hash := s.Options.HashFunc(); hash != 0 {
		b = Sum(hash, b)
	}
	var err error
	if s.Signature, err = s.Key.Sign(rand.Reader, b, s.Options); err != nil {
		panic(fmt.Sprintf("cmstest: sign: %v", err))
	}
}

// DER puts the message together.
func (m *Message) DER() []byte {
	var signers [][]byte
	for _, s := range m.Signers {
		signers = append(signers, s.der())
	}
	return Sequence(m.Type, Field(0, Sequence(Int(m.Version), m.Digests, m.Content, m.Certs, m.Lists, Set(signers...))))
}

func (s *Signer) der() []byte {
	attrs := bytes.Clone(s.Attrs)
	if attrs != nil {
		attrs[0] = 0xa0
	}
	return Sequence(Int(s.Version), s.ID, s.Digest, attrs, s.Scheme, Octets(s.Signature), s.Unsigned)
}
