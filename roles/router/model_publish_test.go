package router

import (
	"bytes"
	"slices"
	"strings"

	"gatehouse/store"
	"gatehouse/wire"
)

// isDirect tells of a subject whether it is that of an application instance, which no
// wildcard reaches.
func isDirect(subject string) bool { return strings.HasPrefix(subject, "_APP.") }

// modelMessage is a message on its way.
type modelMessage struct {
	from           *modelSession
	rec            *store.RecPub
	subject, reply string
	facts          store.Facts
	mode           store.Mode
	bad            uint8
	answers        *modelDuty // nil: it is no answer
}

// message reads what a record says.
func (m *model) message(s *modelSession, r *store.RecPub) *modelMessage {
	m.g.t.Helper()
	x := &modelMessage{from: s, rec: r, subject: string(r.Subject), reply: string(r.Reply)}
	m.g.check(x.facts.Parse(r.Facts))
	x.bad = x.facts.Bad
	switch wants := x.facts.Mode; {
	case isDirect(x.subject):
		x.mode = store.ModeDirect
	case wants == store.ModeDirect:
		x.bad = store.BadMode
	case wants == store.ModeSession && len(x.facts.Session) == 0:
		x.bad = store.BadSession
	case wants == store.ModeSession, wants == store.ModeFanout:
		x.mode = wants
	}
	if x.mode == store.ModeNone {
		if x.mode = store.ModeSemaphore; x.reply == "" || x.facts.Mode == store.ModeBroadcast {
			x.mode = store.ModeBroadcast
		}
	}
	x.answers = m.duty(s, x.subject)
	return x
}

// pub accounts for a message: whom it goes to, and when its body is free.
func (m *model) pub(cm int, r *store.RecPub) {
	s := m.sessions[cm][r.Slot]
	if s == nil || s.conn != r.Conn {
		m.wantRelease(cm, r)
		return
	}
	x := m.message(s, r)
	if s.opts.Pedantic && !(wire.ValidSubject(r.Subject) && wire.IsLiteral(r.Subject)) {
		m.wantErr(s, wire.CodeInvalidPubSubject)
	}
	if !m.mayPublish(x) {
		m.wantRelease(cm, r)
		return
	}
	m.ok(s)
	if x.bad != 0 {
		m.wantRelease(cm, r)
		m.wantTold(x, s, 400, []string{"", "Bad Gatehouse-Mode", "Bad Gatehouse-Session", "Bad Gatehouse-Timeout",
			"Bad Gatehouse-To-Type", "Bad Gatehouse-To-Organisation"}[x.bad], "")
		return
	}
	plain, groups := m.match(x)
	if x.mode == store.ModeSession && !m.goesOn(x, groups) {
		m.wantRelease(cm, r)
		m.wantTold(x, s, 410, "Session Gone", "")
		return
	}
	m.route(x, plain, groups)
}

// match returns the subscriptions that a message may go to: the plain ones, and those
// of each queue group.
func (m *model) match(x *modelMessage) (plain []*modelSub, groups map[string][]*modelSub) {
	groups = map[string][]*modelSub{}
	for _, t := range m.live {
		switch {
		case !m.hears(t, x.subject) || t.ses == x.from && !x.from.opts.Echo || !m.suits(x, t.ses):
		case t.queue == "":
			plain = append(plain, t)
		default:
			groups[t.queue] = append(groups[t.queue], t)
		}
	}
	return plain, groups
}

// hears tells whether a subscription is for a subject.
func (m *model) hears(t *modelSub, subject string) bool {
	if isDirect(subject) {
		return t.subject == subject
	}
	return wire.Match([]byte(t.subject), []byte(subject)) && !anyOf(t.ses.prof.SubscribeDeny, subject)
}

// route takes the instructions about a message, and notes what follows from it.
func (m *model) route(x *modelMessage, plain []*modelSub, groups map[string][]*modelSub) {
	m.g.t.Helper()
	if x.mode >= store.ModeFanout {
		for queue, members := range groups {
			plain = append(plain, members...)
			delete(groups, queue)
		}
	}
	had := m.wantDelivery(x, plain, groups)
	asker, handed := x.from, (*modelDuty)(nil)
	if len(had) > 0 {
		asker, handed = m.handOn(x)
	}
	m.settleDown(x, had)
	if d := x.answers; d != nil && d != handed {
		m.answer(d)
	}
	m.ask(x, asker, had)
	if len(had) == 0 {
		m.noResponders(x)
		return
	}
	for _, members := range groups {
		plain = append(plain, members...)
	}
	m.hold(x.from, plain)
}

func (m *model) wantRelease(cm int, r *store.RecPub) {
	m.g.t.Helper()
	m.wantNamed(cm, r, 0)
}

// wantNamed looks at who is named for a body, unless a later one has its place.
func (m *model) wantNamed(cm int, r *store.RecPub, cms uint64) {
	m.g.t.Helper()
	if last, got := m.g.r.links[cm].named.Get(r.Seq); last < r.Seq || last == r.Seq && got != cms {
		m.g.t.Fatalf("cm/%d: %q is named to %b (it is the last: %v), want %b", cm, r.Subject, got, last == r.Seq, cms)
	}
}

func (m *model) noResponders(x *modelMessage) {
	if o := x.from.opts; x.reply == "" || !o.NoResponders && !(o.Headers && x.mode >= store.ModeSession) {
		return
	}
	m.wantOn(x.from, x.reply, func(t *modelSub) []byte {
		return wire.AppendNoResponders(nil, x.rec.Reply, []byte(t.sid), x.rec.Subject)
	})
}

// delivery is one recipient of an instruction, and whom it says that the message is from.
type delivery struct {
	to
	from string
}

// wantDelivery takes the instructions about one message: each plain subscription once,
// one member of each group; and who is named for the body. It returns who has got it,
// first those without a queue group.
func (m *model) wantDelivery(x *modelMessage, plain []*modelSub, groups map[string][]*modelSub) (had []*modelSub) {
	m.g.t.Helper()
	left := map[to]*modelSub{}
	key := func(t *modelSub) to { return to{t.ses.cm, t.ses.conn, t.sid} }
	for _, t := range plain {
		left[key(t)] = t
	}
	for _, members := range groups {
		for _, t := range members {
			left[key(t)] = t
		}
	}
	named := uint64(0)
	for cm := range m.got {
		list := m.instructions(cm, x)
		for _, d := range list {
			t := left[d.to]
			if t == nil {
				m.g.t.Fatalf("%q goes to %v, who should not have it, or not twice", x.subject, d.to)
			}
			if want := m.stamp(x.from, t.ses); d.from != want {
				m.g.t.Fatalf("%q is from %q for %v, want %q", x.subject, d.from, d.to, want)
			}
			had = append(had, t)
			delete(left, d.to)
			for _, other := range groups[t.queue] {
				delete(left, key(other))
			}
			m.wantChoice(x, t, groups[t.queue])
		}
		if len(list) > 0 {
			named |= 1 << cm
		}
	}
	m.wantNamed(x.from.cm, x.rec, named)
	if len(left) > 0 {
		m.g.t.Fatalf("%q: %d do not get it", x.subject, len(left))
	}
	m.routed += uint64(len(had))
	for _, t := range had {
		m.count(t)
	}
	slices.SortStableFunc(had, func(a, b *modelSub) int { return min(len(a.queue), 1) - min(len(b.queue), 1) })
	return had
}

// instructions takes those to one cm about one message.
func (m *model) instructions(cm int, x *modelMessage) (list []delivery) {
	m.g.t.Helper()
	r := x.rec
	want := store.Handle{Arena: uint16(x.from.cm), Seq: r.Seq, Off: r.Off, Len: r.Len}
	for more := true; more; {
		var ins *store.InsDeliver
		if len(m.got[cm]) > 0 {
			ins, _ = m.got[cm][0].(*store.InsDeliver)
		}
		if ins == nil || ins.Handle != want || len(ins.Recipients) == 0 {
			if len(list) > 0 {
				m.g.t.Fatalf("cm/%d: the last piece about %q is missing", cm, r.Subject)
			}
			return nil
		}
		m.next(cm)
		if ins.HeaderLen != r.HeaderLen || !bytes.Equal(ins.Subject, r.Subject) || !bytes.Equal(ins.Reply, r.Reply) {
			m.g.t.Fatalf("cm/%d: %+v is not about %+v", cm, ins, r)
		}
		for _, to := range m.g.recipients(cm, ins) {
			list = append(list, delivery{to, string(ins.From)})
		}
		more = ins.Flags&store.DeliverMore != 0
	}
	return list
}

// hold accounts for a sender that must wait for readers that are behind, of all that a
// message might have gone to.
func (m *model) hold(s *modelSession, list []*modelSub) {
	for _, t := range list {
		reader := t.ses
		if !reader.slow || reader == s || slices.Contains(reader.holds, s) {
			continue
		}
		reader.holds = append(reader.holds, s)
		if s.heldBy++; s.heldBy == 1 {
			if h, ok := m.next(s.cm).(*store.InsHold); !ok || h.Conn != s.conn {
				m.g.t.Fatalf("cm/%d: %+v, want HOLD of %v", s.cm, h, s.conn)
			}
		}
	}
}

func (m *model) relieve(reader *modelSession) {
	reader.slow = false
	for _, s := range reader.holds {
		if s.heldBy--; s.heldBy == 0 {
			m.relieved = append(m.relieved, s)
		}
	}
	reader.holds = nil
}
