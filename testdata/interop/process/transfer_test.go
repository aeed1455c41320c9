package process

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"gatehouse/tickets"
	clients "gatehouse/tickets/client"
)

// pair is a key for tickets: the private half as [transfer] wants it, the public one as
// [[transfer_issuer]] does.
type pair struct {
	crypto.Signer
	dir string
}

func newPair(t testing.TB, key crypto.Signer) *pair {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	p := &pair{key, dir}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	p.write(t, "plain.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	p.write(t, "unlock", []byte("open sesame\n"))
	out, err := exec.Command(gatehouse, "key", "encrypt", "--in", p.path("plain.pem"), "--out", p.path("key"), "--secret-file", p.path("unlock"), "--iterations", "1000").CombinedOutput()
	if err != nil {
		t.Fatalf("key encrypt: %v, %s", err, out)
	}
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	p.write(t, "public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return p
}

func (p *pair) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pair) write(t testing.TB, name string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(p.path(name), b, 0o600))
}

// signs is the configuration of the environment that has the key.
func (p *pair) signs(environment string) string {
	return fmt.Sprintf("[environment]\nname = %q\n[transfer]\nkey = %q\nunlock_file = %q\n", environment, p.path("key"), p.path("unlock"))
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return key
}

func newP256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// issuer is the configuration of an environment that takes tickets.
func issuer(environment string, organisation string, more string, keys ...*pair) string {
	var paths []string
	for _, k := range keys {
		paths = append(paths, fmt.Sprintf("%q", k.path("public.pem")))
	}
	return fmt.Sprintf("[[transfer_issuer]]\nenvironment = %q\nkeys = [%s]\norganisations = [%q]\n%s\n",
		environment, strings.Join(paths, ", "), organisation, more)
}

const (
	organised  = `organisation = "ORGA"`
	travellers = "[[profile]]\nname = \"traveller\"\ntransfer = [\"orgb\"]\n"
)

// environments are two of them, of which orgb takes the tickets of orga.
func environments(t testing.TB) (a, b *broker, key *pair) {
	t.Helper()
	key = newPair(t, newEd25519(t))
	a = startBroker(t, settings{users: key.signs("orga") + travellers +
		userTable("alice", password(horse), organised, `profile = "traveller"`) + userTable("carol", password(horse), organised)})
	b = startBroker(t, settings{cms: 2, limits: `auth_timeout = "20s"`, users: "[environment]\nname = \"orgb\"\n" +
		issuer("orga", "ORGA", "", key) + userTable("alice", organised) + userTable("bob", password(horse))})
	return a, b, key
}

// home is a client of orga.
func (b *broker) home(user string) *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect("nats://"+b.addr, nats.UserInfo(user, "horse"), nats.Timeout(patience), nats.ReconnectWait(50*time.Millisecond), nats.MaxReconnects(-1))
	must(b.t, err)
	b.t.Cleanup(nc.Close)
	return nc
}

// A client of one environment works at another, without a password there; both logs
// have it with the ticket's number.
func TestTransfer(t *testing.T) {
	t.Parallel()
	a, b, _ := environments(t)
	home := a.home("alice")
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	signed := a.log.Find(0, "transfer ticket signed", patience, "user", "alice", "organisation", "ORGA", "to", "orgb")
	if signed == nil {
		t.Fatal("orga has signed nothing")
	}
	id := signed.Str("ticket")
	if l := b.log.Find(0, "login", patience, "kind", "transfer", "user", "alice", "from", "orga", "ticket", id); l == nil || len(id) != 32 {
		t.Errorf("orgb has no login by the ticket %q", id)
	}
	if uid, _ := signed.Fields["cid"].(float64); uid == 0 {
		t.Errorf("for whom: %s", signed.Text)
	}
	if st := a.status(); st.Transfer == nil || st.Transfer.Signed != 1 || st.Transfer.Algorithm != "EdDSA" {
		t.Errorf("status: %+v", st.Transfer)
	}
	if c, err := dial(b.addr); err != nil || !strings.Contains(c.info, `"credentials":["password","transfer"]`) {
		t.Errorf("greeted with %q, %v", c.info, err)
	} else {
		c.reset()
	}

	// By the command line.
	from := fmt.Sprintf("nats://alice:horse@%s", a.addr)
	out, err := exec.Command(gatehouse, "pub", "-s", "nats://"+b.addr, "--transfer-from", from, "--environment", "orgb", "greet", "hello").CombinedOutput()
	if err != nil {
		t.Errorf("gatehouse pub: %v, %s", err, out)
	}

	// Who may not is told by his own environment.
	var s *clients.StatusError
	if err := enter("nats://"+b.addr, clients.Transfer(a.home("carol"), "orgb")); !errors.As(err, &s) || s.Code != 403 {
		t.Errorf("carol: %v", err)
	}
	if err := enter("nats://"+b.addr, clients.Transfer(home, "orgc")); !errors.As(err, &s) || s.Code != 403 {
		t.Errorf("alice to another one: %v", err)
	}
	// Without a broker that gives tickets there are none.
	if err := enter("nats://"+b.addr, clients.Transfer(b.home("bob"), "orgb")); !errors.As(err, &s) || s.Code != 403 {
		t.Errorf("bob: %v", err)
	}
}

// A connection that was lost is made again, with another ticket, whatever has died at
// either end.
func TestTransferAgain(t *testing.T) {
	t.Parallel()
	a, b, _ := environments(t)
	home := a.home("alice")
	back := make(chan struct{}, 10)
	nc, err := nats.Connect("nats://"+b.addr, clients.Transfer(home, "orgb"), nats.ReconnectWait(50*time.Millisecond), nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	must(t, err)
	defer nc.Close()
	a.kill("router")
	for _, role := range []string{"auth", "router", "cm/0", "cm/1"} {
		b.kill(role)
	}
	within(t, "the connection again", back)
	must(t, useNATS(nc))
}

// Logins by ticket go on while auth and router die, and none is taken for a second one.
func TestTransferAmidDeath(t *testing.T) {
	t.Parallel()
	a, b, _ := environments(t)
	a.edit("[transfer]\n", "[transfer]\nrate = 1000\n")
	a.reload("reloaded")
	var done sync.WaitGroup
	stop := make(chan struct{})
	var logins sync.Map
	for i := range 4 {
		home := a.home("alice")
		done.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				err := enter("nats://"+b.addr, clients.Transfer(home, "orgb"))
				if errors.Is(err, nats.ErrAuthorization) {
					t.Errorf("login: %v", err)
				}
				if err == nil {
					logins.Store(i, n)
				}
			}
		})
	}
	for _, role := range []string{"auth", "router", "auth", "router"} {
		logins.Clear()
		await(t, "further logins", patience, func() bool {
			n := 0
			logins.Range(func(any, any) bool { n++; return true })
			return n == 4
		})
		b.kill(role)
	}
	logins.Clear()
	await(t, "logins in the end", patience, func() bool { _, ok := logins.Load(0); return ok })
	close(stop)
	done.Wait()
	if l := b.log.Find(0, "login refused", 0); l != nil {
		t.Errorf("refused: %s", l.Text)
	}
}

// An issuer changes its key without anybody noticing, and is taken out with all who came
// from it.
func TestTransferRotation(t *testing.T) {
	t.Parallel()
	a, b, key := environments(t)
	home := a.home("alice")
	_, gone := b.watched(clients.Transfer(home, "orgb"))
	next := newPair(t, newP256(t))
	one, both, other := issuer("orga", "ORGA", "", key), issuer("orga", "ORGA", "", key, next), issuer("orga", "ORGA", "", next)
	b.edit(one, both)
	if got := b.reload("reloaded").Fields["changed"]; got != "transfer_issuer.orga" {
		t.Errorf("changed: %v", got)
	}
	within(t, "the end of who came from an issuer that has changed", gone)
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	a.edit(key.signs("orga"), next.signs("orga"))
	a.reload("reloaded")
	if st := a.status(); st.Transfer == nil || st.Transfer.Algorithm != "ES256" {
		t.Errorf("status: %+v", st.Transfer)
	}
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	b.edit(both, other)
	b.reload("reloaded")
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	b.refusedAs("ticket_signature", key.shows("alice", nil))
	_, gone = b.watched(clients.Transfer(home, "orgb"))
	own, _ := b.watched(nats.UserInfo("bob", "horse"))
	b.edit(other, "")
	b.edit(userTable("alice", organised), "")
	b.reload("reloaded")
	within(t, "the end of who came from nowhere", gone)
	must(t, useNATS(own))
	b.refusedAs("not_configured", key.shows("alice", nil))
}

// shows is the way in by a ticket that the key signs, changed as a test likes.
func (p *pair) shows(user string, change func(*tickets.Transfer)) nats.Option {
	return showing(user, func(nonce string) string { return p.ticket(nonce, change) })
}

func showing(user string, ticket func(nonce string) string) nats.Option {
	return func(o *nats.Options) error {
		o.User = user
		return nats.UserJWT(func() (string, error) { return "transfer", nil },
			func(nonce []byte) ([]byte, error) { return []byte(ticket(string(nonce))), nil })(o)
	}
}

func (p *pair) ticket(nonce string, change func(*tickets.Transfer)) string {
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) != 24 {
		return ""
	}
	c := &tickets.Transfer{Nonce: [24]byte(raw), Issuer: "orga", User: "alice", Organisation: "ORGA", Audience: "orgb", Connection: 7}
	c.Issued = time.Now().Unix()
	c.Expires = c.Issued + 60
	rand.Read(c.ID[:])
	if change != nil {
		change(c)
	}
	s, err := c.Sign(p.Public(), func(in []byte) ([]byte, error) {
		if _, ok := p.Signer.(ed25519.PrivateKey); ok {
			return p.Signer.Sign(nil, in, crypto.Hash(0))
		}
		sum := sha256.Sum256(in)
		return p.Signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	})
	if err != nil {
		return err.Error()
	}
	return s
}

// Without a parent there are no tickets, which a client hears at once; those who are
// there stay, at both ends, and the next parent has the key again.
func TestTransferWithoutParent(t *testing.T) {
	t.Parallel()
	a, b, _ := environments(t)
	home := a.home("alice")
	there, gone := b.watched(clients.Transfer(home, "orgb"))
	a.orphan()
	b.orphan()
	var s *clients.StatusError
	if err := enter("nats://"+b.addr, clients.Transfer(home, "orgb")); !errors.As(err, &s) || s.Code != 504 {
		t.Errorf("without a parent: %v", err)
	}
	b.succeed()
	a.succeed()
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	must(t, useNATS(there))
	select {
	case <-gone:
		t.Error("a session has ended")
	default:
	}
}
