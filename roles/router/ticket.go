package router

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/tickets"
	"gatehouse/wire"
)

// ticket.go answers what clients ask the broker itself, which is one thing: a ticket by
// which they can log in to another environment.
//
//	ASK --may this client?--> TICKET_SIGN --> parent --> TICKET_SIGNED --> the ticket
//	     no, or no answer in time: a status
//
// None of it outlives the router: the client of one that has ended asks again.

// Statuses beside those of other requests.
const (
	statusForbidden = 403
	statusTooMany   = 429
)

const (
	ticketPatience = 2000 // ms for the parent to answer
	ticketEvery    = 100  // ms between two tickets of a session
	mostTickets    = 1024 // that are waited for, or that have just been
	ticketPace     = 1000 // a second, well below the rate of TICKET_SIGN
)

// ticketAsk is a client that has asked for a ticket.
type ticketAsk struct {
	s     *session
	id    uint64
	reply []byte
	at    int64 // ms of the router's clock
	done  bool  // has been answered
}

// desk has all of them, in the order in which they came.
type desk struct {
	queue []*ticketAsk
	byID  map[uint64]*ticketAsk
	byWho map[*session]*ticketAsk // the last one of each
	last  uint64
	pace  privsep.Pace
	// Tickets that the parent has signed: they are passed on between two batches.
	signed []privsep.TicketSigned
}

// asked answers a message to the broker itself.
func (r *router) asked(l *link, rec []byte) error {
	var q store.RecAsk
	if err := q.Parse(rec); err != nil {
		return err
	}
	if len(q.Subject)+len(q.Reply) > r.cfg.MaxControlLine {
		return errLong
	}
	if !isText(q.Subject) || !isText(q.Reply) || !wire.Broker(q.Subject) {
		return errText
	}
	s := l.session(q.Conn)
	if s == nil {
		return nil
	}
	p := &r.pub
	*p = store.RecPub{Conn: q.Conn, Subject: q.Subject, Reply: q.Reply}
	switch {
	case !s.admitted:
		r.fail(s, wire.CodeAuthViolation)
	case reserved(p):
		r.refusePub(s, p)
	default:
		r.answerPub(s, p)
		r.answerAsk(s, p, &q)
	}
	return nil
}

// answerAsk answers a question that its sender was free to ask.
func (r *router) answerAsk(s *session, p *store.RecPub, q *store.RecAsk) {
	switch {
	case len(p.Reply) == 0: // whoever asks wants an answer
	case string(p.Subject) != tickets.TransferSubject:
		if s.noResponders {
			r.noResponders(s, p)
		}
	default:
		if code, text := r.wantTicket(s, q); code != 0 {
			r.tellAsker(s, p, code, text)
		}
	}
}

// wantTicket has the parent sign a ticket, or says why not.
func (r *router) wantTicket(s *session, q *store.RecAsk) (code int, text string) {
	nonce, environment, ok := tickets.ParseTransferRequest(q.Body)
	w, now := &r.desk, r.clock()
	switch {
	case !ok || q.Long:
		return statusBad, "Bad Ticket Request"
	case !s.mayTransfer(environment):
		r.violation(s, "transfer", []byte(environment))
		return statusForbidden, "Transfer Not Permitted"
	case !w.free(s, now):
		return statusTooMany, "Too Many Requests"
	}
	w.last++
	m := privsep.TicketSign{ID: w.last, Connection: s.uid, Nonce: nonce, User: s.who.user, Organisation: s.who.organisation, Audience: environment}
	if r.parent.Orphaned() || r.parent.Send(privsep.KindTicketSign, m.Append(nil)) != nil {
		return statusTimeout, "Transfer Unavailable"
	}
	w.enter(&ticketAsk{s: s, id: w.last, reply: append([]byte(nil), q.Reply...), at: now})
	return 0, ""
}

// mayTransfer tells whether a session's client may go to another environment, as whom
// he is known to be.
func (s *session) mayTransfer(environment string) bool {
	w := s.who
	return w != nil && w.user != "" && tickets.ValidName(w.user) && tickets.ValidName(w.organisation) && contains(s.prof.transfer, environment)
}

// free tells whether a session may have a ticket now: one at a time, not one right
// after the other, and not where all of them together want too many.
func (w *desk) free(s *session, now int64) bool {
	a := w.byWho[s]
	if a != nil && (!a.done || now-a.at < ticketEvery) || len(w.queue) >= mostTickets {
		return false
	}
	return w.pace.Take(ticketPace, time.Now())
}

func (w *desk) enter(a *ticketAsk) {
	if w.byID == nil {
		w.byID, w.byWho = make(map[uint64]*ticketAsk), make(map[*session]*ticketAsk)
	}
	w.queue = append(w.queue, a)
	w.byID[a.id], w.byWho[a.s] = a, a
}

// ticketSigned takes a ticket from the parent, perhaps in the middle of a batch.
func (r *router) ticketSigned(m *privsep.Message) error {
	var t privsep.TicketSigned
	if err := t.Parse(m.Payload); err != nil {
		return err
	}
	t.Ticket = append([]byte(nil), t.Ticket...)
	r.desk.signed = append(r.desk.signed, t)
	return nil
}

// handTickets passes on the tickets that have come.
func (r *router) handTickets() {
	w := &r.desk
	for _, t := range w.signed {
		a := w.byID[t.ID]
		if a == nil {
			continue // too late
		}
		delete(w.byID, t.ID)
		a.done = true
		r.handTicket(a, t.Ticket)
	}
	w.signed = nil
}

// handTicket answers one who has asked; there is no ticket where the parent gave none.
func (r *router) handTicket(a *ticketAsk, ticket []byte) {
	s := a.s
	if s.ended || !s.admitted {
		return
	}
	r.outOfTurn(s, func() {
		if len(ticket) == 0 {
			if s.headers {
				r.status(s, a.reply, statusTimeout, "Transfer Unavailable", nil)
			}
			return
		}
		if t := r.listens(s, a.reply); t != nil {
			r.buf = wire.AppendMsg(r.buf[:0], a.reply, t.sid, nil, 0, len(ticket))
			r.buf = append(append(r.buf, ticket...), "\r\n"...)
			r.tellOn(t)
		}
	})
}

// expireTickets ends what the parent has not answered.
func (r *router) expireTickets() {
	w := &r.desk
	for len(w.queue) > 0 && r.clock()-w.queue[0].at >= ticketPatience {
		a := w.queue[0]
		w.queue[0], w.queue = nil, w.queue[1:]
		if w.byWho[a.s] == a {
			delete(w.byWho, a.s)
		}
		if !a.done {
			delete(w.byID, a.id)
			r.handTicket(a, nil)
		}
	}
}
