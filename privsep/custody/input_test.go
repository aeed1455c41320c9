package custody

import (
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
