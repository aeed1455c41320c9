package router

import (
	"bytes"
	"fmt"
	"slices"

	"gatehouse/store"
	"gatehouse/wire"
)

// modelRequest is one that sessions are to answer; all that are not over stand in
// model.requests, in their order.
type modelRequest struct {
	from           *modelSession // nil: nobody is to hear how it ends
	reply          string
	mode           store.Mode
	until          int64
	answered, lost int
	duties         []*modelDuty
}

// modelDuty is what one session owes to a request, or may answer by its grace.
type modelDuty struct {
	req   *modelRequest
	by    *modelSession
	owed  bool
	grant int // answers that the session's profile allows; -1: any number
}

// modelAffinity has a sender's requests of one id go to one member of a queue group.
type modelAffinity struct {
	from, by           *modelSession // by nil: has gone
	id, subject, queue string
	used               int64
}

// duty returns the oldest duty of a session to answer to a subject, of those that are
// owed if there are any; nil: it has none.
func (m *model) duty(s *modelSession, subject string) (found *modelDuty) {
	for _, q := range m.requests {
		for _, d := range q.duties {
			if d.by == s && q.reply == subject && (found == nil || d.owed && !found.owed) {
				found = d
			}
		}
	}
	return found
}

// load is how many answers a session owes, and how many sessions it serves.
func (m *model) load(s *modelSession) (n int) {
	for _, q := range m.requests {
		for _, d := range q.duties {
			if d.by == s && d.owed {
				n++
			}
		}
	}
	for _, a := range m.affinities {
		if a.by == s {
			n++
		}
	}
	return n
}

func (q *modelRequest) owing() (n int) {
	for _, d := range q.duties {
		if d.owed {
			n++
		}
	}
	return n
}

// handOn: a member that passes a request on, with its reply subject, owes no answer to
// it any more. It returns for whom the message is asked, and that duty.
func (m *model) handOn(x *modelMessage) (from *modelSession, handed *modelDuty) {
	if d := m.duty(x.from, x.reply); d != nil && d.owed && d.req.mode != store.ModeFanout {
		from = d.req.from
		m.answer(d)
		return from, d
	}
	return x.from, nil
}

// ask notes who of those that got a message owes an answer to it, or may give some.
func (m *model) ask(x *modelMessage, from *modelSession, had []*modelSub) {
	if x.reply == "" {
		return
	}
	q := &modelRequest{from: from, reply: x.reply, mode: x.mode, until: m.now + m.g.r.cfg.RequestTimeout.Milliseconds()}
	if n := int64(x.facts.Timeout); x.mode == store.ModeFanout && n > 0 {
		q.until = min(q.until, m.now+n)
	}
	for _, t := range had {
		owed := x.mode >= store.ModeFanout || x.mode != store.ModeBroadcast && t.queue != ""
		if owed || t.ses.prof.Responses != 0 {
			q.duties = append(q.duties, &modelDuty{q, t.ses, owed, t.ses.prof.Responses})
		}
	}
	if len(q.duties) == 0 {
		return
	}
	if q.owing() == 0 {
		q.from = nil
	}
	m.requests = append(m.requests, q)
	if x.mode == store.ModeFanout {
		m.wantTold(x, from, 100, "", fmt.Sprintf("Gatehouse-Expect: %d\r\n", q.owing()))
	}
}

// answer notes an answer.
func (m *model) answer(d *modelDuty) {
	if d.owed {
		d.owed = false
		d.req.answered++
	}
	if d.grant > 0 {
		d.grant--
	}
	m.concluded(d.req)
}

// concluded is called when there may be nothing left to wait for.
func (m *model) concluded(q *modelRequest) {
	q.duties = slices.DeleteFunc(q.duties, func(d *modelDuty) bool { return !d.owed && d.grant == 0 })
	if code, _, _ := q.status(); code != 0 {
		if !slices.Contains(m.over, q) {
			m.over = append(m.over, q)
		}
	} else if len(q.duties) == 0 {
		m.forget(q)
	}
}

// status is the one that the sender of a request is told at its end; 0: it has not come,
// or is told nothing.
func (q *modelRequest) status() (code int, text, lines string) {
	switch {
	case q.from == nil || q.owing() > 0:
	case q.mode == store.ModeFanout:
		return 204, "", fmt.Sprintf("Gatehouse-Answered: %d\r\nGatehouse-Lost: %d\r\n", q.answered, q.lost)
	case q.answered == 0 && q.lost > 0:
		return 503, "Responder Lost", ""
	}
	return 0, "", ""
}

func (m *model) forget(q *modelRequest) {
	m.requests = slices.DeleteFunc(m.requests, func(x *modelRequest) bool { return x == q })
}

// orphan: nobody waits for the answers to a request any more. Those who may answer it by
// its grace still may.
func (m *model) orphan(q *modelRequest) {
	q.from = nil
	for _, d := range q.duties {
		d.owed = false
	}
	m.concluded(q)
}

// leave: a session has gone, with all that it has asked and owes, and the sessions that
// it had or served. Of the requests that are over by that the latest comes first.
func (m *model) leave(s *modelSession) {
	for _, q := range slices.Clone(m.requests) {
		if q.from == s {
			m.orphan(q)
		}
	}
	for _, q := range slices.Backward(slices.Clone(m.requests)) {
		left := false
		for _, d := range q.duties {
			if d.by != s {
				continue
			}
			if d.owed {
				q.lost++
			}
			d.owed, d.grant, left = false, 0, true
		}
		if left {
			m.concluded(q)
		}
	}
	m.affinities = slices.DeleteFunc(m.affinities, func(a *modelAffinity) bool { return a.from == s })
	for _, a := range m.affinities {
		if a.by == s {
			a.by = nil
		}
	}
}

// wantStatuses takes the statuses of requests that are over.
func (m *model) wantStatuses() {
	m.g.t.Helper()
	for _, q := range m.over {
		if code, text, lines := q.status(); code != 0 {
			m.wantEnd(q, code, text, lines)
		}
	}
	m.over = nil
}

// wantEnd takes the last status of a request.
func (m *model) wantEnd(q *modelRequest, code int, text, lines string) {
	m.g.t.Helper()
	if o := q.from.opts; o.Headers && (o.NoResponders || q.mode >= store.ModeSession) {
		m.wantStatus(q.from, q.reply, code, text, lines)
	}
	m.orphan(q)
}

// wantTold takes a status about the message at hand.
func (m *model) wantTold(x *modelMessage, s *modelSession, code int, text, lines string) {
	m.g.t.Helper()
	if s != nil && s.opts.Headers && x.reply != "" {
		m.wantStatus(s, x.reply, code, text, lines)
	}
}

// wantStatus takes a message of the router's own, if the session has a plain
// subscription that it can come by.
func (m *model) wantStatus(s *modelSession, reply string, code int, text, lines string) {
	m.g.t.Helper()
	m.wantOn(s, reply, func(t *modelSub) []byte {
		return wire.AppendStatus(nil, []byte(reply), []byte(t.sid), code, text, []byte(lines))
	})
}

// wantOn takes a SEND that comes by one of the plain subscriptions of a session.
func (m *model) wantOn(s *modelSession, subject string, data func(*modelSub) []byte) {
	m.g.t.Helper()
	var could []*modelSub
	for _, t := range m.live {
		if t.ses == s && t.queue == "" && m.hears(t, subject) {
			could = append(could, t)
		}
	}
	if len(could) == 0 {
		return
	}
	ins, ok := m.next(s.cm).(*store.InsSend)
	for _, t := range could {
		if ok && ins.Conn == s.conn && bytes.Equal(ins.Data, data(t)) {
			m.count(t)
			return
		}
	}
	m.g.t.Fatalf("cm/%d: %+v, want %q, or by another of %d subscriptions", s.cm, ins, data(could[0]), len(could))
}

// wantChoice checks the member of a queue group that a message goes to.
func (m *model) wantChoice(x *modelMessage, t *modelSub, members []*modelSub) {
	m.g.t.Helper()
	switch a := m.held(x, t.queue); {
	case t.queue == "" || x.mode != store.ModeSemaphore && x.mode != store.ModeSession:
	case a == nil:
		m.wantLeast(t, members)
	case a.by != t.ses:
		m.g.t.Fatalf("session %q goes on with %v, not %v", a.id, t.ses.conn, a.by.conn)
	}
}

// wantLeast: the member owes the fewest answers for its weight, this one counted in, and
// of those alike its turn was the longest ago.
func (m *model) wantLeast(t *modelSub, members []*modelSub) {
	m.g.t.Helper()
	for _, o := range members {
		a := (m.load(t.ses) + 1) * o.ses.prof.Weight
		b := (m.load(o.ses) + 1) * t.ses.prof.Weight
		if a > b || a == b && t.turn > o.turn && m.inTurn {
			m.g.t.Fatalf("%q goes to %v of load %d, weight %d, turn %d; %v has load %d, weight %d, turn %d", t.subject,
				t.ses.conn, m.load(t.ses), t.ses.prof.Weight, t.turn, o.ses.conn, m.load(o.ses), o.ses.prof.Weight, o.turn)
		}
	}
	m.turn++
	t.turn = m.turn
}

// held returns the affinity that a message goes by in a queue group.
func (m *model) held(x *modelMessage, queue string) *modelAffinity {
	for _, a := range m.affinities {
		if x.mode == store.ModeSession && a.from == x.from && a.id == string(x.facts.Session) && a.subject == x.subject && a.queue == queue {
			return a
		}
	}
	return nil
}

// goesOn tells whether the members that a session goes on with are all there. If not, what
// it had with the others ends.
func (m *model) goesOn(x *modelMessage, groups map[string][]*modelSub) bool {
	before := len(m.affinities)
	m.affinities = slices.DeleteFunc(m.affinities, func(a *modelAffinity) bool {
		return m.held(x, a.queue) == a && !slices.ContainsFunc(groups[a.queue], func(t *modelSub) bool { return t.ses == a.by })
	})
	if len(m.affinities) == before {
		return true
	}
	if x.facts.End {
		m.endSession(x)
	}
	return false
}

// settleDown notes what a message of a session has begun or ended.
func (m *model) settleDown(x *modelMessage, had []*modelSub) {
	if x.mode != store.ModeSession {
		return
	}
	for _, t := range had {
		if t.queue == "" {
			continue
		}
		a := m.held(x, t.queue)
		if a == nil {
			a = &modelAffinity{from: x.from, by: t.ses, id: string(x.facts.Session), subject: x.subject, queue: t.queue}
			m.affinities = append(m.affinities, a)
		}
		a.used = m.now
	}
	if x.facts.End {
		m.endSession(x)
	}
}

func (m *model) endSession(x *modelMessage) {
	m.affinities = slices.DeleteFunc(m.affinities, func(a *modelAffinity) bool { return m.held(x, a.queue) == a })
}

// passTo lets time pass: what is due ends, one after the other in the order of its time.
func (m *model) passTo(now int64) {
	m.g.t.Helper()
	m.now = now
	for {
		var q *modelRequest
		for _, o := range m.requests {
			if o.until <= m.now && (q == nil || o.until < q.until) {
				q = o
			}
		}
		if q == nil {
			break
		}
		if q.from != nil && q.mode == store.ModeFanout && q.owing() > 0 {
			m.wantEnd(q, 504, "", fmt.Sprintf("Gatehouse-Answered: %d\r\nGatehouse-Lost: %d\r\n", q.answered, q.lost))
		}
		m.forget(q)
	}
	idle := m.now - m.g.r.cfg.SessionIdle.Milliseconds()
	m.affinities = slices.DeleteFunc(m.affinities, func(a *modelAffinity) bool { return a.used <= idle })
}
