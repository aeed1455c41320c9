package parent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
	"gatehouse/privsep/keyfile"
	"gatehouse/tickets"
)

// writeTransferKey makes a key for tickets in dir, returns the configuration for it and
// its public half, which is in a file beside it.
func writeTransferKey(t testing.TB, dir string, key crypto.Signer) TransferConfig {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	locked, err := keyfile.Encrypt(der, []byte("open sesame"), keyfile.Options{Iterations: 1000})
	must(t, err)
	c := Defaults().Transfer
	c.Key, c.UnlockFile = filepath.Join(dir, "transfer.key"), filepath.Join(dir, "unlock")
	must(t, os.WriteFile(c.Key, locked, 0o600))
	must(t, os.WriteFile(c.UnlockFile, []byte("open sesame\n"), 0o600))
	writePublic(t, filepath.Join(dir, "transfer.pem"), key.Public())
	return c
}

func writePublic(t testing.TB, path string, public crypto.PublicKey) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return key
}

// transferer is a parent with a key for tickets and a router.
type transferer struct {
	*parent
	t      *testing.T
	router *child
	far    *privsep.Channel
	key    *tickets.TransferKey
	log    bytes.Buffer
}

func newTransferer(t *testing.T) *transferer {
	t.Helper()
	p, c, far := end(t, privsep.RoleRouter, privsep.PhaseRun)
	s := &transferer{parent: p, t: t, router: c, far: far}
	key := newEd25519(t)
	p.cfg.Transfer = writeTransferKey(t, t.TempDir(), key)
	p.cfg.Environment.Name = "orga"
	p.cfg.Profiles = []ProfileConfig{{Name: "desk", Transfer: []string{"orgb", "orgc"}}}
	p.log, p.offences = zerolog.New(&s.log), map[offenceKey]uint64{}
	k, err := loadTransferKey(p.cfg, nil)
	must(t, err)
	p.setTransferKey(k)
	t.Cleanup(func() { p.setTransferKey(nil) })
	s.key, err = tickets.NewTransferKey(key.Public())
	must(t, err)
	return s
}

func wanted() privsep.TicketSign {
	return privsep.TicketSign{ID: 7, Connection: 77, Nonce: [24]byte{1, 2, 3}, User: "alice", Organisation: "ORGA", Audience: "orgb"}
}

// ask gives the ticket, or the reason of the offence.
func (s *transferer) ask(r privsep.TicketSign) (ticket, reason string) {
	s.t.Helper()
	err := s.signTransfer(s.router, &privsep.Message{Kind: privsep.KindTicketSign, Payload: r.Append(nil)})
	var o *offence
	if errors.As(err, &o) {
		return "", o.reason
	}
	must(s.t, err)
	var m privsep.Message
	must(s.t, s.far.RecvWait(&m, setupTimeout))
	var a privsep.TicketSigned
	must(s.t, a.Parse(m.Payload))
	if m.Kind != privsep.KindTicketSigned || a.ID != r.ID {
		s.t.Fatalf("%v answers %d to %d", m.Kind, a.ID, r.ID)
	}
	return string(a.Ticket), ""
}

// lastLine is what the log had last.
func (s *transferer) lastLine() (line map[string]any) {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	must(s.t, json.Unmarshal([]byte(lines[len(lines)-1]), &line))
	return line
}

// A ticket says what the router has said and, of all else, what the parent knows.
func TestSignTransfer(t *testing.T) {
	s := newTransferer(t)
	before := time.Now().Unix()
	ticket, reason := s.ask(wanted())
	got, err := tickets.ParseTransfer(ticket)
	if err != nil || reason != "" || !got.SignedBy(s.key) {
		t.Fatalf("%q, %v, %s", ticket, err, reason)
	}
	c := got.Transfer
	want := tickets.Transfer{Nonce: [24]byte{1, 2, 3}, Issuer: "orga", User: "alice", Organisation: "ORGA", Audience: "orgb", Connection: 77,
		Issued: c.Issued, Expires: c.Issued + 60, ID: c.ID}
	if c != want || c.Issued < before || c.Issued > time.Now().Unix() {
		t.Errorf("%+v, want %+v", c, want)
	}
	line := s.lastLine()
	for key, v := range map[string]any{"level": "info", "role": "router", "ticket": tickets.TransferName(c.ID), "cid": 77.0,
		"user": "alice", "organisation": "ORGA", "to": "orgb", "message": "transfer ticket signed"} {
		if line[key] != v {
			t.Errorf("the log has %s %v, want %v", key, line[key], v)
		}
	}
	if strings.Contains(s.log.String(), ticket[:20]) {
		t.Error("the log has the ticket itself")
	}
	again, _ := s.ask(wanted())
	if second, err := tickets.ParseTransfer(again); err != nil || second.ID == c.ID {
		t.Errorf("two tickets with the id %x, %v", c.ID, err)
	}
	if r := s.transferReport(); r.Signed != 2 || r.Refused != 0 || r.Algorithm != "EdDSA" || r.Memory == "" {
		t.Errorf("status has %+v", r)
	}
}

// What no sound router asks for is an offence.
func TestSignTransferOffences(t *testing.T) {
	for name, change := range map[string]func(*privsep.TicketSign){
		"nobody":       func(r *privsep.TicketSign) { r.User = "" },
		"a line":       func(r *privsep.TicketSign) { r.User = "alice\nbob" },
		"zero byte":    func(r *privsep.TicketSign) { r.Organisation = "\x00" },
		"no UTF-8":     func(r *privsep.TicketSign) { r.User = "\xff" },
		"escape codes": func(r *privsep.TicketSign) { r.User = "\x1b[31m" },
	} {
		s := newTransferer(t)
		r := wanted()
		change(&r)
		if ticket, reason := s.ask(r); reason != "purpose" || ticket != "" || s.transfers.signed != 0 {
			t.Errorf("%s: %q, %q", name, reason, ticket)
		}
	}
	s := newTransferer(t)
	s.router.change = &change{new: s.router, old: &child{state: running}}
	if _, reason := s.ask(wanted()); reason != "phase" {
		t.Errorf("a router that stands by: %q", reason)
	}
	r := wanted()
	err := s.signTransfer(s.router, &privsep.Message{Kind: privsep.KindTicketSign, Payload: r.Append(nil)[1:]})
	if !errors.Is(err, privsep.ErrShape) {
		t.Errorf("a byte less: %v", err)
	}
}

// What may be asked for and is not to be had is answered without a ticket.
func TestSignTransferRefused(t *testing.T) {
	for want, change := range map[string]func(*transferer, *privsep.TicketSign){
		"no_key":   func(s *transferer, _ *privsep.TicketSign) { s.setTransferKey(nil) },
		"audience": func(_ *transferer, r *privsep.TicketSign) { r.Audience = "orgd" },
		"rate": func(s *transferer, _ *privsep.TicketSign) {
			s.cfg.Transfer.Rate = 1
			s.ask(wanted())
		},
	} {
		s := newTransferer(t)
		r := wanted()
		change(s, &r)
		ticket, reason := s.ask(r)
		line := s.lastLine()
		if ticket != "" || reason != "" || line["reason"] != want || line["level"] != "warn" || s.transfers.denied != 1 {
			t.Errorf("%s: %q, %q, %v", want, ticket, reason, line)
		}
	}
}

// A flood of refusals is a few lines.
func TestSignTransferFlood(t *testing.T) {
	s := newTransferer(t)
	r := wanted()
	r.Audience = "orgd"
	for range 500 {
		s.ask(r)
	}
	if n := strings.Count(s.log.String(), "\n"); n > 100 || s.transfers.denied != 500 {
		t.Errorf("%d lines of %d", n, s.transfers.denied)
	}
}

func TestLoadTransferKey(t *testing.T) {
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		must(t, err)
		return k
	}
	cfg := Defaults()
	if k, err := loadTransferKey(cfg, nil); k != nil || err != nil {
		t.Fatalf("without a key: %v, %v", k, err)
	}
	p256 := curve(elliptic.P256())
	cfg.Transfer = writeTransferKey(t, t.TempDir(), p256)
	k, err := loadTransferKey(cfg, nil)
	must(t, err)
	if k.Algorithm() != "ES256" {
		t.Errorf("P-256 is %s", k.Algorithm())
	}
	k.Close()
	tls := &credential{leaf: &x509.Certificate{PublicKey: p256.Public()}}
	if k, err := loadTransferKey(cfg, tls); k != nil || err == nil || err.Error() != "transfer.key: is tls.key, too: a key has one purpose" {
		t.Errorf("the key of the certificate: %v", err)
	}
	cfg.Transfer = writeTransferKey(t, t.TempDir(), curve(elliptic.P384()))
	if k, err := loadTransferKey(cfg, nil); k != nil || err == nil || !strings.HasSuffix(err.Error(), "tickets are signed by an Ed25519 or a P-256 key") {
		t.Errorf("P-384: %v", err)
	}
	cfg.Transfer.UnlockFile += ".gone"
	if k, err := loadTransferKey(cfg, nil); k != nil || err == nil || !strings.HasPrefix(err.Error(), "transfer.key: ") {
		t.Errorf("no secret: %v", err)
	}
}

// After a reload tickets are signed with the new key, and whatever is wrong with it,
// with the old one.
func TestReloadTransferKey(t *testing.T) {
	s := newSigner(t)
	first, next := newEd25519(t), newEd25519(t)
	s.reloadWith(func(c *Config) { c.Transfer = writeTransferKey(t, t.TempDir(), first) })
	if s.transfers.key == nil || !first.Public().(ed25519.PublicKey).Equal(s.transfers.key.Public()) {
		t.Fatal("no key after a reload")
	}
	good := s.cfg.Transfer
	for name, change := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Transfer.Key += ".gone" },
		"no secret":      func(c *Config) { c.Transfer.UnlockFile += ".gone" },
		"key of the TLS": func(c *Config) { c.Transfer.Key, c.Transfer.UnlockFile = c.TLS.Key, c.TLS.UnlockFile },
		"no issuer's key": func(c *Config) {
			c.Transfer = writeTransferKey(t, t.TempDir(), next)
			c.Users = []UserConfig{{Name: "alice", Organisation: "ORGB", Password: argonHash}}
			c.Issuers = []IssuerConfig{{Name: "orgb", Keys: []string{"/nowhere.pem"}, Organisations: []string{"ORGB"}}}
		},
	} {
		s.reloadWith(func(c *Config) {
			c.Transfer = good
			change(c)
		})
		if !first.Public().(ed25519.PublicKey).Equal(s.transfers.key.Public()) || s.credential().number != 2 {
			t.Errorf("%s: another key, certificate %d", name, s.credential().number)
		}
	}
	s.reloadWith(func(c *Config) { c.Transfer = writeTransferKey(t, t.TempDir(), next) })
	if !next.Public().(ed25519.PublicKey).Equal(s.transfers.key.Public()) {
		t.Error("not the new key")
	}
	s.reloadWith(func(c *Config) { c.Transfer = Defaults().Transfer })
	if s.transfers.key != nil || s.transferReport() != nil {
		t.Error("a key that was taken out is still there")
	}
}

// publicPEM is a key as it stands in a configuration.
func publicPEM(t *testing.T, public crypto.PublicKey) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "public.pem")
	writePublic(t, path, public)
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// issued gives a configuration with a user and an issuer that may send him.
func issued(t *testing.T) *Config {
	t.Helper()
	c := Defaults()
	c.Users = []UserConfig{{Name: "alice", Organisation: "ORGB"}, {Name: "bob", Organisation: "ORGC", Password: argonHash}}
	c.Issuers = []IssuerConfig{{Name: "orgb", Keys: []string{publicPEM(t, newEd25519(t).Public())}, Organisations: []string{"ORGB"}}}
	must(t, c.Validate())
	return c
}

func TestLoadIssuers(t *testing.T) {
	c := issued(t)
	path := filepath.Join(t.TempDir(), "next.pem")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	writePublic(t, path, key.Public())
	c.Issuers[0].Keys = append(c.Issuers[0].Keys, path)
	c.Issuers[0].Profile, c.Profiles = "guest", []ProfileConfig{{Name: "guest", Weight: 1}}
	must(t, c.Validate())
	all, err := loadIssuers(c)
	must(t, err)
	is := all[0]
	if len(all) != 1 || is.Environment != "orgb" || is.Profile != "guest" || len(is.Keys) != 2 || len(is.Keys[0]) != 32 || len(is.Keys[1]) != 65 || is.Mark == 0 {
		t.Errorf("%+v", all)
	}
	again, err := loadIssuers(c)
	must(t, err)
	writePublic(t, path, newEd25519(t).Public())
	other, err := loadIssuers(c)
	must(t, err)
	if again[0].Mark != is.Mark || other[0].Mark == is.Mark {
		t.Error("a mark that does not follow the key")
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	good := publicPEM(t, newEd25519(t).Public())
	for name, text := range map[string]string{
		"a PEM block \"PRIVATE KEY\", not PUBLIC KEY": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"no PEM block in it":                          "ssh-ed25519 AAAA",
		"more than one key in it":                     good + good,
		"not a public key":                            string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("key")})),
		"tickets are signed by an Ed25519":            publicPEM(t, p384.Public()),
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := loadIssuers(c)
		if err == nil || !strings.HasPrefix(err.Error(), "transfer_issuer.keys: "+path+": ") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.Remove(path))
	if _, err := loadIssuers(c); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
}

// A user has one mark as himself and one for each way to come by a ticket, and changes
// of either change it.
func TestMarksThroughIssuers(t *testing.T) {
	marks := func(c *Config) []uint64 {
		is, err := loadIssuers(c)
		must(t, err)
		var all privsep.MarkSet
		frames := markFrames(c, is, 0, 0, 1)
		for i, f := range frames {
			if m, whole, err := all.Take(f); err != nil || whole != (i == len(frames)-1) {
				t.Fatal(err)
			} else if whole {
				return m
			}
		}
		return nil
	}
	c := issued(t)
	before := marks(c)
	is, err := loadIssuers(c)
	must(t, err)
	if len(before) != 3 || before[1] != privsep.MarkThrough(before[0], is[0].Mark) {
		t.Fatalf("marks %x", before)
	}
	c.Issuers[0].Organisations = append(c.Issuers[0].Organisations, "ORGC")
	after := marks(c)
	if len(after) != 4 || after[0] != before[0] || after[1] == before[1] || after[2] != before[2] {
		t.Errorf("marks %x, were %x", after, before)
	}
	c.Issuers[0].Users = []string{"bob"}
	if after = marks(c); len(after) != 3 || after[0] != before[0] || after[1] != before[2] {
		t.Errorf("marks %x, were %x", after, before)
	}
}
