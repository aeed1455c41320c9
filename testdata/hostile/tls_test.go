package hostile

import (
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
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/privsep/keyfile"
)

// identity is a server's certificate and key, and how a broker is to use them.
type identity struct {
	key   crypto.Signer
	cert  *x509.Certificate
	use   string // key_use
	more  string // lines of [tls]
	trust *x509.CertPool
}

// newIdentity draws a key and has an authority of its own sign it.
func newIdentity(t testing.TB, algorithm, use string) *identity {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case "RSA":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	must(t, err)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, caKey.Public(), caKey)
	i := &identity{key: key, use: use, trust: x509.NewCertPool()}
	i.cert = certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key.Public(), caKey)
	i.trust.AddCert(ca)
	return i
}

func certificate(t testing.TB, c, by *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, pub, key)
	must(t, err)
	got, err := x509.ParseCertificate(der)
	must(t, err)
	return got
}

// listen is the identity's part of [listen].
func (i *identity) listen() string {
	if i == nil {
		return ""
	}
	return "tls = [\"127.0.0.1:0\"]\nhandshake_first = true\n"
}

// config writes the files into dir and gives the [tls] that names them.
func (i *identity) config(t testing.TB, dir string) string {
	t.Helper()
	if i == nil {
		return ""
	}
	return fmt.Sprintf("[tls]\n%skey_use = %q\n%s\n", i.write(t, dir, "server"), i.use, i.more)
}

// write writes the files under a name, and gives the lines that name them.
func (i *identity) write(t testing.TB, dir, name string) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	must(t, err)
	secret := rand.Text()
	encrypted, err := keyfile.Encrypt(der, []byte(secret), keyfile.Options{Iterations: 10_000})
	must(t, err)
	for suffix, content := range map[string][]byte{
		".pem":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}),
		".key":    encrypted,
		".unlock": []byte(secret + "\n"),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name+suffix), content, 0o400))
	}
	return fmt.Sprintf("cert = \"%[1]s.pem\"\nkey = \"%[1]s.key\"\nunlock_file = \"%[1]s.unlock\"\n", name)
}

// handshake makes one and ends it; how long it took.
func (b *broker) handshake(i *identity, in time.Duration) (time.Duration, error) {
	began := time.Now()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: in, Deadline: began.Add(in)}, Config: &tls.Config{RootCAs: i.trust, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}}
	conn, err := d.Dial("tcp", b.tls)
	took := time.Since(began)
	if err == nil {
		conn.Close()
	}
	return took, err
}
