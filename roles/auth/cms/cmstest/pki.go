// Package cmstest makes certificates and CMS messages for tests: right ones, and ones
// that are wrong in any way a test wants.
package cmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"
)

// Holder is a certificate with its private key.
type Holder struct {
	*x509.Certificate
	Key crypto.Signer
}

var (
	keys    sync.Map // of NewKey by kind, and how many there are
	serials atomic.Int64
)

// NewKey makes a key: "rsa1024" and so on, "p224" and so on, "ed25519".
func NewKey(kind string) crypto.Signer {
	var key crypto.Signer
	var err error
	var bits int
	curves := map[string]elliptic.Curve{"p224": elliptic.P224(), "p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()}
	switch curve := curves[kind]; {
	case curve != nil:
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case kind == "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		if _, err = fmt.Sscanf(kind, "rsa%d", &bits); err == nil {
			key, err = rsa.GenerateKey(rand.Reader, bits)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("cmstest: key %q: %v", kind, err))
	}
	return key
}

// Key gives a key of a kind, the same one each time.
func Key(kind string) crypto.Signer {
	key, ok := keys.Load(kind)
	if !ok {
		key, _ = keys.LoadOrStore(kind, NewKey(kind))
	}
	return key.(crypto.Signer)
}

// Change makes a certificate to be another one.
type Change func(*x509.Certificate)

// Root makes a self-signed certificate of an authority.
func Root(name string, key crypto.Signer, changes ...Change) *Holder {
	return issue(nil, authority(name), key, changes)
}

// Authority makes one that h vouches for.
func (h *Holder) Authority(name string, key crypto.Signer, changes ...Change) *Holder {
	return issue(h, authority(name), key, changes)
}

// Client makes a certificate that is good for logging in.
func (h *Holder) Client(name string, key crypto.Signer, changes ...Change) *Holder {
	return issue(h, client(name), key, changes)
}

// Alone makes such a certificate that nobody but itself has signed.
func Alone(name string, key crypto.Signer, changes ...Change) *Holder {
	return issue(nil, client(name), key, changes)
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1) + 1<<40),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"ORGA"}},
		SubjectKeyId: []byte(rand.Text()[:20]),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func authority(name string) *x509.Certificate {
	t := template(name)
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t
}

func client(name string) *x509.Certificate {
	t := template(name)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return t
}

func issue(by *Holder, t *x509.Certificate, key crypto.Signer, changes []Change) *Holder {
	for _, change := range changes {
		change(t)
	}
	parent, signer := t, key
	if by != nil {
		parent, signer = by.Certificate, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		panic(fmt.Sprintf("cmstest: certificate: %v", err))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(fmt.Sprintf("cmstest: certificate: %v", err))
	}
	return &Holder{cert, key}
}

// PEM gives the certificate as a file has it.
func (h *Holder) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Raw})
}

// PublicPEM gives its bare key.
func (h *Holder) PublicPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: h.RawSubjectPublicKeyInfo})
}

// KeyPEM gives the private key, not encrypted.
func (h *Holder) KeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(h.Key)
	if err != nil {
		panic(fmt.Sprintf("cmstest: key: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// List makes a revocation list, valid for an hour either way unless it is changed.
func (h *Holder) List(change func(*x509.RevocationList), revoked ...*Holder) []byte {
	t := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	if change != nil {
		change(t)
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, h.Certificate, h.Key)
	if err != nil {
		panic(fmt.Sprintf("cmstest: revocation list: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}
