package router

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/tickets"
)

// ticketRig is a router with a client that has logged in, by a profile that may go to
// orgb, and listens on "in".
type ticketRig struct {
	*loginRig
	c store.Conn
}

func newTicketRig(t *testing.T) *ticketRig {
	t.Helper()
	g := &ticketRig{loginRig: newLoginRig(t, nil)}
	g.r.profiles = newSet([]privsep.Profile{{Name: "traveller", Weight: 1, Transfer: []string{"orgb"}}, {Name: "homebody", Weight: 1, PublishAll: true, SubscribeAll: true}})
	g.r.profiles["traveller"].subscribe.all = true
	g.join()
	g.r.clock() // which stands still from here on
	g.c = g.client(7, privsep.Verdict{User: "alice", Organisation: "ORGA", Profile: "traveller"}, `"headers":true,"no_responders":true,`)
	return g
}

// client logs one in, as whom v says.
func (g *ticketRig) client(slot uint32, v privsep.Verdict, options string) store.Conn {
	g.t.Helper()
	c := store.Conn{Slot: slot, Gen: slot + 1}
	g.put(0, &store.RecOpen{Conn: c, UID: uint64(slot)})
	g.again(c, `{`+options+`"user":"x","verbose":false,"pedantic":false}`)
	g.route()
	g.settle()
	l := g.asked()[0]
	v.ID, v.Try, v.OK, v.Mark = l.ID, l.Try, true, 1
	g.say(v)
	g.sub(0, c, "in", "", "1")
	if got := g.told(c); got != "" {
		g.t.Fatalf("told %q", got)
	}
	return c
}

const nonce = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"

func (g *ticketRig) ask(c store.Conn, subject, reply, body string) string {
	g.t.Helper()
	r := &store.RecAsk{Conn: c, Subject: []byte(subject), Reply: []byte(reply), Body: []byte(body)}
	if r.Long = len(body) > store.MaxAsk; r.Long {
		r.Body = nil
	}
	g.put(0, r)
	g.route()
	return g.told(c)
}

func (g *ticketRig) want(c store.Conn) string {
	return g.ask(c, "$GATE.ticket", "in", `{"nonce":"`+nonce+`","environment":"orgb"}`)
}

// wanted takes what the parent is asked.
func (g *ticketRig) wanted() (all []privsep.TicketSign) {
	g.t.Helper()
	var m privsep.Message
	for g.parent.Recv(&m) == nil {
		if m.Kind == privsep.KindTicketSign {
			var s privsep.TicketSign
			g.check(s.Parse(m.Payload))
			all = append(all, s)
		}
	}
	return all
}

// answer is the parent's.
func (g *ticketRig) answer(id uint64, ticket string) {
	g.t.Helper()
	a := privsep.TicketSigned{ID: id, Ticket: []byte(ticket)}
	g.check(g.parent.Send(privsep.KindTicketSigned, a.Append(nil)))
	g.check(g.r.fromParent())
	if !g.r.noted() {
		g.t.Fatalf("nothing to do after an answer")
	}
	g.settle()
}

// wait lets the router's clock go on.
func (g *ticketRig) wait(ms int64) {
	g.r.time += ms
	g.r.expire()
	g.r.commit()
}

func status(code int, text string) string {
	head := fmt.Sprintf("NATS/1.0 %d %s\r\n\r\n", code, text)
	return fmt.Sprintf("HMSG in 1 %d %d\r\n%s\r\n", len(head), len(head), head)
}

const unavailable = "HMSG in 1 37 37\r\nNATS/1.0 504 Transfer Unavailable\r\n\r\n\r\n"

func TestTicket(t *testing.T) {
	g := newTicketRig(t)
	if got := g.want(g.c); got != "" {
		t.Fatalf("told %q at once", got)
	}
	all := g.wanted()
	raw, _ := base64.RawURLEncoding.DecodeString(nonce)
	if len(all) != 1 || all[0] != (privsep.TicketSign{ID: all[0].ID, Connection: 7, Nonce: [24]byte(raw), User: "alice", Organisation: "ORGA", Audience: "orgb"}) {
		t.Fatalf("the parent is asked %+v", all)
	}
	g.answer(all[0].ID, "a.b.c")
	if got := g.told(g.c); got != "MSG in 1 5\r\na.b.c\r\n" {
		t.Errorf("told %q", got)
	}
	g.wait(ticketEvery)
	g.want(g.c)
	g.answer(g.wanted()[0].ID, "")
	if got := g.told(g.c); got != unavailable {
		t.Errorf("told %q without a ticket", got)
	}
	g.wait(ticketPatience)
	if d := &g.r.desk; len(d.queue)+len(d.byID)+len(d.byWho)+len(d.signed) != 0 {
		t.Errorf("left: %+v", d)
	}
}

// Who may not have a ticket is told so, and the parent is not asked.
func TestTicketRefused(t *testing.T) {
	g := newTicketRig(t)
	headers := `"headers":true,"no_responders":true,`
	anybody := g.client(1, privsep.Verdict{Profile: "traveller"}, headers) // by token
	homebody := g.client(2, privsep.Verdict{User: "bob", Profile: "homebody"}, headers)
	odd := g.client(3, privsep.Verdict{User: "a\nb", Profile: "traveller"}, headers)
	deaf := g.client(4, privsep.Verdict{User: "bob", Profile: "homebody"}, "")
	body := `{"nonce":"` + nonce + `","environment":"orgb"}`
	bad, no := status(400, "Bad Ticket Request"), status(403, "Transfer Not Permitted")
	for name, tt := range map[string]struct {
		c                    store.Conn
		subject, reply, body string
		want                 string
	}{
		"by token":            {anybody, "$GATE.ticket", "in", body, no},
		"another profile":     {homebody, "$GATE.ticket", "in", body, no},
		"a name that is none": {odd, "$GATE.ticket", "in", body, no},
		"without headers":     {deaf, "$GATE.ticket", "in", body, ""},
		"another environment": {g.c, "$GATE.ticket", "in", strings.Replace(body, "orgb", "orgc", 1), no},
		"nothing":             {g.c, "$GATE.ticket", "in", "", bad},
		"no JSON":             {g.c, "$GATE.ticket", "in", "orgb", bad},
		"much":                {g.c, "$GATE.ticket", "in", body + strings.Repeat(" ", store.MaxAsk), bad},
		"no reply":            {g.c, "$GATE.ticket", "", body, ""},
		"another question":    {g.c, "$GATE.time", "in", body, "HMSG in 1 42 42\r\nNATS/1.0 503\r\nNats-Subject: $GATE.time\r\n\r\n\r\n"},
		"no question":         {g.c, "$GATE.", "in", body, "HMSG in 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: $GATE.\r\n\r\n\r\n"},
		"not listening":       {g.c, "$GATE.ticket", "out", "", ""},
		"a reserved reply":    {g.c, "$GATE.ticket", "$JS.ACK.x", body, "-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n"},
	} {
		if got := g.ask(tt.c, tt.subject, tt.reply, tt.body); got != tt.want {
			t.Errorf("%s: told %q, want %q", name, got, tt.want)
		}
	}
	if all := g.wanted(); len(all) != 0 {
		t.Errorf("the parent is asked %+v", all)
	}
}

// Nobody gets more than a ticket at a time, and ten a second.
func TestTicketPace(t *testing.T) {
	g := newTicketRig(t)
	other := g.client(1, privsep.Verdict{User: "bob", Profile: "traveller"}, `"headers":true,`)
	tooMany := status(429, "Too Many Requests")
	g.want(g.c)
	if got := g.want(g.c); got != tooMany {
		t.Errorf("two at a time: %q", got)
	}
	if got := g.want(other); got != "" {
		t.Errorf("another client: %q", got)
	}
	all := g.wanted()
	if len(all) != 2 {
		t.Fatalf("the parent is asked %+v", all)
	}
	g.answer(all[0].ID, "a.b.c")
	g.told(g.c)
	if got := g.want(g.c); got != tooMany {
		t.Errorf("one after the other: %q", got)
	}
	g.wait(ticketEvery)
	if got := g.want(g.c); got != "" {
		t.Errorf("a while later: %q", got)
	}
	for i := range mostTickets {
		g.r.desk.queue = append(g.r.desk.queue, &ticketAsk{id: uint64(1000 + i), at: g.r.clock(), done: true})
	}
	third := g.client(2, privsep.Verdict{User: "carol", Profile: "traveller"}, `"headers":true,`)
	if got := g.want(third); got != tooMany {
		t.Errorf("one of very many: %q", got)
	}
}

// A parent that says nothing is waited for, not for ever, and what it says later is
// nothing.
func TestTicketLate(t *testing.T) {
	g := newTicketRig(t)
	g.want(g.c)
	id := g.wanted()[0].ID
	g.wait(ticketPatience - 1)
	if got := g.told(g.c); got != "" {
		t.Errorf("told %q too early", got)
	}
	if d := g.r.expiry(); d < 0 || d.Milliseconds() > 1 {
		t.Errorf("the router would sleep for %v", d)
	}
	g.wait(1)
	if got := g.told(g.c); got != unavailable {
		t.Errorf("told %q", got)
	}
	g.answer(id, "a.b.c")
	if got := g.told(g.c); got != "" {
		t.Errorf("told %q in the end", got)
	}
}

// One who has gone meanwhile is told nothing.
func TestTicketOfNobody(t *testing.T) {
	g := newTicketRig(t)
	g.want(g.c)
	g.put(0, &store.RecClosed{Conn: g.c})
	g.route()
	g.answer(g.wanted()[0].ID, "a.b.c")
	if got := g.told(g.c); got != "" {
		t.Errorf("told %q", got)
	}
	if got := g.want(g.c); got != "" || len(g.wanted()) != 0 {
		t.Errorf("told %q", got)
	}
}

// A cm that was taken over cannot have such a message go to anybody.
func TestBrokersSubjectsArePublishedByNobody(t *testing.T) {
	g := newTicketRig(t)
	g.sub(0, g.c, "$GATE.>", "", "2")
	g.put(0, &store.RecPub{Conn: g.c, Seq: 1, HeaderLen: -1, Subject: []byte("$GATE.ticket")})
	g.route()
	if got := g.told(g.c); got != "-ERR 'Permissions Violation for Publish to \"$GATE.ticket\"'\r\n" {
		t.Errorf("told %q", got)
	}
	for _, rec := range []store.RecAsk{
		{Conn: g.c, Subject: []byte("px.a")}, {Conn: g.c, Subject: []byte("$GATE.a b")},
		{Conn: g.c, Subject: []byte("$GATE.a"), Reply: []byte("in 1\r\n")},
		{Conn: g.c, Subject: []byte("$GATE.a"), Reply: bytes.Repeat([]byte("r"), g.r.cfg.MaxControlLine)},
	} {
		b := make([]byte, rec.Size())
		if err := g.r.asked(g.r.links[0], b[:rec.Put(b)]); err == nil {
			t.Errorf("%q, %q: taken", rec.Subject, rec.Reply)
		}
	}
}

func TestAskBounds(t *testing.T) {
	if store.MaxAsk != tickets.MaxTransferRequest || privsep.MaxTicket != tickets.MaxTransfer || privsep.NonceSize*4/3 != tickets.ChallengeLen ||
		privsep.MaxSettingsText != tickets.MaxTransferText || privsep.MaxIssuerKey != tickets.MaxTransferKey {
		t.Error("bounds of tickets differ")
	}
}
