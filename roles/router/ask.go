package router

import (
	"slices"
	"strconv"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// Statuses that a requester is told on its reply subject. The numbers are HTTP's
// (RFC 9110, 15) where they mean the same.
const (
	statusBegun       = 100 // a fanout: how many are expected to answer
	statusComplete    = 204 // a fanout: all have answered, or gone
	statusBad         = 400
	statusGone        = 410 // the member that a session goes to
	statusUnavailable = 503
	statusLost        = 503 // who had to answer has gone
	statusTimeout     = 504 // a fanout: not all have answered in time
)

// badFacts says what is wrong with the headers of a request.
var badFacts = [...]string{
	store.BadMode: "Bad Gatehouse-Mode", store.BadSession: "Bad Gatehouse-Session", store.BadTimeout: "Bad Gatehouse-Timeout",
	store.BadType: "Bad Gatehouse-To-Type", store.BadOrganisation: "Bad Gatehouse-To-Organisation",
}

// owes returns the duty that a message on this subject answers to, nil if it is none.
func (r *router) owes(s *session, subject []byte) *duty {
	if s.work == nil || s.work.duties == nil {
		return nil
	}
	return r.requests.dutyOf(s, subject)
}

// affords tells whether the state has room for a fanout to all of a match.
func (r *router) affords(p *store.RecPub, m *match) bool {
	n := len(m.plain)
	for i := range m.groups {
		n += len(m.groups[i].members)
	}
	return len(p.Reply) == 0 || r.hasRoomFor(requestFootprint(n, len(p.Reply)))
}

// hasRoomFor tells whether the state has room for a request or an affinity more. The log
// says so at most once a second.
func (r *router) hasRoomFor(footprint int) bool {
	if r.fits(footprint) {
		return true
	}
	r.complain("requests not followed: store.journal is too small", r.requests.count)
	return false
}

// fits is hasRoomFor without a word. An entry of the journal, too, has to hold all of it.
func (r *router) fits(footprint int) bool {
	return footprint <= store.MaxEntry && r.requests.bytes+r.affinities.bytes+footprint <= r.size.request
}

// complain says what the state has no room for, at most once a second.
func (r *router) complain(event string, n int) {
	if now := time.Now(); now.Sub(r.complained) >= time.Second {
		r.complained = now
		r.log.Error(event, privsep.Int(privsep.KeyN, int64(n)))
	}
}

// ask notes that the members of the message at hand have to answer it, or may. Without
// room for that nobody is the wiser: they answer, and are not counted.
func (r *router) ask(asker *session, p *store.RecPub, how store.Mode) {
	members := r.requests.members
	r.requests.members = members[:0]
	if !r.hasRoomFor(requestFootprint(len(members), len(p.Reply))) {
		return
	}
	q := r.requests.make(len(members))
	q.number, q.mode, q.until = r.requests.number+1, how, r.clock()+r.patienceFor(how)
	q.reply = append(q.reply[:0], p.Reply...)
	owed := 0
	for i, m := range members {
		q.duties[i] = duty{by: m.ses, owed: m.owed, grant: m.grant}
		if m.owed {
			owed++
		}
		members[i] = member{}
	}
	if owed > 0 {
		q.from = asker
	} else {
		q.mode = store.ModeBroadcast
	}
	r.request(q)
	if how == store.ModeFanout {
		r.tellAsker(asker, p, statusBegun, "", expectLine(owed)...)
	}
}

// patienceFor is how long a request lasts, in ms.
func (r *router) patienceFor(how store.Mode) int64 {
	usual := r.cfg.RequestTimeout.Milliseconds()
	if t := int64(r.facts.Timeout); t > 0 && how == store.ModeFanout {
		return min(t, usual)
	}
	return usual
}

func expectLine(n int) []byte { return countLine(nil, "Gatehouse-Expect: ", n) }

func countLine(dst []byte, name string, n int) []byte {
	return append(strconv.AppendInt(append(dst, name...), int64(n), 10), "\r\n"...)
}

// outcome are the header lines of a fanout's end.
func (q *request) outcome() []byte {
	return countLine(countLine(nil, "Gatehouse-Answered: ", q.answered), "Gatehouse-Lost: ", q.lost)
}

// handOver: a member that passes a request on, with its reply subject, owes no answer
// to it any more. It returns for whom the message at hand is asked, and that duty.
func (r *router) handOver(s *session, p *store.RecPub) (asker *session, handed *duty) {
	d := r.owes(s, p.Reply)
	if d == nil || !d.owed || d.req.mode == store.ModeFanout {
		return s, nil
	}
	asker = d.req.from
	r.answer(d)
	return asker, d
}

// tellAsker tells the sender of the message at hand how its request stands.
func (r *router) tellAsker(s *session, p *store.RecPub, code int, text string, lines ...byte) {
	if len(p.Reply) > 0 && s != nil && s.headers && !s.ended {
		r.status(s, p.Reply, code, text, lines)
	}
}

// status tells a session how a request of its own stands, if it listens on the reply
// subject with a plain subscription.
func (r *router) status(s *session, reply []byte, code int, text string, lines []byte) {
	if t := r.listens(s, reply); t != nil {
		r.buf = wire.AppendStatus(r.buf[:0], reply, t.sid, code, text, lines)
		r.tellOn(t)
	}
}

// noResponders tells a requester at once that nobody heard it.
func (r *router) noResponders(s *session, p *store.RecPub) {
	if t := r.listens(s, p.Reply); t != nil {
		r.buf = wire.AppendNoResponders(r.buf[:0], p.Reply, t.sid, p.Subject)
		r.tellOn(t)
	}
}

// listens returns the plain subscription of a session to a subject, nil if it has none.
func (r *router) listens(s *session, subject []byte) *sub {
	m := &r.scratch
	m.reset()
	r.index.find(subject, m)
	for _, t := range m.plain {
		if t.ses == s {
			return t
		}
	}
	return nil
}

// tellOn sends a message of the router's own. Clients count it towards UNSUB's max, so
// it counts here too: otherwise the subscription would stay behind.
func (r *router) tellOn(t *sub) {
	r.send(t.ses, r.buf, 0)
	t.delivered++
	if t.max > 0 {
		r.counted(t)
	}
}

// informAll tells the senders of requests that are over, one after the other, each with
// its entry in the journal: it is of no record.
func (r *router) informAll() {
	for i := 0; i < len(r.requests.over); i++ {
		q := r.requests.over[i]
		r.requests.over[i] = nil
		if q.queued = false; q.ended {
			r.requests.keep(q)
			continue
		}
		if code := q.status(); code != 0 {
			r.conclude(q, code)
		} else {
			r.requests.conclude(q)
		}
	}
	r.requests.over = r.requests.over[:0]
}

// conclude tells the sender of a request how it ended.
func (r *router) conclude(q *request, code int) {
	s, text, lines := q.from, "", []byte(nil)
	r.makeRoom(s.cm)
	switch {
	case q.mode == store.ModeFanout:
		lines = q.outcome()
	case code == statusLost:
		text = "Responder Lost"
	}
	if s.headers && (s.noResponders || q.mode >= store.ModeSession) {
		r.status(s, q.reply, code, text, lines)
	}
	r.informedOf(q)
	r.trim()
}

// makeRoom waits until what a session is told has room, between records.
func (r *router) makeRoom(l *link) {
	if !l.out.Fits(r.size.answers, r.size.most) {
		r.await(l, r.size.answers)
	}
}

// timeOut ends a request whose time has come.
func (r *router) timeOut(q *request) {
	if q.from != nil && q.mode == store.ModeFanout && q.owing > 0 {
		r.conclude(q, statusTimeout)
	}
	if !q.ended {
		r.lapse(q)
		r.trim()
	}
}

// trim compacts the journal if it has grown, between records.
func (r *router) trim() {
	if r.state.Journal.Tail() > r.turnAt {
		r.compact()
	}
}

// denounced is what was said in the last second of what a profile does not allow.
type denounced struct {
	since  time.Time
	unsaid int64               // in the log
	told   map[uint64]struct{} // connections, in the audit log
	untold int64
}

// denouncedMost bounds denounced.told.
const denouncedMost = 1000

// violation is for the logs: what a profile does not allow, at most once a second; in the
// audit log of each connection. Clients may want nothing else: what is not said costs
// nothing.
func (r *router) violation(s *session, what string, subject []byte) {
	r.violations++
	now, d := time.Now(), &r.denounced
	fresh := now.Sub(d.since) >= time.Second
	if fresh {
		d.since = now
		clear(d.told)
	}
	_, told := d.told[s.uid]
	audit := r.cfg.Audit && !told && len(d.told) < denouncedMost && r.parent.Roomy() // or a fault could not be reported
	if r.cfg.Audit && !audit {
		d.untold++
	}
	if !fresh {
		d.unsaid++
	}
	if !fresh && !audit {
		return
	}
	fields := []privsep.Field{privsep.Int(privsep.KeyCID, int64(s.uid)), privsep.Str(privsep.KeyReason, what),
		privsep.Str(privsep.KeySubject, string(subject[:min(len(subject), privsep.MaxLogText)]))}
	if w := s.who; w != nil {
		for _, f := range []privsep.Field{privsep.Str(privsep.KeyUser, w.user), privsep.Str(privsep.KeyOrganisation, w.organisation), privsep.Str(privsep.KeyProfile, w.profile)} {
			if f.Text != "" {
				fields = append(fields, f)
			}
		}
	}
	if fresh {
		r.log.Info("not permitted", counted(fields, d.unsaid)...)
		d.unsaid = 0
	}
	if !audit {
		return
	}
	if d.told == nil {
		d.told = map[uint64]struct{}{}
	}
	d.told[s.uid] = struct{}{}
	if r.log.Audit("not permitted", counted(fields, d.untold)...) { // else the next one has them
		d.untold = 0
	}
}

// counted adds how many were left out before.
func counted(fields []privsep.Field, n int64) []privsep.Field {
	if n > 0 {
		fields = append(slices.Clip(fields), privsep.Int(privsep.KeyN, n))
	}
	return fields
}
