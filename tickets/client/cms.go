package client

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	_ "crypto/sha256" // the digests of keyTypes
	_ "crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}

	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}

	oidRSAWithSHA256   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSAWithSHA512 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
	oidEd25519         = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// how a key signs.
type how struct {
	hash   crypto.Hash
	hashID asn1.ObjectIdentifier
	scheme asn1.ObjectIdentifier
	null   bool // the scheme's parameters are NULL, not absent
	whole  bool // the signer takes the message, not its hash
}

func howToSign(public crypto.PublicKey) (how, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return how{crypto.SHA256, oidSHA256, oidRSAWithSHA256, true, false}, nil
	case ed25519.PublicKey:
		return how{crypto.SHA512, oidSHA512, oidEd25519, false, true}, nil
	case *ecdsa.PublicKey:
		switch size := key.Curve.Params().BitSize; {
		case size <= 256:
			return how{crypto.SHA256, oidSHA256, oidECDSAWithSHA256, false, false}, nil
		case size <= 384:
			return how{crypto.SHA384, oidSHA384, oidECDSAWithSHA384, false, false}, nil
		default:
			return how{crypto.SHA512, oidSHA512, oidECDSAWithSHA512, false, false}, nil
		}
	}
	return how{}, fmt.Errorf("a key of type %T: RSA, ECDSA and Ed25519 can log in", public)
}

// maxX509 is what a broker takes of it, in bytes.
const maxX509 = 32 << 10

// SignX509 makes the CMS SignedData (RFC 5652) over content that a broker wants:
// detached, with signed attributes and all certificates of cert. It is for whoever
// speaks the client protocol without nats.go; [X509] is for the rest.
func SignX509(cert *tls.Certificate, content []byte) ([]byte, error) {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok || len(cert.Certificate) == 0 {
		return nil, errors.New("no certificate with a private key that signs")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, err
	}
	if public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the private key is another certificate's")
	}
	h, err := howToSign(leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	digest := h.hash.New()
	digest.Write(content)
	attrs := attributes(digest.Sum(nil))
	signature, err := h.sign(key, attrs)
	if err != nil {
		return nil, err
	}
	der, err := h.message(leaf, cert.Certificate, attrs, signature)
	if err == nil && len(der) > maxX509 {
		err = fmt.Errorf("the certificates are too large: %d bytes with the signature, a broker takes %d", len(der), maxX509)
	}
	return der, err
}

// attributes gives the signed ones, in the order of DER, as the SET OF that is signed.
func attributes(digest []byte) []byte {
	var list [][]byte
	add := func(id asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
		var b cryptobyte.Builder
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddASN1(tag.SET, value)
		})
		list = append(list, b.BytesOrPanic())
	}
	add(oidContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
	add(oidMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest) })
	slices.SortFunc(list, bytes.Compare)
	var set cryptobyte.Builder
	set.AddASN1(tag.SET, func(b *cryptobyte.Builder) {
		for _, a := range list {
			b.AddBytes(a)
		}
	})
	return set.BytesOrPanic()
}

func (h *how) sign(key crypto.Signer, attrs []byte) ([]byte, error) {
	if h.whole {
		return key.Sign(rand.Reader, attrs, crypto.Hash(0))
	}
	d := h.hash.New()
	d.Write(attrs)
	return key.Sign(rand.Reader, d.Sum(nil), h.hash)
}

// message puts it all together.
func (h *how) message(leaf *x509.Certificate, certs [][]byte, attrs, signature []byte) ([]byte, error) {
	field := func(n uint8) tag.Tag { return tag.Tag(n).ContextSpecific().Constructed() }
	digest := func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(h.hashID) })
	}
	signer := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // the signer is named by issuer and serial number
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(leaf.RawIssuer)
			b.AddASN1BigInt(leaf.SerialNumber)
		})
		digest(b)
		b.AddASN1(field(0), func(b *cryptobyte.Builder) {
			set := cryptobyte.String(attrs)
			set.ReadASN1(&set, tag.SET)
			b.AddBytes(set)
		})
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			if b.AddASN1ObjectIdentifier(h.scheme); h.null {
				b.AddASN1NULL()
			}
		})
		b.AddASN1OctetString(signature)
	}
	var out cryptobyte.Builder
	out.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(field(0), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(tag.SET, digest)
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
				b.AddASN1(field(0), func(b *cryptobyte.Builder) {
					for _, c := range slices.SortedFunc(slices.Values(certs), bytes.Compare) {
						b.AddBytes(c)
					}
				})
				b.AddASN1(tag.SET, func(b *cryptobyte.Builder) { b.AddASN1(tag.SEQUENCE, signer) })
			})
		})
	})
	return out.Bytes()
}
