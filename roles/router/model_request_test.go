package router

import (
	"bytes"
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
	answered, lost int
	duties         []*modelDuty
}

// modelDuty is what one session owes to a request.
type modelDuty struct {
	req *modelRequest
	by  *modelSession
}

// duty returns the oldest duty of a session to answer to a subject, nil: it has none.
func (m *model) duty(s *modelSession, subject []byte) *modelDuty {
	for _, q := range m.requests {
		for _, d := range q.duties {
			if d.by == s && q.reply == string(subject) {
				return d
			}
		}
	}
	return nil
}

// load is how many answers a session owes.
func (m *model) load(s *modelSession) (n int) {
	for _, q := range m.requests {
		for _, d := range q.duties {
			if d.by == s {
				n++
			}
		}
	}
	return n
}

// handOn: a member that passes a request on, with its reply subject, owes no answer to
// it any more. It returns for whom the message is asked.
func (m *model) handOn(s *modelSession, r *store.RecPub) *modelSession {
	if d := m.duty(s, r.Reply); d != nil && len(r.Reply) > 0 {
		from := d.req.from
		m.answer(d)
		return from
	}
	return s
}

func (m *model) ask(from *modelSession, r *store.RecPub, members []*modelSub) {
	q := &modelRequest{from: from, reply: string(r.Reply), mode: store.ModeSemaphore}
	for _, t := range members {
		q.duties = append(q.duties, &modelDuty{q, t.ses})
	}
	m.requests = append(m.requests, q)
}

// answerOnce notes an answer, unless that duty is over by now.
func (m *model) answerOnce(d *modelDuty) {
	if d != nil && slices.Contains(d.req.duties, d) {
		m.answer(d)
	}
}

func (m *model) answer(d *modelDuty) {
	d.req.answered++
	m.release(d)
}

// release ends a duty; who asked hears of the end of the request, after the record at
// hand, if all that it went to are lost.
func (m *model) release(d *modelDuty) {
	q := d.req
	q.duties = slices.DeleteFunc(q.duties, func(x *modelDuty) bool { return x == d })
	if len(q.duties) == 0 {
		m.forget(q)
		m.over = append(m.over, q)
	}
}

func (m *model) forget(q *modelRequest) {
	m.requests = slices.DeleteFunc(m.requests, func(x *modelRequest) bool { return x == q })
}

// leave: a session has gone, with all that it has asked and owes. Of the requests that
// are over by that the latest comes first.
func (m *model) leave(s *modelSession) {
	for _, q := range slices.Clone(m.requests) {
		if q.from == s {
			m.forget(q)
		}
	}
	for _, q := range slices.Backward(slices.Clone(m.requests)) {
		for _, d := range slices.Clone(q.duties) {
			if d.by == s {
				q.lost++
				m.release(d)
			}
		}
	}
	for _, q := range m.over {
		if q.from == s {
			q.from = nil
		}
	}
}

// wantStatuses takes a status for each request of which all that it went to are lost.
func (m *model) wantStatuses() {
	m.g.t.Helper()
	for _, q := range m.over {
		if s := q.from; s != nil && q.answered == 0 && q.lost > 0 && s.opts.Headers && s.opts.NoResponders {
			m.wantStatus(s, q.reply, 503, "Responder Lost", "")
		}
	}
	m.over = nil
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
		if t.ses == s && t.queue == "" && wire.Match([]byte(t.subject), []byte(subject)) {
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

// wantLeast checks the member of a queue group that a request goes to: it owes the
// fewest answers, and of those alike its turn was the longest ago.
func (m *model) wantLeast(t *modelSub, members []*modelSub) {
	m.g.t.Helper()
	for _, o := range members {
		if a, b := m.load(t.ses), m.load(o.ses); a > b || a == b && t.turn > o.turn && m.inTurn {
			m.g.t.Fatalf("%q goes to %v, who owes %d (turn %d); %v owes %d (turn %d)", t.subject, t.ses.conn, a, t.turn, o.ses.conn, b, o.turn)
		}
	}
	m.turn++
	t.turn = m.turn
}
