package router

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"gatehouse/store"
	"gatehouse/wire"
)

// model is the router written for the eye: lists instead of indexes, and for
// every record the instructions that must follow, taken off what the router
// wrote. Where the router may choose (the member of a queue group) the model
// checks the choice and takes it over.
type model struct {
	g        *rig
	maxSubs  int
	got      [][]store.Record // by cm: instructions not yet accounted for
	sessions []map[uint32]*modelSession
	process  []uint64 // by cm: generation
	live     []*modelSub
	routed   uint64
	lost     int             // a cm that has gone and is told nothing
	relieved []*modelSession // by the record at hand, to be told after it
	requests []*modelRequest
	over     []*modelRequest // by the record at hand, to be told after it
	turn     uint64
	inTurn   bool // members of a queue group that owe the same get a request in turn
}

type modelSession struct {
	cm      int
	conn    store.Conn
	process uint64
	opts    wire.Connect
	told    bool // has had the second INFO
	slow    bool
	holds   []*modelSession
	heldBy  int
	ended   bool
}

type modelSub struct {
	ses                 *modelSession
	subject, queue, sid string
	max, delivered      uint64
	turn                uint64 // when it was last chosen out of its queue group
}

func newModel(g *rig, maxSubs int) *model {
	m := &model{g: g, maxSubs: maxSubs, got: make([][]store.Record, len(g.cms)), process: make([]uint64, len(g.cms)), lost: -1, inTurn: true}
	for range g.cms {
		m.sessions = append(m.sessions, map[uint32]*modelSession{})
	}
	return m
}

// apply accounts for one record.
func (m *model) apply(cm int, rec store.Record) {
	switch r := rec.(type) {
	case *store.RecOpen:
		m.open(cm, r)
	case *store.RecReset:
		m.endAll(cm, r.Generation-1)
		m.process[cm] = r.Generation
	case *store.RecPub:
		m.pub(cm, r)
	case *store.RecConnect:
		m.with(cm, r.Conn, func(s *modelSession) { m.connect(s, r.JSON) })
	case *store.RecSub:
		m.with(cm, r.Conn, func(s *modelSession) { m.sub(s, r) })
	case *store.RecUnsub:
		m.with(cm, r.Conn, func(s *modelSession) { m.unsub(s, r) })
	case *store.RecPing:
		m.with(cm, r.Conn, m.ping)
	case *store.RecFail:
		m.with(cm, r.Conn, func(s *modelSession) { m.fail(s, wire.Code(r.Code)) })
	case *store.RecClosed:
		m.with(cm, r.Conn, m.end)
	case *store.RecCongested:
		m.with(cm, r.Conn, func(s *modelSession) { s.slow = true })
	case *store.RecRelieved:
		m.with(cm, r.Conn, m.relieve)
	default:
		m.g.t.Fatalf("no such record: %T", rec)
	}
	m.wantResumes()
	m.wantStatuses()
}

// wantResumes takes a RESUME for each sender that waits no more and is still there.
func (m *model) wantResumes() {
	m.g.t.Helper()
	for _, s := range m.relieved {
		if s.ended || s.cm == m.lost {
			continue
		}
		if h, ok := m.next(s.cm).(*store.InsResume); !ok || h.Conn != s.conn {
			m.g.t.Fatalf("cm/%d: %+v, want RESUME of %v", s.cm, h, s.conn)
		}
	}
	m.relieved = nil
}

// with does something for a session, and nothing for one that is no more.
func (m *model) with(cm int, c store.Conn, do func(*modelSession)) {
	if s := m.sessions[cm][c.Slot]; s != nil && s.conn == c {
		do(s)
	}
}

// next takes the next instruction to a cm, which must be there.
func (m *model) next(cm int) store.Record {
	m.g.t.Helper()
	if len(m.got[cm]) == 0 {
		m.g.t.Fatalf("cm/%d: an instruction is missing", cm)
	}
	r := m.got[cm][0]
	m.got[cm] = m.got[cm][1:]
	return r
}

// wantSend takes a SEND whose data begins with text, or is all of it when close
// or text ends a line.
func (m *model) wantSend(s *modelSession, text string, closes bool) {
	m.g.t.Helper()
	r, ok := m.next(s.cm).(*store.InsSend)
	if !ok || r.Conn != s.conn || (r.Flags == store.FlagClose) != closes {
		m.g.t.Fatalf("cm/%d: %+v, want SEND of %q to %v, close %v", s.cm, r, text, s.conn, closes)
	}
	if data := string(r.Data); data != text && !(text == "INFO " && strings.HasPrefix(data, text)) {
		m.g.t.Fatalf("cm/%d: %q, want %q", s.cm, data, text)
	}
}

func (m *model) wantErr(s *modelSession, c wire.Code, args ...[]byte) {
	m.g.t.Helper()
	m.wantSend(s, string(wire.AppendErr(nil, c, args...)), false)
}

func (m *model) ok(s *modelSession) {
	if s.opts.Verbose {
		m.wantSend(s, wire.OK, false)
	}
}

func (m *model) open(cm int, r *store.RecOpen) {
	if old := m.sessions[cm][r.Slot]; old != nil {
		m.end(old)
	}
	s := &modelSession{cm: cm, conn: r.Conn, process: m.process[cm], opts: wire.DefaultConnect()}
	m.sessions[cm][r.Slot] = s
	m.wantSend(s, "INFO ", false)
}

func (m *model) connect(s *modelSession, text []byte) {
	opts := s.opts
	if opts.Merge(text) != nil {
		m.fail(s, wire.CodeBareClose)
		return
	}
	if code, bad := opts.Check(); bad {
		m.fail(s, code)
		return
	}
	s.opts = opts
	m.drop(func(t *modelSub) bool { return t.ses == s })
	m.leave(s)
	m.ok(s)
}

func (m *model) drop(which func(*modelSub) bool) { m.live = slices.DeleteFunc(m.live, which) }

func (m *model) fail(s *modelSession, c wire.Code) {
	m.wantSend(s, string(wire.AppendErr(nil, c)), true)
	m.end(s)
}

func (m *model) end(s *modelSession) {
	m.drop(func(t *modelSub) bool { return t.ses == s })
	m.leave(s)
	s.ended = true
	delete(m.sessions[s.cm], s.conn.Slot)
	m.relieve(s)
}

// endAll ends the sessions of the processes of a cm up to one.
func (m *model) endAll(cm int, process uint64) {
	for _, slot := range slices.Sorted(maps.Keys(m.sessions[cm])) {
		if s := m.sessions[cm][slot]; s.process <= process {
			m.end(s)
		}
	}
}

func (m *model) ping(s *modelSession) {
	m.wantSend(s, wire.Pong, false)
	if s.opts.Protocol == 1 && !s.told {
		s.told = true
		m.wantSend(s, "INFO ", false)
	}
}

func (m *model) sub(s *modelSession, r *store.RecSub) {
	n, known := 0, false
	for _, t := range m.live {
		if t.ses == s {
			n++
			known = known || t.sid == string(r.SID)
		}
	}
	switch {
	case n >= m.maxSubs:
		m.wantErr(s, wire.CodeMaxSubs)
		return
	case known: // the first stays
	case !wire.ValidSubject(r.Subject):
		m.wantErr(s, wire.CodeInvalidSubject)
		return
	default:
		m.live = append(m.live, &modelSub{ses: s, subject: string(r.Subject), queue: string(r.Queue), sid: string(r.SID)})
	}
	m.ok(s)
}

func (m *model) unsub(s *modelSession, r *store.RecUnsub) {
	m.drop(func(t *modelSub) bool {
		if t.ses == s && t.sid == string(r.SID) {
			t.max = uint64(r.Max)
			return t.delivered >= t.max
		}
		return false
	})
	m.ok(s)
}

// pub accounts for a message: whom it goes to, and when its body is free.
func (m *model) pub(cm int, r *store.RecPub) {
	s := m.sessions[cm][r.Slot]
	if s == nil || s.conn != r.Conn || !m.mayPublish(s, r) {
		m.wantRelease(cm, r)
		return
	}
	m.ok(s)
	d := m.duty(s, r.Subject)
	var plain, matched []*modelSub
	groups := map[string][]*modelSub{}
	for _, t := range m.live {
		if !wire.Match([]byte(t.subject), r.Subject) {
			continue
		}
		matched = append(matched, t)
		switch {
		case t.ses == s && !s.opts.Echo:
		case t.queue == "":
			plain = append(plain, t)
		default:
			groups[t.queue] = append(groups[t.queue], t)
		}
	}
	if len(plain)+len(groups) == 0 {
		m.wantRelease(cm, r)
		m.answerOnce(d)
		m.noResponders(s, r)
		return
	}
	members := m.wantDelivery(cm, r, plain, groups)
	asker := m.handOn(s, r)
	m.answerOnce(d)
	if len(r.Reply) > 0 && len(members) > 0 {
		m.ask(asker, r, members)
	}
	m.hold(s, matched)
}

func (m *model) mayPublish(s *modelSession, r *store.RecPub) bool {
	if s.opts.Pedantic && !(wire.ValidSubject(r.Subject) && wire.IsLiteral(r.Subject)) {
		m.wantErr(s, wire.CodeInvalidPubSubject)
	}
	if wire.ReservedPublish(r.Subject) {
		m.wantErr(s, wire.CodePubPermission, r.Subject)
		return false
	}
	if len(r.Reply) > 0 && wire.ReservedReply(r.Reply) {
		m.wantErr(s, wire.CodeReplyPermission, r.Reply)
		return false
	}
	return true
}

func (m *model) wantRelease(cm int, r *store.RecPub) {
	m.g.t.Helper()
	m.wantNamed(cm, r, 0)
}

// wantNamed looks at who is named for a body, unless a later one has its place.
func (m *model) wantNamed(cm int, r *store.RecPub, cms uint64) {
	m.g.t.Helper()
	if last, got := m.g.r.links[cm].named.Get(r.Seq); last < r.Seq || last == r.Seq && got != cms {
		m.g.t.Fatalf("cm/%d: body %d of %q is named to %b, want %d and %b", cm, last, r.Subject, got, r.Seq, cms)
	}
}

func (m *model) noResponders(s *modelSession, r *store.RecPub) {
	if !s.opts.NoResponders || len(r.Reply) == 0 {
		return
	}
	m.wantOn(s, string(r.Reply), func(t *modelSub) []byte {
		return wire.AppendNoResponders(nil, r.Reply, []byte(t.sid), r.Subject)
	})
}

// count counts a message to a subscription that may have had its last.
func (m *model) count(t *modelSub) {
	if t.delivered++; t.max > 0 && t.delivered >= t.max {
		m.drop(func(x *modelSub) bool { return x == t })
	}
}

// wantDelivery takes the instructions about one message: each plain
// subscription once, one member of each group; and who is named for the body. It
// returns those members.
func (m *model) wantDelivery(from int, r *store.RecPub, plain []*modelSub, groups map[string][]*modelSub) (members []*modelSub) {
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
	var had []*modelSub
	for cm := range m.got {
		list, last := m.instructions(cm, from, r)
		for _, to := range list {
			t := left[to]
			if t == nil {
				m.g.t.Fatalf("%q goes to %v, who should not have it, or not twice", r.Subject, to)
			}
			had = append(had, t)
			delete(left, to)
			if t.queue != "" {
				if members = append(members, t); len(r.Reply) > 0 {
					m.wantLeast(t, groups[t.queue])
				}
				for _, other := range groups[t.queue] {
					delete(left, key(other))
				}
			}
		}
		if last == nil {
			continue
		}
		named |= 1 << cm
	}
	m.wantNamed(from, r, named)
	if len(left) > 0 {
		m.g.t.Fatalf("%q: %d do not get it", r.Subject, len(left))
	}
	m.routed += uint64(len(had))
	for _, t := range had {
		m.count(t)
	}
	return members
}

// instructions takes those to one cm about one message; last is nil if there is
// none.
func (m *model) instructions(cm, from int, r *store.RecPub) (list []to, last *store.InsDeliver) {
	m.g.t.Helper()
	want := store.Handle{Arena: uint16(from), Seq: r.Seq, Off: r.Off, Len: r.Len}
	for more := true; more && len(m.got[cm]) > 0; {
		ins, ok := m.got[cm][0].(*store.InsDeliver)
		if !ok || ins.Handle != want || len(ins.Recipients) == 0 {
			break
		}
		m.next(cm)
		if ins.HeaderLen != r.HeaderLen || !bytes.Equal(ins.Subject, r.Subject) || !bytes.Equal(ins.Reply, r.Reply) {
			m.g.t.Fatalf("cm/%d: %+v is not about %+v", cm, ins, r)
		}
		more = ins.Flags&store.DeliverMore != 0
		list, last = append(list, m.g.recipients(cm, ins)...), ins
	}
	if last != nil && last.Flags&store.DeliverMore != 0 {
		m.g.t.Fatalf("cm/%d: the last piece about %q is missing", cm, r.Subject)
	}
	return list, last
}

// hold accounts for a sender that must wait for readers that are behind.
func (m *model) hold(s *modelSession, matched []*modelSub) {
	for _, t := range matched {
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

// end of a batch: all that the router said is accounted for, and it counts as
// the model does.
func (m *model) settled() {
	m.g.t.Helper()
	open := 0
	for cm, rest := range m.got {
		if len(rest) > 0 {
			m.g.t.Fatalf("cm/%d: %d instructions too many, the first %T %+v", cm, len(rest), rest[0], rest[0])
		}
		open += len(m.sessions[cm])
		if n := m.g.r.links[cm].open; n != len(m.sessions[cm]) {
			m.g.t.Fatalf("cm/%d: %d sessions, want %d", cm, n, len(m.sessions[cm]))
		}
	}
	slow := 0
	for _, sessions := range m.sessions {
		for _, s := range sessions {
			if s.slow {
				slow++
			}
			if n := m.g.r.links[s.cm].session(s.conn).load(); n != m.load(s) {
				m.g.t.Fatalf("%v owes %d answers, want %d", s.conn, n, m.load(s))
			}
		}
	}
	if m.g.r.index.count != len(m.live) || m.g.r.congested != slow || m.g.r.delivered != m.routed {
		m.g.t.Fatalf("%d subscriptions, %d behind, %d delivered; want %d, %d, %d",
			m.g.r.index.count, m.g.r.congested, m.g.r.delivered, len(m.live), slow, m.routed)
	}
	if m.g.r.requests.count != len(m.requests) {
		m.g.t.Fatalf("%d requests, want %d", m.g.r.requests.count, len(m.requests))
	}
}
