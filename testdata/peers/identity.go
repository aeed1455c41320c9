package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
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

// keyKind is the kind of a server's private key.
type keyKind string

const (
	p256    keyKind = "P-256"
	rsa2048 keyKind = "RSA-2048"
)

// secured says that a case is about TLS: the server's key, and where our broker
// uses it ("sign" or "release").
type secured struct {
	key keyKind
	use string
}

// identity is a server certificate with its key, in files as each broker wants
// them: both in PEM, and the key encrypted with the first line of unlock.
type identity struct {
	cert, key, sealed, unlock string // paths
	leaf                      *x509.Certificate
}

// newIdentity makes a self-signed certificate for the loopback address.
func newIdentity(kind keyKind, dir string) (*identity, error) {
	path := func(suffix string) string { return filepath.Join(dir, string(kind)+suffix) }
	id := &identity{cert: path(".crt"), key: path(".key"), sealed: path(".key.enc"), unlock: path(".unlock")}
	var key crypto.Signer
	var err error
	if kind == rsa2048 {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	like := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench-peers"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, like, like, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if id.leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return id, errors.Join(
		writePEM(id.cert, "CERTIFICATE", der),
		writePEM(id.key, "PRIVATE KEY", pkcs8),
		os.WriteFile(id.unlock, []byte(rand.Text()+"\n"), 0o600),
	)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// seal encrypts the key with the broker's own command.
func (id *identity) seal(ctx context.Context, gatehouse string) error {
	cmd := exec.CommandContext(ctx, gatehouse, "key", "encrypt", "--in", id.key, "--out", id.sealed, "--secret-file", id.unlock)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// client is the configuration of a client that costs as little as possible: a
// whole handshake each time, X25519, the certificate compared with the one that
// it must be. The broker's proof that it has the key is checked in any case.
func (id *identity) client() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		CurvePreferences:            []tls.CurveID{tls.X25519},
		DynamicRecordSizingDisabled: true,
		InsecureSkipVerify:          true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.DidResume || !s.PeerCertificates[0].Equal(id.leaf) {
				return errors.New("not the broker's certificate, or no whole handshake")
			}
			return nil
		},
	}
}

// identities makes what the chosen cases need; sealed keys only where a command
// reads our broker's configuration.
func identities(ctx context.Context, o *options, brokers []*command, work string) (map[keyKind]*identity, error) {
	ids := map[keyKind]*identity{}
	for _, c := range cases {
		if c.tls == nil || !o.only.MatchString(c.name) || ids[c.tls.key] != nil {
			continue
		}
		id, err := newIdentity(c.tls.key, work)
		if err != nil {
			return nil, fmt.Errorf("%s certificate: %w", c.tls.key, err)
		}
		for _, b := range brokers {
			if strings.Contains(strings.Join(b.argv, " "), "{config}") {
				if err := id.seal(ctx, o.gatehouse); err != nil {
					return nil, err
				}
				break
			}
		}
		ids[c.tls.key] = id
	}
	return ids, nil
}
