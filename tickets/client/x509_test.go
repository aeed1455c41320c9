package client

import (
	"crypto"
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"gatehouse/roles/auth/cms"
	"gatehouse/roles/auth/cms/cmstest"
	"gatehouse/tickets"
)

func loaded(h *cmstest.Holder, others ...*cmstest.Holder) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{h.Raw}, PrivateKey: h.Key}
	for _, o := range others {
		c.Certificate = append(c.Certificate, o.Raw)
	}
	return c
}

// verified is whose message it is.
func verified(t *testing.T, der, content []byte) *cms.Message {
	t.Helper()
	m, err := cms.Parse(der)
	if err == nil {
		err = m.Verify(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What is made here the broker takes, by every kind of key.
func TestSignX509(t *testing.T) {
	root := cmstest.Root("root", cmstest.Key("p256"))
	content := []byte("content")
	for _, kind := range []string{"rsa2048", "rsa3072", "p256", "p384", "p521", "ed25519"} {
		h := root.Client("alice", cmstest.Key(kind))
		cert := loaded(h, root)
		der, err := SignX509(&cert, content)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		m := verified(t, der, content)
		if !m.Signer.Equal(h.Certificate) || len(m.Others) != 1 || !m.Others[0].Equal(root.Certificate) {
			t.Errorf("%s: by %v, beside %d", kind, m.Signer.Subject, len(m.Others))
		}
		if err := m.Verify([]byte("contents")); err == nil {
			t.Errorf("%s: whatever is signed", kind)
		}
	}
}

// opaque is a key that is elsewhere.
type opaque struct{ key crypto.Signer }

func (o opaque) Public() crypto.PublicKey { return o.key.Public() }
func (o opaque) Sign(r io.Reader, b []byte, opts crypto.SignerOpts) ([]byte, error) {
	return o.key.Sign(r, b, opts)
}

func TestX509Certificate(t *testing.T) {
	h := cmstest.Alone("alice", cmstest.NewKey("p256"))
	cert := loaded(h)
	cert.PrivateKey = opaque{h.Key}
	option, err := X509Certificate("orga", cert)
	if err != nil {
		t.Fatal(err)
	}
	var o nats.Options
	if err := option(&o); err != nil {
		t.Fatal(err)
	}
	if jwt, err := o.UserJWT(); jwt != "x509" || err != nil {
		t.Errorf("%q, %v", jwt, err)
	}
	der, err := o.SignatureCB([]byte("challenge"))
	if err != nil {
		t.Fatal(err)
	}
	verified(t, der, tickets.AuthContent("orga", "challenge"))

	other := loaded(h)
	other.PrivateKey = cmstest.NewKey("p256")
	var many []*cmstest.Holder
	for range 60 {
		many = append(many, cmstest.Alone("more", cmstest.Key("rsa3072")))
	}
	for name, v := range map[string]struct {
		cert tls.Certificate
		want string
	}{
		"nothing":          {tls.Certificate{}, "no certificate"},
		"no key":           {tls.Certificate{Certificate: [][]byte{h.Raw}}, "no certificate with a private key"},
		"another's key":    {other, "another certificate's"},
		"no certificate":   {tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: h.Key}, "x509"},
		"too large for it": {loaded(h, many...), "too large"},
	} {
		if _, err := X509Certificate("orga", v.cert); err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The files are read for each connection.
func TestX509Files(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	write := func(h *cmstest.Holder) {
		t.Helper()
		for path, text := range map[string][]byte{cert: h.PEM(), key: h.KeyPEM()} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := X509("orga", cert, key); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("without files: %v", err)
	}
	first, second := cmstest.Alone("alice", cmstest.NewKey("p256")), cmstest.Alone("alice", cmstest.NewKey("ed25519"))
	write(first)
	option, err := X509("orga", cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var o nats.Options
	if err := option(&o); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*cmstest.Holder{first, second} {
		write(h)
		der, err := o.SignatureCB([]byte("challenge"))
		if err != nil {
			t.Fatal(err)
		}
		if m := verified(t, der, tickets.AuthContent("orga", "challenge")); !m.Signer.Equal(h.Certificate) {
			t.Error("the earlier certificate")
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := o.SignatureCB([]byte("challenge")); err == nil {
		t.Error("signed without a key")
	}
}
