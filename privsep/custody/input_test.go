package custody

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
)

func TestCheckServerInput(t *testing.T) {
	digest := sha256.Sum256(input(32))
	spaces := strings.Repeat(" ", 64)
	tls12 := strings.Repeat("r", 64) + "\x03\x00\x1d\x20" + strings.Repeat("p", 32)
	refused := map[string]string{
		"nothing":             "",
		"bare digest":         string(digest[:]),
		"bare SHA-384 digest": strings.Repeat("d", 48),
		"context alone":       serverContext,
		"31 bytes":            string(input(31)),
		"33 bytes":            string(input(33)),
		"47 bytes":            string(input(47)),
		"49 bytes":            string(input(49)),
		"64 bytes":            string(input(64)),
		"client context":      spaces + "TLS 1.3, client CertificateVerify\x00" + string(digest[:]),
		"TLS 1.2":             tls12,
		"TLS 1.2, as long":    tls12 + strings.Repeat("x", 130-len(tls12)),
		"63 spaces":           spaces[1:] + "TLS 1.3, server CertificateVerify\x00" + string(digest[:]) + "x",
		"65 spaces":           " " + string(input(31)),
		"no zero byte":        spaces + "TLS 1.3, server CertificateVerify " + string(digest[:]),
		"lower case":          strings.ToLower(serverContext) + string(digest[:]),
		"exporter":            spaces + "TLS 1.3, server Certificateverify\x00" + string(digest[:]),
	}
	for name, message := range refused {
		if err := CheckServerInput(tls.Ed25519, []byte(message)); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, hash := range []int{32, 48} {
		if err := CheckServerInput(tls.Ed25519, input(hash)); err != nil {
			t.Errorf("%d bytes: %v", hash, err)
		}
	}
	if len(input(48)) != MaxInput {
		t.Errorf("MaxInput is %d, the longest input has %d bytes", MaxInput, len(input(48)))
	}
	// Each byte of the context counts.
	for i := range serverContext {
		m := input(32)
		m[i] ^= 1
		if err := CheckServerInput(tls.Ed25519, m); !errors.Is(err, ErrInput) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

// Schemes that TLS 1.3 has not, or not for CertificateVerify.
func TestCheckServerInputScheme(t *testing.T) {
	for _, s := range []tls.SignatureScheme{
		0, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512,
		tls.PKCS1WithSHA1, tls.ECDSAWithSHA1, tls.ECDSAWithP521AndSHA512, 0x0809,
	} {
		if err := CheckServerInput(s, input(32)); !errors.Is(err, ErrScheme) {
			t.Errorf("%v: %v", s, err)
		}
	}
}

// A key signs by its own schemes and no more, and never past the check.
func TestSignRefuses(t *testing.T) {
	for i, kind := range kinds {
		k := opened(t, i)
		for scheme := range schemes {
			signature, err := k.Sign(scheme, input(32))
			if own := may(k.Schemes(), scheme); own != (err == nil) || !own && !errors.Is(err, ErrScheme) {
				t.Errorf("%s, %v: %v", kind.name, scheme, err)
			}
			if (signature != nil) != (err == nil) {
				t.Errorf("%s, %v: %d bytes and %v", kind.name, scheme, len(signature), err)
			}
		}
		digest := sha256.Sum256(nil)
		if _, err := k.Sign(k.Schemes()[0], digest[:]); !errors.Is(err, ErrInput) {
			t.Errorf("%s: digest: %v", kind.name, err)
		}
	}
}

func TestMatch(t *testing.T) {
	a, b := opened(t, 1), opened(t, 1)
	if err := a.Match(&x509.Certificate{PublicKey: a.Public()}); err != nil {
		t.Error(err)
	}
	for _, other := range []any{b.Public(), opened(t, 3).Public(), nil} {
		if err := a.Match(&x509.Certificate{PublicKey: other}); !errors.Is(err, ErrMatch) {
			t.Errorf("%T: %v", other, err)
		}
	}
}

// What is signed has the one form, whatever comes in.
func FuzzCheckServerInput(f *testing.F) {
	f.Add(uint16(tls.Ed25519), input(32))
	f.Add(uint16(tls.PSSWithSHA256), input(48))
	f.Add(uint16(tls.PKCS1WithSHA256), input(48))
	f.Add(uint16(tls.Ed25519), []byte(serverContext))
	f.Fuzz(func(t *testing.T, scheme uint16, message []byte) {
		hash, ok := strings.CutPrefix(string(message), serverContext)
		_, known := schemes[tls.SignatureScheme(scheme)]
		want := ok && known && (len(hash) == 32 || len(hash) == 48)
		if err := CheckServerInput(tls.SignatureScheme(scheme), message); (err == nil) != want {
			t.Errorf("%#x, %q: %v", scheme, message, err)
		}
	})
}

// What crypto/tls has a TLS 1.2 server sign is taken, nothing around it.
func TestCheckKeyExchange(t *testing.T) {
	message := func(curve tls.CurveID, point int) []byte {
		b := bytes.Repeat([]byte{7}, 64)
		b = append(b, 3, byte(curve>>8), byte(curve), byte(point))
		return append(b, make([]byte, point)...)
	}
	for curve, size := range pointSizes {
		good := message(curve, size)
		if err := CheckKeyExchange(good); err != nil {
			t.Errorf("%v: %v", curve, err)
		}
		for n := range good {
			if CheckKeyExchange(good[:n]) == nil {
				t.Errorf("%v: %d bytes of %d", curve, n, len(good))
			}
		}
		if CheckKeyExchange(append(good, 0)) == nil || CheckKeyExchange(message(curve, size+1)) == nil {
			t.Errorf("%v: a byte more", curve)
		}
		good[64] = 1
		if CheckKeyExchange(good) == nil {
			t.Errorf("%v: a curve without a name", curve)
		}
	}
	if CheckKeyExchange(message(0x6399, 32)) == nil || CheckKeyExchange(input(32)) == nil {
		t.Error("something else was taken")
	}
}

// Only a key that was released signs it.
func TestKeyExchangeIsForAdoptedKeys(t *testing.T) {
	k := opened(t, 1) // P-256
	message := append(make([]byte, 64), 3, 0, 29, 32)
	message = append(message, make([]byte, 32)...)
	if _, err := k.Sign(tls.ECDSAWithP256AndSHA256, message); err != ErrInput {
		t.Fatalf("the parent's key: %v", err)
	}
	fd, size, err := k.Release()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Adopt(fd, size)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	sig, err := a.Sign(tls.ECDSAWithP256AndSHA256, message)
	if err != nil || !verify(k.Public(), tls.ECDSAWithP256AndSHA256, message, sig) {
		t.Fatalf("the released key: %v", err)
	}
	if _, err := a.Sign(tls.ECDSAWithP256AndSHA256, message[:10]); err != ErrInput {
		t.Fatalf("the released key signs anything: %v", err)
	}
}
