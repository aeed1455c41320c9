package router

import (
	"maps"
	"slices"
	"strings"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// model is the router written for the eye: lists instead of indexes, and for
// every record the instructions that must follow, taken off what the router
// wrote. Where the router may choose (the member of a queue group) the model
// checks the choice and takes it over.
//
// Here are sessions and subscriptions; messages are in model_publish_test.go, who may
// do what in model_profile_test.go, who owes answers in model_request_test.go.
type model struct {
	g        *rig
	got      [][]store.Record // by cm: instructions not yet accounted for
	sessions []map[uint32]*modelSession
	process  []uint64 // by cm: generation
	live     []*modelSub
	routed   uint64
	lost     int             // a cm that has gone and is told nothing
	relieved []*modelSession // by the record at hand, to be told after it

	profiles   []privsep.Profile
	limits     map[to]limits   // that a cm knows of a connection
	requests   []*modelRequest // that are not over, in their order
	over       []*modelRequest // by the record at hand, to be told after it
	affinities []*modelAffinity
	now        int64
	turn       uint64
	inTurn     bool // members of a queue group that owe the same get a request in turn
}

type modelSession struct {
	cm      int
	conn    store.Conn
	process uint64
	opts    wire.Connect
	id      identity
	prof    *privsep.Profile
	told    bool // has had the second INFO
	limited bool // its cm knows its limits
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

func newModel(g *rig) *model {
	m := &model{g: g, got: make([][]store.Record, len(g.cms)), process: make([]uint64, len(g.cms)), lost: -1,
		limits: map[to]limits{}, now: g.r.clock(), inTurn: true}
	for range g.cms {
		m.sessions = append(m.sessions, map[uint32]*modelSession{})
	}
	return m
}

// hear takes what the router has told the cms. What it says of limits may be said again
// at any time.
func (m *model) hear() {
	m.g.t.Helper()
	for cm := range m.got {
		for _, r := range m.g.take(cm) {
			switch r := r.(type) {
			case *store.InsSession:
				if r.Flags != store.SessionOpen {
					m.g.t.Fatalf("cm/%d: %+v", cm, r)
				}
				m.limits[to{cm: cm, conn: r.Conn}] = limits{r.MaxPayload, r.MaxPending, r.Rate}
				continue
			case *store.InsArriving:
				delete(m.limits, to{cm: cm, conn: r.Conn})
			}
			m.got[cm] = append(m.got[cm], r)
		}
	}
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
	case *store.RecMove:
		m.with(cm, r.Conn, func(s *modelSession) { m.move(s, int(r.To)) })
	default:
		m.g.t.Fatalf("no such record: %T", rec)
	}
	m.wantLater()
}

// wantLater takes what follows from a record, or from whatever else ends sessions, but
// is not of it: a RESUME for each sender that waits no more and is still there, and the
// statuses of requests that are over.
func (m *model) wantLater() {
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
	m.wantStatuses()
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
	if s.prof = m.profile(identity{}); s.prof == nil {
		s.prof = &nothingAllowed
	}
	m.sessions[cm][r.Slot] = s
	if r.Challenge == 0 {
		m.wantSend(s, "INFO ", false)
	}
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
	m.admit(s, identity{})
}

// admit begins a session anew.
func (m *model) admit(s *modelSession, id identity) {
	f := m.profile(id)
	if f == nil {
		m.fail(s, wire.CodeAuthViolation)
		return
	}
	m.shed(s)
	s.id, s.prof = id, f
	s.limited = true
	m.ok(s)
}

// shed takes from a session all that it has.
func (m *model) shed(s *modelSession) {
	m.drop(func(t *modelSub) bool { return t.ses == s })
	m.leave(s)
}

func (m *model) drop(which func(*modelSub) bool) { m.live = slices.DeleteFunc(m.live, which) }

func (m *model) fail(s *modelSession, c wire.Code) {
	m.wantSend(s, string(wire.AppendErr(nil, c)), true)
	m.end(s)
}

func (m *model) end(s *modelSession) {
	m.shed(s)
	s.ended = true
	delete(m.sessions[s.cm], s.conn.Slot)
	m.relieve(s)
}

// endAll ends the sessions of the processes of a cm up to one.
func (m *model) endAll(cm int, process uint64) {
	for _, s := range m.bySlot(cm) {
		if s.process <= process {
			m.end(s)
		}
	}
}

// bySlot returns the sessions of a cm in their order.
func (m *model) bySlot(cm int) (list []*modelSession) {
	for _, slot := range slices.Sorted(maps.Keys(m.sessions[cm])) {
		list = append(list, m.sessions[cm][slot])
	}
	return list
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
	most := m.g.r.cfg.MaxSubscriptions
	if s.prof.MaxSubscriptions > 0 {
		most = s.prof.MaxSubscriptions
	}
	switch {
	case most > 0 && n >= most:
		m.wantErr(s, wire.CodeMaxSubs)
		return
	case known: // the first stays
	case !wire.ValidSubject(r.Subject):
		m.wantErr(s, wire.CodeInvalidSubject)
		return
	case !m.maySubscribe(s, string(r.Subject)) || !m.owns(s, string(r.Subject)):
		m.wantRefused(s, string(r.Subject), string(r.Queue))
		return
	default:
		m.live = append(m.live, &modelSub{ses: s, subject: string(r.Subject), queue: string(r.Queue), sid: string(r.SID)})
	}
	m.ok(s)
}

// owns makes a session the owner of its own direct subject, unless another one of that
// name has it and stays.
func (m *model) owns(s *modelSession, subject string) bool {
	if !isDirect(subject) {
		return true
	}
	i := slices.IndexFunc(m.live, func(t *modelSub) bool { return t.subject == subject && t.ses != s })
	switch {
	case i < 0:
	case !m.g.r.cfg.ReplaceInstance:
		return false
	default:
		m.wantLosses(m.live[i].ses, func(t *modelSub) bool { return t.subject == subject && t.ses != s })
	}
	return true
}

// refused is the -ERR about a subscription that is not allowed.
func refused(subject, queue string) string {
	if queue != "" {
		return string(wire.AppendErr(nil, wire.CodeSubQueuePermission, []byte(subject), []byte(queue)))
	}
	return string(wire.AppendErr(nil, wire.CodeSubPermission, []byte(subject)))
}

func (m *model) wantRefused(s *modelSession, subject, queue string) {
	m.g.t.Helper()
	m.wantSend(s, refused(subject, queue), false)
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

// count counts a message to a subscription that may have had its last.
func (m *model) count(t *modelSub) {
	if t.delivered++; t.max > 0 && t.delivered >= t.max {
		m.drop(func(x *modelSub) bool { return x == t })
	}
}

// move accounts for a session that goes to another cm, where its slot is free.
func (m *model) move(s *modelSession, to int) {
	m.g.t.Helper()
	if m.sessions[to][s.conn.Slot] != nil {
		if a, ok := m.next(s.cm).(*store.InsMoved); !ok || *a != (store.InsMoved{Conn: s.conn, Flags: store.MovedNot}) {
			m.g.t.Fatalf("cm/%d: %+v, want MOVED of %v, not", s.cm, a, s.conn)
		}
		return
	}
	flags := uint8(0)
	for flag, is := range map[uint8]bool{store.ArrivingHeaders: s.opts.Headers, store.ArrivingHeld: s.heldBy > 0, store.ArrivingCongested: s.slow} {
		if is {
			flags |= flag
		}
	}
	if a, ok := m.next(to).(*store.InsArriving); !ok || *a != (store.InsArriving{Conn: s.conn, UID: uint64(s.conn.Gen), Flags: flags}) {
		m.g.t.Fatalf("cm/%d: %+v, want ARRIVING of %v, flags %b", to, a, s.conn, flags)
	}
	if a, ok := m.next(s.cm).(*store.InsMoved); !ok || *a != (store.InsMoved{Conn: s.conn}) {
		m.g.t.Fatalf("cm/%d: %+v, want MOVED of %v", s.cm, a, s.conn)
	}
	delete(m.sessions[s.cm], s.conn.Slot)
	s.cm, s.process = to, m.g.r.links[to].process
	m.sessions[to][s.conn.Slot] = s
}

// succeed accounts for a new router, which does not know what the cms say once more, whose
// turn it is, how much a subscription without a limit has had since the last snapshot,
// and when a session went on last.
func (m *model) succeed() {
	for cm := range m.sessions {
		for _, s := range m.bySlot(cm) {
			s.slow, s.holds, s.heldBy = false, nil, 0
		}
	}
	for _, t := range m.live {
		t.turn = 0
		if known := m.g.r.links[t.ses.cm].session(t.ses.conn).subs[t.sid]; t.max == 0 && known != nil {
			t.delivered = known.delivered
		}
	}
	for _, a := range m.affinities {
		a.used = m.now
	}
	m.wantLater()
}

// end of a batch: all that the router said is accounted for, and it counts as
// the model does.
func (m *model) settled() {
	m.g.t.Helper()
	slow := 0
	for cm, rest := range m.got {
		if len(rest) > 0 {
			m.g.t.Fatalf("cm/%d: %d instructions too many, the first %T %+v", cm, len(rest), rest[0], rest[0])
		}
		if n := m.g.r.links[cm].open; n != len(m.sessions[cm]) {
			m.g.t.Fatalf("cm/%d: %d sessions, want %d", cm, n, len(m.sessions[cm]))
		}
		for _, s := range m.bySlot(cm) {
			if s.slow {
				slow++
			}
			if n := m.g.r.links[cm].session(s.conn).load(); n != m.load(s) {
				m.g.t.Fatalf("load of %v is %d, want %d", s.conn, n, m.load(s))
			}
		}
	}
	if m.g.r.index.count != len(m.live) || m.g.r.congested != slow || m.g.r.delivered != m.routed {
		m.g.t.Fatalf("%d subscriptions, %d behind, %d delivered; want %d, %d, %d",
			m.g.r.index.count, m.g.r.congested, m.g.r.delivered, len(m.live), slow, m.routed)
	}
	m.wantLimits()
	if n, a := m.g.r.requests.count, m.g.affinities(); n != len(m.requests) || a != len(m.affinities) {
		m.g.t.Fatalf("%d requests, %d affinities; want %d, %d", n, a, len(m.requests), len(m.affinities))
	}
}
