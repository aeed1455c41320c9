package cm

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

const loginText = `{"user":"u","pass":"secret","verbose":false}`

func newLoginRig(t *testing.T, timeout time.Duration) *rig {
	g := newRig(t, func(s *privsep.Settings) { s.Auth, s.AuthTimeout = true, timeout })
	g.do(func() { g.plain = true })
	return g
}

// logsIn says CONNECT, and more of which nothing is parsed.
func (g *rig) logsIn(c net.Conn, more string) {
	g.t.Helper()
	n := 0
	g.do(func() { n = len(g.connects) })
	io.WriteString(c, "CONNECT "+loginText+"\r\n"+more)
	g.until("CONNECT", func() bool { return len(g.connects) > n })
	g.counters() // a round later
	g.do(func() {
		if g.connects[n] != loginText || g.pings > 0 || len(g.pubs) > 0 || len(g.fails) > 0 {
			g.t.Errorf("%q, %d pings, %d messages, %v", g.connects, g.pings, len(g.pubs), g.fails)
		}
	})
}

// What comes with CONNECT, or after it, waits for the router's word.
func TestLogin(t *testing.T) {
	g := newLoginRig(t, time.Minute)
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		t.Fatal(err)
	}
	g.logsIn(c, "PUB a 2\r\nhi\r\nPI")
	io.WriteString(c, "NG\r\n")
	g.limit(0, store.InsSession{MaxPayload: 2}) // which is not the word
	g.do(func() {
		if len(g.pubs) > 0 {
			t.Error("published before the login")
		}
	})
	g.limit(0, store.InsSession{Flags: store.SessionOpen, MaxPayload: 2})
	hears(t, c, "MSG a 1 2\r\nhi\r\nPONG\r\n")
	g.do(func() { g.pings, g.pubs = 0, nil })
	g.logsIn(c, "PING\r\n") // again
	g.limit(0, store.InsSession{Flags: store.SessionOpen, MaxPayload: 2})
	hears(t, c, "PONG\r\n")
	io.WriteString(c, "PUB a 3\r\n")
	g.until("its limit", func() bool { return len(g.fails) == 1 && g.fails[0].Code == uint8(wire.CodeMaxPayload) })
}

// auth_timeout is for all of it, from accept on.
func TestLoginTimeout(t *testing.T) {
	for name, text := range map[string]string{
		"silent":             "",
		"no CONNECT":         "PING\r\n",
		"half a CONNECT":     "CONNECT {",
		"not accepted":       "CONNECT " + loginText + "\r\n",
		"not accepted, more": "CONNECT " + loginText + "\r\nPUB a 2\r\nhi\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := newLoginRig(t, 200*time.Millisecond)
			start := time.Now()
			c := g.dial()
			io.WriteString(c, text)
			io.Copy(io.Discard, c)
			if d := time.Since(start); d < 200*time.Millisecond {
				t.Errorf("closed after %v", d)
			}
			c.Close()
			g.until("its end", func() bool { return len(g.closed) == 1 })
			g.do(func() {
				if len(g.fails) != 1 || g.fails[0].Code != uint8(wire.CodeAuthTimeout) || len(g.pubs) > 0 {
					t.Errorf("%v, %d messages", g.fails, len(g.pubs))
				}
			})
		})
	}
}

// Who is in stays.
func TestLoginInTime(t *testing.T) {
	g := newLoginRig(t, 200*time.Millisecond)
	c, other := g.dial(), g.dial()
	for _, c := range []net.Conn{c, other} {
		if _, err := readInfo(c); err != nil {
			t.Fatal(err)
		}
	}
	g.logsIn(c, "")
	g.limit(0, store.InsSession{Flags: store.SessionOpen})
	io.Copy(io.Discard, other)
	other.Close()
	g.until("the end of the other", func() bool { return len(g.closed) == 1 && g.closed[0].Slot == 1 })
	ping(t, c)
}

// A new router hears the CONNECTs that wait once more, and no others.
func TestLoginNewRouter(t *testing.T) {
	g := newLoginRig(t, time.Minute)
	var conns []net.Conn
	for range 3 {
		c := g.dial()
		if _, err := readInfo(c); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	g.logsIn(conns[0], "PING\r\n")
	g.logsIn(conns[1], "PING\r\n")
	g.limit(1, store.InsSession{Flags: store.SessionOpen})
	hears(t, conns[1], "PONG\r\n")
	g.do(func() { g.connects = nil; g.tell(&store.InsNewRouter{}) })
	g.until("one again", func() bool { return len(g.connects) == 1 })
	ping(t, conns[1])
	g.limit(0, store.InsSession{Flags: store.SessionOpen})
	hears(t, conns[0], "PONG\r\n")
	g.do(func() {
		g.tell(&store.InsNewRouter{})
		if !slices.Equal(g.connects, []string{loginText}) {
			t.Errorf("%q", g.connects)
		}
	})
	ping(t, conns[0])
	g.do(func() {
		if len(g.connects) != 1 {
			t.Errorf("%q", g.connects)
		}
	})
}

// A CONNECT is wiped when nobody needs it any more.
func TestLoginWiped(t *testing.T) {
	for name, end := range map[string]func(m *cm, c *conn){
		"accepted": func(m *cm, c *conn) { say(t, m, &store.InsSession{Conn: c.ref(), Flags: store.SessionOpen}) },
		"refused":  func(m *cm, c *conn) { say(t, m, &store.InsSend{Conn: c.ref(), Flags: store.FlagClose}) },
		"failed":   func(m *cm, c *conn) { m.fail(c, wire.CodeAuthTimeout) },
		"closed":   func(m *cm, c *conn) { m.close(c, reasonError) },
		"ended":    func(m *cm, _ *conn) { m.endAll(reasonShutdown) },
	} {
		m, _ := loopless(t, 1)
		m.cfg.Auth = true
		c := m.mute(0, 0)
		m.parse(c, []byte("CONNECT "+loginText+"\r\nPING\r\n"))
		kept := c.login
		if !c.has(flagLogin) || string(kept) != loginText || string(c.rest) != "PING\r\n" || c.movable() {
			t.Fatalf("%s: %q, rest %q, flags %b", name, kept, c.rest, c.flags)
		}
		if end(m, c); c.login != nil || len(bytes.Trim(kept, "\x00")) > 0 {
			t.Errorf("%s: %q is left", name, kept)
		}
	}
}

// A CONNECT has a bound, login or not.
func TestLoginLong(t *testing.T) {
	m, _ := loopless(t, 1)
	m.cfg.Auth = true
	c, other := m.mute(0, 0), m.mute(1, 0)
	m.parse(c, []byte("CONNECT "+strings.Repeat("x", maxConnect)+"\r\n"))
	m.parse(other, []byte("CONNECT "+strings.Repeat("x", maxConnect+1)+"\r\n"))
	if len(c.login) != maxConnect || other.login != nil || !other.has(flagFailed) {
		t.Errorf("%d and %d bytes", len(c.login), len(other.login))
	}
}

// A connection moves when its login is over, with what came meanwhile.
func TestLoginMoves(t *testing.T) {
	g := newLoginRig(t, time.Minute)
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		t.Fatal(err)
	}
	g.logsIn(c, "PING\r\n")
	g.do(func() { g.stays = true })
	ch := g.retire(time.Minute)
	other := g.dial()
	if _, err := readInfo(other); err != nil {
		t.Fatal(err)
	}
	g.until("the other to ask", func() bool { return len(g.moves) > 1 })
	g.do(func() {
		for _, mv := range g.moves {
			if mv.Slot == 0 {
				t.Error("asks to move before its login is over")
			}
		}
		g.stays = false
	})
	g.moved(ch)
	g.limit(0, store.InsSession{Flags: store.SessionOpen})
	if mv, _, _ := g.moved(ch); mv.UID != 1 || mv.Deadline != 0 && mv.Deadline < 1000 {
		t.Errorf("%+v", mv)
	}
}

// In its next process the router's word holds as well.
func TestLoginArrives(t *testing.T) {
	v := newMover(t)
	live := v.cfg.Live
	live.Auth = true
	v.do(func() { v.send(privsep.KindSettings, live.Append(nil)) })
	v.counters()
	empty := saved("")
	for uid, flags := range map[uint64]uint8{1000: store.SessionOpen, 1001: 0} {
		client, fd := v.socket()
		slot := uint32(uid - 990)
		to := v.announce(uid, slot)
		v.do(func() { v.tell(&store.InsSession{Conn: to, Flags: flags}) })
		mv := privsep.MoveConn{UID: uid, Slot: slot, Parser: uint32(len(empty))}
		v.check(v.ch.Send(privsep.KindMoveConn, mv.Append(nil), fd))
		v.check(v.ch.Send(privsep.KindMoveBytes, empty))
		if flags == 0 {
			v.do(func() { v.pings, v.connects = 0, nil })
			v.logsIn(client, "PING\r\n")
			v.do(func() { v.tell(&store.InsSession{Conn: to, Flags: store.SessionOpen}) })
		} else {
			io.WriteString(client, "PING\r\n")
		}
		hears(t, client, "PONG\r\n")
	}
}

// Login begins and ends with the configuration.
func TestLoginReload(t *testing.T) {
	g := newPlainRig(t)
	live := g.cfg.Live
	set := func(auth bool, timeout time.Duration) {
		live.Auth, live.AuthTimeout = auth, timeout
		g.do(func() { g.send(privsep.KindSettings, live.Append(nil)) })
		g.counters()
	}
	before, silent := g.join(), g.dial()
	if _, err := readInfo(silent); err != nil {
		t.Fatal(err)
	}
	set(true, 200*time.Millisecond)
	after := g.dial()
	io.Copy(io.Discard, after) // to the end
	ping(t, before)
	if _, err := io.Copy(io.Discard, silent); err != nil { // who has said nothing before that must log in, too
		t.Error(err)
	}
	set(true, time.Minute)
	waits := g.dial()
	if _, err := readInfo(waits); err != nil {
		t.Fatal(err)
	}
	g.do(func() { g.pings = 0; g.fails = nil })
	g.logsIn(waits, "PING\r\n")
	set(false, time.Minute)
	hears(t, waits, "PONG\r\n")
}

// By TLS: the deadline goes on after the handshake.
func TestLoginTLS(t *testing.T) {
	for _, first := range []bool{false, true} {
		g := newRig(t, func(s *privsep.Settings) { s.Auth, s.TLS.HandshakeFirst, s.AuthTimeout = true, first, 2*time.Second })
		cert := g.certificate(1, newKey(t, "p256"))
		c := g.client(trusting(cert))
		g.logsIn(c, "PING\r\n")
		g.limit(0, store.InsSession{Flags: store.SessionOpen})
		hears(t, c, "PONG\r\n")
		late := g.client(trusting(cert))
		io.WriteString(late, "CONNECT "+loginText+"\r\n")
		io.Copy(io.Discard, late)
		late.Close()
		g.until("the end of one that is not accepted", func() bool { return len(g.closed) == 1 && g.closed[0].Slot == 1 })
		g.do(func() {
			if len(g.fails) != 1 || g.fails[0].Code != uint8(wire.CodeAuthTimeout) {
				t.Errorf("%v", g.fails)
			}
		})
		ping(t, c)
	}
}

// The certificates that a client has shown go with its CONNECT, as many as there is room
// for, and again to a new router; where nobody logs in none do.
func TestLoginCertificates(t *testing.T) {
	ours := newAuthority(t)
	key := newKey(t, "p256")
	leaf := certify(t, ours, key, nil)
	large := certify(t, ours, key, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, store.MaxChain)}}
	})
	pair := &tls.Certificate{Certificate: [][]byte{leaf.Raw, ours.cert.Raw, large.Raw}, PrivateKey: key}
	for _, auth := range []bool{true, false} {
		g := newRig(t, func(s *privsep.Settings) {
			s.Auth, s.AuthTimeout, s.TLS.Client = auth, time.Minute, privsep.ClientAuthRequest
		})
		cfg := trusting(g.certificate(1, newKey(t, "p256"), ours.cert))
		var want []byte
		for _, shown := range []*tls.Certificate{nil, pair} {
			cfg := cfg.Clone()
			if shown != nil {
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
				if auth {
					want = slices.Concat(leaf.Raw, ours.cert.Raw)
				}
			}
			g.do(func() { g.connects, g.chains = nil, nil })
			g.logsIn(g.client(cfg), "")
			g.do(func() {
				if len(g.chains) != 1 || !bytes.Equal(g.chains[0], want) {
					t.Errorf("auth %v: %x, want %x", auth, g.chains, want)
				}
			})
		}
		if auth {
			g.do(func() { g.connects, g.chains = nil, nil; g.tell(&store.InsNewRouter{}) })
			g.until("both again", func() bool { return len(g.connects) == 2 })
			g.do(func() {
				if len(g.chains[0]) != 0 || !bytes.Equal(g.chains[1], want) {
					t.Errorf("again: %x", g.chains)
				}
			})
		}
	}
}

// The end of the broker does not wait for a login.
func TestLoginStops(t *testing.T) {
	g := newLoginRig(t, time.Minute)
	g.do(func() { g.leaves = true })
	c := g.dial()
	if _, err := readInfo(c); err != nil {
		t.Fatal(err)
	}
	g.logsIn(c, "PUB a 2\r\nhi\r\n")
	shutdown := func() {
		g.do(func() { g.send(privsep.KindShutdown, (&privsep.Shutdown{Drain: time.Minute}).Append(nil)) })
	}
	shutdown()
	shutdown()
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err)
	}
	g.do(func() {
		if len(g.pubs) > 0 {
			t.Error("published without a login")
		}
		for _, l := range g.logs {
			if strings.HasPrefix(l.Event, "stopped before") {
				t.Errorf("%+v", l)
			}
		}
	})
}
