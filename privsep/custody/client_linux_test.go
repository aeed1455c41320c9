package custody

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
)

// A client's key signs for clients, a server's for servers, and neither anything else.
func TestClientKey(t *testing.T) {
	digest := sha256.Sum256(nil)
	client := []byte(strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00" + string(digest[:]))
	for i, kind := range kinds {
		k, err := OpenClientKey(newFiles(t, i))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		for scheme := range schemes {
			_, err := k.Sign(scheme, client)
			if own := may(k.key.schemes, scheme); own != (err == nil) || !own && !errors.Is(err, ErrScheme) {
				t.Errorf("%s, %v: %v", kind.name, scheme, err)
			}
			if own := may(k.key.schemes, scheme); own {
				if _, err := k.key.Sign(scheme, client); !errors.Is(err, ErrInput) {
					t.Errorf("%s as a server's: %v", kind.name, err)
				}
			}
		}
		scheme := k.key.schemes[0]
		for name, message := range map[string]string{
			"server":     string(input(32)),
			"digest":     string(digest[:]),
			"one more":   string(client) + "x",
			"one less":   string(client[:len(client)-1]),
			"63 spaces":  string(client[1:]) + "x",
			"lower case": strings.ToLower(string(client)),
		} {
			if _, err := k.Sign(scheme, []byte(message)); !errors.Is(err, ErrInput) {
				t.Errorf("%s, %s: %v", kind.name, name, err)
			}
		}
		if _, err := k.Sign(tls.PKCS1WithSHA256, client); !errors.Is(err, ErrScheme) {
			t.Errorf("%s, a scheme of TLS 1.2: %v", kind.name, err)
		}
	}
}
