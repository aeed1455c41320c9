package process

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	. "gatehouse/roles/auth/cms/cmstest"
	"gatehouse/tickets"
)

// authorities are whom a broker approves, or not, and what they have signed.
type authorities struct {
	*holders
	low, revoked, bare, unlisted, stale, short, own *Holder
	gone                                            *Holder // a client whose certificate is revoked
}

func newAuthorities(t testing.TB) *authorities {
	a := &authorities{holders: newHolders(t)}
	a.low = a.middle.Authority("low", Key("p256"))
	a.revoked = a.middle.Authority("revoked", Key("p256"))
	a.bare = Root("bare", NewKey("p256"))
	a.unlisted = a.root.Authority("unlisted", NewKey("p256"))
	a.stale = Root("stale", NewKey("p256"))
	a.short = Root("short", NewKey("p256"), func(c *x509.Certificate) { c.MaxPathLenZero = true })
	a.own = Alone("whoever", NewKey("p256"))
	a.gone = a.middle.Client("alice", Key("p256"))
	return a
}

// lines are those of [auth]: all lists are in one file.
func (a *authorities) lines() string {
	list := a.file("lists.crl", a.middle.List(nil, a.gone, a.revoked), a.low.List(nil), a.revoked.List(nil), a.bare.List(nil),
		a.stale.List(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Minute) }))
	return approved(a.file("approved.pem", a.middle.PEM(), a.bare.PublicPEM(), a.unlisted.PEM(), a.stale.PEM(), a.short.PEM(), a.own.PublicPEM()), list)
}

// clients are the lines of [tls]: what its handshake takes is more than what is approved.
func (a *authorities) clients() string {
	return fmt.Sprintf("client_auth = \"request\"\nclient_ca = %q\n", a.file("roots.pem", a.root.PEM()))
}

// pinned is a key by which a user is known.
func (a *authorities) pinned() string {
	return "sha256:" + fmt.Sprintf("%x", Sum(crypto.SHA256, a.own.RawSubjectPublicKeyInfo))
}

// signed is a login by a message, changed as a test likes after it was signed.
func signed(by *Holder, change func(m *Message, content []byte), others ...*Holder) func(string) string {
	return meaning("orgb", "", by, change, others...)
}

// meaning is signed for an environment, as a user.
func meaning(environment, user string, by *Holder, change func(*Message, []byte), others ...*Holder) func(string) string {
	return func(challenge string) string {
		content := tickets.AuthContent(environment, challenge)
		m := New(content, by, others...)
		if change != nil {
			change(m, content)
		}
		return shown(user, m.DER())
	}
}

func shown(user string, der []byte) string {
	return connect(map[string]any{"jwt": "x509", "user": user, "sig": base64.RawURLEncoding.EncodeToString(der)})
}

// rewritten is signed with its bytes changed.
func rewritten(by *Holder, change func(der []byte) []byte) func(string) string {
	return func(challenge string) string {
		return shown("", change(New(tickets.AuthContent("orgb", challenge), by).DER()))
	}
}

// attributes signs others.
func attributes(list func(sum []byte) []byte) func(*Message, []byte) {
	return func(m *Message, content []byte) {
		m.Signers[0].Attrs = list(Octets(Sum(crypto.SHA256, content)))
		m.Signers[0].Sign()
	}
}

// digested signs by another digest.
func digested(hash crypto.Hash, oid []byte) func(*Message, []byte) {
	return func(m *Message, content []byte) {
		s := m.Signers[0]
		s.Digest, s.Options = Sequence(oid), hash
		m.Digests = Set(s.Digest)
		s.Attrs = SetOf(Attribute(ContentType, Data), Attribute(MessageDigest, Octets(Sum(hash, content))))
		s.Sign()
	}
}

// ber gives a message the indefinite length that BER allows.
func ber(der []byte) []byte {
	return append(append([]byte{0x30, 0x80}, der[4:]...), 0, 0)
}

// signatures are attempts by a signature of a certificate's key over the challenge.
func (a *authorities) signatures(b *broker) (all []attempt) {
	add := func(reason, name string, say func(string) string) {
		all = append(all, attempt{name: "x509: " + name, reason: reason, kind: "x509", say: say})
	}
	client := func(changes ...Change) *Holder { return a.middle.Client("alice", Key("p256"), changes...) }
	alice, rsa := client(), a.middle.Client("alice", Key("rsa2048"))

	add("", "approved in the middle", signed(alice, nil))
	add("", "and all of the chain", signed(alice, nil, a.middle, a.root))
	add("", "one lower", signed(a.low.Client("alice", Key("p384")), nil, a.low))
	add("", "by a bare key", signed(a.bare.Client("alice", Key("ed25519")), nil))
	add("", "his own key, whatever it says", meaning("orgb", "bob", a.own, nil))

	add("cms_form", "no base 64", always(connect(map[string]any{"jwt": "x509", "sig": "!"})))
	add("cms_form", "nothing", always(connect(map[string]any{"jwt": "x509"})))
	add("cms_form", "bytes after the end", rewritten(alice, func(der []byte) []byte { return append(der, 0) }))
	add("cms_form", "a byte less", rewritten(alice, func(der []byte) []byte { return der[:len(der)-1] }))
	add("cms_form", "BER", rewritten(alice, ber))
	add("cms_form", "content inside", signed(alice, func(m *Message, content []byte) { m.Content = Sequence(Data, Field(0, Octets(content))) }))
	add("cms_form", "two signers", signed(alice, func(m *Message, _ []byte) { m.Signers = append(m.Signers, m.Signers[0]) }))
	add("cms_form", "unsigned attributes", signed(alice, func(m *Message, _ []byte) { m.Signers[0].Unsigned = Field(1, Attribute(SigningTime, Time(time.Now()))) }))
	add("cms_form", "lists inside", signed(alice, func(m *Message, _ []byte) { m.Lists = Field(1, Sequence()) }))
	add("cms_attributes", "no signed attributes", signed(alice, func(m *Message, content []byte) {
		m.Signers[0].Attrs = nil
		m.Signers[0].SignThis(content)
	}))
	add("cms_attributes", "no content type", signed(alice, attributes(func(sum []byte) []byte { return SetOf(Attribute(MessageDigest, sum)) })))
	add("cms_attributes", "no digest", signed(alice, attributes(func([]byte) []byte { return SetOf(Attribute(ContentType, Data)) })))
	add("cms_attributes", "two digests", signed(alice, attributes(func(sum []byte) []byte {
		return SetOf(Attribute(ContentType, Data), Attribute(MessageDigest, sum, sum))
	})))
	add("cms_attributes", "attributes out of order", signed(alice, attributes(func(sum []byte) []byte {
		return Set(Attribute(MessageDigest, sum), Attribute(ContentType, Data))
	})))
	add("cms_algorithm", "SHA-1", signed(rsa, digested(crypto.SHA1, SHA1)))
	add("cms_algorithm", "SHA-224", signed(rsa, digested(crypto.SHA224, SHA224)))
	add("cms_algorithm", "RSA of 1024 bits", signed(a.middle.Client("alice", Key("rsa1024")), nil))
	add("cms_algorithm", "P-224", signed(a.middle.Client("alice", Key("p224")), nil))
	add("cms_certificates", "no certificates", signed(alice, func(m *Message, _ []byte) { m.Certs = nil }))
	add("cms_certificates", "another's certificate", signed(alice, func(m *Message, _ []byte) { m.Certs = Field(0, a.middle.Raw) }))
	add("cms_certificates", "a certificate twice", signed(alice, nil, a.middle, a.middle))
	add("cms_certificates", "garbage for one", signed(alice, func(m *Message, _ []byte) { m.Certs = Field(0, alice.Raw, Sequence(Data)) }))
	add("cms_content", "another environment", meaning("orga", "", alice, nil))
	add("cms_content", "another connection's challenge", func(string) string { return signed(alice, nil)(b.otherChallenge(a.t)) })
	add("cms_content", "no challenge", func(string) string { return signed(alice, nil)("") })
	add("cms_content", "the bare challenge", func(challenge string) string { return shown("", New([]byte(challenge), alice).DER()) })
	add("cms_signature", "the content signed", signed(alice, func(m *Message, content []byte) { m.Signers[0].SignThis(content) }))
	add("cms_signature", "another's signature", signed(alice, func(m *Message, _ []byte) {
		m.Signers[0].Key = NewKey("p256")
		m.Signers[0].Sign()
	}))
	add("challenge_used", "a second time", func(challenge string) string {
		good := signed(alice, nil)(challenge)
		return good + good
	})
	return append(all, a.certificates()...)
}

// certificates are attempts that prove the key of a certificate that is not accepted.
func (a *authorities) certificates() (all []attempt) {
	add := func(reason, name string, by *Holder, others ...*Holder) {
		all = append(all, attempt{name: "certificate: " + name, reason: reason, kind: "x509", say: signed(by, nil, others...)})
	}
	client := func(changes ...Change) *Holder { return a.middle.Client("alice", Key("p256"), changes...) }
	dates := func(from, until time.Duration) Change {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until) }
	}
	below := func(name string, key crypto.Signer, change Change) (leaf, middle *Holder) {
		middle = a.middle.Authority(name, key, change)
		return middle.Client("alice", Key("p256"), func(c *x509.Certificate) { c.DNSNames = []string{"alice.orga.example"} }), middle
	}
	usage := func(u x509.KeyUsage, e ...x509.ExtKeyUsage) *Holder {
		return client(func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = u, e })
	}
	const day = 24 * time.Hour
	add("certificate_unapproved", "unapproved root", Root("middle", NewKey("p256")).Client("alice", Key("p256")))
	add("certificate_unapproved", "root of an approved one", a.root.Client("alice", Key("p256")), a.root)
	add("certificate_unapproved", "self-signed", Alone("alice", NewKey("p256")))
	add("certificate_unapproved", "a link is missing", a.low.Client("alice", Key("p256")))
	add("certificate_unapproved", "by a client", client().Client("alice", NewKey("p256")), client())
	add("certificate_expired", "expired", client(dates(-day, -time.Minute)))
	leaf, over := below("expired", NewKey("p256"), dates(-day, -time.Minute))
	add("certificate_expired", "expired above", leaf, over)
	add("certificate_not_yet_valid", "not yet valid", client(dates(time.Minute, day)))
	add("certificate_usage", "for servers", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageServerAuth))
	add("certificate_usage", "for anything", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageAny))
	add("certificate_usage", "for nothing in particular", usage(x509.KeyUsageDigitalSignature))
	add("certificate_usage", "to encrypt keys", usage(x509.KeyUsageKeyEncipherment, x509.ExtKeyUsageClientAuth))
	add("certificate_constraint", "critical extension", client(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: Null}}
	}))
	far := a.short.Authority("far", NewKey("p256"))
	add("certificate_constraint", "too long a path", far.Client("alice", Key("p256")), far)
	leaf, over = below("others", NewKey("p256"), func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"orgb.example"}, true
	})
	add("certificate_constraint", "a name that is not allowed", leaf, over)
	leaf, over = below("weak", Key("rsa1024"), func(*x509.Certificate) {})
	add("certificate_key", "a weak key above", leaf, over)
	add("certificate_revoked", "revoked", a.gone)
	add("certificate_revoked", "revoked above", a.revoked.Client("alice", Key("p256")), a.revoked)
	add("certificate_no_list", "an issuer without a list", a.unlisted.Client("alice", Key("p256")))
	add("certificate_no_list", "a list that has expired", a.stale.Client("alice", Key("p256")))
	add("certificate_nobody", "nobody's name", a.middle.Client("mallory", Key("p256")))
	add("certificate_nobody", "another organisation", client(func(c *x509.Certificate) { c.Subject.Organization = []string{"ORGB"} }))
	add("certificate_nobody", "no alternative name", a.middle.Client("erin", Key("p256")))
	add("certificate_ambiguous", "two users", a.middle.Client("frank", Key("p256"), func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses = []string{"frank.orga.example"}, []string{"frank@orga.example"}
	}))
	all = append(all, attempt{name: "certificate: another user", reason: "certificate_nobody", kind: "x509", say: meaning("orgb", "bob", client(), nil)})
	forged, err := x509.ParseCertificate(bytes.Replace(a.middle.Client("mally", Key("p256")).Raw, []byte("mally"), []byte("alice"), 1))
	must(a.t, err)
	add("certificate_unapproved", "a name changed", &Holder{Certificate: forged, Key: Key("p256")})
	return all
}

// handshakes are attempts by a certificate that has been shown in TLS.
func (a *authorities) handshakes() (all []attempt) {
	add := func(reason, name, kind string, fields map[string]any, shows ...*Holder) {
		all = append(all, attempt{name: "TLS: " + name, reason: reason, kind: kind, shows: shows, say: always(connect(fields))})
	}
	alice := a.middle.Client("alice", Key("p256"))
	add("", "certificate", "tls", nil, alice, a.middle)
	add("", "certificate and password", "password", map[string]any{"user": "bob", "pass": "battery"}, alice, a.middle)
	add("wrong_password", "certificate and wrong password", "password", map[string]any{"user": "bob", "pass": "mule"}, alice, a.middle)
	add("certificate_nobody", "nobody's name", "tls", nil, a.middle.Client("mallory", Key("p256")), a.middle)
	add("certificate_usage", "to encrypt keys", "tls", nil,
		a.middle.Client("alice", Key("p256"), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), a.middle)
	add("certificate_unapproved", "of the root", "tls", nil, a.root.Client("alice", Key("p256")), a.root)
	add("certificate_revoked", "revoked", "tls", nil, a.gone, a.middle)
	add("certificate_no_list", "an issuer without a list", "tls", nil, a.unlisted.Client("alice", Key("p256")), a.unlisted)
	add("cms_form", "certificate and a bad signature", "x509", map[string]any{"jwt": "x509", "sig": strings.Repeat("A", 100)}, alice, a.middle)
	return all
}
