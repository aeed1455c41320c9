package cm

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/store"
)

func TestHandshake(t *testing.T) {
	for _, first := range []bool{false, true} {
		for _, kind := range []string{"p256", "p384", "rsa", "ed25519"} {
			t.Run(fmt.Sprintf("%s first=%v", kind, first), func(t *testing.T) {
				g := newRig(t, func(s *privsep.Settings) { s.TLS.HandshakeFirst = first })
				cfg := trusting(g.certificate(1, newKey(t, kind)))
				c := g.client(cfg)
				ping(t, c)
				if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
					t.Errorf("version %x", v)
				}
				if s := g.counters(); s.Handshakes != 1 || s.HandshakesFailed != 0 || s.Connections != 1 {
					t.Errorf("counters %+v", s)
				}
				g.do(func() {
					if len(g.opened) != 1 || !g.opened[0].TLS || g.opened[0].UID != 1 || g.opened[0].Listener != 7 {
						t.Errorf("OPEN %+v", g.opened)
					}
					want := privsep.Sign{ID: 1, Number: 1, UID: 1, Listener: 7, Ticket: [32]byte{1, 2, 1}}
					got := g.signs[0]
					want.Scheme, want.Issued, want.Input = got.Scheme, got.Issued, got.Input
					if len(g.signs) != 1 || fmt.Sprint(got) != fmt.Sprint(want) || privsep.Uptime()-got.Issued > 60000 {
						t.Errorf("SIGN %+v", g.signs)
					}
				})
			})
		}
	}
}

// Nothing older than Min is spoken, and no session is resumed.
func TestVersionAndTickets(t *testing.T) {
	g := newRig(t, nil)
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	old := cfg.Clone()
	old.MaxVersion = tls.VersionTLS12
	if _, err := g.handshake(old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		c := g.client(cfg)
		ping(t, c)
		if c.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
	}
}

// Whatever sizes client and kernel cut the stream into, each message comes back
// once, whole and in order.
func TestTransfer(t *testing.T) {
	for _, buffer := range []int{0, 4096} {
		t.Run(fmt.Sprint(buffer), func(t *testing.T) {
			g := newRig(t, nil)
			g.do(func() { g.buffer = buffer })
			cfg := trusting(g.certificate(1, newKey(t, "p256")))
			cfg.DynamicRecordSizingDisabled = buffer == 0
			total := 24 << 20
			if buffer > 0 || testing.Short() {
				total = 3 << 20
			}
			transfer(t, g.client(cfg), total, buffer > 0)
			g.until("all is freed", func() bool {
				g.asked++
				get := privsep.StatsGet{ID: g.asked}
				g.send(privsep.KindStatsGet, get.Append(nil))
				return g.answered > 0 && g.stats.ArenaBodies == 0 && g.stats.InMsgs > 0
			})
		})
	}
}

func transfer(t *testing.T, c net.Conn, total int, slow bool) {
	rnd := mrand.New(mrand.NewPCG(1, 2))
	var stream bytes.Buffer
	var want []byte
	for len(want) < total {
		body := make([]byte, []int{rnd.IntN(64), rnd.IntN(4096), rnd.IntN(200 << 10)}[rnd.IntN(3)])
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		fmt.Fprintf(&stream, "PUB x %d\r\n%s\r\n", len(body), body)
		want = fmt.Appendf(want, "MSG x 1 %d\r\n%s\r\n", len(body), body)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for stream.Len() > 0 {
			n := []int{1 + rnd.IntN(40), 1 + rnd.IntN(3000), 1 + rnd.IntN(100000)}[rnd.IntN(3)]
			if _, err := c.Write(stream.Next(n)); err != nil {
				failed <- err
				return
			}
		}
	}()
	buf := make([]byte, 128<<10)
	for at, reads := 0, 0; at < len(want); reads++ {
		n, err := c.Read(buf[:1+mrand.IntN(len(buf))])
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", at, len(want), err)
		}
		if !bytes.Equal(buf[:n], want[at:at+n]) {
			t.Fatalf("other bytes after %d of %d", at, len(want))
		}
		if at += n; slow && reads%64 == 0 {
			<-time.After(time.Millisecond) // a slow reader, so that the socket fills
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// Connections stay through a change of certificate, and none that is made
// meanwhile fails.
func TestRotation(t *testing.T) {
	g := newRig(t, nil)
	ca := newAuthority(t)
	issue := func(n uint32) {
		key := newKey(t, "p256")
		cert := certify(t, ca, key, func(c *x509.Certificate) { c.SerialNumber.SetInt64(int64(1000 + n)) })
		g.handOut(n, key, pemOf(cert, ca.cert), nil)
	}
	issue(1)
	cfg := trusting(ca.cert)
	stays := g.client(cfg)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := g.handshake(cfg)
				if err == nil {
					err = pinged(c)
				}
				if err != nil {
					t.Error(err)
					return
				}
				c.Close()
			}
		}()
	}
	for n := uint32(2); n < 12; n++ {
		before := g.counters().Handshakes
		issue(n)
		lookFor(t, func() bool { return g.counters().Handshakes >= before+5 || t.Failed() },
			func() { t.Fatal("no handshakes with the new certificate") })
		c := g.client(cfg)
		if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != int64(1000+n) {
			t.Errorf("certificate %d, want %d", got, 1000+n)
		}
		c.Close()
	}
	close(stop)
	wg.Wait()
	ping(t, stays)
	issue(5) // an older number is too late
	c := g.client(cfg)
	if got := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != 1011 {
		t.Errorf("certificate %d after an old one came", got)
	}
}

// A certificate that cannot be used leaves the one before.
func TestBadCertificate(t *testing.T) {
	g := newRig(t, nil)
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	g.handOut(2, nil, []byte("nonsense"), nil)
	g.handOut(3, nil, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), nil)
	ping(t, g.client(cfg))
	g.until("two complaints", func() bool { return len(g.logs) == 2 && g.logs[0].Event == "certificate refused" })
}

func TestClientCertificates(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	pair := func(ca *authority, usage x509.ExtKeyUsage) tls.Certificate {
		key := newKey(t, "p256")
		cert := certify(t, ca, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} })
		return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	good, bad := pair(ours, x509.ExtKeyUsageClientAuth), pair(foreign, x509.ExtKeyUsageClientAuth)
	server := pair(ours, x509.ExtKeyUsageServerAuth)
	for _, c := range []struct {
		name string
		auth privsep.ClientAuth
		cert *tls.Certificate
		ok   bool
	}{
		{"not asked, none", privsep.ClientAuthNone, nil, true},
		{"not asked, foreign", privsep.ClientAuthNone, &bad, true},
		{"asked, none", privsep.ClientAuthRequest, nil, true},
		{"asked, good", privsep.ClientAuthRequest, &good, true},
		{"asked, foreign", privsep.ClientAuthRequest, &bad, false},
		{"required, none", privsep.ClientAuthRequire, nil, false},
		{"required, good", privsep.ClientAuthRequire, &good, true},
		{"required, foreign", privsep.ClientAuthRequire, &bad, false},
		{"required, a server's", privsep.ClientAuthRequire, &server, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, func(s *privsep.Settings) { s.TLS.Client = c.auth })
			cfg := trusting(g.certificate(1, newKey(t, "p256"), ours.cert))
			if c.cert != nil {
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
			}
			conn, err := g.handshake(cfg)
			if err == nil {
				err = pinged(conn) // the server's verdict comes after the client's part
			}
			if (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			if alert := tls.AlertError(0); err != nil && !errors.As(err, &alert) && !strings.Contains(err.Error(), "remote error: tls:") {
				t.Errorf("not an alert: %v", err)
			}
			if s := g.shaken(1); (s.Handshakes == 1) != c.ok {
				t.Errorf("counters %+v", s)
			}
		})
	}
}

// Without authorities nobody is trusted, least of all those of the system.
func TestNoAuthorities(t *testing.T) {
	cert := certify(t, nil, newKey(t, "p256"), nil)
	cred, err := newCredential(&privsep.Certificate{Number: 1, Chain: uint32(len(pemOf(cert)))}, pemOf(cert),
		&privsep.TLSSettings{Client: privsep.ClientAuthRequire})
	if err != nil {
		t.Fatal(err)
	}
	if p := cred.config.ClientCAs; p == nil || !p.Equal(x509.NewCertPool()) {
		t.Error("the system's authorities would be used")
	}
}

// A released key signs here; the parent is not asked.
func TestRelease(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.Release = true })
	var cfg *tls.Config
	for n := uint32(1); n < 4; n++ {
		key := newKey(t, "p256")
		der, err := x509.MarshalPKCS8PrivateKey(key)
		g.check(err)
		if n%2 == 0 { // in either order
			g.release(n, der)
			g.release(n, der)
			cfg = trusting(g.certificate(n, key))
		} else {
			cfg = trusting(g.certificate(n, key))
			g.release(n+100, der) // of another certificate
			g.release(n, der)
		}
		ping(t, g.client(cfg))
	}
	other, err := x509.MarshalPKCS8PrivateKey(newKey(t, "p256"))
	g.check(err)
	g.certificate(4, newKey(t, "p256"))
	g.release(4, other) // not the certificate's
	g.release(4, []byte("nonsense"))
	ping(t, g.client(cfg))
	g.do(func() {
		if len(g.signs) > 0 {
			t.Errorf("the parent was asked: %+v", g.signs)
		}
		if len(g.logs) != 2 {
			t.Errorf("log %+v", g.logs)
		}
	})
}

// TLS 1.2 is there when it is asked for, nothing older.
func TestOldVersion(t *testing.T) {
	for _, kind := range []string{"p256", "rsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			g := newRig(t, func(s *privsep.Settings) { s.Release, s.TLS.Min = true, tls.VersionTLS12 })
			key := newKey(t, kind)
			der, err := x509.MarshalPKCS8PrivateKey(key)
			g.check(err)
			cfg := trusting(g.certificate(1, key))
			g.release(1, der)
			cfg.MaxVersion = tls.VersionTLS12
			c := g.client(cfg)
			transfer(t, c, 1<<20, false)
			if v := c.ConnectionState().Version; v != tls.VersionTLS12 {
				t.Errorf("version %x", v)
			}
			cfg.MaxVersion = tls.VersionTLS11
			cfg.MinVersion = tls.VersionTLS10
			if _, err := g.handshake(cfg); err == nil {
				t.Error("TLS 1.1 is spoken")
			}
		})
	}
}

func (g *rig) release(n uint32, der []byte) {
	g.t.Helper()
	fd := keyMemory(g.t, der)
	defer privsep.CloseFD(fd)
	k := privsep.ReleasedKey{Number: n, Size: uint32(len(der))}
	g.do(func() { g.send(privsep.KindKey, k.Append(nil), fd) })
}

// Handshakes wait for the certificate, and for the parent.
func TestWaitForKey(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.AuthTimeout = 20 * time.Second })
	key := newKey(t, "p256")
	cert := certify(t, nil, key, nil)
	cfg := trusting(cert)
	raw := g.dial()
	if line, err := readInfo(raw); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	c := tls.Client(raw, cfg)
	done := make(chan error, 1)
	go func() { done <- c.Handshake() }()
	var held []privsep.Sign
	g.do(func() {
		g.answer = func(s *privsep.Sign) bool { held = append(held, *s); return false }
	})
	ensure := g.counters()
	if ensure.Handshakes+ensure.HandshakesFailed != 0 {
		t.Fatalf("%+v", ensure)
	}
	g.handOut(1, key, pemOf(cert), nil)
	g.until("SIGN", func() bool { return len(held) == 1 })
	// The loop goes on meanwhile, for others too.
	if s := g.counters(); s.Connections != 1 || s.Handshakes != 0 {
		t.Fatalf("%+v", s)
	}
	g.do(func() {
		stray := privsep.Signed{ID: held[0].ID + 7, Signature: []byte("stray")}
		g.send(privsep.KindSigned, stray.Append(nil))
		g.sign(&held[0])
		g.sign(&held[0]) // a second answer finds nobody
	})
	g.check(<-done)
	ping(t, c)
}

// Without a signature the handshake fails at once.
func TestRefused(t *testing.T) {
	g := newRig(t, nil)
	cert := g.certificate(1, newKey(t, "p256"))
	g.do(func() { delete(g.keys, 1) })
	if _, err := g.handshake(trusting(cert)); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Fatalf("error %v", err)
	}
	if s := g.shaken(1); s.HandshakesFailed != 1 { // the alert comes before the end
		t.Errorf("%+v", s)
	}
	g.until("a line", func() bool {
		return len(g.logs) == 1 && g.logs[0].Event == "handshake failed" && strings.Contains(fmt.Sprint(g.logs[0].Fields), "127.0.0.1:")
	})
	g.until("the end", func() bool { return len(g.closed) == 1 })
}

// The whole handshake has auth_timeout, whatever it is spent on.
func TestDeadline(t *testing.T) {
	hello := clientHello(t)
	for _, c := range []struct {
		name string
		play func(g *rig, raw net.Conn)
	}{
		{"silent", func(*rig, net.Conn) {}},
		{"half a hello", func(_ *rig, raw net.Conn) { raw.Write(hello[:len(hello)/2]) }},
		{"byte by byte", func(_ *rig, raw net.Conn) {
			for _, b := range hello {
				if _, err := raw.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(10 * time.Millisecond) // slower than the deadline: time is what is tested
			}
		}},
		{"no answer to the server", func(_ *rig, raw net.Conn) { raw.Write(hello) }},
		{"no certificate yet", func(g *rig, raw net.Conn) { raw.Write(hello) }},
		{"parent silent", func(g *rig, raw net.Conn) {
			g.do(func() { g.answer = func(*privsep.Sign) bool { return false } })
			raw.Write(hello)
		}},
	} {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s first=%v", c.name, first), func(t *testing.T) {
				g := newRig(t, func(s *privsep.Settings) { s.TLS.HandshakeFirst, s.AuthTimeout = first, 200*time.Millisecond })
				if c.name != "no certificate yet" {
					g.certificate(1, newKey(t, "p256"))
				}
				start := time.Now()
				raw := g.dial()
				if !first {
					readInfo(raw)
				}
				go c.play(g, raw)
				io.Copy(io.Discard, raw)
				if d := time.Since(start); d < 200*time.Millisecond || d > 3*time.Second {
					t.Errorf("closed after %v", d)
				}
				if s := g.counters(); s.Connections != 0 || s.HandshakesFailed != 1 {
					t.Errorf("%+v", s)
				}
				want := map[bool]int{false: 1, true: 0}[first]
				g.until("the end", func() bool { return len(g.closed) >= want }) // the client sees it first
				g.do(func() {
					if len(g.opened) != want || len(g.closed) != want {
						t.Errorf("opened %v, closed %v", g.opened, g.closed)
					}
				})
			})
		}
	}
}

// clientHello gives the first flight of a client.
func clientHello(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() { tls.Client(a, &tls.Config{ServerName: "localhost"}).Handshake(); a.Close() }()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	return buf[:n]
}

// The key of a connection signs one message, whole.
func TestSigner(t *testing.T) {
	key := newKey(t, "p256")
	cert := certify(t, nil, key, nil)
	h := &handshake{cred: &credential{leaf: cert, key: fakeKey{}}}
	s := &signer{h: h}
	if _, err := s.Sign(nil, make([]byte, 32), crypto.SHA256); err != errDigest {
		t.Errorf("a digest: %v", err)
	}
	if _, err := s.SignMessage(nil, []byte("m"), crypto.SHA256); err != nil {
		t.Error(err)
	}
	if _, err := s.SignMessage(nil, []byte("m"), crypto.SHA256); err != errSecond {
		t.Errorf("a second: %v", err)
	}
	for _, hash := range []crypto.Hash{0, crypto.SHA1, crypto.SHA384} {
		if _, err := (&signer{h: h}).SignMessage(nil, []byte("m"), hash); err != custody.ErrScheme {
			t.Errorf("%v: %v", hash, err)
		}
	}
	h.cred.key = nil
	if _, err := (&signer{h: h}).SignMessage(nil, make([]byte, privsep.MaxSignInput+1), crypto.SHA256); err != privsep.ErrShape {
		t.Errorf("too long: %v", err)
	}
}

type fakeKey struct{}

func (fakeKey) Public() crypto.PublicKey                         { return nil }
func (fakeKey) Sign(tls.SignatureScheme, []byte) ([]byte, error) { return []byte("s"), nil }
func (fakeKey) Close() error                                     { return nil }

// The parent is never asked faster than it allows, and all are asked in the end.
func TestSignPace(t *testing.T) {
	const rate, clients = 40, 80
	g := newRig(t, func(s *privsep.Settings) { s.TLS.SignRate, s.AuthTimeout = rate, 20*time.Second })
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	start := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := g.handshake(cfg); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	g.do(func() {
		if len(g.signAt) != clients {
			t.Errorf("%d signatures", len(g.signAt))
			return
		}
		for i, at := range g.signAt {
			if least := time.Duration(i+1-rate) * time.Second / rate; at.Sub(start) < least {
				t.Errorf("signature %d after %v, want %v", i, at.Sub(start), least)
			}
		}
	})
}

// An end on either side is said in TLS.
func TestCloseNotify(t *testing.T) {
	g := newRig(t, nil)
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	rest := func(c *tls.Conn) (string, error) { b, err := io.ReadAll(c); return string(b), err }

	c := g.client(cfg) // the router closes
	ping(t, c)
	g.do(func() {
		g.tell(&store.InsSend{Conn: g.opened[0].Conn, Data: []byte("-ERR 'x'\r\n"), Flags: store.FlagClose})
	})
	if s, err := rest(c); s != "-ERR 'x'\r\n" || err != nil {
		t.Errorf("%q, %v", s, err)
	}

	c = g.client(cfg) // the client, after questions
	if _, err := c.Write([]byte("PING\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	g.check(c.CloseWrite())
	if s, err := rest(c); s != "PONG\r\nPONG\r\n" || err != nil {
		t.Errorf("%q, %v", s, err)
	}

	c = g.client(cfg) // the client's protocol is broken
	if _, err := c.Write([]byte("PING\r\nNONSENSE\r\n")); err != nil {
		t.Fatal(err)
	}
	if s, err := rest(c); s != "PONG\r\n" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	g.until("three ends", func() bool { return len(g.closed) == 3 })

	c = g.client(cfg) // without close_notify
	ping(t, c)
	c.NetConn().Close()
	g.until("four ends", func() bool { return len(g.closed) == 4 })

	c = g.client(cfg) // the cm's process ends in good order
	ping(t, c)
	g.do(func() {
		s := privsep.Shutdown{Drain: 5 * time.Second}
		g.send(privsep.KindShutdown, s.Append(nil))
		g.send(privsep.KindShutdown, s.Append(nil))
	})
	if s, err := rest(c); s != "" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	g.ended <- waitEnd(g)
}

// waitEnd gives what the rig's end expects of a cm that ended earlier.
func waitEnd(g *rig) error {
	if err := <-g.ended; err != nil {
		return err
	}
	return privsep.ErrOrphan
}

// Output for a connection in its handshake waits, and then comes in TLS.
func TestOutputWaits(t *testing.T) {
	g := newRig(t, nil)
	cfg := trusting(g.certificate(1, newKey(t, "p256")))
	raw := g.dial()
	g.until("OPEN", func() bool { return len(g.opened) == 1 })
	g.do(func() { g.tell(&store.InsSend{Conn: g.opened[0].Conn, Data: []byte("INFO 2\r\n")}) })
	if line, err := readInfo(raw); line != rigInfo {
		t.Fatalf("%q, %v", line, err)
	}
	c := tls.Client(raw, cfg)
	g.check(c.Handshake())
	if line, err := readInfo(c); line != "INFO 2\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	ping(t, c)
}

// A router that gives up a connection in its handshake is obeyed.
func TestClosedDuringHandshake(t *testing.T) {
	g := newRig(t, nil)
	g.certificate(1, newKey(t, "p256"))
	g.do(func() { g.answer = func(*privsep.Sign) bool { return false } })
	raw := g.dial()
	readInfo(raw)
	raw.Write(clientHello(t))
	g.until("SIGN", func() bool { return len(g.signs) == 1 })
	g.do(func() { g.tell(&store.InsSend{Conn: g.opened[0].Conn, Flags: store.FlagClose}) })
	if _, err := io.ReadAll(raw); err != nil {
		t.Error(err)
	}
	g.do(func() { g.sign(&g.signs[0]) }) // too late
	if s := g.counters(); s.Connections != 0 {
		t.Errorf("%+v", s)
	}
}

// A reader that stops is cut off, and all that waited for it counts.
func TestSlowConsumer(t *testing.T) {
	g := newRig(t, func(s *privsep.Settings) { s.MaxPending = 1 << 20 })
	g.do(func() { g.buffer = 4096 })
	c := g.client(trusting(g.certificate(1, newKey(t, "p256"))))
	msg := fmt.Appendf(nil, "PUB x 8192\r\n%s\r\n", make([]byte, 8192))
	go func() {
		for {
			if _, err := c.Write(msg); err != nil {
				return
			}
		}
	}()
	g.until("slow consumer", func() bool { return len(g.closed) == 1 })
	if s := g.counters(); s.SlowConsumers != 1 {
		t.Errorf("%+v", s)
	}
}

// keyMemory gives memory with a key in it, of whole pages as a parent makes it.
func keyMemory(t testing.TB, der []byte) int {
	t.Helper()
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC)
	if err == nil {
		size := os.Getpagesize()
		_, err = unix.Pwrite(fd, append(bytes.Clone(der), make([]byte, size-len(der))...), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
