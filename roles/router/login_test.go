package router

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// loginRig is a router whose clients must log in, and the end of auth's channel.
type loginRig struct {
	*rig
	auth *privsep.Channel
	peer uint64
}

func newLoginRig(t *testing.T, change func(*privsep.Settings)) *loginRig {
	t.Helper()
	var marks []uint64
	g := &loginRig{rig: newRig(t, func(s *privsep.Settings) {
		s.Auth = true
		if change != nil {
			change(s)
		}
	})}
	g.start(t)
	for mark := range uint64(5000) {
		marks = append(marks, mark)
	}
	g.r.logins.setMarks(marks)
	t.Cleanup(func() { g.hangUp() })
	return g
}

// join gives the router another auth.
func (g *loginRig) join() {
	g.t.Helper()
	g.hangUp()
	ours, theirs, err := privsep.Socketpair()
	g.check(err)
	g.peer++
	p := privsep.Peer{ID: privsep.ID{Role: privsep.RoleAuth}, Key: privsep.NewKey(), Generation: g.peer}
	g.auth = privsep.NewChannel(ours, privsep.RoleAuth, privsep.RoleRouter, p.Key)
	g.auth.SetPhase(privsep.PhaseRun)
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindPeer, Payload: p.Append(nil), FDs: []int{theirs}}))
	g.settle()
}

func (g *loginRig) hangUp() {
	if g.auth != nil {
		g.auth.Close()
	}
}

// settle has the router do what a round of its loop does beside its batches.
func (g *loginRig) settle() {
	g.t.Helper()
	g.r.logins.due = true // as the poller would say
	for g.r.logins.due {
		g.check(g.r.between())
	}
	g.r.commit()
}

// connect opens a connection and says CONNECT, with its number as the user.
func (g *loginRig) connect(slot uint32) store.Conn {
	g.t.Helper()
	c := store.Conn{Slot: slot, Gen: slot + 1}
	g.put(0, &store.RecOpen{Conn: c, UID: uint64(slot), Addr: [16]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: byte(slot)}})
	g.again(c, fmt.Sprintf(`{"user":"%d"}`, slot))
	g.route()
	g.settle()
	return c
}

func (g *loginRig) again(c store.Conn, json string) {
	g.put(0, &store.RecConnect{Conn: c, JSON: []byte(json)})
}

// asked takes what auth is asked.
func (g *loginRig) asked() (all []privsep.Login) {
	g.t.Helper()
	var m privsep.Message
	for {
		err := g.auth.Recv(&m)
		if err == privsep.ErrAgain {
			return all
		}
		g.check(err)
		var l privsep.Login
		g.check(l.Parse(m.Payload))
		l.JSON, l.Chain = bytes.Clone(l.JSON), bytes.Clone(l.Chain)
		all = append(all, l)
	}
}

func (g *loginRig) say(v privsep.Verdict) {
	g.t.Helper()
	g.check(g.auth.Send(privsep.KindVerdict, v.Append(nil)))
	g.settle()
}

func yes(l privsep.Login) privsep.Verdict {
	return privsep.Verdict{ID: l.ID, Try: l.Try, OK: true, Mark: l.ID + 100, User: fmt.Sprint(l.ID)}
}

func no(l privsep.Login) privsep.Verdict {
	return privsep.Verdict{ID: l.ID, Try: l.Try, Reason: privsep.ReasonWrongPassword}
}

// told is what a client is told beside INFO, "closed" if that is the end.
func (g *loginRig) told(c store.Conn) (all string) {
	g.t.Helper()
	for _, r := range g.take(0) {
		ins, ok := r.(*store.InsSend)
		if !ok || ins.Conn != c || strings.HasPrefix(string(ins.Data), "INFO ") {
			continue
		}
		all += string(ins.Data)
		if ins.Flags&store.FlagClose != 0 {
			all += "closed"
		}
	}
	return all
}

func (g *loginRig) fault() (privsep.AuthFault, bool) {
	g.t.Helper()
	var m privsep.Message
	for g.parent.Recv(&m) == nil {
		if m.Kind == privsep.KindAuthFault {
			var f privsep.AuthFault
			g.check(f.Parse(m.Payload))
			return f, true
		}
	}
	return privsep.AuthFault{}, false
}

const violation = "-ERR 'Authorization Violation'\r\nclosed"

func TestLogin(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	c := g.connect(7)
	if got := g.told(c); got != "" {
		t.Fatalf("told %q before the verdict", got)
	}
	s := g.r.links[0].session(c)
	all := g.asked()
	if len(all) != 1 {
		t.Fatalf("asked %d times", len(all))
	}
	l := all[0]
	if l.ID != 7 || l.Addr[15] != 7 || l.Unix || l.TLS || l.Challenge != s.challenge || string(l.JSON) != `{"user":"7"}` {
		t.Errorf("asked %+v", l)
	}
	g.say(yes(l))
	if got := g.told(c); got != "+OK\r\n" || s.identity() != (identity{user: "7", mark: 107}) || s.waits != nil {
		t.Errorf("told %q, is %+v", got, s.identity())
	}
	d := g.connect(8)
	g.say(no(g.asked()[0]))
	if got := g.told(d); got != violation || g.r.links[0].session(d) != nil {
		t.Errorf("told %q", got)
	}
	e := g.connect(9)
	changed := yes(g.asked()[0])
	changed.Mark = 1 << 40
	g.say(changed)
	if got := g.told(e); got != violation {
		t.Errorf("told %q as a user who has been changed", got)
	}
	if len(g.r.logins.waiting) != 0 || g.r.logins.owed != 0 {
		t.Errorf("left: %+v", g.r.logins)
	}
}

// Whoever waits is asked of the next auth, in the order in which he came, and what
// an earlier one says counts for nothing.
func TestLoginsWait(t *testing.T) {
	g := newLoginRig(t, nil)
	var conns []store.Conn
	for slot := range uint32(3) {
		conns = append(conns, g.connect(slot))
	}
	g.join()
	first := g.asked()
	g.join()
	second := g.asked()
	if len(first) != 3 || len(second) != 3 || second[0].ID != 0 || second[2].ID != 2 {
		t.Fatalf("asked %v, then %v", first, second)
	}
	for i, c := range conns {
		g.say(yes(second[i]))
		if got := g.told(c); got != "+OK\r\n" {
			t.Errorf("%d is told %q", i, got)
		}
	}
	g.join()
	if all := g.asked(); len(all) != 0 {
		t.Errorf("asked %v once more", all)
	}
}

// A session that ends is forgotten; one that says CONNECT again is asked about again,
// and the verdict on the first is none.
func TestLoginForgotten(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	c, d := g.connect(1), g.connect(2)
	all := g.asked()
	g.put(0, &store.RecClosed{Conn: c})
	g.again(d, `{"user":"other"}`)
	g.route()
	g.settle()
	next := g.asked()
	if len(next) != 1 || next[0].ID != 2 || next[0].Try == all[1].Try || string(next[0].JSON) != `{"user":"other"}` {
		t.Fatalf("asked %v, then %v", all, next)
	}
	g.take(0)
	for _, l := range all {
		g.say(yes(l))
	}
	mixed := yes(next[0])
	mixed.ID = 1
	g.check(g.auth.Send(privsep.KindVerdict, mixed.Append(nil)))
	g.settle()
	if got := g.told(d); got != "" || g.r.logins.auth == nil {
		t.Errorf("told %q by another's verdict", got)
	}
	if n := len(g.r.logins.waiting); n != 1 {
		t.Errorf("%d wait", n)
	}
	g.put(0, &store.RecClosed{Conn: d})
	g.route()
	if n := len(g.r.logins.waiting); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// What a cm says again to a new router, and that one has read already, counts once:
// the client may go on with the first answer.
func TestConnectAgain(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	c := g.connect(1)
	again := func() {
		g.put(0, &store.RecConnect{Conn: c, Again: true, JSON: []byte(`{"user":"1"}`)})
		g.route()
		g.settle()
	}
	again()
	all := g.asked()
	if len(all) != 1 {
		t.Fatalf("asked %d times", len(all))
	}
	g.say(yes(all[0]))
	again()
	g.put(0, &store.RecPing{Conn: c})
	g.route()
	if got := g.told(c); got != "+OK\r\nPONG\r\n" {
		t.Errorf("told %q", got)
	}
	g.restart()
	again()
	if len(g.r.logins.waiting) != 0 {
		t.Error("one who is in waits")
	}
	d := store.Conn{Slot: 2, Gen: 3}
	g.put(0, &store.RecOpen{Conn: d, UID: 2})
	g.put(0, &store.RecConnect{Conn: d, Again: true, JSON: []byte(`{"user":"1"}`)})
	g.r.links[0].process = 1
	g.route()
	if len(g.r.logins.waiting) != 1 {
		t.Error("one of whom nobody has heard does not wait")
	}
}

// Auth gets the certificates that a cm has seen, of connections by TLS; and the challenge
// once.
func TestLoginChain(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	c := store.Conn{Slot: 1, Gen: 2}
	chain := bytes.Repeat([]byte{0x30}, store.MaxChain)
	g.put(0, &store.RecOpen{Conn: c, UID: 1, TLS: true})
	g.put(0, &store.RecConnect{Conn: c, Chain: chain, JSON: []byte("{}")})
	g.route()
	g.settle()
	all := g.asked()
	if len(all) != 1 || !bytes.Equal(all[0].Chain, chain) || all[0].Challenge != g.r.links[0].session(c).challenge || !all[0].TLS {
		t.Fatalf("asked %d", len(all))
	}
	g.join() // another auth, which is asked the same
	if again := g.asked(); len(again) != 1 || !bytes.Equal(again[0].Chain, chain) || again[0].Challenge != all[0].Challenge || !again[0].Again {
		t.Errorf("asked again: %+v", again)
	}
	all[0].Chain = nil
	g.say(yes(all[0]))
	if n := g.r.logins.long; n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
	g.again(c, "{}")
	g.route()
	g.settle()
	if all = g.asked(); len(all) != 1 || all[0].Challenge != "" || len(all[0].Chain) > 0 {
		t.Errorf("asked %+v", all)
	}
	plain := store.Conn{Slot: 2, Gen: 3}
	g.put(0, &store.RecOpen{Conn: plain, UID: 2})
	g.route()
	if err := g.r.connect(g.r.links[0], record(&store.RecConnect{Conn: plain, Chain: chain[:1], JSON: []byte("{}")})); err != store.ErrRecord {
		t.Errorf("a certificate without TLS: %v", err)
	}
}

func record(r store.Record) []byte {
	b := make([]byte, r.Size())
	return b[:r.Put(b)]
}

// A channel without room holds up nothing, and nobody is left out.
func TestLoginFlood(t *testing.T) {
	const n = 2000
	g := newLoginRig(t, func(s *privsep.Settings) { s.MaxConnections = n })
	g.join()
	json := fmt.Sprintf(`{"user":"a","pass":%q}`, strings.Repeat("x", 1000))
	for slot := range uint32(n) {
		c := store.Conn{Slot: slot, Gen: slot + 1}
		g.put(0, &store.RecOpen{Conn: c, UID: uint64(slot)})
		g.again(c, json)
		g.route()
		g.take(0)
	}
	g.settle()
	if len(g.r.logins.unsent) == 0 {
		t.Fatal("the channel has room for all of them")
	}
	seen := 0
	for seen < n {
		all := g.asked()
		if len(all) == 0 {
			t.Fatalf("asked about %d of %d", seen, n)
		}
		for _, l := range all {
			if l.ID != uint64(seen) {
				t.Fatalf("%d comes in the place of %d", l.ID, seen)
			}
			seen++
			g.say(no(l))
		}
		g.take(0)
	}
	if len(g.r.logins.waiting) != 0 {
		t.Errorf("%d wait", len(g.r.logins.waiting))
	}
}

// Long CONNECTs have a bound together, and what ends gives its share back.
func TestLongLogins(t *testing.T) {
	g := newLoginRig(t, nil)
	c := g.connect(1)
	g.r.logins.long = mostLong - 50000
	g.take(0)
	long := fmt.Sprintf(`{"sig":%q}`, strings.Repeat("x", 30000))
	g.again(c, long)
	d := g.connect(2)
	g.again(d, long)
	g.route()
	if got := g.told(d); got != "closed" || g.r.links[0].session(c) == nil || g.r.links[0].session(d) != nil {
		t.Errorf("told %q", got)
	}
	g.put(0, &store.RecClosed{Conn: c})
	g.route()
	if g.r.logins.long != mostLong-50000 {
		t.Errorf("%d bytes are left", g.r.logins.long-mostLong+50000)
	}
}

// An auth that breaks the rules is not listened to any more, and its end asked for.
func TestHostileAuth(t *testing.T) {
	for name, offend := range map[string]func(*loginRig, privsep.Login){
		"no verdict": func(g *loginRig, _ privsep.Login) { g.check(g.auth.Send(privsep.KindVerdict, []byte("x"))) },
		"one too many": func(g *loginRig, l privsep.Login) {
			for range 2 {
				v := no(l)
				g.check(g.auth.Send(privsep.KindVerdict, v.Append(nil)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newLoginRig(t, nil)
			g.join()
			g.connect(1)
			offend(g, g.asked()[0])
			g.settle()
			if f, ok := g.fault(); !ok || f.Reason != privsep.FaultProtocol || f.Generation != 1 {
				t.Errorf("reported: %v %+v", ok, f)
			}
			if g.r.logins.auth != nil {
				t.Error("it is listened to")
			}
			c := g.connect(2)
			g.join()
			for _, l := range g.asked() {
				g.say(yes(l))
			}
			if got := g.told(c); got != "+OK\r\n" {
				t.Errorf("told %q", got)
			}
		})
	}
}

// One that owes verdicts and gives none is ended after stall_timeout; one that owes
// none may be silent.
func TestSilentAuth(t *testing.T) {
	g := newLoginRig(t, func(s *privsep.Settings) { s.StallTimeout = 20 * time.Millisecond })
	g.join()
	if d := g.r.hush(-1); d >= 0 {
		t.Errorf("waits %v for nothing", d)
	}
	g.connect(1)
	g.r.logins.looked = time.Now().Add(-time.Hour) // all of the broker stood still
	g.check(g.r.between())
	if f, ok := g.fault(); ok {
		t.Errorf("reported after a pause of everybody: %+v", f)
	}
	began := time.Now()
	for {
		d := g.r.hush(-1) // as the loop does
		if d <= 0 || d > 20*time.Millisecond || time.Since(began) > 20*time.Second {
			t.Fatalf("waits %v, after %v", d, time.Since(began))
		}
		if _, err := g.r.poll.Wait(d); err != nil {
			t.Fatal(err)
		}
		g.check(g.r.between())
		if f, ok := g.fault(); ok {
			if took := time.Since(began); f.Reason != privsep.FaultStalled || took < 10*time.Millisecond {
				t.Errorf("reported after %v: %+v", took, f)
			}
			break
		}
	}
	g.say(yes(g.asked()[0]))
	if d := g.r.hush(-1); d >= 0 {
		t.Errorf("waits %v for nothing", d)
	}
}

// Whoever waits is let in when nobody needs to log in any more.
func TestLoginsOff(t *testing.T) {
	g := newLoginRig(t, nil)
	c := g.connect(1)
	live := g.r.cfg.Live
	live.Auth = false
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindSettings, Payload: live.Append(nil)}))
	g.settle()
	if got := g.told(c); got != "+OK\r\n" || g.r.links[0].session(c).who != nil {
		t.Errorf("told %q", got)
	}
}

// The sessions of users who are not any more what they were when they logged in end.
func TestStanding(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	c, d := g.connect(1), g.connect(2)
	for _, l := range g.asked() {
		g.say(yes(l))
	}
	g.take(0)
	for i, p := range []privsep.Standing{{Set: 1, Marks: []uint64{102}}, {Set: 1, Last: true, Marks: []uint64{7}}} {
		g.check(g.r.handle(&privsep.Message{Kind: privsep.KindStanding, Payload: p.Append(nil)}))
		g.settle()
		if gone := g.r.links[0].session(c) == nil; gone != (i == 1) {
			t.Errorf("after part %d: ended %v", i, gone)
		}
	}
	if got := g.told(c); got != violation {
		t.Errorf("told %q", got)
	}
	if s := g.r.links[0].session(d); s == nil || s.identity().mark != 102 {
		t.Errorf("the other is %+v", s)
	}
}

// Who a client is, and what it may do by that, outlives the router; so does what is
// judged of it afterwards.
func TestLoginOutlivesRouter(t *testing.T) {
	g := newLoginRig(t, func(s *privsep.Settings) { s.AnonymousProfile = "nobody" })
	g.join()
	c := g.connect(1)
	g.say(yes(g.asked()[0]))
	d := g.connect(2) // waits
	if s := g.r.links[0].session(c); s.prof != unrestricted {
		t.Errorf("has %+v", s.prof)
	}
	g.restart()
	s := g.r.links[0].session(c)
	if s == nil || !s.admitted || s.prof != unrestricted || s.identity() != (identity{user: "1", mark: 101}) {
		t.Fatalf("is %+v", s)
	}
	if s := g.r.links[0].session(d); s == nil || s.admitted {
		t.Errorf("the one that waits is %+v", s)
	}
	g.r.logins.setMarks([]uint64{101})
	g.settle()
	if g.r.links[0].session(c) == nil {
		t.Error("ended")
	}
	g.r.logins.setMarks([]uint64{102})
	g.settle()
	if g.r.links[0].session(c) != nil {
		t.Error("goes on")
	}
}

// A challenge is good for one login, whether the router that hears a second one has seen
// the first or read of it.
func TestChallengeUsedOutlivesRouter(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	c := g.connect(1)
	first := g.asked()
	if len(first) != 1 || first[0].Challenge == "" {
		t.Fatalf("auth is asked %+v", first)
	}
	g.say(yes(first[0]))
	for _, before := range []func(){func() {}, g.restart, func() { g.r.compact() }, g.restart} {
		before()
		g.r.links[0].process = 1
		g.join()
		g.again(c, `{"user":"1"}`)
		g.route()
		g.settle()
		if all := g.asked(); len(all) == 0 || all[len(all)-1].Challenge != "" {
			t.Fatalf("auth is asked %+v", all)
		}
	}
}

// Whoever has been let in without a question goes when everybody must log in.
func TestLoginsOn(t *testing.T) {
	g := newLoginRig(t, func(s *privsep.Settings) { s.Auth = false })
	c := g.open(0, 1, 1, "")
	live := g.r.cfg.Live
	live.Auth = true
	g.check(g.r.handle(&privsep.Message{Kind: privsep.KindSettings, Payload: live.Append(nil)}))
	g.settle()
	if got := g.told(c); got != violation {
		t.Errorf("told %q", got)
	}
	d := store.Conn{Slot: 2, Gen: 2}
	g.put(0, &store.RecOpen{Conn: d, UID: 2})
	g.put(0, &store.RecPing{Conn: d})
	g.route()
	if got := g.told(d); got != violation {
		t.Errorf("told %q without a CONNECT", got)
	}
}

// Which process has connected is the dispatcher's word, about connections that it has
// handed to the cm that speaks of them, and nobody else's.
func TestLoginProcess(t *testing.T) {
	g := newLoginRig(t, nil)
	g.join()
	table, err := g.mem.Table()
	g.check(err)
	process := store.ConnProcess{PID: 7, UID: 1000, GID: 100, PidIno: 1 << 40}
	row := func(slot uint32, change func(*store.ConnInfo)) {
		i := store.ConnInfo{UID: uint64(slot), CM: 0, Unix: true, Process: process}
		change(&i)
		table.Row(int(slot)).Set(&i)
	}
	row(1, func(*store.ConnInfo) {})
	row(2, func(i *store.ConnInfo) { i.UID = 99 }) // somebody else has the slot
	row(3, func(i *store.ConnInfo) { i.CM = 1 })   // another cm has the connection
	row(4, func(i *store.ConnInfo) { i.Unix = false })
	row(5, func(*store.ConnInfo) {})
	row(7, func(i *store.ConnInfo) { i.CM = 1 }) // which moves to this one
	for slot := range uint32(6) {
		o := store.RecOpen{Conn: store.Conn{Slot: slot + 1, Gen: 1}, UID: uint64(slot + 1), Unix: true}
		if slot+1 == 5 {
			o.Unix, o.Addr = false, [16]byte{10: 0xff, 11: 0xff, 12: 192} // says the cm
		}
		g.put(0, &o)
		g.again(o.Conn, `{}`)
	}
	g.route()
	g.settle()
	for i, l := range g.asked() {
		want := privsep.Process{}
		if i == 0 {
			want = privsep.Process(process)
		}
		if l.Process != want || l.Unix != (l.ID != 5) {
			t.Errorf("connection %d is of %+v", l.ID, l.Process)
		}
	}
	g.r.links[1].successor = g.r.links[0]
	g.put(0, &store.RecOpen{Conn: store.Conn{Slot: 7, Gen: 1}, UID: 7, Unix: true})
	g.again(store.Conn{Slot: 7, Gen: 1}, `{}`)
	g.route()
	g.settle()
	if got := g.asked(); len(got) != 1 || got[0].Process != privsep.Process(process) {
		t.Errorf("after a move: %+v", got)
	}
	g.r.links[1].successor = nil
}
