package custody

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gatehouse/privsep/keyfile"
)

// cheap spares the tests the time that a real derivation takes.
var cheap = keyfile.Options{Iterations: 10}

// kinds are the keys that are supported.
var kinds = []struct {
	name string
	make func() (crypto.Signer, error)
}{
	{"RSA-2048", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }},
	{"P-256", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }},
	{"P-384", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) }},
	{"Ed25519", func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err }},
}

// files writes a key and its secret and returns how to open them.
func files(t testing.TB, key crypto.PrivateKey) Options {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := keyfile.Encrypt(der, []byte("open sesame"), cheap)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o := Options{KeyFile: filepath.Join(dir, "key"), UnlockFile: filepath.Join(dir, "secret")}
	write(t, o.KeyFile, string(text), 0o644)
	write(t, o.UnlockFile, "open sesame\n", 0o400)
	return o
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// opened makes a key of a kind and opens it.
func opened(t testing.TB, kind int) *Key {
	t.Helper()
	signer, err := kinds[kind].make()
	if err != nil {
		t.Fatal(err)
	}
	k, err := Open(files(t, signer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// input is a server's CertificateVerify input.
func input(hash int) []byte {
	return append([]byte(serverContext), make([]byte, hash)...)
}

// verify holds a signature against RFC 8446, 4.2.3.
func verify(public crypto.PublicKey, scheme tls.SignatureScheme, message, signature []byte) bool {
	hash := schemes[scheme]
	digest := message
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	switch p := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPSS(p, hash, digest, signature, &rsa.PSSOptions{SaltLength: hash.Size()}) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(p, digest, signature)
	}
	return false
}

func TestSign(t *testing.T) {
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			k := opened(t, i)
			if len(k.Schemes()) == 0 {
				t.Fatal("no schemes")
			}
			for _, scheme := range k.Schemes() {
				for _, hash := range []int{32, 48} {
					signature, err := k.Sign(scheme, input(hash))
					if err != nil {
						t.Fatal(err)
					}
					if !verify(k.Public(), scheme, input(hash), signature) {
						t.Errorf("%v: signature does not verify", scheme)
					}
				}
			}
		})
	}
}

// A released key signs in the process that adopts it as it does here, and
// neither can spoil the other's.
func TestReleaseAdopt(t *testing.T) {
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			k := opened(t, i)
			fd, size, err := k.Release()
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := Adopt(fd, size)
			if err != nil {
				t.Fatal(err)
			}
			if theirs.Memory() != k.Memory() {
				t.Errorf("adopted as %s, released as %s", theirs.Memory(), k.Memory())
			}
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			scheme := theirs.Schemes()[0]
			signature, err := theirs.Sign(scheme, input(32))
			if err != nil || !verify(k.Public(), scheme, input(32), signature) {
				t.Errorf("signature of the adopted key: %v", err)
			}
			if _, err := k.Sign(scheme, input(32)); !errors.Is(err, errClosed) {
				t.Errorf("signature of the closed key: %v", err)
			}
			if err := theirs.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	m, fd, err := newMemory(100)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	copy(m.Bytes(), "no key")
	if _, err := Adopt(dup(t, fd), 50); err == nil || !strings.Contains(err.Error(), "not a PKCS#8") {
		t.Errorf("no key: %v", err)
	}
	for _, size := range []int{0, -1, 5000, maxMemory + 1} {
		if _, err := Adopt(dup(t, fd), size); err == nil {
			t.Errorf("size %d was adopted", size)
		}
	}
	unix.Close(fd)
	if _, err := Adopt(fd, 50); err == nil {
		t.Error("a closed fd was adopted")
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Signatures and Close do not meet.
func TestCloseWhileSigning(t *testing.T) {
	k := opened(t, 1)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				signature, err := k.Sign(tls.ECDSAWithP256AndSHA256, input(32))
				if errors.Is(err, errClosed) {
					return
				}
				if err != nil || !verify(k.Public(), tls.ECDSAWithP256AndSHA256, input(32), signature) {
					t.Errorf("signature: %v", err)
					return
				}
			}
		})
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
