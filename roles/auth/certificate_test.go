package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/certname"
	. "gatehouse/roles/auth/cms/cmstest"
	"gatehouse/tickets"
)

// certs are the authorities and clients of the tests.
type certs struct {
	root, middle, stranger *Holder
	pinned                 *Holder // its bare key is approved
	users                  []privsep.User
}

func newCerts() *certs {
	c := &certs{root: Root("root", Key("p256")), stranger: Root("root", NewKey("p256")), pinned: Alone("carol", NewKey("ed25519"))}
	c.middle = c.root.Authority("middle", Key("p384"))
	named := func(n int, name, subject, san, key string) {
		c.users = append(c.users, privsep.User{Mark: uint64(n), Name: name, Organisation: "ORGA", Profile: "desk", Subject: subject, SAN: san, Key: key})
	}
	named(11, "alice", "CN=alice,O=ORGA", "", "")
	named(12, "bob", "", "email:bob@orga.example", "")
	named(13, "carol", "", "", certname.Of(c.pinned.Certificate).Key)
	named(14, "dave", "CN=dave,O=ORGA", "", certname.Of(c.client("dave").Certificate).Key)
	named(15, "erin", "CN=erin,O=ORGA", "uri:spiffe://orga/erin", "")
	named(16, "frank", "CN=frank,O=ORGA", "", "")
	named(17, "frank's other", "", "dns:frank.orga.example", "")
	c.users = append(c.users, privsep.User{Mark: 18, Name: "grace", Password: horse})
	return c
}

func (c *certs) client(name string, changes ...Change) *Holder {
	return c.middle.Client(name, Key("p256"), changes...)
}

// approval is what auth gets of them.
func (c *certs) approval(t testing.TB, lists ...[]byte) (m privsep.Approval, parcel []byte) {
	t.Helper()
	approved, list := slices.Concat(c.root.PEM(), c.pinned.PublicPEM()), bytes.Join(lists, nil)
	return privsep.Approval{Number: 1, Mark: 500, Approved: uint32(len(approved)), Lists: uint32(len(list))}, slices.Concat(approved, list)
}

func (c *certs) rig(t *testing.T, lists ...[]byte) *rig {
	return newRig(t, c.users, func(set *privsep.Setup) {
		m, parcel := c.approval(t, lists...)
		set.Settings.Environment = "orga"
		set.Approval = &privsep.ApprovalText{Approval: m, ApprovedPEM: parcel[:m.Approved], ListsPEM: parcel[m.Approved:]}
	})
}

// approve gives auth another approval while it runs.
func (g *rig) approve(m privsep.Approval, parcel []byte) {
	g.t.Helper()
	fd, err := privsep.Parcel("test", parcel)
	must(g.t, err)
	must(g.t, g.parent.SendWait(patience, privsep.KindApproval, m.Append(nil), fd))
	privsep.CloseFD(fd)
}

// ask is login with all that a LOGIN can say.
func (g *rig) ask(l privsep.Login) privsep.Verdict {
	g.t.Helper()
	g.tries++
	l.Try, l.ID = g.tries, uint64(g.tries)<<10
	if l.Addr == ([16]byte{}) {
		l.Addr = addr(1)
	}
	must(g.t, g.router.SendWait(patience, privsep.KindLogin, l.Append(nil)))
	return g.next()
}

// content is what must be signed.
func content() []byte { return tickets.AuthContent("orga", challenge) }

// proves is the CONNECT of a client with a signature, as nats.go writes it.
func proves(user string, der []byte) []byte {
	b, _ := json.Marshal(map[string]string{"jwt": "x509", "user": user, "sig": base64.RawURLEncoding.EncodeToString(der)})
	return b
}

// altered is a message that is signed anew after it has been changed.
func altered(m *Message, change func(*Message, *Signer)) []byte {
	change(m, m.Signers[0])
	m.Signers[0].Sign()
	return m.DER()
}

// Each way in which a signature or a certificate is right or wrong, and its reason.
func TestX509Verdicts(t *testing.T) {
	c := newCerts()
	carol := c.client("carol") // by name only
	list := func(l *x509.RevocationList) {}
	revoked, middleRevoked := c.client("alice"), c.root.Authority("middle", Key("p384"))
	g := c.rig(t, c.middle.List(list, revoked), c.root.List(list, middleRevoked))
	const ok = privsep.ReasonNone
	day := 24 * time.Hour
	dates := func(from, until time.Duration) Change {
		return func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until)
		}
	}
	usage := func(k x509.KeyUsage, e ...x509.ExtKeyUsage) Change {
		return func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = k, e }
	}
	mail := func(address string) Change { return func(c *x509.Certificate) { c.EmailAddresses = []string{address} } }
	uri := func(u string) Change {
		return func(c *x509.Certificate) {
			parsed, err := url.Parse(u)
			must(t, err)
			c.URIs = []*url.URL{parsed}
		}
	}
	good := func(h *Holder) []byte { return New(content(), h, c.middle).DER() }
	short := c.root.Authority("short", Key("p384"), func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := short.Authority("below", Key("p256"))
	alice := c.client("alice")
	hash := func(h crypto.Hash, digest, scheme []byte) func(*Message, *Signer) {
		return func(m *Message, s *Signer) {
			s.Digest, s.Scheme, s.Options = Sequence(digest), scheme, h
			m.Digests = Set(s.Digest)
			s.Attrs = SetOf(Attribute(ContentType, Data), Attribute(MessageDigest, Octets(Sum(h, content()))))
		}
	}
	rsa := c.middle.Client("alice", Key("rsa2048"))
	withoutAttributes := New(content(), alice, c.middle)
	withoutAttributes.Signers[0].Attrs = nil
	withoutAttributes.Signers[0].SignThis(content())
	unsigned := New(content(), alice, c.middle)
	unsigned.Signers[0].Signature[8] ^= 1
	for i, v := range []struct {
		name string
		json []byte
		want privsep.Reason
		user string
	}{
		{"by subject", proves("", good(alice)), ok, "alice"},
		{"and name", proves("alice", good(alice)), ok, "alice"},
		{"by another key", proves("", good(c.middle.Client("alice", Key("p521")))), ok, "alice"},
		{"RSA", proves("", New(content(), rsa, c.middle).DER()), ok, "alice"},
		{"by mail address", proves("", good(c.client("whoever", mail("bob@orga.example")))), ok, "bob"},
		{"by its own key", proves("", New(content(), c.pinned).DER()), ok, "carol"},
		{"by its own key, whatever it says", proves("", New(content(), Alone("alice", c.pinned.Key)).DER()), ok, "carol"},
		{"by subject and key", proves("", good(c.client("dave"))), ok, "dave"},
		{"by subject and URI", proves("", good(c.client("erin", uri("spiffe://orga/erin")))), ok, "erin"},
		{"one of two", proves("frank", good(c.client("frank", func(c *x509.Certificate) { c.DNSNames = []string{"frank.orga.example"} }))), ok, "frank"},
		{"the other one", proves("frank's other", good(c.client("frank", func(c *x509.Certificate) { c.DNSNames = []string{"frank.orga.example"} }))), ok, "frank's other"},
		{"standard base 64", []byte(`{"jwt":"x509","sig":"` + base64.StdEncoding.EncodeToString(good(alice)) + `"}`), ok, "alice"},
		{"root among them", proves("", New(content(), alice, c.middle, c.root).DER()), ok, "alice"},

		{"not base 64", []byte(`{"jwt":"x509","sig":"!"}`), privsep.ReasonCMSForm, ""},
		{"nothing", proves("", nil), privsep.ReasonCMSForm, ""},
		{"text", proves("", []byte("x509")), privsep.ReasonCMSForm, ""},
		{"a bare signature", proves("", unsigned.Signers[0].Signature), privsep.ReasonCMSForm, ""},
		{"too large", proves("", make([]byte, 33<<10)), privsep.ReasonCMSForm, ""},
		{"bytes after the end", proves("", append(good(alice), 0)), privsep.ReasonCMSForm, ""},
		{"indefinite length", proves("", slices.Concat([]byte{0x30, 0x80}, good(alice)[4:], []byte{0, 0})), privsep.ReasonCMSForm, ""},
		{"two signers", proves("", altered(New(content(), alice, c.middle), func(m *Message, s *Signer) { m.Signers = append(m.Signers, s) })), privsep.ReasonCMSForm, ""},
		{"attached", proves("", altered(New(content(), alice, c.middle), func(m *Message, _ *Signer) { m.Content = Sequence(Data, Field(0, Octets(content()))) })), privsep.ReasonCMSForm, ""},
		{"unsigned attributes", proves("", altered(New(content(), alice, c.middle), func(_ *Message, s *Signer) { s.Unsigned = Field(1, Attribute(SigningTime, Null)) })), privsep.ReasonCMSForm, ""},
		{"no signed attributes", proves("", withoutAttributes.DER()), privsep.ReasonCMSAttributes, ""},
		{"no message-digest", proves("", altered(New(content(), alice), func(_ *Message, s *Signer) { s.Attrs = SetOf(Attribute(ContentType, Data)) })), privsep.ReasonCMSAttributes, ""},
		{"content of another type", proves("", altered(New(content(), alice), func(_ *Message, s *Signer) {
			s.Attrs = SetOf(Attribute(ContentType, SignedData), Attribute(MessageDigest, Octets(Sum(crypto.SHA256, content()))))
		})), privsep.ReasonCMSAttributes, ""},
		{"SHA-1", proves("", altered(New(content(), rsa, c.middle), hash(crypto.SHA1, SHA1, Sequence(RSA, Null)))), privsep.ReasonCMSAlgorithm, ""},
		{"SHA-224", proves("", altered(New(content(), rsa, c.middle), hash(crypto.SHA224, SHA224, Sequence(RSA, Null)))), privsep.ReasonCMSAlgorithm, ""},
		{"RSA 1024", proves("", New(content(), c.middle.Client("alice", Key("rsa1024")), c.middle).DER()), privsep.ReasonCMSAlgorithm, ""},
		{"no certificate", proves("", altered(New(content(), alice), func(m *Message, _ *Signer) { m.Certs = nil })), privsep.ReasonCMSCertificates, ""},
		{"another's certificate", proves("", altered(New(content(), alice), func(m *Message, _ *Signer) { m.Certs = Field(0, rsa.Raw) })), privsep.ReasonCMSCertificates, ""},
		{"a certificate twice", proves("", New(content(), alice, alice).DER()), privsep.ReasonCMSCertificates, ""},
		{"another environment", proves("", New(tickets.AuthContent("orgb", challenge), alice, c.middle).DER()), privsep.ReasonCMSContent, ""},
		{"another connection's challenge", proves("", New(tickets.AuthContent("orga", tickets.Challenge()), alice, c.middle).DER()), privsep.ReasonCMSContent, ""},
		{"the bare challenge", proves("", New([]byte(challenge), alice, c.middle).DER()), privsep.ReasonCMSContent, ""},
		{"no challenge", proves("", New(tickets.AuthContent("orga", ""), alice, c.middle).DER()), privsep.ReasonCMSContent, ""},
		{"a bit of the signature", proves("", unsigned.DER()), privsep.ReasonCMSSignature, ""},
		{"another's key", proves("", New(content(), &Holder{Certificate: alice.Certificate, Key: NewKey("p256")}, c.middle).DER()), privsep.ReasonCMSSignature, ""},

		{"self-signed", proves("", New(content(), Alone("alice", Key("p256"))).DER()), privsep.ReasonCertificateUnapproved, ""},
		{"unapproved root", proves("", New(content(), c.stranger.Client("alice", Key("p256")), c.stranger).DER()), privsep.ReasonCertificateUnapproved, ""},
		{"a link is missing", proves("", New(content(), alice).DER()), privsep.ReasonCertificateUnapproved, ""},
		{"by another client", proves("", New(content(), alice.Client("alice", Key("p384")), alice, c.middle).DER()), privsep.ReasonCertificateUnapproved, ""},
		{"expired", proves("", good(c.client("alice", dates(-day, -time.Minute)))), privsep.ReasonCertificateExpired, ""},
		{"not yet valid", proves("", good(c.client("alice", dates(time.Minute, day)))), privsep.ReasonCertificateNotYetValid, ""},
		{"its authority expired", proves("", func() []byte {
			old := c.root.Authority("old", Key("p384"), dates(-day, -time.Minute))
			return New(content(), old.Client("alice", Key("p256")), old).DER()
		}()), privsep.ReasonCertificateExpired, ""},
		{"for servers", proves("", good(c.client("alice", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageServerAuth)))), privsep.ReasonCertificateUsage, ""},
		{"for nothing", proves("", good(c.client("alice", usage(x509.KeyUsageDigitalSignature)))), privsep.ReasonCertificateUsage, ""},
		{"not for signing", proves("", good(c.client("alice", usage(x509.KeyUsageKeyAgreement, x509.ExtKeyUsageClientAuth)))), privsep.ReasonCertificateUsage, ""},
		{"longer than it may be", proves("", New(content(), below.Client("alice", Key("p256")), below, short).DER()), privsep.ReasonCertificateConstraint, ""},
		{"critical extension", proves("", good(c.client("alice", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}))), privsep.ReasonCertificateConstraint, ""},
		{"authority of 1024 bits", proves("", func() []byte {
			weak := c.root.Authority("weak", Key("rsa1024"))
			return New(content(), weak.Client("alice", Key("p256")), weak).DER()
		}()), privsep.ReasonCertificateKey, ""},
		{"revoked", proves("", good(revoked)), privsep.ReasonCertificateRevoked, ""},
		{"its authority revoked", proves("", New(content(), middleRevoked.Client("alice", Key("p256")), middleRevoked).DER()), privsep.ReasonCertificateRevoked, ""},
		{"no list of its issuer", proves("", func() []byte {
			other := c.root.Authority("other", Key("p384"))
			return New(content(), other.Client("alice", Key("p256")), other).DER()
		}()), privsep.ReasonCertificateNoList, ""},
		{"nobody's", proves("", good(c.client("mallory"))), privsep.ReasonCertificateNobody, ""},
		{"a subject that only looks like it", proves("", good(c.client("alice,O=ORGA"))), privsep.ReasonCertificateNobody, ""},
		{"another organisation", proves("", good(c.client("alice", func(c *x509.Certificate) { c.Subject.Organization = []string{"ORGB"} }))), privsep.ReasonCertificateNobody, ""},
		{"another mail address", proves("", good(c.client("bob", mail("Bob@orga.example")))), privsep.ReasonCertificateNobody, ""},
		{"the name without the key", proves("", good(carol)), privsep.ReasonCertificateNobody, ""},
		{"subject without the key", proves("", good(c.middle.Client("dave", Key("p384")))), privsep.ReasonCertificateNobody, ""},
		{"subject without the URI", proves("", good(c.client("erin", uri("spiffe://orga/other")))), privsep.ReasonCertificateNobody, ""},
		{"URI without the subject", proves("", good(c.client("other", uri("spiffe://orga/erin")))), privsep.ReasonCertificateNobody, ""},
		{"says he is another", proves("bob", good(alice)), privsep.ReasonCertificateNobody, ""},
		{"says he is one without certificate", proves("grace", good(alice)), privsep.ReasonCertificateNobody, ""},
		{"of two", proves("", good(c.client("frank", func(c *x509.Certificate) { c.DNSNames = []string{"frank.orga.example"} }))), privsep.ReasonCertificateAmbiguous, ""},
	} {
		got := g.ask(privsep.Login{Addr: addr(byte(i + 1)), Challenge: challenge, JSON: v.json})
		if got.Reason != v.want || got.User != v.user || got.Credential != privsep.CredentialX509 {
			t.Errorf("%s: %v, user %q, kind %v, want %v", v.name, got.Reason, got.User, got.Credential, v.want)
		}
		if got.OK && !slices.ContainsFunc(c.users, func(u privsep.User) bool {
			return u.Name == v.user && got.Mark == privsep.MarkThrough(u.Mark, 500) && got.Organisation == u.Organisation && got.Profile == u.Profile
		}) {
			t.Errorf("%s: %+v", v.name, got)
		}
	}
	if got := g.ask(privsep.Login{Addr: addr(200), JSON: proves("", good(alice))}); got.Reason != privsep.ReasonChallengeUsed {
		t.Errorf("without a challenge: %v", got.Reason)
	}
}

// A certificate of a TLS session is held to the same rules, and counts where the client
// shows nothing else.
func TestTLSVerdicts(t *testing.T) {
	c := newCerts()
	g := c.rig(t)
	chain := func(hs ...*Holder) (der []byte) {
		for _, h := range hs {
			der = append(der, h.Raw...)
		}
		return der
	}
	alice := c.client("alice")
	for _, v := range []struct {
		name  string
		json  string
		chain []byte
		kind  privsep.Credential
		want  privsep.Reason
		user  string
	}{
		{"alone", `{}`, chain(alice, c.middle), privsep.CredentialTLS, privsep.ReasonNone, "alice"},
		{"with its root", `{}`, chain(alice, c.middle, c.root), privsep.CredentialTLS, privsep.ReasonNone, "alice"},
		{"by its own key", `{}`, chain(c.pinned), privsep.CredentialTLS, privsep.ReasonNone, "carol"},
		{"a password beside it", `{"user":"grace","pass":"horse"}`, chain(alice, c.middle), privsep.CredentialPassword, privsep.ReasonNone, "grace"},
		{"a wrong one", `{"user":"grace","pass":"mule"}`, chain(alice, c.middle), privsep.CredentialPassword, privsep.ReasonWrongPassword, ""},
		{"a signature beside it", string(proves("", New(content(), c.client("dave"), c.middle).DER())), chain(alice, c.middle), privsep.CredentialX509, privsep.ReasonNone, "dave"},
		{"nobody's", `{}`, chain(c.client("mallory"), c.middle), privsep.CredentialTLS, privsep.ReasonCertificateNobody, ""},
		{"unapproved", `{}`, chain(c.stranger.Client("alice", Key("p256"))), privsep.CredentialTLS, privsep.ReasonCertificateUnapproved, ""},
		{"without its authority", `{}`, chain(alice), privsep.CredentialTLS, privsep.ReasonCertificateUnapproved, ""},
		{"for servers", `{}`, chain(c.client("alice", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), c.middle), privsep.CredentialTLS, privsep.ReasonCertificateUsage, ""},
		{"garbage", `{}`, []byte("garbage"), privsep.CredentialTLS, privsep.ReasonCMSCertificates, ""},
		{"many", `{}`, chain(alice, alice, alice, alice, alice, alice, alice, alice, alice, alice, alice), privsep.CredentialTLS, privsep.ReasonCMSCertificates, ""},
		{"none", `{}`, nil, privsep.CredentialNone, privsep.ReasonNoCredential, ""},
	} {
		got := g.ask(privsep.Login{TLS: true, Challenge: challenge, Chain: v.chain, JSON: []byte(v.json)})
		if got.Reason != v.want || got.User != v.user || got.Credential != v.kind {
			t.Errorf("%s: %v, user %q, kind %v, want %v", v.name, got.Reason, got.User, got.Credential, v.want)
		}
	}
}

// Where nobody may vouch for certificates there are none.
func TestX509NotConfigured(t *testing.T) {
	c := newCerts()
	g := newRig(t, people(t), nil)
	if v := g.ask(privsep.Login{Challenge: challenge, JSON: proves("", New(content(), c.client("alice"), c.middle).DER())}); v.Reason != privsep.ReasonNotConfigured {
		t.Errorf("%v", v.Reason)
	}
	if v := g.ask(privsep.Login{TLS: true, Challenge: challenge, Chain: c.client("alice").Raw, JSON: []byte("{}")}); v.Reason != privsep.ReasonNotConfigured {
		t.Errorf("%v", v.Reason)
	}
}

// What is approved and revoked changes while auth runs: lists at once, the rest with
// the users that go with it.
func TestApprovalChanges(t *testing.T) {
	c := newCerts()
	alice := c.client("alice")
	var list, above []byte
	g := c.rig(t)
	is := func(what string, want privsep.Reason) {
		t.Helper()
		v := g.ask(privsep.Login{Challenge: challenge, JSON: proves("", New(content(), alice, c.middle).DER())})
		if v.Reason != want {
			t.Errorf("%s: %v, want %v", what, v.Reason, want)
		}
	}
	lists := func(number uint32) {
		t.Helper()
		m, parcel := c.approval(t, list, above)
		m.Number = number
		g.approve(m, parcel)
		g.stats()
	}
	is("first", privsep.ReasonNone)
	list, above = c.middle.List(nil), c.root.List(nil)
	lists(2)
	is("with lists", privsep.ReasonNone)
	list = c.middle.List(nil, alice)
	lists(3)
	is("revoked", privsep.ReasonCertificateRevoked)
	good := list
	list = bytes.Replace(good, []byte("\n"), []byte("\nAAAA"), 1)
	g.lines = nil
	lists(4)
	is("revoked by a list that cannot be read any more", privsep.ReasonCertificateRevoked)
	if !slices.ContainsFunc(g.lines, func(l privsep.LogLine) bool { return strings.HasPrefix(text(&l), "error revocation list not read") }) {
		t.Error("no word of it")
	}
	list = c.middle.List(nil, c.client("bob"))
	lists(5)
	is("not revoked any more", privsep.ReasonNone)
	list = nil
	lists(6)
	is("without a list", privsep.ReasonCertificateNoList)

	// Another authority, and the users anew with it.
	list, above = nil, nil
	m, _ := c.approval(t)
	other := c.stranger.PEM()
	m.Number, m.Mark, m.Approved, m.Soon = 7, 501, uint32(len(other)), true
	lists(6)
	g.approve(m, other)
	g.stats()
	is("nothing else yet", privsep.ReasonNone)
	g.users(9, c.users)
	g.stats()
	is("another authority", privsep.ReasonCertificateUnapproved)
	alice, c.middle = c.stranger.Client("alice", Key("p256")), c.stranger
	v := g.ask(privsep.Login{Challenge: challenge, JSON: proves("", New(content(), alice).DER())})
	if !v.OK || v.Mark != privsep.MarkThrough(11, 501) {
		t.Errorf("%+v", v)
	}
	g.approve(privsep.Approval{Number: 8, Soon: true}, nil)
	g.users(10, c.users)
	g.stats()
	is("nobody", privsep.ReasonNotConfigured)
}

// The log says whose certificate it is and what is wrong, and nothing that was sent
// without being looked at.
func TestX509Lines(t *testing.T) {
	c := newCerts()
	g := c.rig(t)
	alice := c.client("alice")
	for _, json := range [][]byte{
		proves("", New(content(), alice, c.middle).DER()),
		proves("al\nice", append(New(content(), alice, c.middle).DER(), 0)),
		proves("", New(nil, c.client("mal\nlory"), c.middle).DER()),
		proves("", New(content(), c.client("mallory"), c.middle).DER()),
	} {
		g.ask(privsep.Login{Challenge: challenge, JSON: json})
	}
	g.stats()
	want := []string{
		"info login cid=1024 addr=192.0.2.1 kind=x509 user=alice subject=\"CN=alice,O=ORGA\"",
		`warn login refused cid=2048 addr=192.0.2.1 kind=x509 user="al\nice" err="cms: bytes after the end" reason=cms_form`,
		`warn login refused cid=3072 addr=192.0.2.1 kind=x509 subject="CN=mal\\0Alory,O=ORGA" err="cms: something else was signed" reason=cms_content`,
		`warn login refused cid=4096 addr=192.0.2.1 kind=x509 subject="CN=mallory,O=ORGA" reason=certificate_nobody`,
	}
	for i, l := range g.lines {
		if i >= len(want) || text(&l) != want[i] {
			t.Errorf("line %d: %s", i, text(&l))
		}
	}
	if len(g.lines) != len(want) {
		t.Errorf("%d lines", len(g.lines))
	}
}

// One whose certificate is no good again and again is not looked at for a while, and
// others of the same address are.
func TestX509Lanes(t *testing.T) {
	c := newCerts()
	g := c.rig(t)
	alice, bad := c.client("alice"), c.client("mallory")
	login := func(h *Holder) privsep.Reason {
		return g.ask(privsep.Login{Challenge: challenge, JSON: proves("", New(content(), h, c.middle).DER())}).Reason
	}
	for range freeFailures {
		if r := login(bad); r != privsep.ReasonCertificateNobody {
			t.Fatal(r)
		}
	}
	if r := login(bad); r != privsep.ReasonBackoff {
		t.Errorf("%v", r)
	}
	if r := login(alice); r != privsep.ReasonNone {
		t.Errorf("%v", r)
	}
}

// A panic of a parser is a no.
func TestSurvive(t *testing.T) {
	check := func(t *attempt) (u *user, reason privsep.Reason) {
		defer survive(t, &u, &reason)
		panic("a bug")
	}
	a := new(attempt)
	if u, reason := check(a); u != nil || reason != privsep.ReasonCMSCertificates || a.err == nil {
		t.Errorf("%v, %v, %v", u, reason, a.err)
	}
}

func BenchmarkX509(b *testing.B) {
	c := newCerts()
	a := &auth{cfg: &privsep.Settings{}}
	m, parcel := c.approval(b)
	a.approve(&privsep.ApprovalText{Approval: m, ApprovedPEM: parcel[:m.Approved]})
	users, err := newUsers(c.users, nil, a.approval)
	must(b, err)
	for _, kind := range []string{"p256", "rsa2048", "ed25519"} {
		t := &attempt{users: users, challenge: challenge, environment: "orga"}
		by := c.middle.Client("alice", Key(kind))
		t.connect.Sig = base64.RawURLEncoding.EncodeToString(New(content(), by, c.middle).DER())
		b.Run(kind, func(b *testing.B) {
			for range b.N {
				if _, reason := checkX509(t); reason != privsep.ReasonNone {
					b.Fatal(reason)
				}
			}
		})
	}
}
