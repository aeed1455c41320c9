package process

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"gatehouse/roles/auth/cms/cmstest"
	"gatehouse/testdata/tree"
	"gatehouse/tickets"
	login "gatehouse/tickets/client"
)

// holders are the files of an authority and of what it has signed.
type holders struct {
	t            testing.TB
	dir          string
	root, middle *cmstest.Holder
}

func newHolders(t testing.TB) *holders {
	h := &holders{t: t, dir: t.TempDir(), root: cmstest.Root("root", cmstest.Key("p256"))}
	h.middle = h.root.Authority("middle", cmstest.Key("p384"))
	return h
}

// file writes one and gives its path. It is replaced in one go if it is there.
func (h *holders) file(name string, parts ...[]byte) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	must(h.t, os.WriteFile(path+".new", []byte(join(parts)), 0o600))
	must(h.t, os.Rename(path+".new", path))
	return path
}

func join(parts [][]byte) (s string) {
	for _, p := range parts {
		s += string(p)
	}
	return s
}

// pair writes the files of a client.
func (h *holders) pair(c *cmstest.Holder) (cert, key string) {
	name := c.SerialNumber.String()
	return h.file(name+".pem", c.PEM(), h.middle.PEM()), h.file(name+".key", c.KeyPEM())
}

// way is how a client logs in by certificate.
func (h *holders) way(environment string, c *cmstest.Holder) nats.Option {
	h.t.Helper()
	cert, key := h.pair(c)
	o, err := login.X509(environment, cert, key)
	must(h.t, err)
	return o
}

// by is the way in with a message that a test has made.
func by(make func(content []byte) []byte) nats.Option {
	return nats.UserJWT(func() (string, error) { return "x509", nil },
		func(challenge []byte) ([]byte, error) {
			return make(tickets.AuthContent("local", string(challenge))), nil
		})
}

// approved are the lines of [auth].
func approved(root string, lists ...string) string {
	s := fmt.Sprintf("x509_approved = [%q]\n", root)
	if len(lists) > 0 {
		s += fmt.Sprintf("x509_crl = [%q]\n", strings.Join(lists, `", "`))
	}
	return s
}

func TestX509Login(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	b := startBroker(t, settings{cms: 2, tls: "sign", users: approved(h.file("middle.pem", h.middle.PEM())) +
		userTable("alice", `certificate = "CN=alice,O=ORGA"`) + userTable("bob", `certificate_san = "email:bob@orga.example"`, password(horse))})
	for _, kind := range []string{"rsa2048", "rsa3072", "p256", "p384", "p521", "ed25519"} {
		way := h.way("local", h.middle.Client("alice", cmstest.Key(kind)))
		must(t, enter("nats://"+b.addr, way))
		must(t, enter("tls://"+b.tls, way, nats.Secure(b.clientTLS())))
		must(t, enter("nats://"+b.addr, way, nats.SetCustomDialer(unixDialer{b.unix})))
	}
	must(t, enter("nats://"+b.addr, h.way("local", h.middle.Client("whoever", cmstest.Key("p256"), func(c *x509.Certificate) { c.EmailAddresses = []string{"bob@orga.example"} }))))
	must(t, enter("nats://"+b.addr, nats.UserInfo("bob", "horse")))

	// The client's side of naming another environment: the rest is TestEveryWrongLogin's.
	b.refusedAs("cms_content", h.way("elsewhere", h.middle.Client("alice", cmstest.Key("p384"))))
	if c, err := dial(b.addr); err != nil || !strings.Contains(c.info, `"credentials":["password","x509"]`) {
		t.Errorf("greeted with %q, %v", c.info, err)
	} else {
		c.reset()
	}
}

// challengeOf is what a connection was greeted with.
func challengeOf(t testing.TB, info string) string {
	t.Helper()
	_, rest, ok := strings.Cut(info, `"nonce":"`)
	challenge, _, end := strings.Cut(rest, `"`)
	if !ok || !end {
		t.Fatalf("no challenge in %q", info)
	}
	return challenge
}

// A challenge is good once, whichever router hears of it the second time.
func TestX509Challenge(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	alice := h.middle.Client("alice", cmstest.Key("p256"))
	b := startBroker(t, settings{cms: 2, users: approved(h.file("middle.pem", h.middle.PEM())) + userTable("alice", `certificate = "CN=alice,O=ORGA"`)})
	c, err := dial(b.addr)
	must(t, err)
	good := meaning("local", "", alice, nil)(challengeOf(t, c.info))
	must(t, c.send(good+"PING\r\n"))
	c.expect(t, "PONG")
	pid := b.kill("router")
	await(t, "another router", patience, func() bool { now := b.processes()["router"]; return now != 0 && now != pid })
	must(t, c.sync())
	must(t, c.send(good))
	if got := c.rest(); got != refused {
		t.Errorf("told %q", got)
	}
	c.reset()
	if b.log.Find(0, "login refused", patience, "reason", "challenge_used", "kind", "x509") == nil {
		t.Error("no line says challenge_used")
	}
}

// What OpenSSL signs is taken, but where it signs in a way that is not accepted.
func TestX509OpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIP needs openssl")
	}
	h := newHolders(t)
	b := startBroker(t, settings{users: approved(h.file("root.pem", h.root.PEM())) + userTable("alice", `certificate = "CN=alice,O=ORGA"`)})
	way := func(cert, key string, args ...string) nats.Option {
		return by(func(content []byte) []byte {
			cmd := exec.Command("openssl", append([]string{"cms", "-sign", "-binary", "-in", h.file("content", content), "-signer", cert, "-inkey", key,
				"-certfile", h.file("middle.pem", h.middle.PEM()), "-outform", "DER"}, args...)...)
			out, err := cmd.Output()
			must(t, err)
			return out
		})
	}
	for _, kind := range []string{"rsa2048", "p256", "p384", "p521"} {
		cert, key := h.pair(h.middle.Client("alice", cmstest.Key(kind)))
		for _, md := range []string{"sha256", "sha384", "sha512"} {
			must(t, enter("nats://"+b.addr, way(cert, key, "-md", md)))
		}
		must(t, enter("nats://"+b.addr, way(cert, key, "-keyid")))
	}
	cert, key := h.pair(h.middle.Client("alice", cmstest.Key("rsa2048")))
	must(t, enter("nats://"+b.addr, way(cert, key, "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:-1")))
	for reason, args := range map[string][]string{
		"cms_algorithm": {"-md", "sha1"}, "cms_attributes": {"-noattr"}, "cms_form": {"-nodetach"}, "cms_certificates": {"-nocerts"},
	} {
		cert, key := h.pair(h.middle.Client("alice", cmstest.Key("rsa2048")))
		b.refusedAs(reason, way(cert, key, args...))
	}
}

// A list that is replaced is read by itself, and by every auth that follows.
func TestX509Revoked(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	good := h.way("local", h.middle.Client("alice", cmstest.Key("p256")))
	// Who fails again and again is not looked at: there are several that are revoked.
	var bob []*cmstest.Holder
	var ways []nats.Option
	for range 5 {
		bob = append(bob, h.middle.Client("bob", cmstest.Key("p256")))
		ways = append(ways, h.way("local", bob[len(bob)-1]))
	}
	crl := h.file("middle.crl", h.middle.List(nil))
	b := startBroker(t, settings{cms: 2, users: approved(h.file("middle.pem", h.middle.PEM()), crl) +
		userTable("alice", `certificate = "CN=alice,O=ORGA"`) + userTable("bob", `certificate = "CN=bob,O=ORGA"`)})
	stays, _ := b.watched(ways[0])
	must(t, enter("nats://"+b.addr, good))
	mark := b.log.Mark()
	h.file("middle.crl", h.middle.List(nil, bob...))
	if b.log.Find(mark, "revocation list read again", patience, "path", crl) == nil {
		t.Fatal("the new list is not read")
	}
	b.refusedAs("certificate_revoked", ways[1])
	must(t, enter("nats://"+b.addr, good))
	must(t, useNATS(stays)) // who is there stays

	h.file("middle.crl", []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"))
	if b.log.Find(mark, "revocation list not read", patience, "role", "auth") == nil {
		t.Error("no word of a list that cannot be read")
	}
	b.refusedAs("certificate_revoked", ways[2])
	must(t, enter("nats://"+b.addr, good))

	mark = b.log.Mark()
	h.file("middle.crl", h.middle.List(nil, bob...))
	if b.log.Find(mark, "revocation list read again", patience, "path", crl) == nil {
		t.Fatal("the repaired list is not read")
	}
	pid := b.kill("auth")
	await(t, "another auth", patience, func() bool { now := b.processes()["auth"]; return now != 0 && now != pid })
	b.refusedAs("certificate_revoked", ways[3])
	must(t, enter("nats://"+b.addr, good))
	if got := b.restart("auth"); !strings.Contains(got, "auth: replaced in") {
		t.Errorf("said %s", got)
	}
	b.refusedAs("certificate_revoked", ways[4])
	must(t, enter("nats://"+b.addr, good))
}

// A new parent brings the auth that it adopts what has been revoked meanwhile, and what
// auth was handed it has not kept open.
func TestX509Adopt(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	alice, bob := h.middle.Client("alice", cmstest.Key("p256")), h.middle.Client("bob", cmstest.Key("p256"))
	crl := h.file("middle.crl", h.middle.List(nil))
	b := startBroker(t, settings{cms: 2, users: approved(h.file("middle.pem", h.middle.PEM()), crl) +
		userTable("alice", `certificate = "CN=alice,O=ORGA"`) + userTable("bob", `certificate = "CN=bob,O=ORGA"`)})
	stays, _ := b.watched(h.way("local", alice))
	must(t, enter("nats://"+b.addr, h.way("local", bob)))
	left := b.orphan()
	must(t, enter("nats://"+b.addr, h.way("local", bob)))
	h.file("middle.crl", h.middle.List(nil, bob))
	b.succeed()
	b.adopted(left)
	b.refusedAs("certificate_revoked", h.way("local", bob))
	must(t, enter("nats://"+b.addr, h.way("local", alice)))
	must(t, useNATS(stays))
	got, err := tree.Descriptors(left["auth"], tree.Sockets())
	must(t, err)
	for what := range got {
		if strings.Contains(what, "memfd") {
			t.Errorf("auth has open %v", got)
		}
	}
}

// Sessions by certificate end when somebody else vouches; those by password stay.
func TestX509Reload(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	other := cmstest.Root("other", cmstest.NewKey("p256"))
	file := h.file("approved.pem", h.middle.PEM())
	users := userTable("alice", `certificate = "CN=alice,O=ORGA"`, password(horse))
	b := startBroker(t, settings{cms: 2, users: approved(file) + users})
	way := h.way("local", h.middle.Client("alice", cmstest.Key("p256")))
	_, gone := b.watched(way)
	stays, _ := b.watched(nats.UserInfo("alice", "horse"))
	h.file("approved.pem", other.PEM())
	b.reload("reloaded")
	within(t, "the end of a session by certificate", gone)
	b.refusedAs("certificate_unapproved", way)
	must(t, enter("nats://"+b.addr, h.way("local", other.Client("alice", cmstest.Key("p256")))))
	must(t, useNATS(stays))
	h.file("approved.pem", other.PublicPEM(), h.middle.PEM())
	b.reload("reloaded")
	must(t, enter("nats://"+b.addr, way))
	h.file("approved.pem", []byte("nothing"))
	b.reload("reload failed: everything stays as it is")
	must(t, enter("nats://"+b.addr, way))
}

// The certificate of a TLS session is a credential, held to the same rules.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	roots := h.file("roots.pem", h.root.PEM())
	crl := h.file("middle.crl", h.middle.List(nil))
	b := startBroker(t, settings{cms: 2, tls: "sign", limits: `auth_timeout = "20s"`, clients: fmt.Sprintf("client_auth = \"request\"\nclient_ca = %q\n", roots),
		users: approved(h.file("middle.pem", h.middle.PEM()), crl) + userTable("alice", `certificate = "CN=alice,O=ORGA"`) + userTable("bob", password(horse))})
	secure := func(c *cmstest.Holder) nats.Option {
		config := b.clientTLS()
		if c != nil {
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{c.Raw, h.middle.Raw}, PrivateKey: c.Key}}
		}
		return nats.Secure(config)
	}
	alice := h.middle.Client("alice", cmstest.Key("p256"))
	must(t, enter("tls://"+b.tls, secure(alice)))
	must(t, enter("tls://"+b.tls, secure(alice), nats.UserInfo("bob", "horse")))
	must(t, enter("tls://"+b.tls, secure(nil), nats.UserInfo("bob", "horse")))
	must(t, enter("tls://"+b.tls, secure(nil), h.way("local", alice)))
	refused := func(reason string, opts ...nats.Option) {
		t.Helper()
		mark := b.log.Mark()
		if err := enter("tls://"+b.tls, opts...); err == nil {
			t.Errorf("%s: let in", reason)
		}
		if b.log.Find(mark, "login refused", patience, "reason", reason, "role", "auth") == nil {
			t.Errorf("no line says %s", reason)
		}
	}
	refused("no_credential", secure(nil))
	mark := b.log.Mark()
	h.file("middle.crl", h.middle.List(nil, alice))
	if b.log.Find(mark, "revocation list read again", patience) == nil {
		t.Fatal("the new list is not read")
	}
	refused("certificate_revoked", secure(alice))
	if c, err := b.dialTLS(&net.Dialer{Timeout: patience}); err != nil || !strings.Contains(c.info, `"credentials":["password","x509","tls"]`) {
		t.Errorf("greeted with %q, %v", c.info, err)
	} else {
		c.reset()
	}

	// A router that follows hears of the certificate again.
	b.signal("auth", syscall.SIGSTOP)
	carried := make(chan error, 1)
	fresh := h.middle.Client("alice", cmstest.Key("p384"))
	go func() { carried <- enter("tls://"+b.tls, secure(fresh)) }()
	await(t, "a login that waits", patience, func() bool { return b.status().Role("cm/0").Connections+b.status().Role("cm/1").Connections > 0 })
	pid := b.kill("router")
	await(t, "another router", patience, func() bool { now := b.processes()["router"]; return now != 0 && now != pid })
	b.signal("auth", syscall.SIGCONT)
	must(t, within(t, "a login", carried))
}

// The commands log in by certificate, and by TLS show it there, too.
func TestX509Commands(t *testing.T) {
	t.Parallel()
	h := newHolders(t)
	roots := h.file("roots.pem", h.root.PEM())
	b := startBroker(t, settings{tls: "sign", clients: fmt.Sprintf("client_auth = \"require\"\nclient_ca = %q\n", roots),
		users: approved(roots) + userTable("alice", `certificate = "CN=alice,O=ORGA"`)})
	cert, key := h.pair(h.middle.Client("alice", cmstest.Key("p256")))
	ca := h.file("server.pem", b.ca.PEM)
	run := func(args ...string) (string, error) {
		cmd := exec.Command(gatehouse, append(args, "--cert", cert, "--key", key, "a", "hi")...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("pub", "-s", "nats://"+b.addr, "--environment", "local"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("pub", "-s", "tls://"+strings.Replace(b.tls, "127.0.0.1", "localhost", 1), "--ca", ca, "--environment", "local"); err != nil {
		t.Errorf("by TLS: %v: %s", err, out)
	}
	if out, err := run("pub", "-s", "nats://"+b.addr, "--environment", "elsewhere"); err == nil || !strings.Contains(out, "Authorization Violation") {
		t.Errorf("elsewhere: %v: %s", err, out)
	}
}
