package parent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/privsep/keyfile"
	"gatehouse/tickets"
)

// writeCredential makes a self-signed certificate with its encrypted key in dir
// and returns the configuration for them.
func writeCredential(t testing.TB, dir, name string) TLSConfig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := keyfile.Encrypt(der, []byte("open sesame"), keyfile.Options{Iterations: 1000})
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := Defaults().TLS
	c.Cert, c.Key, c.UnlockFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"), filepath.Join(dir, "unlock")
	for path, text := range map[string][]byte{
		c.Cert:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		c.Key:        locked,
		c.UnlockFile: []byte("open sesame\n"),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// signer is a parent with a key and one cm, whose end of the channel answers
// come out at.
type signer struct {
	*parent
	t          testing.TB
	cm         *child
	far        *privsep.Channel
	dispatcher tickets.HandoffKey
	uid        uint64
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	cfg := Defaults()
	cfg.Console.Unix = ""
	cfg.TLS = writeCredential(t, t.TempDir(), "first")
	cfg.Listen.TCP, cfg.Listen.TLS = nil, []string{"127.0.0.1:0"}
	p := &parent{cfg: cfg.Effective(), log: zerolog.Nop(), offences: map[offenceKey]uint64{}, networks: []privsep.Network{privsep.NetTCP, privsep.NetTLS}}
	c, err := loadCredential(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.firstCredential(c)
	channel := privsep.NewKey()
	p.newDispatcherKey(channel, nil)
	near, far, err := privsep.Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	key := privsep.NewKey()
	t.Cleanup(p.closeListeners)
	s := &signer{parent: p, t: t, dispatcher: tickets.HandoffKey(channel.Derive(tickets.HandoffPurpose))}
	s.cm = &child{id: privsep.ID{Role: privsep.RoleCM, Index: 1}, generation: 3, state: running,
		ch: privsep.NewChannel(near, privsep.RoleParent, privsep.RoleCM, key)}
	s.far = privsep.NewChannel(far, privsep.RoleCM, privsep.RoleParent, key)
	s.cm.ch.SetPhase(privsep.PhaseRun)
	if _, err := privsep.Identify(near); err != nil {
		t.Fatal(err)
	}
	if err := s.cm.ch.Expect(ourselves(t)); err != nil {
		t.Fatal(err)
	}
	s.far.SetPhase(privsep.PhaseRun)
	t.Cleanup(func() { s.cm.ch.Close(); s.far.Close() })
	return s
}

// ourselves is the record of this process.
func ourselves(t testing.TB) privsep.Sender {
	t.Helper()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return privsep.Sender{PID: os.Getpid(), PidIno: st.Ino, UID: os.Getuid(), Before: os.Getuid()}
}

// input is what a TLS 1.3 server signs, over some transcript.
func input() []byte {
	sum := sha256.Sum256([]byte("transcript"))
	b := bytes.Repeat([]byte{' '}, 64)
	b = append(b, "TLS 1.3, server CertificateVerify\x00"...)
	return append(b, sum[:]...)
}

// request is a sound one for a new connection.
func (s *signer) request() privsep.Sign {
	s.uid++
	r := privsep.Sign{ID: s.uid + 100, Number: s.credential().number, Scheme: uint16(tls.ECDSAWithP256AndSHA256), Listener: 1,
		UID: s.uid, Issued: privsep.Uptime(), Input: input()}
	s.ticket(&r)
	return r
}

// ticket is the dispatcher's for this connection and cm.
func (s *signer) ticket(r *privsep.Sign) {
	r.Ticket = tickets.Make(s.dispatcher, tickets.Handoff{UID: r.UID, CM: 1, Listener: r.Listener, Generation: 3, Issued: r.Issued})
}

// ask gives the answer, or the reason of the offence.
func (s *signer) ask(r privsep.Sign) (signature []byte, reason string) {
	s.t.Helper()
	err := s.sign(s.cm, &privsep.Message{Kind: privsep.KindSign, Payload: r.Append(nil)})
	var o *offence
	if errors.As(err, &o) {
		return nil, o.reason
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var m privsep.Message
	if err := s.far.Recv(&m); err != nil {
		s.t.Fatal(err)
	}
	var a privsep.Signed
	if err := a.Parse(m.Payload); err != nil || a.ID != r.ID {
		s.t.Fatalf("answer %d to %d, %v", a.ID, r.ID, err)
	}
	return append([]byte(nil), a.Signature...), ""
}

func (s *signer) verify(leaf *x509.Certificate, signature []byte) {
	s.t.Helper()
	sum := sha256.Sum256(input())
	if !ecdsa.VerifyASN1(leaf.PublicKey.(*ecdsa.PublicKey), sum[:], signature) {
		s.t.Fatalf("signature %x does not verify", signature)
	}
}

func TestSignOncePerTicket(t *testing.T) {
	s := newSigner(t)
	r := s.request()
	sig, reason := s.ask(r)
	if reason != "" {
		t.Fatal(reason)
	}
	s.verify(s.credential().leaf, sig)
	if _, reason := s.ask(r); reason != "replayed" {
		t.Fatalf("second time: %q", reason)
	}
	if s.signatures != 1 || s.cm.signatures != 1 {
		t.Fatalf("%d signatures counted", s.signatures)
	}
}

// What no sound cm asks for is an offence, each for its own reason.
func TestSignOffences(t *testing.T) {
	digest := sha256.Sum256(input())
	for _, c := range []struct {
		name, reason string
		change       func(*signer, *privsep.Sign)
	}{
		{"forged ticket", "ticket", func(s *signer, r *privsep.Sign) { r.Ticket[7] ^= 1 }},
		{"of another connection", "ticket", func(s *signer, r *privsep.Sign) { r.UID++ }},
		{"of another cm", "ticket", func(s *signer, r *privsep.Sign) {
			r.Ticket = tickets.Make(s.dispatcher, tickets.Handoff{UID: r.UID, CM: 0, Listener: 1, Generation: 3, Issued: r.Issued})
		}},
		{"of an earlier life", "ticket", func(s *signer, r *privsep.Sign) {
			r.Ticket = tickets.Make(s.dispatcher, tickets.Handoff{UID: r.UID, CM: 1, Listener: 1, Generation: 2, Issued: r.Issued})
		}},
		{"of a plaintext listener", "ticket", func(s *signer, r *privsep.Sign) { r.Listener = 0; s.ticket(r) }},
		{"of no listener", "ticket", func(s *signer, r *privsep.Sign) { r.Listener = 2; s.ticket(r) }},
		{"from the future", "ticket", func(s *signer, r *privsep.Sign) { r.Issued += 10000; s.ticket(r) }},
		{"bare digest", "purpose", func(s *signer, r *privsep.Sign) { r.Input = digest[:] }},
		{"client context", "purpose", func(s *signer, r *privsep.Sign) {
			r.Input = bytes.Replace(r.Input, []byte("server"), []byte("client"), 1)
		}},
		{"a byte more", "purpose", func(s *signer, r *privsep.Sign) { r.Input = append(r.Input, 0) }},
		{"nothing", "purpose", func(s *signer, r *privsep.Sign) { r.Input = nil }},
		{"other scheme", "scheme", func(s *signer, r *privsep.Sign) { r.Scheme = uint16(tls.PSSWithSHA256) }},
		{"certificate to come", "number", func(s *signer, r *privsep.Sign) { r.Number++ }},
		{"no certificate", "number", func(s *signer, r *privsep.Sign) { r.Number = 0 }},
		{"released key", "key_use", func(s *signer, r *privsep.Sign) { s.cfg.TLS.KeyUse = KeyUseRelease }},
		{"too many", "rate", func(s *signer, r *privsep.Sign) {
			s.cfg.TLS.SignRate = 1
			s.ask(s.request())
		}},
	} {
		s := newSigner(t)
		r := s.request()
		c.change(s, &r)
		before := s.signatures
		sig, reason := s.ask(r)
		if reason != c.reason || sig != nil || s.signatures != before {
			t.Errorf("%s: %q, %d bytes signed", c.name, reason, len(sig))
		}
	}
}

// A genuine ticket that is too old is not signed, and no offence.
func TestSignLate(t *testing.T) {
	s := newSigner(t)
	s.cfg.Limits.AuthTimeout = -ticketGrace + time.Millisecond
	r := s.request()
	r.Issued -= 2
	s.ticket(&r)
	if sig, reason := s.ask(r); reason != "" || sig != nil || s.unsigned != 1 {
		t.Fatalf("%q, %d bytes, %d unsigned", reason, len(sig), s.unsigned)
	}
}

// The dispatcher's successor has another key; what the first one handed over is
// good for as long as its tickets are.
func TestSignAfterTheDispatchersDeath(t *testing.T) {
	s := newSigner(t)
	before := s.request()
	channel := privsep.NewKey()
	s.newDispatcherKey(channel, nil)
	if _, reason := s.ask(before); reason != "" {
		t.Fatalf("handed over before: %s", reason)
	}
	s.dispatcher = tickets.HandoffKey(channel.Derive(tickets.HandoffPurpose))
	if _, reason := s.ask(s.request()); reason != "" {
		t.Fatalf("handed over after: %s", reason)
	}
	s.dispatcherKeys[0].until = time.Now().Add(-time.Second)
	s.newDispatcherKey(privsep.NewKey(), nil)
	if len(s.dispatcherKeys) != 2 {
		t.Fatalf("%d keys of dispatchers are kept", len(s.dispatcherKeys))
	}
}

// A used ticket is remembered for as long as it would be good.
func TestUsedTickets(t *testing.T) {
	var u usedTickets
	now, life := time.Now(), time.Second
	if !u.use(1, now, life) || u.use(1, now.Add(life), life) || u.use(1, now.Add(life+1), life) {
		t.Fatal("used twice within its life")
	}
	for i := range uint64(100) {
		u.use(i+10, now.Add(time.Duration(i)*life), life)
	}
	if n := len(u.young) + len(u.old); n > 4 {
		t.Fatalf("%d tickets are remembered", n)
	}
}

// reloadWith writes a file with a changed configuration and has it read.
func (s *signer) reloadWith(change func(*Config)) {
	s.t.Helper()
	c := *s.cfg
	change(&c)
	text, err := c.TOML()
	if err != nil {
		s.t.Fatal(err)
	}
	s.source = filepath.Join(s.t.TempDir(), "broker.toml")
	if err := os.WriteFile(s.source, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.reload()
}

// After a reload a handshake that is under way is finished with the old key.
func TestReload(t *testing.T) {
	s := newSigner(t)
	old := s.credential()
	before := s.request()
	s.reloadWith(func(c *Config) { c.TLS = writeCredential(t, t.TempDir(), "second") })
	if s.credential() == old || s.credential().number != 2 {
		t.Fatalf("credential %d after the reload", s.credential().number)
	}
	sig, reason := s.ask(before)
	if reason != "" {
		t.Fatal(reason)
	}
	s.verify(old.leaf, sig)
	if sig, reason = s.ask(s.request()); reason != "" {
		t.Fatal(reason)
	}
	s.verify(s.credential().leaf, sig)

	s.retire(old.until.Add(time.Millisecond))
	late := s.request()
	late.Number = 1
	if sig, reason = s.ask(late); reason != "" || sig != nil {
		t.Fatalf("retired key: %q, %d bytes", reason, len(sig))
	}
}

// Whatever is wrong with the new files, the old key stays.
func TestReloadKeepsWhatWorks(t *testing.T) {
	s := newSigner(t)
	good := s.cfg.TLS
	other := writeCredential(t, t.TempDir(), "other")
	for name, change := range map[string]func(*TLSConfig){
		"no certificate": func(c *TLSConfig) { c.Cert += ".gone" },
		"another's key":  func(c *TLSConfig) { c.Key = other.Key },
		"a key for one":  func(c *TLSConfig) { c.Cert = c.Key },
		"no secret":      func(c *TLSConfig) { c.UnlockFile += ".gone" },
		"no authorities": func(c *TLSConfig) { c.ClientAuth = "require"; c.ClientCA = "/nowhere.pem" },
	} {
		s.reloadWith(func(c *Config) {
			c.TLS = good
			change(&c.TLS)
		})
		if s.credential().number != 1 || len(s.credentials) != 1 {
			t.Fatalf("%s: credential %d of %d", name, s.credential().number, len(s.credentials))
		}
	}
	if _, reason := s.ask(s.request()); reason != "" {
		t.Fatal(reason)
	}
}

func TestSignBoundsAgree(t *testing.T) {
	if privsep.MaxSignInput != custody.MaxInput {
		t.Fatalf("%d and %d", privsep.MaxSignInput, custody.MaxInput)
	}
}

// What a handshake costs the parent: a message in, a signature, a message out.
func BenchmarkSign(b *testing.B) {
	s := newSigner(b)
	s.cfg.TLS.SignRate = 1 << 30
	requests := make([][]byte, b.N)
	for i := range requests {
		r := s.request()
		requests[i] = r.Append(nil)
	}
	var m privsep.Message
	b.ReportAllocs()
	b.ResetTimer()
	for _, r := range requests {
		if err := s.far.Send(privsep.KindSign, r); err != nil {
			b.Fatal(err)
		}
		if s.fromChild(s.cm); s.cm.ch == nil {
			b.Fatalf("%v", s.offences)
		}
		if err := s.far.Recv(&m); err != nil {
			b.Fatal(err)
		}
	}
}
