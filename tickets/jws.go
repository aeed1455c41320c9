package tickets

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// A transfer ticket is a JWS in compact form (RFC 7515), of which this is all that is
// needed. A key has one algorithm, which is never chosen by what a ticket says of
// itself, and a header is one of two texts: there is nothing in it to be understood.

// Algorithm is how a key signs tickets (RFC 7518, RFC 8037).
type Algorithm uint8

// The algorithms.
const (
	EdDSA Algorithm = 1 + iota // Ed25519
	ES256                      // ECDSA on P-256 with SHA-256
)

var algorithms = [...]string{EdDSA: "EdDSA", ES256: "ES256"}

// headers are those of tickets, encoded.
var headers = [...]string{EdDSA: header(EdDSA), ES256: header(ES256)}

func header(a Algorithm) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + algorithms[a] + `","typ":"gatehouse-transfer+jwt"}`))
}

// algorithmOf is that of a header, 0 if it is none of a ticket.
func algorithmOf(h string) Algorithm { return Algorithm(max(0, slices.Index(headers[:], h))) }

// signatureSize is that of both algorithms, in bytes.
const signatureSize = 64

// TransferKey checks the tickets of one signer.
type TransferKey struct {
	alg Algorithm
	ed  ed25519.PublicKey
	ec  *ecdsa.PublicKey
}

// ErrTransferKey means that a key is not of a kind that signs tickets.
var ErrTransferKey = errors.New("tickets are signed by an Ed25519 or a P-256 key")

// NewTransferKey makes one of a public key.
func NewTransferKey(public crypto.PublicKey) (*TransferKey, error) {
	switch p := public.(type) {
	case ed25519.PublicKey:
		if len(p) == ed25519.PublicKeySize {
			return &TransferKey{alg: EdDSA, ed: p}, nil
		}
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return &TransferKey{alg: ES256, ec: p}, nil
		}
	}
	return nil, ErrTransferKey
}

// String is the name of its algorithm.
func (k *TransferKey) String() string { return algorithms[k.alg] }

// MaxTransferKey bounds what Bytes gives.
const MaxTransferKey = 65

// Bytes is the key as ParseTransferKey takes it.
func (k *TransferKey) Bytes() []byte {
	if k.alg == EdDSA {
		return append([]byte(nil), k.ed...)
	}
	b, err := k.ec.Bytes()
	if err != nil {
		return nil // not a point of the curve: signs nothing
	}
	return b
}

// ParseTransferKey is the reverse of Bytes. The two kinds differ in length.
func ParseTransferKey(b []byte) (*TransferKey, error) {
	if len(b) == ed25519.PublicKeySize {
		return NewTransferKey(ed25519.PublicKey(append([]byte(nil), b...)))
	}
	p, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
	if err != nil {
		return nil, ErrTransferKey
	}
	return NewTransferKey(p)
}

func (k *TransferKey) verify(t *SignedTransfer) bool {
	switch {
	case t.alg != k.alg:
		return false
	case k.alg == EdDSA:
		return ed25519.Verify(k.ed, []byte(t.input), t.signature)
	}
	sum := sha256.Sum256([]byte(t.input))
	half := signatureSize / 2
	r, s := new(big.Int).SetBytes(t.signature[:half]), new(big.Int).SetBytes(t.signature[half:])
	return ecdsa.Verify(k.ec, sum[:], r, s)
}

// plain turns a signature as a crypto.Signer gives it into that of a JWS: of ECDSA
// the two numbers, one after the other.
func (k *TransferKey) plain(signature []byte) ([]byte, error) {
	out := signature
	if k.alg == ES256 {
		r, s := new(big.Int), new(big.Int)
		var seq cryptobyte.String
		in := cryptobyte.String(signature)
		if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) || !seq.Empty() || !in.Empty() ||
			r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 256 || s.BitLen() > 256 {
			return nil, ErrTransfer
		}
		out = make([]byte, signatureSize)
		r.FillBytes(out[:signatureSize/2])
		s.FillBytes(out[signatureSize/2:])
	}
	if len(out) != signatureSize {
		return nil, ErrTransfer
	}
	return out, nil
}
