package chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/roles/auth/cms"
)

// MaxKeys bounds the bare keys, each of which is tried for each link.
const MaxKeys = 16

// Approved is what a configuration approves. It never changes.
type Approved struct {
	certs *x509.CertPool
	keys  []bareKey
	lists Lists
}

// bareKey is an approved key that no certificate says anything of.
type bareKey struct {
	public crypto.PublicKey
	kind   x509.PublicKeyAlgorithm
	spki   []byte
	id     []byte // as most issuers name it
}

// New reads PEM blocks: certificates and public keys that are approved. The lists
// come from ReadLists.
func New(text []byte, l Lists) (*Approved, error) {
	a := &Approved{certs: x509.NewCertPool(), lists: l}
	for n := 1; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return a, nil
		}
		if err := a.add(block); err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", n, err)
		}
	}
}

func (a *Approved) add(block *pem.Block) error {
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		a.certs.AddCert(cert)
		return cms.CheckKey(cert.PublicKey)
	case "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return err
		}
		if len(a.keys) == MaxKeys {
			return fmt.Errorf("more than %d bare keys", MaxKeys)
		}
		a.keys = append(a.keys, newBareKey(public, block.Bytes))
		return cms.CheckKey(public)
	}
	return fmt.Errorf("%.40q is neither CERTIFICATE nor PUBLIC KEY", block.Type)
}

func newBareKey(public crypto.PublicKey, spki []byte) bareKey {
	k := bareKey{public: public, spki: spki}
	switch public.(type) {
	case *rsa.PublicKey:
		k.kind = x509.RSA
	case *ecdsa.PublicKey:
		k.kind = x509.ECDSA
	case ed25519.PublicKey:
		k.kind = x509.Ed25519
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err == nil {
		sum := sha1.Sum(info.Key.Bytes) // a name, not a proof (RFC 5280, 4.2.1.2)
		k.id = sum[:]
	}
	return k
}

// Check tells whether leaf is approved, with others to find the way by. Where it is by
// nothing but its own bare key, vouched is false: what it says of its holder counts for
// nothing. An error is a Reason.
func (a *Approved) Check(leaf *x509.Certificate, others []*x509.Certificate, now time.Time) (vouched bool, err error) {
	if cms.CheckKey(leaf.PublicKey) != nil {
		return false, Weak
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return false, Usage
	}
	now = now.UTC()
	paths, err := leaf.Verify(a.options(a.rootsFor(leaf, others), others, now))
	if err != nil && a.approves(leaf) {
		own := x509.NewCertPool()
		own.AddCert(leaf)
		if _, err = leaf.Verify(a.options(own, nil, now)); err == nil {
			return false, nil
		}
	}
	if err != nil {
		return false, reasonOf(err, now)
	}
	for _, path := range paths {
		if err = a.checkPath(path, now); err == nil {
			return true, nil
		}
	}
	return false, err
}

func (a *Approved) options(roots *x509.CertPool, others []*x509.Certificate, now time.Time) x509.VerifyOptions {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range others {
		o.Intermediates.AddCert(c)
	}
	return o
}

// rootsFor gives where a path may end: at an approved certificate, or at a bare key
// under whatever name the issuer of one of these certificates has.
func (a *Approved) rootsFor(leaf *x509.Certificate, others []*x509.Certificate) *x509.CertPool {
	if len(a.keys) == 0 {
		return a.certs
	}
	roots := a.certs.Clone()
	for _, c := range append([]*x509.Certificate{leaf}, others...) {
		for i := range a.keys {
			roots.AddCert(a.keys[i].as(c.RawIssuer))
		}
	}
	return roots
}

// as is what RFC 5280 calls a trust anchor: a key with a name. It has no dates of its
// own and bounds nothing. Raw only tells it from others.
func (k *bareKey) as(name []byte) *x509.Certificate {
	return &x509.Certificate{
		Raw: slices.Concat(name, k.spki), RawSubject: name, RawSubjectPublicKeyInfo: k.spki, SubjectKeyId: k.id,
		PublicKey: k.public, PublicKeyAlgorithm: k.kind, NotAfter: forever,
	}
}

var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// approves tells whether the leaf's own key is among the bare ones.
func (a *Approved) approves(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(a.keys, func(k bareKey) bool { return string(k.spki) == string(leaf.RawSubjectPublicKeyInfo) })
}

// checkPath looks at what crypto/x509 does not, from the leaf up to the approved key.
func (a *Approved) checkPath(path []*x509.Certificate, now time.Time) error {
	for _, c := range path {
		if cms.CheckKey(c.PublicKey) != nil {
			return Weak
		}
	}
	for i, issuer := range path[1:] {
		if err := a.lists.check(path[i], issuer, now); err != nil {
			return err
		}
	}
	return nil
}

func reasonOf(err error, now time.Time) Reason {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	switch {
	case errors.As(err, &critical):
		return Constraint
	case !errors.As(err, &invalid):
		return Unapproved
	}
	switch invalid.Reason {
	case x509.Expired:
		if now.Before(invalid.Cert.NotBefore) {
			return NotYetValid
		}
		return Expired
	case x509.IncompatibleUsage:
		return Usage
	}
	return Constraint
}
