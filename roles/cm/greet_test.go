package cm

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
	"gatehouse/wire"
)

// columns are those of a cm that has nothing else.
func columns(t *testing.T, m *cm) *store.ConnColumns {
	t.Helper()
	mem, err := standin.New(*m.cfg)
	must(t, err)
	t.Cleanup(mem.Close)
	c, err := mem.Columns(0, true)
	must(t, err)
	return c
}

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
	g.until("the supply is taken", func() bool {
		_, unread := g.ring.Out.Lag()
		return unread == 0 && !g.ring.Out.Pending() && len(g.after) == 0
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

// A connection that has said nothing is told of after some time, or with what it says;
// while few challenges are left at once.
func TestToldLater(t *testing.T) {
	for _, n := range []int{store.MaxChallenges, store.MaxChallenges / 3} {
		g := newRig(t, nil)
		g.do(func() { g.plain = true })
		g.supply(n)
		least := time.Hour
		for i := range 5 {
			start := time.Now()
			g.greeted(g.dial(), "tcp", i+1)
			g.until("OPEN", func() bool { return len(g.opened) == i+1 })
			g.do(func() { least = min(least, g.openAt[i].Sub(start)) })
		}
		if full := n == store.MaxChallenges; full != (least > lazyTime-10*time.Millisecond) {
			t.Errorf("with %d challenges after %v at least", n, least)
		}
		c := g.dial()
		g.greeted(c, "tcp", 6)
		ping(t, c)
		g.do(func() {
			if len(g.opened) != 6 || g.pings != 1 {
				t.Errorf("%d connections, %d of PING", len(g.opened), g.pings)
			}
		})
	}
}

// What wakes the router: not OPEN of a client that has been greeted, and not the end of one
// that has never subscribed, unless something else is to be said or it has waited.
func TestWhatWaits(t *testing.T) {
	m, _ := alone(t)
	m.supply.challenges = challenges(1, store.MaxChallenges).Texts
	m.columns = columns(t, m)
	open := func(slot uint32, flags connFlags) *conn {
		c := &conn{fd: -1, slot: slot, gen: slot, flags: flags | flagOpened, row: m.columns.Row(int(slot))}
		m.conns[slot] = c
		return c
	}
	now := func(what string, wakes bool) {
		t.Helper()
		if m.hurried() != wakes {
			t.Errorf("%s: wakes the router %v", what, !wakes)
		}
		m.publish()
		if m.out.Pending() == wakes {
			t.Errorf("%s: in the ring %v", what, !wakes)
		}
	}
	m.whenever(&store.RecOpen{UID: 1, Challenge: 1})
	now("OPEN", false)
	m.close(open(1, 0), reasonEOF)
	now("the end of one without subscriptions", false)
	m.now += int64(lazyTime)
	now("both, later", true)
	m.close(open(2, flagSubscriber), reasonEOF)
	now("the end of a subscriber", true)
	m.whenever(&store.RecOpen{UID: 2, Challenge: 2})
	m.must(&store.RecPing{})
	now("OPEN and PING", true)
	m.must(&store.RecPing{})
	m.whenever(&store.RecOpen{UID: 3, Challenge: 3})
	now("PING and OPEN", true)
	for what, set := range map[string]func(){
		"few challenges": func() { m.supply.challenges = m.supply.challenges[:store.MaxChallenges/3*store.ChallengeLen] },
		"the end":        func() { m.stopping = true }, "a full ring": func() { m.full = true },
	} {
		m.supply.challenges, m.stopping, m.full = challenges(1, store.MaxChallenges).Texts, false, false
		m.whenever(&store.RecOpen{UID: 4, Challenge: 4})
		now("OPEN", false)
		set()
		now(what, true)
	}

	// SUB makes a subscriber.
	c := open(3, 0)
	m.control(c, &wire.Frame{Op: wire.OpSub, Subject: []byte("a"), SID: []byte("1")})
	if !c.has(flagSubscriber) {
		t.Error("SUB makes no subscriber")
	}
}

// OPEN is before whatever else is said of a connection, also if INFO alone is more than
// its client may have unsent.
func TestOpenComesFirst(t *testing.T) {
	m, router := alone(t)
	m.columns = columns(t, m)
	m.cfg.MaxPending = 64
	m.small, m.large = pool{size: smallChunk}, pool{size: chunkSize}
	m.supply = supply{challenges: challenges(1, 1).Texts, next: 1}
	m.supply.greetings[store.WayTCP] = [4][]byte{[]byte("INFO {"), {}, {}, []byte("}")}
	c := &conn{fd: -1, slot: 1, gen: 1, row: m.columns.Row(1), flags: flagBlocked}
	m.conns[1] = c
	m.open(c, &privsep.ConnHandoff{UID: 1, Slot: 1})
	m.out.Publish()
	for i := 0; ; i++ {
		rec, err := router.In.Next()
		if err != nil || i == 0 && store.Kind(rec) != store.KindOpen {
			t.Fatalf("record %d: %v, %v", i, store.Kind(rec), err)
		}
		if rec == nil {
			if i < 2 {
				t.Error("nothing else is said, so this shows nothing")
			}
			return
		}
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

	// A new router goes on with them; to one that has forgotten all the cm says which
	// process it is.
	ends, router := alone(t)
	for _, forget := range []bool{false, true} {
		n := store.InsNewRouter{Forget: forget}
		b := make([]byte, n.Size())
		n.Put(b)
		m.log, m.out, m.generation = privsep.NewLogger(nil), ends.out, 9
		m.supply.greetings[0][0] = []byte("INFO ")
		if err := m.newRouter(b); err != nil {
			t.Fatal(err)
		}
		if forget && (m.supply.next != 0 || m.supply.greetings[0][0] != nil) {
			t.Errorf("%+v", m.supply)
		}
		m.out.Publish()
		if rec, err := router.In.Next(); err != nil || forget != (store.Kind(rec) == store.KindReset) {
			t.Errorf("forget %v: the router hears %v, %v", forget, store.Kind(rec), err)
		}
		if !forget {
			want(m, 20, 2)
		}
	}
}
