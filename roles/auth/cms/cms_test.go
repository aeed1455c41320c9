package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/roles/auth/cms"
	. "gatehouse/roles/auth/cms/cmstest"
	"gatehouse/tickets"
)

const challenge = "mO9qYk1zXkqzJjTjJ8m0w3a2bRrQeX4T"

var content = tickets.AuthContent("orga", challenge)

// check does all that there is to do with a message.
func check(der []byte) error {
	m, err := cms.Parse(der)
	if err != nil {
		return err
	}
	return m.Verify(content)
}

func pss(hash []byte, salt int64) []byte {
	return Sequence(RSAPSS, Sequence(Field(0, Sequence(hash, Null)), Field(1, Sequence(MGF1, Sequence(hash, Null))), Field(2, Int(salt))))
}

// Whatever key it is by, in each form that signers make.
func TestAccepted(t *testing.T) {
	root := Root("root", Key("p256"))
	for _, kind := range []string{"rsa2048", "rsa3072", "p256", "p384", "p521", "ed25519"} {
		by := root.Client("alice", Key(kind))
		for name, change := range map[string]func(*Message, *Signer){
			"plain":     func(*Message, *Signer) {},
			"key id":    func(m *Message, s *Signer) { m.Version, s.Version, s.ID = 3, 3, ByKeyID(by) },
			"no time":   func(_ *Message, s *Signer) { s.Attrs = attrs(content) },
			"null":      func(m *Message, s *Signer) { s.Digest = withNull(s.Digest); m.Digests = Set(s.Digest) },
			"null once": func(_ *Message, s *Signer) { s.Digest = withNull(s.Digest) },
			"other attributes": func(_ *Message, s *Signer) {
				s.Attrs = attrs(content, Attribute(OID(1, 2, 3, 4), Sequence(Int(2)), Sequence(Int(1), Sequence(Null))))
			},
			"root first": func(m *Message, _ *Signer) { m.Certs = Field(0, root.Raw, by.Raw) },
		} {
			m := New(content, by, root)
			if kind == "ed25519" || kind == "p384" || kind == "p521" {
				if strings.Contains(name, "attributes") || name == "no time" {
					continue // their digest is another one
				}
			}
			change(m, m.Signers[0])
			m.Signers[0].Sign()
			if err := check(m.DER()); err != nil {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

// attrs are the two that are needed, by SHA-256, and more.
func attrs(content []byte, more ...[]byte) []byte {
	return SetOf(append(more, Attribute(ContentType, Data), Attribute(MessageDigest, Octets(Sum(crypto.SHA256, content))))...)
}

// withNull gives an algorithm NULL for its parameters.
func withNull(algorithm []byte) []byte { return Sequence(algorithm[2:], Null) }

// by gives the message of a signature by another algorithm.
func by(kind crypto.Hash, digest, scheme []byte, options crypto.SignerOpts) func(*Message, *Signer) {
	return func(m *Message, s *Signer) {
		s.Digest, s.Scheme, s.Options = Sequence(digest), scheme, options
		m.Digests = Set(s.Digest)
		s.Attrs = SetOf(Attribute(ContentType, Data), Attribute(MessageDigest, Octets(Sum(kind, content))))
	}
}

func saltOf(hash crypto.Hash, n int) crypto.SignerOpts {
	return &rsa.PSSOptions{SaltLength: n, Hash: hash}
}

func TestAlgorithms(t *testing.T) {
	root := Root("root", Key("p256"))
	ecdsa := func(n int) []byte { return Sequence(OID(1, 2, 840, 10045, 4, 3, n)) }
	withRSA := func(n int) []byte { return Sequence(OID(1, 2, 840, 113549, 1, 1, n), Null) }
	for _, c := range []struct {
		name, key string
		change    func(*Message, *Signer)
		want      cms.Reason
	}{
		{"sha256WithRSA", "rsa2048", by(crypto.SHA256, SHA256, withRSA(11), crypto.SHA256), 0},
		{"sha384WithRSA", "rsa2048", by(crypto.SHA384, SHA384, withRSA(12), crypto.SHA384), 0},
		{"sha512WithRSA", "rsa2048", by(crypto.SHA512, SHA512, withRSA(13), crypto.SHA512), 0},
		{"rsa, SHA-384", "rsa2048", by(crypto.SHA384, SHA384, Sequence(RSA, Null), crypto.SHA384), 0},
		{"rsa without NULL", "rsa2048", by(crypto.SHA256, SHA256, Sequence(RSA), crypto.SHA256), 0},
		{"PSS, SHA-256", "rsa2048", by(crypto.SHA256, SHA256, pss(SHA256, 32), saltOf(crypto.SHA256, 32)), 0},
		{"PSS, SHA-384", "rsa2048", by(crypto.SHA384, SHA384, pss(SHA384, 48), saltOf(crypto.SHA384, 48)), 0},
		{"PSS, SHA-512", "rsa3072", by(crypto.SHA512, SHA512, pss(SHA512, 64), saltOf(crypto.SHA512, 64)), 0},
		{"P-256, SHA-512", "p256", by(crypto.SHA512, SHA512, ecdsa(4), crypto.SHA512), 0},
		{"P-521, SHA-256", "p521", by(crypto.SHA256, SHA256, ecdsa(2), crypto.SHA256), 0},

		{"SHA-1", "rsa2048", by(crypto.SHA1, SHA1, Sequence(RSA, Null), crypto.SHA1), cms.Algorithm},
		{"SHA-1 by name", "rsa2048", by(crypto.SHA1, SHA1, withRSA(5), crypto.SHA1), cms.Algorithm},
		{"SHA-1 under SHA-256", "rsa2048", by(crypto.SHA256, SHA256, withRSA(5), crypto.SHA1), cms.Algorithm},
		{"SHA-224", "rsa2048", by(crypto.SHA224, SHA224, Sequence(RSA, Null), crypto.SHA224), cms.Algorithm},
		{"two digests", "rsa2048", by(crypto.SHA256, SHA256, withRSA(13), crypto.SHA512), cms.Algorithm},
		{"two digests, ECDSA", "p256", by(crypto.SHA256, SHA256, ecdsa(3), crypto.SHA384), cms.Algorithm},
		{"PSS, long salt", "rsa2048", by(crypto.SHA256, SHA256, pss(SHA256, 222), saltOf(crypto.SHA256, 222)), cms.Algorithm},
		{"PSS, no salt", "rsa2048", by(crypto.SHA256, SHA256, pss(SHA256, 0), saltOf(crypto.SHA256, 0)), cms.Algorithm},
		{"PSS, salt of another length", "rsa2048", by(crypto.SHA256, SHA256, pss(SHA256, 32), saltOf(crypto.SHA256, 20)), cms.Signature},
		{"PSS, other hash", "rsa2048", by(crypto.SHA256, SHA256, pss(SHA384, 32), saltOf(crypto.SHA256, 32)), cms.Algorithm},
		{"PSS without parameters", "rsa2048", by(crypto.SHA256, SHA256, Sequence(RSAPSS), saltOf(crypto.SHA256, 32)), cms.Algorithm},
		{"PSS, defaults (SHA-1)", "rsa2048", by(crypto.SHA256, SHA256, Sequence(RSAPSS, Sequence()), saltOf(crypto.SHA256, 32)), cms.Algorithm},
		{"PSS said, PKCS #1 done", "rsa2048", by(crypto.SHA256, SHA256, pss(SHA256, 32), crypto.SHA256), cms.Signature},
		{"ECDSA with NULL", "p256", by(crypto.SHA256, SHA256, Sequence(OID(1, 2, 840, 10045, 4, 3, 2), Null), crypto.SHA256), cms.Algorithm},
		{"ECDSA by the key's name", "p256", by(crypto.SHA256, SHA256, Sequence(OID(1, 2, 840, 10045, 2, 1)), crypto.SHA256), cms.Algorithm},
		{"ECDSA said, RSA done", "rsa2048", by(crypto.SHA256, SHA256, ecdsa(2), crypto.SHA256), cms.Signature},
		{"Ed25519 with SHA-256", "ed25519", by(crypto.SHA256, SHA256, Sequence(Ed25519), crypto.Hash(0)), cms.Algorithm},
		{"RSA 1024", "rsa1024", func(*Message, *Signer) {}, cms.Algorithm},
		{"P-224", "p224", func(*Message, *Signer) {}, cms.Algorithm},
		{"digest's parameters", "p256", func(m *Message, s *Signer) { s.Digest = Sequence(SHA256, Int(1)); m.Digests = Set(s.Digest) }, cms.Algorithm},
		{"another digest listed", "p256", func(m *Message, _ *Signer) { m.Digests = Set(Sequence(SHA384)) }, cms.Algorithm},
	} {
		m := New(content, root.Client("alice", Key(c.key)))
		c.change(m, m.Signers[0])
		m.Signers[0].Sign()
		if err := check(m.DER()); cms.ReasonOf(err) != c.want || c.want == 0 && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// What a message must not be, one thing at a time. before is done before it is signed,
// after afterwards.
func TestRefused(t *testing.T) {
	root := Root("root", Key("p256"))
	by := root.Client("alice", Key("rsa2048"))
	other := root.Client("bob", NewKey("p256"))
	noID := root.Client("carol", Key("rsa2048"), func(c *x509.Certificate) { c.SubjectKeyId = nil })
	twin := func(c *x509.Certificate) { c.SerialNumber, c.Subject.CommonName = by.SerialNumber, "twin" }
	digest := Attribute(MessageDigest, Octets(Sum(crypto.SHA256, content)))
	typed := Attribute(ContentType, Data)
	for _, c := range []struct {
		name          string
		before, after func(*Message, *Signer)
		want          cms.Reason
		detail        string
	}{
		{"no signed attributes", nil, func(_ *Message, s *Signer) { s.Attrs = nil; s.SignThis(content) }, cms.Attributes, "no signed attributes"},
		{"no attribute at all", set(Set()), nil, cms.Attributes, "no content-type"},
		{"no content-type", set(SetOf(digest)), nil, cms.Attributes, "no content-type"},
		{"no message-digest", set(SetOf(typed)), nil, cms.Attributes, "no message-digest"},
		{"content-type of SignedData", set(SetOf(Attribute(ContentType, SignedData), digest)), nil, cms.Attributes, "not id-data"},
		{"content-type without value", set(SetOf(Attribute(ContentType), digest)), nil, cms.Attributes, "not DER"},
		{"two values of content-type", set(SetOf(Attribute(ContentType, Data, SignedData), digest)), nil, cms.Attributes, "not id-data"},
		{"content-type twice", set(SetOf(typed, Attribute(ContentType, SignedData), digest)), nil, cms.Attributes, ""},
		{"message-digest twice", set(SetOf(typed, digest, Attribute(MessageDigest, Octets(make([]byte, 32))))), nil, cms.Attributes, "twice"},
		{"two values of message-digest", set(SetOf(typed, Attribute(MessageDigest, Octets(Sum(crypto.SHA256, content)), Octets(nil)))), nil, cms.Attributes, "one octet string"},
		{"message-digest in pieces", set(SetOf(typed, Attribute(MessageDigest, []byte("\x24\x04\x04\x02ab")))), nil, cms.Attributes, "one octet string"},
		{"short message-digest", set(SetOf(typed, Attribute(MessageDigest, Octets(Sum(crypto.SHA256, content)[:31])))), nil, cms.Attributes, "as long as"},
		{"two signing-times", set(SetOf(typed, digest, Attribute(SigningTime, Time(time.Now()), Time(time.Now().Add(time.Second))))), nil, cms.Attributes, "one time"},
		{"signing-time that is none", set(SetOf(typed, digest, Attribute(SigningTime, Octets([]byte("now"))))), nil, cms.Attributes, "one time"},
		{"countersignature", set(SetOf(typed, digest, Attribute(OID(1, 2, 840, 113549, 1, 9, 6), Sequence()))), nil, cms.Attributes, "countersignature"},
		{"the same attribute twice", set(Set(typed, typed, digest)), nil, cms.Attributes, "order"},
		{"attributes in another order", set(Set(digest, typed)), nil, cms.Attributes, "order"},
		{"values in another order", set(SetOf(typed, digest, Attribute(OID(1, 2, 3), Int(2), Int(1)))), nil, cms.Attributes, "value"},
		{"a value in pieces", set(SetOf(typed, digest, Attribute(OID(1, 2, 3), []byte("\x24\x03\x04\x01a")))), nil, cms.Attributes, "value"},
		{"a value of indefinite length", set(SetOf(typed, digest, Attribute(OID(1, 2, 3), []byte("\x30\x80\x00\x00")))), nil, cms.Attributes, "value"},
		{"a value too deep", set(SetOf(typed, digest, Attribute(OID(1, 2, 3), deep(20)))), nil, cms.Attributes, "value"},
		{"many attributes", set(SetOf(append(many(20), typed, digest)...)), nil, cms.Attributes, "more than"},
		{"bytes in an attribute", set(SetOf(Sequence(ContentType, Set(Data), Null), digest)), nil, cms.Attributes, "not DER"},
		{"signed as it came", nil, func(_ *Message, s *Signer) { b := bytes.Clone(s.Attrs); b[0] = 0xa0; s.SignThis(b) }, cms.Signature, ""},
		{"signed without its tag", nil, func(_ *Message, s *Signer) { s.SignThis(s.Attrs[2:]) }, cms.Signature, ""},
		{"attributes changed afterwards", nil, func(_ *Message, s *Signer) { s.Attrs = attrs(content) }, cms.Signature, ""},
		{"digest of something else", set(attrs([]byte("something else"))), nil, cms.Content, ""},
		{"another environment", set(attrs(tickets.AuthContent("orgb", challenge))), nil, cms.Content, ""},
		{"another challenge", set(attrs(tickets.AuthContent("orga", tickets.Challenge()))), nil, cms.Content, ""},
		{"the bare challenge", set(attrs([]byte(challenge))), nil, cms.Content, ""},
		{"another key", nil, func(_ *Message, s *Signer) { s.Key = NewKey("rsa2048"); s.Sign() }, cms.Signature, ""},
		{"a bit of the signature", nil, func(_ *Message, s *Signer) { s.Signature[9] ^= 1 }, cms.Signature, ""},
		{"no signature", nil, func(_ *Message, s *Signer) { s.Signature = nil }, cms.Signature, ""},

		{"two signers", nil, func(m *Message, s *Signer) { m.Signers = append(m.Signers, s) }, cms.Form, "one signer"},
		{"another signer, too", nil, func(m *Message, _ *Signer) {
			m.Certs = Field(0, by.Raw, other.Raw)
			m.Signers = append(m.Signers, New(content, other).Signers...)
		}, cms.Form, "one signer"},
		{"no signer", nil, func(m *Message, _ *Signer) { m.Signers = nil }, cms.Form, "one signer"},
		{"no certificates", nil, func(m *Message, _ *Signer) { m.Certs = nil }, cms.Certificates, "no certificates"},
		{"another's certificate alone", nil, func(m *Message, _ *Signer) { m.Certs = Field(0, other.Raw) }, cms.Certificates, "not there"},
		{"an empty set of them", nil, func(m *Message, _ *Signer) { m.Certs = Field(0) }, cms.Certificates, "not there"},
		{"a certificate twice", nil, func(m *Message, _ *Signer) { m.Certs = Field(0, by.Raw, by.Raw) }, cms.Certificates, "twice"},
		{"two that could be the signer's", nil, func(m *Message, _ *Signer) {
			m.Certs = Field(0, by.Raw, root.Client("twin", Key("p256"), twin).Raw)
		}, cms.Certificates, "two certificates"},
		{"eleven certificates", nil, func(m *Message, _ *Signer) {
			certs := [][]byte{by.Raw}
			for range 10 {
				certs = append(certs, root.Client("more", Key("p256")).Raw)
			}
			m.Certs = Field(0, certs...)
		}, cms.Certificates, "more than 10"},
		{"a certificate of attributes", nil, func(m *Message, _ *Signer) { m.Certs = Field(0, by.Raw, Field(1, Int(1))) }, cms.Certificates, "something else"},
		{"a damaged certificate", nil, func(m *Message, _ *Signer) { m.Certs = Field(0, by.Raw, Sequence(Int(1))) }, cms.Certificates, "cannot be read"},
		{"bytes in a certificate after its signature", nil, func(m *Message, _ *Signer) {
			m.Certs = Field(0, by.Raw, Sequence(other.Raw[4:], Null))
		}, cms.Certificates, "cannot be read"},
		{"named by an empty key id", nil, func(m *Message, s *Signer) {
			m.Certs = Field(0, noID.Raw)
			m.Version, s.Version, s.ID = 3, 3, []byte{0x80, 0}
		}, cms.Form, ""},
		{"named by another key id", nil, func(m *Message, s *Signer) { m.Version, s.Version, s.ID = 3, 3, ByKeyID(other) }, cms.Certificates, "not there"},
		{"named by another serial number", nil, func(_ *Message, s *Signer) { s.ID = Sequence(by.RawIssuer, Int(7)) }, cms.Certificates, "not there"},
		{"named by another issuer", nil, func(_ *Message, s *Signer) {
			s.ID = Sequence(by.RawSubject, bigInt(by.SerialNumber))
		}, cms.Certificates, "not there"},
		{"revocation lists", nil, func(m *Message, _ *Signer) { m.Lists = Field(1, Sequence(Int(1))) }, cms.Form, "revocation lists"},
		{"unsigned attributes", nil, func(_ *Message, s *Signer) { s.Unsigned = Field(1, Attribute(SigningTime, Int(1))) }, cms.Form, "unsigned"},
		{"empty unsigned attributes", nil, func(_ *Message, s *Signer) { s.Unsigned = Field(1) }, cms.Form, "unsigned"},
		{"attached content", nil, func(m *Message, _ *Signer) { m.Content = Sequence(Data, Field(0, Octets(content))) }, cms.Form, "detached"},
		{"content of another type", nil, func(m *Message, _ *Signer) { m.Content = Sequence(SignedData) }, cms.Form, "id-data"},
		{"another ContentInfo", nil, func(m *Message, _ *Signer) { m.Type = Data }, cms.Form, "not SignedData"},
		{"version 3 by issuer", nil, func(m *Message, s *Signer) { m.Version, s.Version = 3, 3 }, cms.Form, "versions"},
		{"version 1 by key id", nil, func(_ *Message, s *Signer) { s.ID = ByKeyID(by) }, cms.Form, "versions"},
		{"outer version 3", nil, func(m *Message, _ *Signer) { m.Version = 3 }, cms.Form, "versions"},
		{"version 0", nil, func(m *Message, s *Signer) { m.Version, s.Version = 0, 0 }, cms.Form, "versions"},
		{"two digest algorithms", nil, func(m *Message, s *Signer) { m.Digests = Set(s.Digest, Sequence(SHA512)) }, cms.Form, "one digest"},
		{"no digest algorithm", nil, func(m *Message, _ *Signer) { m.Digests = Set() }, cms.Form, "one digest"},
	} {
		m := New(content, by)
		s := m.Signers[0]
		if c.before != nil {
			c.before(m, s)
			s.Sign()
		}
		if c.after != nil {
			c.after(m, s)
		}
		err := check(m.DER())
		var e *cms.Error
		if !errors.As(err, &e) || e.Reason != c.want || !strings.Contains(e.Detail, c.detail) {
			t.Errorf("%s: %v, want %v: %s", c.name, err, c.want, c.detail)
		}
	}
}

// set replaces the attributes.
func set(attrs []byte) func(*Message, *Signer) {
	return func(_ *Message, s *Signer) { s.Attrs = attrs }
}

func deep(n int) []byte {
	b := Null
	for range n {
		b = Sequence(b)
	}
	return b
}

func many(n int) (list [][]byte) {
	for i := range n {
		list = append(list, Attribute(OID(1, 2, 3, i), Null))
	}
	return list
}

func bigInt(n *big.Int) []byte { return append([]byte{2, byte(len(n.Bytes()))}, n.Bytes()...) }

// Bytes that are not the DER of one message, made of one that is.
func TestNotDER(t *testing.T) {
	by := Root("root", Key("p256")).Client("alice", Key("p256"))
	good := New(content, by).DER()
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	long := bytes.Clone(good[2+int(good[1]&0x7f):])
	for name, der := range map[string][]byte{
		"nothing":              nil,
		"a byte after the end": append(bytes.Clone(good), 0),
		"another after it":     append(bytes.Clone(good), good...),
		"cut":                  good[:len(good)-1],
		"indefinite length":    append(append([]byte{0x30, 0x80}, long...), 0, 0),
		"long length":          append([]byte{0x30, 0x83, 0, byte(len(long) >> 8), byte(len(long))}, long...),
		"text":                 []byte("x509"),
		"too large":            append(bytes.Clone(good), make([]byte, cms.MaxSize)...),
	} {
		if err := check(der); cms.ReasonOf(err) != cms.Form {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		if _, err := cms.Parse(good[:n]); err == nil {
			t.Errorf("accepted when cut to %d bytes", n)
		}
	}
	// No bit but those of the certificate's own signature, which is package chain's
	// affair, can be another one.
	at := bytes.Index(good, by.Signature)
	for i := range good {
		if at <= i && i < at+len(by.Signature) {
			continue
		}
		bad := bytes.Clone(good)
		for bit := range 8 {
			bad[i] = good[i] ^ 1<<bit
			if check(bad) == nil && bytes.Contains(bad, by.RawTBSCertificate) {
				t.Errorf("accepted with bit %d of byte %d changed", bit, i)
			}
		}
	}
}

// What OpenSSL makes, by testdata/openssl/make.sh: the name says what it must be.
func TestOpenSSL(t *testing.T) {
	files, err := filepath.Glob("testdata/openssl/*.der")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := strings.Cut(filepath.Base(file), ".")
		if err := check(der); (want == "ok") != (err == nil) || err != nil && cms.ReasonOf(err).String() != want {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestKeyBounds(t *testing.T) {
	for _, kind := range []string{"rsa2048", "rsa3072", "p256", "p384", "p521", "ed25519"} {
		if err := cms.CheckKey(Key(kind).Public()); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	huge := new(big.Int).Lsh(big.NewInt(1), 8192)
	for name, public := range map[string]crypto.PublicKey{"rsa1024": Key("rsa1024").Public(), "p224": Key("p224").Public(),
		"RSA of 8193 bits": &rsa.PublicKey{N: huge, E: 65537}, "none": nil, "something": 7} {
		if cms.ReasonOf(cms.CheckKey(public)) != cms.Algorithm {
			t.Errorf("%s is accepted", name)
		}
	}
}
