package router

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// openConsole opens a connection as the console does; the dispatcher has a word on it,
// whatever that is.
func (g *rig) openConsole(cm int, slot uint32, row store.ConnInfo) store.Conn {
	g.t.Helper()
	table, err := g.mem.Table()
	g.check(err)
	table.Row(int(slot)).Set(&row)
	c := store.Conn{Slot: slot, Gen: slot}
	g.put(cm, &store.RecOpen{Conn: c, UID: uint64(slot), Unix: true})
	g.put(cm, &store.RecConnect{Conn: c, JSON: []byte(`{"verbose":false,"pedantic":false,"headers":true}`)})
	g.put(cm, &store.RecSub{Conn: c, Subject: []byte("$SYS.REQ.>"), Queue: []byte("console"), SID: []byte("1")})
	g.route()
	g.take(0)
	g.take(1)
	return c
}

// askers opens two clients, of whom the first may ask for the state of the broker; both
// listen to everything.
func (g *rig) askers() (may, may2not store.Conn) {
	g.t.Helper()
	everything, asker := everythingAllowed, everythingAllowed
	everything.Name, asker.Name, asker.System = "any", "asker", true
	asker.PublishAll, asker.PublishAllow, asker.RequestTypes = false, []string{"nothing"}, []string{"t"}
	asker.PublishDeny = []string{"$SYS.REQ.*.PING.DENIED"}
	g.profiles([]privsep.Profile{everything, asker}, func(*privsep.Live) {})
	may, may2not = g.open(0, 1, 1, `,"headers":true,"no_responders":true`), g.open(0, 2, 2, `,"headers":true,"no_responders":true`)
	g.login(g.r.links[0].session(may), "", identity{user: "alice", organisation: "ORGA", profile: "asker", mark: 1})
	for _, c := range []store.Conn{may, may2not} {
		g.sub(0, c, ">", "", "7")
		g.sub(0, c, "$SYS.>", "", "8")
		g.sub(0, c, "$SYS.REQ.SERVER.PING", "console", "9")
	}
	g.take(0)
	return may, may2not
}

// sent is what a client is told, "" for nothing.
func sent(list []store.Record, c store.Conn) (all string) {
	for _, r := range list {
		if ins, ok := r.(*store.InsSend); ok && ins.Conn == c {
			all += string(ins.Data)
		}
	}
	return all
}

// Requests for the state of the broker go to the console, of whom the dispatcher says so,
// and to nobody else; its answers go to who has asked, once each.
func TestSystemRequest(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	console := g.openConsole(1, 3, store.ConnInfo{UID: 3, CM: 1, Unix: true, System: true})
	may, not := g.askers()
	const subject = "$SYS.REQ.SERVER.PING"
	for range 3 { // found, then kept
		got := g.says(0, may, subject, "r", store.Facts{})
		ins, ok := got[1][0].(*store.InsDeliver)
		if len(got[0]) != 0 || !ok || string(ins.From) != "user=alice; organisation=ORGA" || g.recipients(1, ins)[0].conn != console {
			t.Fatalf("a request leads to %+v", got)
		}
		if to := reached(g.says(1, console, "r", "", store.Facts{})); to != 0 {
			t.Fatalf("an answer goes to cm %d", to)
		}
		if got := g.says(1, console, "r", "", store.Facts{}); !strings.Contains(sent(got[1], console), "Permissions Violation") {
			t.Fatal("another answer is allowed")
		}
	}
	for what, got := range map[string]struct {
		list [2][]store.Record
		want string
	}{
		"one who may not":      {g.says(0, not, subject, "r", store.Facts{}), "503"},
		"one who does not ask": {g.says(0, not, subject, "", store.Facts{}), ""},
		"what is denied":       {g.says(0, may, "$SYS.REQ.SERVER.PING.DENIED", "r", store.Facts{}), "Permissions Violation"},
		"another subject":      {g.says(0, may, "$SYS.REQUEST", "r", store.Facts{}), "Permissions Violation"},
	} {
		if to := reached(got.list); to != -1 || (got.want == "") != (len(got.list[0]) == 0) || got.want != "" && !strings.Contains(sent(got.list[0], may)+sent(got.list[0], not), got.want) {
			t.Errorf("%s: %d, %+v", what, to, got.list)
		}
	}
	g.sub(1, console, ">", "", "2")
	if got := g.take(1); !strings.Contains(sent(got, console), "Permissions Violation") {
		t.Error("the console may listen to everything")
	}
}

// Where the answer would go to others than who asks, nobody is asked.
func TestSystemReplyIsTheAskers(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	g.openConsole(1, 3, store.ConnInfo{UID: 3, CM: 1, Unix: true, System: true})
	may, not := g.askers()
	g.put(0, &store.RecUnsub{Conn: may, SID: []byte("7")})
	g.route()
	for _, reply := range []string{"px.prices", "$SYS.REQ.SERVER.PING", ""} {
		if to := reached(g.says(0, may, "$SYS.REQ.SERVER.PING", reply, store.Facts{})); to != -1 {
			t.Errorf("with reply %q it goes to %d", reply, to)
		}
		if to := reached(g.says(0, not, wire.UserInfo, reply, store.Facts{})); to != -1 {
			t.Errorf("user info with reply %q goes to %d", reply, to)
		}
	}
}

// What a cm says of a connection makes no console of it.
func TestConsoleIsTheDispatchersWord(t *testing.T) {
	for what, row := range map[string]store.ConnInfo{
		"a client":      {UID: 3, CM: 1, Unix: true},
		"another's cm":  {UID: 3, CM: 0, Unix: true, System: true},
		"another one":   {UID: 4, CM: 1, Unix: true, System: true},
		"no such place": {},
	} {
		g := newRig(t, nil)
		g.start(t)
		c := g.openConsole(1, 3, row)
		if s := g.r.links[1].session(c); s.console || s.prof == consoleProfile || g.r.consoles != 0 {
			t.Errorf("%s is the console", what)
		}
		may, _ := g.askers()
		if to := reached(g.says(0, may, "$SYS.REQ.SERVER.PING", "r", store.Facts{})); to != -1 {
			t.Errorf("%s is asked", what)
		}
	}
}

// The console need not log in, is not counted, and is the console for the next router and
// on another cm.
func TestConsoleStays(t *testing.T) {
	g := newLoginRig(t, nil)
	console := g.openConsole(0, 3, store.ConnInfo{UID: 3, CM: 0, Unix: true, System: true})
	check := func(when string, cm int) {
		t.Helper()
		s := g.r.links[cm].session(console)
		if s == nil || !s.console || !s.admitted || s.prof != consoleProfile || g.r.consoles != 1 || len(s.subs) != 1 {
			t.Fatalf("%s: %+v, %d of them", when, s, g.r.consoles)
		}
	}
	check("at first", 0)
	g.r.logins.setMarks(nil)
	g.settle()
	check("after a review", 0)
	g.retires()
	g.put(0, &store.RecMove{Conn: console, To: 1})
	g.route()
	check("after a move", 1)
	g.succeed()
	g.takeOver()
	check("for the next router", 1)
	g.put(1, &store.RecClosed{Conn: console})
	g.route()
	if g.r.consoles != 0 {
		t.Errorf("%d are left", g.r.consoles)
	}
}

// Everybody is told who he is, and what his profile allows.
func TestUserInfo(t *testing.T) {
	g := newRig(t, nil)
	g.start(t)
	p := privsep.Profile{Name: "desk", PublishAllow: []string{"px.>"}, PublishDeny: []string{"px.<&\""}, SubscribeAllow: []string{}, Modes: privsep.AllModes,
		Responses: 2, Weight: 1}
	long := p
	long.Name, long.PublishAllow = "long", nil
	for i := range 110 {
		long.PublishAllow = append(long.PublishAllow, strings.Repeat("x", 250)+strconv.Itoa(i))
	}
	g.profiles([]privsep.Profile{p, long}, func(*privsep.Live) {})
	anybody := g.open(0, 1, 1, "")
	g.sub(0, anybody, "r", "", "7")
	nobody := *g.r.links[0].session(anybody)
	for profile, want := range map[string]string{
		"":     `{"user":"","account":"$G"}`,
		"desk": `{"user":"alice","account":"$G","permissions":{"publish":{"allow":["px.>"],"deny":["px.<&\""]},"subscribe":{"deny":[">"]},"responses":{"max":2,"ttl":30000000000}}}`,
		"long": `{"user":"alice","account":"$G","permissions":{"publish":{"allow":["` + strings.Join(long.PublishAllow, `","`) +
			`"],"deny":["px.<&\""]},"subscribe":{"deny":[">"]},"responses":{"max":2,"ttl":30000000000}}}`,
	} {
		s := g.r.links[0].session(anybody)
		if s.prof, s.who = nobody.prof, nobody.who; profile != "" {
			s.prof, s.who = g.r.profiles[profile], whoIs(identity{user: "alice", profile: profile, mark: 1}, "", powerless)
		}
		got := g.says(0, anybody, wire.UserInfo, "r", store.Facts{})
		head, body, _ := strings.Cut(sent(got[0], anybody), "\r\n")
		var a struct {
			Server wire.ServerInfo
			Data   json.RawMessage
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil || !strings.HasPrefix(head, "MSG r 7 ") || a.Server.ID != "DEBUG" {
			t.Fatalf("profile %q: %v, %q, %.200q", profile, err, head, body)
		}
		var w, d any
		if json.Unmarshal([]byte(want), &w) != nil || json.Unmarshal(a.Data, &d) != nil {
			t.Fatal("JSON")
		}
		wb, _ := json.Marshal(w)
		db, _ := json.Marshal(d)
		if string(wb) != string(db) {
			t.Errorf("profile %q: %.300s, want %.300s", profile, db, wb)
		}
	}
}
