package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// digests are the algorithms that content may be digested by.
var digests = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // with whatever digest
	oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// params is what an AlgorithmIdentifier has beside its name.
type params uint8

const (
	paramsNone       params = iota // nothing
	paramsNullOrNone               // NULL, or nothing by mistake (RFC 4055, RFC 5754)
	paramsPSS
)

// schemes are the ways to sign: a name, the digest that must go with it, and what
// crypto/x509 calls both.
var schemes = []struct {
	oid    asn1.ObjectIdentifier
	params params
	hash   crypto.Hash
	is     x509.SignatureAlgorithm
}{
	{oidRSA, paramsNullOrNone, crypto.SHA256, x509.SHA256WithRSA},
	{oidRSA, paramsNullOrNone, crypto.SHA384, x509.SHA384WithRSA},
	{oidRSA, paramsNullOrNone, crypto.SHA512, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, paramsNullOrNone, crypto.SHA256, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, paramsNullOrNone, crypto.SHA384, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, paramsNullOrNone, crypto.SHA512, x509.SHA512WithRSA},
	{oidPSS, paramsPSS, crypto.SHA256, x509.SHA256WithRSAPSS},
	{oidPSS, paramsPSS, crypto.SHA384, x509.SHA384WithRSAPSS},
	{oidPSS, paramsPSS, crypto.SHA512, x509.SHA512WithRSAPSS},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, paramsNone, crypto.SHA256, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, paramsNone, crypto.SHA384, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, paramsNone, crypto.SHA512, x509.ECDSAWithSHA512},
	{asn1.ObjectIdentifier{1, 3, 101, 112}, paramsNone, crypto.SHA512, x509.PureEd25519},
}

// algorithm is an AlgorithmIdentifier as it came.
type algorithm struct {
	raw    cryptobyte.String // all of it
	oid    asn1.ObjectIdentifier
	params cryptobyte.String // what follows the name
}

func readAlgorithm(in *cryptobyte.String) (a algorithm, ok bool) {
	if !in.ReadASN1Element(&a.raw, tag.SEQUENCE) {
		return a, false
	}
	body := a.raw
	if !body.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&a.oid) {
		return a, false
	}
	a.params = body
	return a, true
}

// has tells whether the parameters are what p says.
func (a *algorithm) has(p params, hash crypto.Hash) bool {
	switch p {
	case paramsNone:
		return a.params.Empty()
	case paramsNullOrNone:
		return a.params.Empty() || string(a.params) == "\x05\x00"
	}
	return isPSS(a.params, hash)
}

// digest finds the digest that a names.
func (a *algorithm) digest() (crypto.Hash, bool) {
	for _, d := range digests {
		if a.oid.Equal(d.oid) && a.has(paramsNullOrNone, 0) {
			return d.hash, true
		}
	}
	return 0, false
}

// scheme finds the way to sign that a names, which must go with the digest.
func (a *algorithm) scheme(hash crypto.Hash) (x509.SignatureAlgorithm, bool) {
	for _, s := range schemes {
		if s.hash == hash && a.oid.Equal(s.oid) && a.has(s.params, hash) {
			return s.is, true
		}
	}
	return 0, false
}

// isPSS wants the RSASSA-PSS-params (RFC 4055) that say: this hash, MGF1 with the
// same, a salt as long, and the trailer that there is.
func isPSS(in cryptobyte.String, hash crypto.Hash) bool {
	var body, h, m, s, mgf cryptobyte.String
	if !in.ReadASN1(&body, tag.SEQUENCE) || !in.Empty() ||
		!body.ReadASN1(&h, field(0)) || !body.ReadASN1(&m, field(1)) || !body.ReadASN1(&s, field(2)) || !body.Empty() {
		return false
	}
	var name asn1.ObjectIdentifier
	var salt int
	return isDigest(h, hash) &&
		m.ReadASN1(&mgf, tag.SEQUENCE) && m.Empty() &&
		mgf.ReadASN1ObjectIdentifier(&name) && name.Equal(oidMGF) && isDigest(mgf, hash) &&
		s.ReadASN1Integer(&salt) && s.Empty() && salt == hash.Size()
}

func isDigest(in cryptobyte.String, want crypto.Hash) bool {
	a, ok := readAlgorithm(&in)
	if !ok || !in.Empty() {
		return false
	}
	hash, ok := a.digest()
	return ok && hash == want
}

// Bounds of an RSA key in bits: what a signature costs grows with it.
const (
	minRSA = 2048
	maxRSA = 8192
)

// CheckKey refuses a key that is too weak, too expensive or of another kind.
func CheckKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return fail(Algorithm, "an RSA key of less than 2048 or more than 8192 bits")
		}
		return nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fail(Algorithm, "a key on another curve than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return nil
	}
	return fail(Algorithm, "a key that is neither RSA nor ECDSA nor Ed25519")
}
