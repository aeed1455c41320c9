// Package certs makes what tests of TLS need: an authority of their own,
// certificates that it signs, and a server's key as the broker wants it.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Authority signs certificates.
type Authority struct {
	PEM  []byte // its own certificate
	cert *x509.Certificate
	key  crypto.Signer
}

// Pair is a certificate with its key, both in PEM, the key as PKCS#8.
type Pair struct {
	Cert, Key []byte
	Leaf      *x509.Certificate
}

// NewAuthority makes an authority.
func NewAuthority(name string) (*Authority, error) {
	key, err := newKey("P-256")
	if err != nil {
		return nil, err
	}
	like := like(name)
	like.IsCA, like.BasicConstraintsValid, like.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{PEM: block("CERTIFICATE", der), cert: cert, key: key}, err
}

// Server makes a certificate for a server at the loopback address, whose key is
// of a kind: RSA-2048, P-256, P-384 or Ed25519.
func (a *Authority) Server(kind string) (*Pair, error) {
	like := like("server")
	like.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	like.DNSNames, like.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	return a.sign(like, kind)
}

// Client makes a certificate for a client.
func (a *Authority) Client(name string) (*Pair, error) {
	like := like(name)
	like.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(like, "P-256")
}

// Pool holds this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *Authority) sign(like *x509.Certificate, kind string) (*Pair, error) {
	key, err := newKey(kind)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, like, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &Pair{Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", pkcs8), Leaf: leaf}, err
}

func like(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "Ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("no kind of key: %s", kind)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// TLS gives the pair to a client.
func (p *Pair) TLS() tls.Certificate {
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		panic(err)
	}
	return c
}

// Files are the paths of a server's certificate and key.
type Files struct{ Cert, Key, Sealed, Unlock string }

// In names the files in a folder.
func In(dir string) Files {
	at := func(name string) string { return filepath.Join(dir, name) }
	return Files{Cert: at("server.crt"), Key: at("server.key"), Sealed: at("server.key.enc"), Unlock: at("unlock")}
}

// Write puts the pair into the files, over what was there. The key is sealed
// too, unless gatehouse is empty.
func (f Files) Write(p *Pair, gatehouse string) error {
	err := errors.Join(os.WriteFile(f.Cert, p.Cert, 0o644), os.WriteFile(f.Key, p.Key, 0o600))
	if err != nil || gatehouse == "" {
		return err
	}
	return f.Seal(gatehouse)
}

// Seal encrypts the key with a secret that it makes, by the broker's own
// command.
func (f Files) Seal(gatehouse string) error {
	if err := os.WriteFile(f.Unlock, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.Remove(f.Sealed); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Few iterations: guessing such a secret is no use, and every start waits for them.
	cmd := exec.Command(gatehouse, "key", "encrypt", "--in", f.Key, "--out", f.Sealed, "--secret-file", f.Unlock, "--iterations", "1000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Write puts the authority's certificate into a file.
func (a *Authority) Write(path string) error { return os.WriteFile(path, a.PEM, 0o644) }
