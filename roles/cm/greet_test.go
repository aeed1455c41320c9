package cm

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
)

// challenges are numbered texts.
func challenges(first uint64, n int) *store.InsChallenges {
	ins := &store.InsChallenges{First: first}
	for i := range n {
		ins.Texts = fmt.Appendf(ins.Texts, "%0*d", store.ChallengeLen, first+uint64(i))
	}
	return ins
}

// supply gives the cm greetings and n challenges, from number 1 on.
func (g *rig) supply(n int) {
	g.t.Helper()
	g.do(func() {
		for way, name := range []string{"tcp", "tls", "unix"} {
			parts := [4][]byte{[]byte("INFO {" + name + " "), []byte(" from "), []byte(" challenge "), []byte("} \r\n")}
			g.tell(&store.InsGreeting{Way: store.Way(way), Parts: parts})
		}
		g.tell(challenges(1, n))
	})
}

// greeted reads INFO, and gives the number of the challenge in it, 0: it is the router's.
func (g *rig) greeted(c net.Conn, way string, uid int) (n uint64) {
	g.t.Helper()
	line, err := readInfo(c)
	g.check(err)
	if line == rigInfo {
		return 0
	}
	var id int
	if _, err := fmt.Sscanf(line, "INFO {"+way+" %d from 127.0.0.1 challenge %d} \r\n", &id, &n); err != nil || id != uid {
		g.t.Fatalf("%q for %d: %v", line, uid, err)
	}
	return n
}

// A cm with a supply greets clients itself, each with a challenge of its own; the router
// hears of it before anything that the client says, and of one that says nothing, too.
func TestGreetsClients(t *testing.T) {
	const n = 5
	g := newRig(t, nil)
	g.do(func() { g.plain = true })
	g.supply(n)
	for i := 1; i <= n+2; i++ {
		c := g.dial()
		number := g.greeted(c, "tcp", i)
		if want := uint64(i); i <= n && number != want || i > n && number != 0 {
			t.Errorf("challenge %d for client %d", number, i)
		}
		if i%2 == 1 {
			ping(t, c)
		}
		g.until("OPEN", func() bool { return len(g.opened) == i })
		g.do(func() {
			if o := g.opened[i-1]; o.Challenge != number || o.UID != uint64(i) {
				t.Errorf("%+v of one who was told %d", o, number)
			}
		})
	}
}

// The console's connections are greeted by the router.
func TestGreetsNoConsole(t *testing.T) {
	g := newRig(t, nil)
	g.do(func() { g.plain, g.system = true, true })
	g.supply(5)
	if n := g.greeted(g.dial(), "tcp", 1); n != 0 {
		t.Errorf("challenge %d", n)
	}
}

// By TLS a client is greeted before its handshake, in the clear, or after it.
func TestGreetsByTLS(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("first=%v", first), func(t *testing.T) {
			g := newRig(t, func(s *privsep.Settings) { s.TLS.HandshakeFirst = first })
			cert := g.certificate(1, newKey(t, "p256"))
			g.supply(3)
			for uid := 1; uid <= 4; uid++ {
				raw := g.dial()
				n := uint64(0)
				if !first {
					n = g.greeted(raw, "tls", uid)
				}
				c := tls.Client(raw, trusting(cert))
				g.check(c.Handshake())
				if first {
					n = g.greeted(c, "tls", uid)
				}
				if want := uint64(uid); uid < 4 && n != want || uid == 4 && n != 0 {
					t.Errorf("challenge %d", n)
				}
				ping(t, c)
				g.do(func() {
					if o := g.opened[len(g.opened)-1]; o.Challenge != n || !o.TLS {
						t.Errorf("%+v", o)
					}
				})
			}
		})
	}
}

// The end of a connection that nobody may notice waits for something else to be said, but
// not for long.
func TestQuietEnds(t *testing.T) {
	g := newRig(t, nil)
	g.do(func() { g.plain = true })
	g.supply(10)
	for i, said := range []string{"", "PING\r\n", "SUB a 1\r\nPING\r\n"} {
		c := g.dial()
		g.greeted(c, "tcp", i+1)
		if _, err := c.Write([]byte(said)); said != "" {
			g.check(err)
			b := make([]byte, len("PONG\r\n"))
			if _, err := c.Read(b); err != nil || string(b) != "PONG\r\n" {
				t.Fatalf("%q, %v", b, err)
			}
		}
		c.Close()
		g.until("CLOSED", func() bool { return len(g.closed) == i+1 && len(g.opened) == i+1 })
	}
}

// What a router gives is taken once, whichever says it, and never more than there may be.
func TestTakeChallenges(t *testing.T) {
	give := func(m *cm, ins *store.InsChallenges) error {
		b := make([]byte, ins.Size())
		ins.Put(b)
		return m.takeChallenges(b)
	}
	want := func(m *cm, first uint64, n int) {
		t.Helper()
		if s := &m.supply; s.next != first || !bytes.Equal(s.challenges, challenges(first, n).Texts) {
			t.Fatalf("from %d on %q", s.next, s.challenges)
		}
	}
	m := new(cm)
	for _, c := range []struct {
		first   uint64
		n, have int
	}{{100, 10, 10}, {110, 5, 15}, {100, 15, 15}, {90, 5, 15}, {105, 12, 17}, {117, 256 - 17, 256}} {
		if err := give(m, challenges(c.first, c.n)); err != nil {
			t.Fatal(err)
		}
		want(m, 100, c.have)
	}
	if err := give(m, challenges(100+256, 1)); err != store.ErrCorrupt {
		t.Errorf("one too many: %v", err)
	}

	// What has been used does not come again; numbers with a gap begin anew.
	m = new(cm)
	_ = give(m, challenges(7, 3))
	m.supply.challenges, m.supply.next = nil, 10
	_ = give(m, challenges(7, 3))
	want(m, 10, 0)
	_ = give(m, challenges(8, 4))
	want(m, 10, 2)
	_ = give(m, challenges(20, 2))
	want(m, 20, 2)

	// A new router goes on with them, one that has forgotten all begins anew.
	for _, forget := range []bool{false, true} {
		n := store.InsNewRouter{Forget: forget}
		b := make([]byte, n.Size())
		n.Put(b)
		m.log = privsep.NewLogger(nil)
		m.supply.greetings[0][0] = []byte("INFO ")
		if err := m.newRouter(b); err != nil {
			t.Fatal(err)
		}
		if forget && (m.supply.next != 0 || m.supply.greetings[0][0] != nil) {
			t.Errorf("%+v", m.supply)
		} else if !forget {
			want(m, 20, 2)
		}
	}
}
