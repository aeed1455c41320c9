package chain_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/roles/auth/chain"
	. "gatehouse/roles/auth/cms/cmstest"
)

func approved(t testing.TB, text ...[]byte) *chain.Approved { return withLists(t, text, nil) }

func withLists(t testing.TB, text, lists [][]byte) *chain.Approved {
	t.Helper()
	l, errs := chain.ReadLists(bytes.Join(lists, nil), nil)
	if errs != nil {
		t.Fatal(errs)
	}
	a, err := chain.New(bytes.Join(text, nil), l)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// check wants a certificate accepted (0, vouched), or refused.
func check(t *testing.T, name string, a *chain.Approved, want error, leaf *Holder, others ...*Holder) {
	t.Helper()
	vouched, err := a.Check(leaf.Certificate, plain(others), time.Now())
	if err != want || vouched != (want == nil) {
		t.Errorf("%s: %v, %v, want %v", name, vouched, err, want)
	}
}

func plain(holders []*Holder) (list []*x509.Certificate) {
	for _, h := range holders {
		list = append(list, h.Certificate)
	}
	return list
}

func dates(from, until time.Duration) Change {
	return func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(until)
	}
}

// Any key of the chain may be the approved one.
func TestApproved(t *testing.T) {
	root := Root("root", Key("p256"))
	middle := root.Authority("middle", NewKey("p256"))
	low := middle.Authority("low", NewKey("ed25519"))
	leaf := low.Client("alice", Key("rsa2048"))
	stranger := Root("root", NewKey("p256")) // by the same name
	for _, c := range []struct {
		name     string
		approved []byte
		others   []*Holder
		want     error
	}{
		{"root", root.PEM(), []*Holder{middle, low}, nil},
		{"root, all sent", root.PEM(), []*Holder{root, middle, low}, nil},
		{"root, in another order", root.PEM(), []*Holder{low, root, middle}, nil},
		{"in the middle", middle.PEM(), []*Holder{low}, nil},
		{"in the middle, all sent", middle.PEM(), []*Holder{low, middle, root}, nil},
		{"the lowest", low.PEM(), nil, nil},
		{"the leaf", leaf.PEM(), nil, nil},
		{"the leaf and another's", slices.Concat(stranger.PEM(), leaf.PEM()), nil, nil},
		{"key of root", root.PublicPEM(), []*Holder{middle, low}, nil},
		{"key of root, all sent", root.PublicPEM(), []*Holder{low, middle, root}, nil},
		{"key in the middle", middle.PublicPEM(), []*Holder{low}, nil},
		{"key in the middle, all sent", middle.PublicPEM(), []*Holder{low, middle, root}, nil},
		{"key of the lowest", low.PublicPEM(), nil, nil},

		{"nothing", nil, []*Holder{low, middle, root}, chain.Unapproved},
		{"another root of that name", stranger.PEM(), []*Holder{low, middle, root}, chain.Unapproved},
		{"key of another root", stranger.PublicPEM(), []*Holder{low, middle, root}, chain.Unapproved},
		{"a link is missing", root.PEM(), []*Holder{middle}, chain.Unapproved},
		{"a link is missing to a key", root.PublicPEM(), []*Holder{low}, chain.Unapproved},
	} {
		check(t, c.name, approved(t, c.approved), c.want, leaf, c.others...)
	}
	// A sibling of an approved leaf is nobody.
	check(t, "sibling", approved(t, leaf.PEM()), chain.Unapproved, low.Client("bob", NewKey("p256")), low, middle, root)
	// A leaf that an approved leaf has signed, which is no authority.
	check(t, "by a leaf", approved(t, leaf.PEM()), chain.Unapproved, leaf.Client("bob", NewKey("p256")))
	check(t, "by a leaf of an approved root", approved(t, root.PEM()), chain.Unapproved, leaf.Client("bob", NewKey("p256")), leaf, low, middle)
	check(t, "self-signed", approved(t, root.PEM()), chain.Unapproved, Alone("alice", NewKey("p256")))
	check(t, "self-signed and approved", approved(t, leaf.PEM(), root.PEM()), chain.Unapproved, Alone("alice", leaf.Key))
}

// By its own bare key a leaf is known, but not by what else it says.
func TestOwnKey(t *testing.T) {
	leaf := Alone("alice", NewKey("p256"))
	a := approved(t, leaf.PublicPEM())
	for _, l := range []*Holder{leaf, Alone("root of all evil", leaf.Key)} {
		if vouched, err := a.Check(l.Certificate, nil, time.Now()); err != nil || vouched {
			t.Errorf("%v: %v, %v", l.Subject, vouched, err)
		}
	}
	check(t, "expired", a, chain.Expired, Alone("alice", leaf.Key, dates(-2*time.Hour, -time.Hour)))
	check(t, "certificate and key", approved(t, leaf.PublicPEM(), leaf.PEM()), nil, leaf)
	root := Root("root", NewKey("p256"))
	check(t, "vouched for as well", approved(t, leaf.PublicPEM(), root.PEM()), nil, root.Client("alice", leaf.Key))
	// One whose own key is approved is no authority but of the key.
	if vouched, err := a.Check(leaf.Client("bob", NewKey("p256")).Certificate, nil, time.Now()); err != nil || !vouched {
		t.Errorf("signed by an approved key: %v, %v", vouched, err)
	}
}

// What a certificate must say, at every place of the chain.
func TestRefused(t *testing.T) {
	root := Root("root", Key("p256"))
	a := approved(t, root.PEM())
	key := Key("p256")
	usage := func(u x509.KeyUsage, e ...x509.ExtKeyUsage) Change {
		return func(c *x509.Certificate) { c.KeyUsage, c.ExtKeyUsage = u, e }
	}
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name   string
		change Change
		want   error
	}{
		{"expired", dates(-day, -time.Second), chain.Expired},
		{"not yet valid", dates(time.Minute, day), chain.NotYetValid},
		{"for servers", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageServerAuth), chain.Usage},
		{"for mail", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageEmailProtection), chain.Usage},
		{"for anything", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageAny), chain.Usage},
		{"for nothing in particular", usage(x509.KeyUsageDigitalSignature), chain.Usage},
		{"to encrypt keys", usage(x509.KeyUsageKeyEncipherment, x509.ExtKeyUsageClientAuth), chain.Usage},
		{"to sign what is kept", usage(x509.KeyUsageContentCommitment, x509.ExtKeyUsageClientAuth), chain.Usage},
		{"no key usage", usage(0, x509.ExtKeyUsageClientAuth), chain.Usage},
		{"critical extension", critical, chain.Constraint},
		{"clients and servers", usage(x509.KeyUsageDigitalSignature, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth), nil},
	} {
		check(t, c.name, a, c.want, root.Client("alice", key, c.change))
	}
	check(t, "RSA 1024", a, chain.Weak, root.Client("alice", Key("rsa1024")))
	check(t, "P-224", a, chain.Weak, root.Client("alice", Key("p224")))
	pathLen := func(n int) Change {
		return func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }
	}
	for _, c := range []struct {
		name   string
		key    crypto.Signer
		change Change
		want   error
	}{
		{"good", NewKey("p256"), func(*x509.Certificate) {}, nil},
		{"authority expired", NewKey("p256"), dates(-day, -time.Second), chain.Expired},
		{"authority not yet valid", NewKey("p256"), dates(time.Minute, day), chain.NotYetValid},
		{"no authority", NewKey("p256"), func(c *x509.Certificate) { c.IsCA = false }, chain.Unapproved},
		{"not to sign certificates", NewKey("p256"), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, chain.Unapproved},
		{"authority for servers", NewKey("p256"), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, chain.Usage},
		{"critical extension above", NewKey("p256"), critical, chain.Constraint},
		{"authority of 1024 bits", Key("rsa1024"), func(*x509.Certificate) {}, chain.Weak},
		{"room for none", NewKey("p256"), pathLen(0), nil},
		{"another's names", NewKey("p256"), func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"orgb.example"}, true
		}, chain.Constraint},
		{"these names excluded", NewKey("p256"), func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"orga.example"} }, chain.Constraint},
		{"its names", NewKey("p256"), func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"orga.example"} }, nil},
	} {
		middle := root.Authority("middle", c.key, c.change)
		leaf := middle.Client("alice", key, func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = []string{"alice.orga.example"}, []string{"alice@orga.example"}
		})
		check(t, c.name, a, c.want, leaf, middle)
	}
	short := root.Authority("short", NewKey("p256"), pathLen(0))
	below := short.Authority("below", NewKey("p256"))
	check(t, "longer than the path may be", a, chain.Constraint, below.Client("alice", key), below, short)
	// An approved certificate binds, a bare key does not.
	check(t, "longer than an approved one has it", approved(t, short.PEM()), chain.Constraint, below.Client("alice", key), below, short)
	check(t, "the same by its key", approved(t, short.PublicPEM()), nil, below.Client("alice", key), below, short)
	old := Root("old", NewKey("p256"), dates(-day, -time.Hour))
	check(t, "approved one expired", approved(t, old.PEM()), chain.Expired, old.Client("alice", key))
	check(t, "its bare key", approved(t, old.PublicPEM()), nil, old.Client("alice", key), old)
}

// A certificate of which a bit is another one is nobody's.
func TestForged(t *testing.T) {
	root := Root("root", Key("p256"))
	a := approved(t, root.PEM())
	leaf := root.Client("alice", Key("p256"))
	der := bytes.Replace(leaf.Raw, []byte("alice"), []byte("admin"), 1)
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Check(forged, nil, time.Now()); err != chain.Unapproved {
		t.Error(err)
	}
}

// What crypto/x509 would try is bounded, whatever a client sends.
func TestManyLinks(t *testing.T) {
	root := Root("root", Key("p256"))
	var keys [][]byte
	for range chain.MaxKeys {
		keys = append(keys, Root("root", NewKey("p256")).PublicPEM())
	}
	a := approved(t, keys...)
	var others []*Holder
	for range 9 {
		others = append(others, Root("root", NewKey("p256")))
	}
	began := time.Now()
	check(t, "many of one name", a, chain.Unapproved, root.Client("alice", Key("p256")), others...)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("takes %v", d)
	}
	if _, err := chain.New(bytes.Join(append(keys, root.PublicPEM()), nil), chain.Lists{}); err == nil {
		t.Error("more bare keys than there may be")
	}
}

func TestLists(t *testing.T) {
	root := Root("root", NewKey("p256"))
	middle := root.Authority("middle", NewKey("rsa2048"))
	leaf, bad := middle.Client("alice", Key("p256")), middle.Client("bob", Key("p256"))
	direct := root.Client("carol", Key("p256"))
	other := Root("root", NewKey("p256"))
	date := func(from, until time.Duration) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = time.Now().Add(from), time.Now().Add(until)
		}
	}
	of, above := middle.List(nil, bad), root.List(nil)
	const day = 24 * time.Hour
	for _, c := range []struct {
		name     string
		approved []byte
		lists    [][]byte
		leaf     *Holder
		want     error
	}{
		{"none at all", root.PEM(), nil, bad, nil},
		{"good", root.PEM(), [][]byte{of, above}, leaf, nil},
		{"revoked", root.PEM(), [][]byte{of, above}, bad, chain.Revoked},
		{"only of the middle", root.PEM(), [][]byte{of}, leaf, chain.NoList},
		{"only of the middle, which is approved", middle.PEM(), [][]byte{of}, leaf, nil},
		{"revoked, the middle is approved", middle.PEM(), [][]byte{of}, bad, chain.Revoked},
		{"only of the root", root.PEM(), [][]byte{above}, leaf, chain.NoList},
		{"the middle revoked", root.PEM(), [][]byte{of, root.List(nil, middle)}, leaf, chain.Revoked},
		{"the middle revoked, but approved", middle.PEM(), [][]byte{of, root.List(nil, middle)}, leaf, nil},
		{"expired", root.PEM(), [][]byte{middle.List(date(-day, -time.Second), bad), above}, leaf, chain.NoList},
		{"expired, revoked", root.PEM(), [][]byte{middle.List(date(-day, -time.Second), bad), above}, bad, chain.NoList},
		{"not yet valid", root.PEM(), [][]byte{middle.List(date(time.Minute, day)), above}, leaf, chain.NoList},
		{"an old one, too", root.PEM(), [][]byte{middle.List(date(-day, -time.Hour)), of, above}, leaf, nil},
		{"in one of two", root.PEM(), [][]byte{middle.List(nil), of, above}, bad, chain.Revoked},
		{"by another of that name", root.PEM(), [][]byte{of, other.List(nil)}, leaf, chain.NoList},
		{"directly", root.PEM(), [][]byte{above}, direct, nil},
		{"directly, revoked", root.PEM(), [][]byte{root.List(nil, direct)}, direct, chain.Revoked},
		{"by a bare key", root.PublicPEM(), [][]byte{root.List(nil, direct)}, direct, chain.Revoked},
		{"by a bare key, good", root.PublicPEM(), [][]byte{above, of}, leaf, nil},
		{"approved itself", bad.PEM(), [][]byte{of, above}, bad, nil},
	} {
		check(t, c.name, withLists(t, [][]byte{c.approved}, c.lists), c.want, c.leaf, middle)
	}
}

// Lists that say less than all, or that are signed by what is not accepted, are none.
func TestBadLists(t *testing.T) {
	root := Root("root", NewKey("p256"))
	leaf := root.Client("alice", Key("p256"))
	extension := func(oid ...int) pkix.Extension {
		return pkix.Extension{Id: oid, Critical: true, Value: []byte{0x30, 0}}
	}
	good := root.List(nil)
	sha1 := Root("root", Key("rsa2048")).List(func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.SHA256WithRSA })
	sha1 = asSHA1(sha1)
	lists := map[string][]byte{
		"a part":  root.List(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{extension(2, 5, 29, 28)} }),
		"changes": root.List(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{extension(2, 5, 29, 27)} }),
		"others' entry": root.List(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{extension(2, 5, 29, 29)}
		}, leaf),
		"SHA-1":          sha1,
		"garbage":        pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("garbage")}),
		"a certificate":  root.PEM(),
		"cut":            cut(good),
		"bytes after it": longer(good),
	}
	for name, text := range lists {
		l, errs := chain.ReadLists(text, nil)
		if len(errs) != 1 {
			t.Errorf("%s: %v", name, errs)
		}
		a, err := chain.New(root.PEM(), l)
		if err != nil {
			t.Fatal(err)
		}
		check(t, name, a, chain.NoList, leaf)
	}
}

// A list that cannot be read does not make forgotten what was known, and one that can
// takes its place.
func TestListsChange(t *testing.T) {
	root, other := Root("root", NewKey("p256")), Root("other", NewKey("p256"))
	good, bad := root.Client("alice", Key("p256")), root.Client("bob", Key("p256"))
	read := func(text []byte, before *chain.Approved, n int) *chain.Approved {
		l, errs := chain.ReadLists(text, before)
		if len(errs) != n {
			t.Errorf("%d errors, want %d: %v", len(errs), n, errs)
		}
		a, err := chain.New(slices.Concat(root.PEM(), other.PEM()), l)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := read(slices.Concat(root.List(nil, bad), other.List(nil)), nil, 0)
	second := read(slices.Concat(cut(root.List(nil, bad)), other.List(nil, other)), first, 1)
	check(t, "good", second, nil, good)
	check(t, "bad", second, chain.Revoked, bad)
	third := read(slices.Concat(root.List(nil), other.List(nil)), second, 0)
	check(t, "bad, no longer", third, nil, bad)
	fourth := read(slices.Concat(root.List(nil, good), cut(other.List(nil))), third, 1)
	check(t, "good, no longer", fourth, chain.Revoked, good)
	fifth := read(other.List(nil), fourth, 0)
	check(t, "its list is gone", fifth, chain.NoList, good)
}

func cut(text []byte) []byte {
	b, _ := pem.Decode(text)
	return pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes[:len(b.Bytes)-1]})
}

func longer(text []byte) []byte {
	b, _ := pem.Decode(text)
	return pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: append(b.Bytes, 0)})
}

// asSHA1 gives a list by RSA the name of another signature: nobody looks at the
// signature of one that is not accepted anyway.
func asSHA1(text []byte) []byte {
	b, _ := pem.Decode(text)
	der := bytes.ReplaceAll(b.Bytes, OID(1, 2, 840, 113549, 1, 1, 11), OID(1, 2, 840, 113549, 1, 1, 5))
	return pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: der})
}

func TestNew(t *testing.T) {
	root := Root("root", Key("p256"))
	for name, text := range map[string][]byte{
		"private key": root.KeyPEM(), "list": root.List(nil), "RSA 1024": Root("weak", Key("rsa1024")).PEM(),
		"weak bare key": Root("weak", Key("p224")).PublicPEM(), "damaged": cut(root.PEM()), "damaged key": cut(root.PublicPEM()),
	} {
		if _, err := chain.New(slices.Concat(root.PEM(), text), chain.Lists{}); err == nil || !strings.Contains(err.Error(), "block 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	root := Root("root", Key("p256"))
	middle := root.Authority("middle", NewKey("p256"))
	leaf := middle.Client("alice", Key("rsa2048"))
	for name, a := range map[string]*chain.Approved{
		"certificate": approved(b, root.PEM()), "key": approved(b, root.PublicPEM()),
		"lists": withLists(b, [][]byte{middle.PEM()}, [][]byte{middle.List(nil)}),
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				_, _ = a.Check(leaf.Certificate, plain([]*Holder{middle}), time.Now())
			}
		})
	}
}
