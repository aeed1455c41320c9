package certname

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Names are the texts of a certificate.
type Names struct {
	Subject string // "": it has none that can be written
	SANs    []string
	Key     string
}

// Of gives the texts of a certificate.
func Of(cert *x509.Certificate) Names {
	n := Names{Subject: subjectOf(cert.RawSubject), Key: keyText(cert.RawSubjectPublicKeyInfo)}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSAN) {
			n.SANs = append(n.SANs, sansOf(e.Value)...)
		}
	}
	return n
}

const keyPrefix = "sha256:"

func keyText(spki []byte) string {
	sum := sha256.Sum256(spki)
	return keyPrefix + hex.EncodeToString(sum[:])
}

// Key gives the text for a key.
func Key(text string) (string, error) {
	digits, ok := strings.CutPrefix(text, keyPrefix)
	if b, err := hex.DecodeString(digits); !ok || err != nil || len(b) != sha256.Size {
		return "", errors.New("is not sha256: and the 64 hexadecimal digits of the hash of a public key")
	}
	return strings.ToLower(text), nil
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// kinds are the alternative names (RFC 5280, 4.2.1.6) that can be written, which all
// are IA5 strings.
var kinds = []struct {
	prefix string
	tag    tag.Tag
	folds  bool // its case means nothing
}{
	{"email:", tag.Tag(1).ContextSpecific(), false},
	{"dns:", tag.Tag(2).ContextSpecific(), true},
	{"uri:", tag.Tag(6).ContextSpecific(), false},
}

// sansOf gives those of a certificate that have a text. crypto/x509 has parsed the
// extension, but keeps of a URI only what it means by it.
func sansOf(der []byte) (texts []string) {
	in := cryptobyte.String(der)
	if !in.ReadASN1(&in, tag.SEQUENCE) {
		return nil
	}
	for !in.Empty() {
		var value cryptobyte.String
		var t tag.Tag
		if !in.ReadAnyASN1(&value, &t) {
			return nil
		}
		for _, k := range kinds {
			if k.tag != t {
				continue
			}
			if text, err := SAN(k.prefix + string(value)); err == nil {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// SAN gives the text for an alternative name.
func SAN(text string) (string, error) {
	for _, k := range kinds {
		if len(text) < len(k.prefix) || !strings.EqualFold(text[:len(k.prefix)], k.prefix) {
			continue
		}
		value := text[len(k.prefix):]
		if k.folds {
			value = strings.ToLower(value)
		}
		switch {
		case value == "":
			return "", errors.New("is empty")
		case len(text) > MaxText:
			return "", fmt.Errorf("is longer than %d bytes", MaxText)
		case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
			return "", errors.New("has a character that is not printable ASCII")
		}
		return k.prefix + value, nil
	}
	return "", errors.New("does not begin with one of email:, dns: and uri:, the kinds that are known")
}
