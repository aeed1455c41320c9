package roles

import (
	"fmt"

	"gatehouse/privsep"
	"gatehouse/store"
)

// shapes say how the fields of each ring record are called in JSON. There is
// one for every kind that package store knows.
var shapes = map[store.RecKind]func(*coder, store.Record){
	store.KindOpen: shape(func(c *coder, r *store.RecOpen) {
		conn(c, &r.Conn)
		ident(c, "uid", &r.UID)
		number(c, "listener", &r.Listener)
		c.addr("addr", &r.Addr)
		number(c, "port", &r.Port)
		c.flag("unix", &r.Unix)
		c.flag("tls", &r.TLS)
		number(c, "challenge", &r.Challenge)
	}),
	store.KindConnect: shape(func(c *coder, r *store.RecConnect) {
		conn(c, &r.Conn)
		c.flag("again", &r.Again)
		c.text("chain", &r.Chain)
		c.text("json", &r.JSON)
	}),
	store.KindSub: shape(func(c *coder, r *store.RecSub) {
		conn(c, &r.Conn)
		c.text("subject", &r.Subject)
		c.text("queue", &r.Queue)
		c.text("sid", &r.SID)
	}),
	store.KindUnsub: shape(func(c *coder, r *store.RecUnsub) {
		conn(c, &r.Conn)
		c.text("sid", &r.SID)
		number(c, "max", &r.Max)
	}),
	store.KindPub: shape(func(c *coder, r *store.RecPub) {
		conn(c, &r.Conn)
		seq(c, &r.Seq)
		place(c, &r.Off, &r.Len, &r.HeaderLen)
		c.text("subject", &r.Subject)
		c.text("reply", &r.Reply)
		facts(c, &r.Facts)
	}),
	store.KindPing: shape(func(c *coder, r *store.RecPing) { conn(c, &r.Conn) }),
	store.KindFail: shape(func(c *coder, r *store.RecFail) {
		conn(c, &r.Conn)
		ident(c, "code", &r.Code)
	}),
	store.KindClosed: shape(func(c *coder, r *store.RecClosed) {
		conn(c, &r.Conn)
		ident(c, "reason", &r.Reason)
	}),
	store.KindCongested: shape(func(c *coder, r *store.RecCongested) { conn(c, &r.Conn) }),
	store.KindRelieved:  shape(func(c *coder, r *store.RecRelieved) { conn(c, &r.Conn) }),
	store.KindReset:     shape(func(c *coder, r *store.RecReset) { ident(c, "generation", &r.Generation) }),
	store.KindStuck:     shape(func(c *coder, r *store.RecStuck) { seq(c, &r.Seq) }),
	store.KindAsk: shape(func(c *coder, r *store.RecAsk) {
		conn(c, &r.Conn)
		c.flag("long", &r.Long)
		c.text("subject", &r.Subject)
		c.text("reply", &r.Reply)
		c.text("body", &r.Body)
	}),
	store.KindMove: shape(func(c *coder, r *store.RecMove) {
		conn(c, &r.Conn)
		number(c, "to", &r.To)
	}),

	store.KindDeliver: shape(func(c *coder, r *store.InsDeliver) {
		ident(c, "arena", &r.Arena)
		seq(c, &r.Seq)
		place(c, &r.Off, &r.Len, &r.HeaderLen)
		c.text("subject", &r.Subject)
		c.text("reply", &r.Reply)
		if c.text("from", &r.From); len(r.From) > store.MaxFrom {
			c.wrong("from", "longer than %d bytes", store.MaxFrom)
		}
		recipients(c, &r.Recipients)
		bit(c, "more", &r.Flags, store.DeliverMore)
	}),
	store.KindSend: shape(func(c *coder, r *store.InsSend) {
		conn(c, &r.Conn)
		c.text("data", &r.Data)
		bit(c, "close", &r.Flags, store.FlagClose)
	}),
	store.KindSession: shape(func(c *coder, r *store.InsSession) {
		conn(c, &r.Conn)
		bit(c, "open", &r.Flags, store.SessionOpen)
		bit(c, "headers", &r.Flags, store.SessionHeaders)
		bit(c, "verbose", &r.Flags, store.SessionVerbose)
		bit(c, "pedantic", &r.Flags, store.SessionPedantic)
		number(c, "max_payload", &r.MaxPayload)
		number(c, "max_pending", &r.MaxPending)
		number(c, "rate", &r.Rate)
	}),
	store.KindHold:      shape(func(c *coder, r *store.InsHold) { conn(c, &r.Conn) }),
	store.KindResume:    shape(func(c *coder, r *store.InsResume) { conn(c, &r.Conn) }),
	store.KindNewRouter: shape(func(c *coder, r *store.InsNewRouter) { c.flag("forget", &r.Forget) }),
	store.KindArriving: shape(func(c *coder, r *store.InsArriving) {
		conn(c, &r.Conn)
		ident(c, "uid", &r.UID)
		bit(c, "headers", &r.Flags, store.ArrivingHeaders)
		bit(c, "held", &r.Flags, store.ArrivingHeld)
		bit(c, "congested", &r.Flags, store.ArrivingCongested)
	}),
	store.KindMoved: shape(func(c *coder, r *store.InsMoved) {
		conn(c, &r.Conn)
		bit(c, "not", &r.Flags, store.MovedNot)
	}),
	store.KindGreeting: shape(func(c *coder, r *store.InsGreeting) {
		word(c, "way", &r.Way, ways)
		for i, key := range [...]string{"before_id", "before_ip", "before_challenge", "after"} {
			c.text(key, &r.Parts[i])
		}
	}),
	store.KindChallenges: shape(func(c *coder, r *store.InsChallenges) {
		ident(c, "first", &r.First)
		if c.text("texts", &r.Texts); len(r.Texts) == 0 || len(r.Texts)%store.ChallengeLen != 0 || len(r.Texts) > store.MaxChallenges*store.ChallengeLen {
			c.wrong("texts", "not 1 to %d challenges of %d characters each", store.MaxChallenges, store.ChallengeLen)
		}
		if r.First-1 >= 1<<63 {
			c.wrong("first", "not from 1 to %d", uint64(1)<<63)
		}
	}),
}

// ways are the words for store.Way.
var ways = []string{"tcp", "tls", "unix"}

func shape[R store.Record](fields func(*coder, R)) func(*coder, store.Record) {
	return func(c *coder, r store.Record) { fields(c, r.(R)) }
}

func conn(c *coder, p *store.Conn) {
	ident(c, "slot", &p.Slot)
	ident(c, "gen", &p.Gen)
}

// maxSeq is the largest number that a body can have.
const maxSeq = 1<<48 - 1

func seq(c *coder, p *uint64) {
	if ident(c, "seq", p); *p > maxSeq {
		c.wrong("seq", "%d is above %d", *p, uint64(maxSeq))
	}
}

// place is where a body lies in its arena.
func place(c *coder, off, length *uint32, headerLen *int32) {
	number(c, "off", off)
	number(c, "len", length)
	c.signed("header_len", headerLen, -1)
}

func recipients(c *coder, p *[]byte) {
	rest := *p
	c.list("recipients", func(item *coder) bool {
		var to store.Conn
		var sid []byte
		if !item.reading() {
			var ok bool
			if to.Slot, to.Gen, sid, rest, ok = store.NextRecipient(rest); !ok {
				return false
			}
		}
		conn(item, &to)
		item.text("sid", &sid)
		if len(sid) > store.MaxSID {
			item.wrong("sid", "longer than %d bytes", store.MaxSID)
		}
		if item.reading() {
			*p = store.AppendRecipient(*p, to.Slot, to.Gen, sid)
		}
		return true
	})
}

// newRecord gives a record as it is without any key.
func newRecord(kind store.RecKind) store.Record {
	r := store.NewRecord(kind)
	switch r := r.(type) {
	case *store.RecPub:
		r.HeaderLen = -1
	case *store.InsDeliver:
		r.HeaderLen = -1
	}
	return r
}

// recordLine writes a ring record of or for cm index.
func recordLine(index int, r store.Record, kind store.RecKind) []byte {
	c := newLine(kind.String())
	cm := uint16(index)
	ident(c, "cm", &cm)
	shapes[kind](c, r)
	return c.line()
}

// decodeRecord reads the fields of a ring record, of which some may already
// have a value that the line need not repeat.
func decodeRecord(c *coder, r store.Record, kind store.RecKind) (err error) {
	shapes[kind](c, r)
	return c.end()
}

// cmOf reads which cm a line is about.
func cmOf(c *coder, cms int) int {
	var cm uint16
	number(c, "cm", &cm)
	if int(cm) >= cms {
		c.wrong("cm", "%d: there is cm/0 to cm/%d", cm, cms-1)
		return 0
	}
	return int(cm)
}

// handoff is the shape of a CONN_HANDOFF; the ticket shows only as good or bad.
func handoff(c *coder, cm uint16, h *privsep.ConnHandoff, ticket string) {
	ident(c, "cm", &cm)
	ident(c, "slot", &h.Slot)
	ident(c, "uid", &h.UID)
	number(c, "listener", &h.Listener)
	c.addr("addr", &h.Addr)
	number(c, "port", &h.Port)
	c.flag("unix", &h.Unix)
	c.flag("tls", &h.TLS)
	c.put("ticket", quote(ticket))
}

// login is the shape of a LOGIN.
func login(c *coder, l *privsep.Login) {
	ident(c, "id", &l.ID)
	ident(c, "try", &l.Try)
	c.addr("addr", &l.Addr)
	c.flag("unix", &l.Unix)
	c.flag("tls", &l.TLS)
	c.flag("again", &l.Again)
	shortText(c, "challenge", &l.Challenge)
	c.text("chain", &l.Chain)
	c.text("json", &l.JSON)
}

// verdict is the shape of a VERDICT.
func verdict(c *coder, v *privsep.Verdict) {
	ident(c, "id", &v.ID)
	ident(c, "try", &v.Try)
	c.flag("ok", &v.OK)
	if v.Reason != privsep.ReasonNone {
		c.put("reason", quote(v.Reason.String()))
	}
	if v.Credential != privsep.CredentialNone {
		c.put("credential", quote(v.Credential.String()))
	}
	shortText(c, "user", &v.User)
	shortText(c, "organisation", &v.Organisation)
	shortText(c, "profile", &v.Profile)
}

// stats is the shape of a STATS.
func stats(c *coder, s *privsep.RoleStats) {
	for _, f := range []struct {
		key string
		p   *uint64
	}{
		{"connections", &s.Connections}, {"subscriptions", &s.Subscriptions},
		{"sessions", &s.Sessions}, {"in_msgs", &s.InMsgs}, {"out_msgs", &s.OutMsgs}, {"in_bytes", &s.InBytes}, {"out_bytes", &s.OutBytes},
		{"slow_consumers", &s.SlowConsumers}, {"malformed", &s.Malformed},
		{"arena_used", &s.ArenaUsed}, {"arena_bodies", &s.ArenaBodies},
		{"accepted", &s.Accepted}, {"refused_rate", &s.RefusedRate}, {"refused_max", &s.RefusedMax},
		{"handshakes", &s.Handshakes}, {"handshakes_failed", &s.HandshakesFailed},
		{"logins", &s.Logins}, {"logins_refused", &s.LoginsRefused}, {"logins_waiting", &s.LoginsWaiting},
	} {
		number(c, f.key, f.p)
	}
}

// logLine is what a role logs, under the one key "log".
func logLine(l *privsep.LogLine) []byte {
	c := &coder{out: []byte{'{'}}
	c.put("level", quote(l.Level.String()))
	c.put("event", quote(l.Event))
	for i := range l.Fields {
		f := &l.Fields[i]
		if f.Number {
			c.put(f.Key.String(), fmt.Append(nil, f.Int))
		} else {
			c.put(f.Key.String(), quote(f.Text))
		}
	}
	if l.Dropped > 0 {
		number(c, "dropped", &l.Dropped)
	}
	return fmt.Appendf(nil, "{\"log\":%s}\n", append(c.out, '}'))
}
