package cms

import (
	"bytes"
	"encoding/asn1"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// write puts a message together from what has been read of it.
func (m *Message) write() []byte {
	p := &m.parts
	version := int64(versionIssuer)
	if p.sid[0] != byte(tag.SEQUENCE) {
		version = versionKeyID
	}
	oid := func(b *cryptobyte.Builder, o asn1.ObjectIdentifier) { b.AddASN1ObjectIdentifier(o) }
	algorithm := func(b *cryptobyte.Builder, a algorithm) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			oid(b, a.oid)
			b.AddBytes(a.params)
		})
	}
	var out cryptobyte.Builder
	out.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		oid(b, oidSignedData)
		b.AddASN1(field(0), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(version)
				b.AddASN1(tag.SET, func(b *cryptobyte.Builder) { algorithm(b, p.listed) })
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { oid(b, oidData) })
				b.AddASN1(field(0), func(b *cryptobyte.Builder) {
					for _, c := range p.certs {
						b.AddBytes(c.Raw)
					}
				})
				b.AddASN1(tag.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1Int64(version)
						b.AddBytes(p.sid)
						algorithm(b, p.digest)
						b.AddBytes([]byte{byte(field(0))})
						b.AddBytes(m.attrs[1:])
						algorithm(b, p.signedBy)
						b.AddASN1OctetString(m.signature)
					})
				})
			})
		})
	})
	return out.BytesOrPanic()
}

// What is accepted is understood to the last byte: written again it is the same. It
// has all that a message must have, and verifying it does not panic.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/openssl/*.der")
	if err != nil || len(files) < 20 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		before := bytes.Clone(der)
		m, err := Parse(der)
		if !bytes.Equal(der, before) {
			t.Fatal("changed what it has read")
		}
		if err != nil {
			if m != nil || ReasonOf(err) == 0 {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		if again := m.write(); !bytes.Equal(again, der) {
			t.Fatalf("written again:\n%x\nit was:\n%x", again, der)
		}
		if m.Signer == nil || len(m.Others)+1 > MaxCertificates || len(m.digest) != m.hash.Size() || CheckKey(m.Signer.PublicKey) != nil {
			t.Fatal("accepted with something missing")
		}
		_ = m.Verify(nil)
	})
}
