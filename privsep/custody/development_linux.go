package custody

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep/erase"
	"gatehouse/privsep/keyfile"
)

// The files of a development key. The certificate comes last: where it is, the
// others are.
const (
	developmentSecret = "development.secret"
	developmentKey    = "development.key"
	developmentCert   = "development.crt"
)

// developmentYears is long because nobody renews it: who trusts it has been
// told to by hand, and removing the three files makes another.
const developmentYears = 10

// Development gives the paths of a certificate, its encrypted P-256 key and
// the unlocking secret, in dir. It makes them, once, all or none: self-signed,
// for localhost, 127.0.0.1, ::1 and the host's name of that day, valid for ten
// years. It refuses a dir that others than we may write.
func Development(dir string) (cert, key, unlock string, err error) {
	d := development{dir}
	cert, key, unlock = d.path(developmentCert), d.path(developmentKey), d.path(developmentSecret)
	if err := d.ensure(); err != nil {
		return "", "", "", fmt.Errorf("development key in %s: %w", dir, err)
	}
	return cert, key, unlock, nil
}

type development struct{ dir string }

func (d development) path(name string) string { return filepath.Join(d.dir, name) }

func (d development) ensure() error {
	f, err := os.OpenFile(d.dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := oursAlone(f); err != nil {
		return err
	}
	// Two brokers that start at once shall not mix their files.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	switch _, err := os.Stat(d.path(developmentCert)); {
	case err == nil:
		return d.complete()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.create(); err != nil {
		return err
	}
	return f.Sync()
}

// oursAlone checks that nobody else may put files into an open directory.
func oursAlone(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if st.Uid != uint32(os.Geteuid()) && st.Uid != 0 {
		return fmt.Errorf("the directory is owned by uid %d", st.Uid)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("group or others may write the directory, mode %04o", st.Mode&0o7777)
	}
	return nil
}

// complete checks that what a certificate implies is there.
func (d development) complete() error {
	for _, name := range []string{developmentKey, developmentSecret} {
		if _, err := os.Stat(d.path(name)); err != nil {
			return fmt.Errorf("%w (remove %s for a new one)", err, developmentCert)
		}
	}
	return nil
}

func (d development) create() error {
	secret := make([]byte, 65) // hex and a newline
	var cert, key []byte
	var err error
	erase.Do(func() {
		var raw [32]byte
		rand.Read(raw[:])
		hex.Encode(secret, raw[:])
		secret[64] = '\n'
		cert, key, err = developmentPair(secret[:64])
	})
	defer clear(secret)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{
		{developmentSecret, secret, 0o400},
		{developmentKey, key, 0o600},
		{developmentCert, cert, 0o644},
	} {
		if err := d.replace(f.name, f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file that is there whole or not at all.
func (d development) replace(name string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(d.dir, name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), d.path(name))
}

// developmentPair makes the certificate and its encrypted key, both PEM.
func developmentPair(secret []byte) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: "gatehouse development"},
		NotBefore:    time.Now().Add(-time.Hour), // clocks of containers
		NotAfter:     time.Now().AddDate(developmentYears, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},

		BasicConstraintsValid: true,
	}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" {
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyfile.Encrypt(pkcs8, secret, keyfile.Options{})
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, err
}

// newSerial is a positive number of 128 bits.
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] |= 0x80
	return new(big.Int).SetBytes(b[:])
}
