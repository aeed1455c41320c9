package certname

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSubject(t *testing.T) {
	for text, want := range map[string]string{
		"CN=alice,O=ORGA":                      "CN=alice,O=ORGA",
		"cn=alice, o=ORGA":                     "CN=alice,O=ORGA",
		" CN = alice , O = ORGA ":              "CN=alice,O=ORGA",
		"CN=alice bob,O=ORGA":                  "CN=alice bob,O=ORGA",
		`CN=alice\, bob`:                       `CN=alice\, bob`,
		`CN=alice\2C bob`:                      `CN=alice\, bob`,
		`CN=\ alice\ `:                         `CN=\ alice\ `,
		`CN=\#1`:                               `CN=\#1`,
		`CN=1#`:                                `CN=1#`,
		`CN=a\=b=c`:                            `CN=a=b=c`,
		`CN=J\C3\BCrgen`:                       "CN=Jürgen",
		"CN=Jürgen":                            "CN=Jürgen",
		`CN=a\0Ab`:                             `CN=a\0Ab`,
		"OU=x+CN=y,DC=example,DC=com":          "CN=y+OU=x,DC=example,DC=com",
		"emailAddress=a@b.example,UID=7,S=Any": "EMAILADDRESS=a@b.example,UID=7,ST=Any",
		"2.5.4.3=alice,1.2.3.4=x":              "CN=alice,1.2.3.4=x",
	} {
		got, err := Subject(text)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
		if again, err := Subject(got); err != nil || again != got {
			t.Errorf("%q once more: %q, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "alice", "CN", "CN=", "=alice", "CN=alice,", ",CN=alice", "CN=alice+", "XX=alice", "/O=ORGA/CN=alice",
		`CN=alice\`, `CN=al\ice`, `CN="alice"`, "CN=a;O=b", "CN=#0403666f6f", `CN=\C3`, "CN=\xc3", "1.=x", "01.2=x", "CN,O=x=y",
		"CN=" + strings.Repeat("x", MaxText)} {
		if got, err := Subject(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestSAN(t *testing.T) {
	for text, want := range map[string]string{
		"email:Alice@orga.example": "email:Alice@orga.example", "DNS:Host.Orga.Example": "dns:host.orga.example",
		"URI:spiffe://orga/desk": "uri:spiffe://orga/desk",
	} {
		if got, err := SAN(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "email:", "alice@orga.example", "ip:127.0.0.1", "email:a b", "dns:é", "uri:a\x00", "dns:" + strings.Repeat("x", MaxText)} {
		if got, err := SAN(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestKey(t *testing.T) {
	digits := strings.Repeat("5F0c", 16)
	if got, err := Key("sha256:" + digits); err != nil || got != "sha256:"+strings.ToLower(digits) {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", digits, "sha256:" + digits[:62], "sha256:" + digits + "00", "sha256:x" + digits[1:], "sha1:" + digits} {
		if got, err := Key(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func certificate(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "desk"}, NotAfter: time.Now()}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func value(oid asn1.ObjectIdentifier, v any) pkix.RelativeDistinguishedNameSET {
	return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: v}}
}

func TestOf(t *testing.T) {
	cn, o := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}
	raw := func(tag int, b string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(b)} }
	for _, c := range []struct {
		subject pkix.RDNSequence
		want    string
	}{
		{pkix.RDNSequence{value(o, "ORGA"), value(cn, "alice")}, "CN=alice,O=ORGA"},
		{pkix.RDNSequence{value(cn, "alice"), value(o, "ORGA")}, "O=ORGA,CN=alice"},
		{pkix.RDNSequence{value(cn, raw(asn1.TagUTF8String, "alice"))}, "CN=alice"},
		{pkix.RDNSequence{value(cn, raw(asn1.TagIA5String, "alice"))}, "CN=alice"},
		{pkix.RDNSequence{value(cn, raw(asn1.TagBMPString, "\x00a\x00l"))}, "CN=al"},
		{pkix.RDNSequence{value(cn, "alice,O=ORGA")}, `CN=alice\,O=ORGA`},
		{pkix.RDNSequence{value(cn, "a\x00b")}, `CN=a\00b`},
		{pkix.RDNSequence{value(asn1.ObjectIdentifier{1, 2, 3}, "x")}, "1.2.3=x"},
		{pkix.RDNSequence{{{Type: o, Value: "x"}, {Type: cn, Value: "y"}}}, "CN=y+O=x"},
		{pkix.RDNSequence{value(cn, 7)}, ""},
		{pkix.RDNSequence{value(cn, raw(asn1.TagOctetString, "alice"))}, ""},
		{pkix.RDNSequence{value(cn, strings.Repeat("x", 600))}, ""},
		{nil, ""},
	} {
		der, err := asn1.Marshal(c.subject)
		if err != nil {
			t.Fatal(err)
		}
		if got := subjectOf(der); got != c.want {
			t.Errorf("%v: %q, want %q", c.subject, got, c.want)
		}
		if c.want != "" {
			if got, err := Subject(c.want); err != nil || got != c.want {
				t.Errorf("%q: %q, %v", c.want, got, err)
			}
		}
	}
	c := certificate(t, func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses = []string{"Desk.Orga.Example", "b"}, []string{"Alice@orga.example"}
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "orga", Path: "/desk"}}
	})
	n := Of(c)
	if n.Subject != "CN=desk" {
		t.Errorf("%q", n.Subject)
	}
	want := []string{"dns:desk.orga.example", "dns:b", "email:Alice@orga.example", "uri:spiffe://orga/desk"}
	if !slices.Equal(n.SANs, want) {
		t.Errorf("%q, want %q", n.SANs, want)
	}
	if key, err := Key(n.Key); err != nil || key != n.Key {
		t.Errorf("%q, %v", n.Key, err)
	}
}

// A subject that is accepted means what its text means, and no two that differ have the
// same text: what is between the separators comes out again.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"CN=alice,O=ORGA", `CN=a\,b + OU=\20x`, "1.2.3=x,DC=y", `CN=\C3\BC`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Subject(text)
		if err != nil {
			return
		}
		if again, err := Subject(got); err != nil || again != got || len(got) > MaxText {
			t.Fatalf("%q: %q, then %q, %v", text, got, again, err)
		}
		// The same name in DER has the same text.
		var name pkix.RDNSequence
		for rest, end := got, byte(','); end != 0; {
			var rdn pkix.RelativeDistinguishedNameSET
			for end = '+'; end == '+'; {
				var a attribute
				if a, rest, end, err = cutAttribute(rest); err != nil {
					t.Fatal(err)
				}
				rdn = append(rdn, pkix.AttributeTypeAndValue{Type: oidOf(t, a.name), Value: a.value})
			}
			name = append(name, rdn)
		}
		slices.Reverse(name)
		der, err := asn1.Marshal(name)
		if err != nil {
			return // a number that is none
		}
		if again := subjectOf(der); again != got {
			t.Fatalf("%q has the text %q in DER", got, again)
		}
	})
}

func oidOf(t *testing.T, name string) (oid asn1.ObjectIdentifier) {
	for _, k := range types {
		if k.names == name || strings.HasPrefix(k.names, name+" ") {
			name = k.oid
		}
	}
	for _, arc := range strings.Split(name, ".") {
		n, ok := new(big.Int).SetString(arc, 10)
		if !ok || !n.IsInt64() {
			t.Skip()
		}
		oid = append(oid, int(n.Int64()))
	}
	return oid
}
