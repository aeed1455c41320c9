package cm

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// limit tells the cm a connection's limits.
func (g *rig) limit(slot uint32, ins store.InsSession) {
	g.t.Helper()
	g.do(func() {
		ins.Conn = store.Conn{Slot: slot, Gen: uint32(g.uids[slot])}
		g.tell(&ins)
	})
	g.counters() // taken
}

// A connection's own max_payload is like the general one, which it is never above.
func TestOwnPayload(t *testing.T) {
	g := newPlainRig(t)
	c, other := g.join(), g.join()
	io.WriteString(c, "PUB a 20\r\n0123456789")
	g.until("the part to be read", func() bool { return g.cols.Row(0).InBytes.Load() > 60 })
	g.limit(0, store.InsSession{MaxPayload: 10})
	io.WriteString(c, "0123456789\r\n") // begun before
	hears(t, c, "MSG a 1 20\r\n01234567890123456789\r\n")
	io.WriteString(c, "PUB a 10\r\n0123456789\r\n")
	hears(t, c, "MSG a 1 10\r\n0123456789\r\n")
	io.WriteString(other, "PUB a 11\r\n01234567890\r\n")
	hears(t, other, "MSG a 1 11\r\n01234567890\r\n")
	io.WriteString(c, "PUB a 11\r\n01234567890\r\n")
	io.Copy(io.Discard, c)
	c.Close()
	g.until("the end of one", func() bool { return len(g.closed) == 1 && len(g.fails) == 1 })
	most := uint32(g.cfg.MaxPayload)
	g.limit(1, store.InsSession{MaxPayload: 1 << 31})
	fmt.Fprintf(other, "PUB a %d\r\n%s\r\n", most, make([]byte, most))
	hears(t, other, fmt.Sprintf("MSG a 1 %d\r\n%s\r\n", most, make([]byte, most)))
	fmt.Fprintf(other, "PUB a %d\r\n", most+1)
	io.Copy(io.Discard, other)
	other.Close()
	g.until("the end of both", func() bool { return len(g.closed) == 2 })
	g.do(func() {
		for _, f := range g.fails {
			if f.Code != uint8(wire.CodeMaxPayload) {
				t.Errorf("code %d", f.Code)
			}
		}
	})
}

// Limits end when the router says so.
func TestOwnLimitsEnd(t *testing.T) {
	g := newPlainRig(t)
	c := g.join()
	g.limit(0, store.InsSession{MaxPayload: 1, Rate: 1})
	io.WriteString(c, "PUB a 1\r\nx\r\nPUB a 1\r\ny\r\n")
	hears(t, c, "MSG a 1 1\r\nx\r\n")
	g.limit(0, store.InsSession{})
	hears(t, c, "MSG a 1 1\r\ny\r\n")
	io.WriteString(c, strings.Repeat("PUB a 2\r\nxy\r\n", 100))
	hears(t, c, strings.Repeat("MSG a 1 2\r\nxy\r\n", 100))
}

// A connection's own max_pending cuts it off alone.
func TestOwnPending(t *testing.T) {
	m, _ := loopless(t, 1)
	m.now = int64(time.Hour) // long after either has taken anything
	c, other := m.mute(0, 0), m.mute(1, 0)
	say(t, m, &store.InsSession{Conn: c.ref(), MaxPending: 10000})
	for _, n := range []int{9000, 1000} {
		for _, c := range []*conn{c, other} {
			m.write3(c, make([]byte, n), nil, nil)
		}
	}
	if m.conns[0] != c || m.slow != 0 {
		t.Fatal("cut off at the limit")
	}
	for _, c := range []*conn{c, other} {
		m.write3(c, make([]byte, 1), nil, nil)
	}
	if m.conns[0] != nil || m.conns[1] != other || m.slow != 1 {
		t.Errorf("%v, %v, %d slow", m.conns[0], m.conns[1], m.slow)
	}
	say(t, m, &store.InsSession{Conn: other.ref(), MaxPending: 16 << 20})
	m.write3(other, make([]byte, 10<<20), nil, nil)
	if m.conns[1] != other {
		t.Error("cut off by the general limit, which is lower than its own")
	}
}

// The rate, by a clock that the test sets: the messages of a second at once, then
// one for each interval, with little beyond the first step of waiting.
func TestRate(t *testing.T) {
	for _, rate := range []int{1, 2, 7, 100, 999, 100000} {
		m, mem := loopless(t, 1)
		router, err := mem.RouterEnds(0)
		must(t, err)
		named, err := mem.Named(0, true)
		must(t, err)
		m.now = int64(time.Hour)
		c := m.mute(0, flagConnected)
		say(t, m, &store.InsSession{Conn: c.ref(), Rate: uint32(rate)})
		m.queue(c) // for resume
		start, total := m.now, 3*rate
		c.rest = []byte(strings.Repeat("PUB a 0\r\n\r\n", total+1))
		routed := func() {
			m.out.Publish()
			for rec, _ := router.In.Next(); rec != nil; rec, _ = router.In.Next() {
			}
			router.In.Release()
			for seq := named.Last() + 1; seq <= m.inMsgs; seq++ {
				named.Set(seq, 0)
				named.Commit(seq)
			}
			m.arena.Reclaim()
		}
		for m.inMsgs < uint64(total) {
			if m.parseRest(c); m.full {
				routed()
				m.resume()
				continue
			}
			routed()
			elapsed := time.Duration(m.now - start)
			most := uint64(rate) + uint64(float64(rate)*elapsed.Seconds()+1e-3)
			least := most - min(most, 1+uint64(float64(rate)*time.Duration(paceStep).Seconds()))
			if m.inMsgs > most || m.inMsgs < least {
				t.Fatalf("rate %d: %d messages after %v, want %d to %d", rate, m.inMsgs, elapsed, least, most)
			}
			if m.inMsgs == uint64(total) {
				break
			}
			if !c.has(flagPaced) || m.pace.next <= m.now {
				t.Fatalf("rate %d: not paced after %d messages, or for no time", rate, m.inMsgs)
			}
			if d := m.timeout(); int64(d) > m.pace.next-m.now {
				t.Fatalf("rate %d: sleeps for %v", rate, d)
			}
			m.now = m.pace.next - 1
			if m.unpace(); !c.has(flagPaced) {
				t.Fatalf("rate %d: early", rate)
			}
			m.now++
			m.unpace()
		}
		if d := time.Duration(m.now - start); d < 2*time.Second-time.Duration(paceStep)-time.Second/time.Duration(rate) || d > 2*time.Second+2*time.Duration(paceStep) {
			t.Errorf("rate %d: %d messages took %v", rate, total, d)
		}
		if len(m.pace.conns) > 2 {
			t.Errorf("rate %d: listed %d times", rate, len(m.pace.conns))
		}
	}
}

// Reading pauses for one client alone, by TLS as well, and nothing is lost.
func TestRatePauses(t *testing.T) {
	for _, plain := range []bool{true, false} {
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			g := newRig(t, func(s *privsep.Settings) { s.AuthTimeout = 20 * time.Second })
			g.do(func() { g.plain = plain })
			dial := g.join
			if !plain {
				cert := g.certificate(1, newKey(t, "p256"))
				dial = func() net.Conn {
					return g.client(&tls.Config{RootCAs: trusting(cert).RootCAs, ServerName: "localhost"})
				}
			}
			c, other := dial(), dial()
			ping(t, c)
			g.limit(0, store.InsSession{Rate: 100})
			start := time.Now()
			var in, out strings.Builder
			for i := range 180 {
				fmt.Fprintf(&in, "PUB a 3\r\n%03d\r\n", i)
				fmt.Fprintf(&out, "MSG a 1 3\r\n%03d\r\n", i)
			}
			go io.WriteString(c, in.String()+"PING\r\n")
			ping(t, other)
			hears(t, c, out.String()+"PONG\r\n")
			if d := time.Since(start); d < 790*time.Millisecond {
				t.Errorf("all of it in %v", d)
			}
		})
	}
}

// A client that has sent too much moves with what is not parsed, and its next
// process is told its limits.
func TestRateMoves(t *testing.T) {
	g := newPlainRig(t)
	c := g.join()
	g.limit(0, store.InsSession{Rate: 1})
	io.WriteString(c, strings.Repeat("PUB a 1\r\nx\r\n", 5))
	hears(t, c, "MSG a 1 1\r\nx\r\n")
	mv, b, _ := g.moved(g.retire(time.Minute))
	rest := string(b[mv.Parser:])
	if want := strings.Repeat("PUB a 1\r\nx\r\n", 4); rest != want && rest != want[12:] || mv.Output != 0 {
		t.Fatalf("%+v, %q", mv, rest)
	}
	v := newMover(t)
	client, fd := v.socket()
	to := v.announce(1000, 7)
	v.do(func() { v.tell(&store.InsSession{Conn: to, Rate: 2, MaxPayload: 1}) })
	mv = privsep.MoveConn{UID: 1000, Slot: 7, Flags: privsep.MoveConnected, Parser: mv.Parser, Rest: uint32(len(rest))}
	start := time.Now()
	v.check(v.ch.Send(privsep.KindMoveConn, mv.Append(nil), fd))
	v.check(v.ch.Send(privsep.KindMoveBytes, b))
	io.WriteString(client, "PUB a 2\r\n")
	hears(t, client, strings.Repeat("MSG a 1 1\r\nx\r\n", len(rest)/12))
	if d := time.Since(start); d < 490*time.Millisecond {
		t.Errorf("all of it in %v", d)
	}
	v.until("the word on the last", func() bool { return len(v.fails) == 1 && v.fails[0].Code == uint8(wire.CodeMaxPayload) })
}

// A broker that ends takes what was read, at any rate.
func TestRateStops(t *testing.T) {
	g := newPlainRig(t)
	g.do(func() { g.leaves = true })
	c := g.join()
	g.limit(0, store.InsSession{Rate: 1})
	io.WriteString(c, strings.Repeat("PUB a 1\r\nx\r\n", 50))
	hears(t, c, "MSG a 1 1\r\nx\r\n")
	g.do(func() { g.send(privsep.KindShutdown, (&privsep.Shutdown{Drain: time.Minute}).Append(nil)) })
	hears(t, c, strings.Repeat("MSG a 1 1\r\nx\r\n", 49))
}

// The loop does not wake before tick does anything.
func TestTimeoutOfTick(t *testing.T) {
	m := &cm{live: 1, now: 1000, nextFast: 1000 + int64(fastTick), nextSlow: 1000 + int64(fastTick)/2}
	if d := m.timeout(); d < fastTick {
		t.Errorf("sleeps for %v", d)
	}
}
