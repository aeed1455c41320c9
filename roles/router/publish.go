package router

import (
	"fmt"

	"gatehouse/store"
	"gatehouse/wire"
)

// pieceLimit bounds the recipients of one instruction, in bytes: a message to
// more than that goes out as several, of which only the last is reported.
const pieceLimit = 16 << 10

// publish routes one message. Until spread it changes nothing: what it says and
// notes comes after it, when there is room for all of that.
func (r *router) publish(l *link, rec []byte) error {
	p := &r.pub
	if err := r.parsePub(l, p, rec); err != nil {
		return err
	}
	s := l.session(p.Conn)
	if s == nil {
		l.name(p.Seq, 0)
		return nil
	}
	repeated := string(s.lastSubject) == string(p.Subject)
	if !repeated && !isText(p.Subject) || !isText(p.Reply) {
		return errText
	}
	if repeated && r.plainly(s, p) {
		r.passOn(l, s, p)
		return nil
	}
	how, look := store.ModeBroadcast, false
	if r.faced || len(p.Facts)+len(p.Reply) > 0 || wire.Special(p.Subject) {
		var err error
		if how, err = r.modeOf(p); err != nil {
			return err
		}
		look = r.looks(s, p)
	}
	d := r.owes(s, p.Subject)
	if (!s.prof.free || r.faced || len(p.Reply) > 0 || wire.Special(p.Subject)) && !r.accept(s, p, how, d) { // else it is allowed
		l.name(p.Seq, 0)
		return nil
	}
	if wire.Special(p.Subject) && wire.System(p.Subject) && r.system(l, s, p) {
		return nil
	}
	m := r.matchFor(s, p.Subject)
	n, asker, handed := 0, s, (*duty)(nil)
	switch {
	case m.single && how <= store.ModeSemaphore && !look:
		n = r.deliverBlock(l, s, p, m)
	case how == store.ModeSession && !r.goesOn(s, p, m, look):
		r.settleDown(s, p)
		r.turnAway(s, p, statusGone, "Session Gone")
		return nil
	case how == store.ModeFanout && !r.affords(p, m):
		r.turnAway(s, p, statusUnavailable, "Too Many Requests")
		return nil
	case !m.none():
		if n = r.collect(s, p, m, how, look); n > 0 {
			r.deliver(l, s, p)
		}
	}
	r.messages++
	if n > 0 {
		r.delivered += uint64(n)
		if r.congested > 0 {
			r.holdFor(s, p, m, look)
		}
		if s.work != nil && len(p.Reply) > 0 {
			asker, handed = r.handOver(s, p)
		}
	}
	if len(r.limited) > 0 {
		r.countLimited()
	}
	if how == store.ModeSession {
		r.settleDown(s, p)
	}
	if d != nil {
		if d != handed {
			r.answer(d)
		}
		if !s.prof.free {
			s.last = nil // the subject may have been allowed this once
		}
	}
	if len(r.requests.members) > 0 {
		r.ask(asker, p, how)
	}
	if n == 0 {
		r.answerPub(s, p)
		l.name(p.Seq, 0)
		if len(p.Reply) > 0 && (s.noResponders || s.headers && how >= store.ModeSession) {
			r.noResponders(s, p)
		}
	}
	return nil
}

// plainly tells whether a message on the sender's last subject, which it may publish on
// as long as that match is current, is of the commonest kind: nothing is asked, by it or
// of its sender, and its recipients, on one cm, are already encoded.
func (r *router) plainly(s *session, p *store.RecPub) bool {
	return r.index.current(s.last) && s.last.single && len(p.Reply)+len(p.Facts) == 0 && s.work == nil &&
		s.prof.modes&modeBit(store.ModeBroadcast) != 0 && !r.faced && !wire.Special(p.Subject)
}

// passOn is publish for such a message.
func (r *router) passOn(l *link, s *session, p *store.RecPub) {
	r.messages++
	r.delivered += uint64(r.deliverBlock(l, s, p, s.last))
	if r.congested > 0 {
		r.holdFor(s, p, s.last, false)
	}
}

var (
	errNumber = fmt.Errorf("body out of turn: %w", store.ErrRecord)
	errBody   = fmt.Errorf("body outside of the arena or longer than a payload: %w", store.ErrRecord)
	errText   = fmt.Errorf("subject or reply with white space: %w", store.ErrRecord)
)

// parsePub reads what a cm says of a body and checks it. Bodies are numbered one
// after the other.
func (r *router) parsePub(l *link, p *store.RecPub, rec []byte) error {
	if err := p.Parse(rec); err != nil {
		return err
	}
	if len(p.Subject)+len(p.Reply) > r.cfg.MaxControlLine {
		return errLong
	}
	if uint64(p.Off)+uint64(p.Len) > uint64(r.cfg.Arena) || r.tooBig(p.Len) {
		return errBody
	}
	if p.Seq != l.seq+1 {
		if !l.lost {
			return errNumber
		}
		l.seq, l.lost = p.Seq-1, false
	}
	return nil
}

// name says for good, with the next commit, which cms are to finish with a body.
func (l *link) name(seq, cms uint64) {
	l.seq = seq
	l.named.Set(seq, cms)
}

// isText tells whether b can stand in a line to a client as one argument.
func isText(b []byte) bool {
	for _, c := range b {
		if c <= ' ' && (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
			return false
		}
	}
	return true
}

// reserved tells whether subject or reply are not for clients.
func reserved(p *store.RecPub) bool {
	return wire.ReservedPublish(p.Subject) || len(p.Reply) > 0 && wire.ReservedReply(p.Reply)
}

// accept tells whether a message goes on its way; if not, its sender is told.
func (r *router) accept(s *session, p *store.RecPub, how store.Mode, d *duty) bool {
	switch {
	case !s.admitted:
		r.fail(s, wire.CodeAuthViolation)
	case reserved(p) || wire.Broker(p.Subject) || !s.prof.free && !r.permits(s, p, how, d):
		r.refusePub(s, p)
	case r.facts.Bad != 0:
		r.violation(s, "headers", p.Subject)
		r.answerPub(s, p)
		r.tellAsker(s, p, statusBad, badFacts[r.facts.Bad])
	default:
		return true
	}
	return false
}

// permits tells whether the sender's profile allows a message. An answer needs no mode, and
// where the profile says so no subject.
func (r *router) permits(s *session, p *store.RecPub, how store.Mode, d *duty) bool {
	f := s.prof
	if wire.System(p.Subject) && f.mayAsk(p.Subject) {
		return true
	}
	switch answer := d != nil && (how == store.ModeBroadcast || how == store.ModeDirect && len(p.Reply) == 0); {
	case answer && f.responses != 0:
		return true
	case !answer && f.modes&modeBit(how) == 0:
		return false
	}
	known := r.index.current(s.last) && string(s.lastSubject) == string(p.Subject)
	return known || f.publish.allows(p.Subject)
}

// refusePub says why a message goes nowhere.
func (r *router) refusePub(s *session, p *store.RecPub) {
	if s.pedantic {
		r.pedantry(s, p)
	}
	if len(p.Reply) > 0 && wire.ReservedReply(p.Reply) && !wire.ReservedPublish(p.Subject) {
		r.sendErr(s, wire.CodeReplyPermission, p.Reply)
		return
	}
	r.violation(s, "publish", p.Subject)
	r.sendErr(s, wire.CodePubPermission, p.Subject)
}

// turnAway answers a request that goes nowhere.
func (r *router) turnAway(s *session, p *store.RecPub, code int, text string) {
	s.cm.name(p.Seq, 0)
	r.messages++
	r.answerPub(s, p)
	r.tellAsker(s, p, code, text)
}

// answerPub says to the sender what it hears of any message.
func (r *router) answerPub(s *session, p *store.RecPub) {
	if s.pedantic {
		r.pedantry(s, p)
	}
	if s.verbose {
		r.ok(s)
	}
}

// pedantry is for malformed subjects, of which pedantic sessions hear; the
// messages are delivered all the same.
func (r *router) pedantry(s *session, p *store.RecPub) {
	if !wire.ValidSubject(p.Subject) || !wire.IsLiteral(p.Subject) {
		r.sendErr(s, wire.CodeInvalidPubSubject)
	}
}

// matchFor looks at the session's last match first: publishers repeat themselves.
func (r *router) matchFor(s *session, subject []byte) *match {
	if r.index.current(s.last) && string(s.lastSubject) == string(subject) {
		s.last.prepare()
		return s.last
	}
	m, kept := r.index.lookup(subject, &r.scratch)
	if kept {
		s.last = m
		s.lastSubject = append(s.lastSubject[:0], subject...)
		m.prepare()
	}
	return m
}

func (r *router) address(t *sub) {
	l := t.ses.cm
	if t.ses.stamped() {
		l.stamped = store.AppendRecipient(l.stamped, t.ses.slot, t.ses.gen, t.sid)
	} else {
		l.to = store.AppendRecipient(l.to, t.ses.slot, t.ses.gen, t.sid)
	}
	t.delivered++
	if t.max > 0 {
		r.limited = append(r.limited, t)
	}
}

// deliver writes the instructions for the collected recipients. Their cms are
// named before one of them can see its instruction.
func (r *router) deliver(from *link, s *session, p *store.RecPub) {
	cms, fit := r.spread(from, s, p)
	if s.verbose || s.pedantic {
		r.answerPub(s, p)
	}
	from.name(p.Seq, cms)
	ins := &r.ins
	*ins = store.InsDeliver{Handle: handle(from, p), HeaderLen: p.HeaderLen, Subject: p.Subject, Reply: p.Reply}
	put := r.instruct
	if !fit {
		put = r.plan
	}
	for _, l := range r.links {
		if len(l.to) > 0 {
			ins.From = nil
			put(l, ins, l.to, len(l.stamped) > 0)
		}
		if len(l.stamped) > 0 {
			ins.From = s.from()
			put(l, ins, l.stamped, false)
		}
		l.to, l.stamped = l.to[:0], l.stamped[:0]
	}
}

// deliverBlock is deliver for the commonest case: plain subscriptions on one cm,
// already encoded.
func (r *router) deliverBlock(from *link, s *session, p *store.RecPub, m *match) int {
	b := &m.blocks[0]
	l := r.links[b.cm]
	var stamp []byte
	if b.stamped {
		stamp = s.from()
	}
	need := r.span(from, l, besides(p, stamp), len(b.recipients))
	if need > r.size.half {
		n := r.collect(s, p, m, store.ModeBroadcast, false)
		r.deliver(from, s, p)
		return n
	}
	if !l.out.Fits(need, r.size.most) {
		r.await(l, need)
	}
	if s.verbose || s.pedantic {
		r.answerPub(s, p)
	}
	for _, t := range m.plain {
		t.delivered++
	}
	from.name(p.Seq, 1<<b.cm)
	ins := &r.ins
	ins.Handle, ins.HeaderLen, ins.Subject, ins.Reply, ins.From = handle(from, p), p.HeaderLen, p.Subject, p.Reply, stamp
	r.instruct(l, ins, b.recipients, false)
	return b.n
}

func handle(l *link, p *store.RecPub) store.Handle {
	return store.Handle{Arena: uint16(l.index), Seq: p.Seq, Off: p.Off, Len: p.Len}
}

// instruct writes the instructions for recipients on one cm; with more, others about
// the same body follow for it.
func (r *router) instruct(l *link, ins *store.InsDeliver, to []byte, more bool) {
	for len(to) > 0 {
		to = cutPiece(ins, to, more)
		l.out.Commit(ins.Put(r.room(l, ins.Size())))
	}
}

// cutPiece puts the first piece of a list into an instruction and returns the rest.
func cutPiece(ins *store.InsDeliver, to []byte, more bool) []byte {
	n := len(to)
	if n > pieceLimit {
		n = piece(to)
	}
	ins.Flags, ins.Recipients = 0, to[:n]
	if more || n < len(to) {
		ins.Flags = store.DeliverMore
	}
	return to[n:]
}

// piece returns the length of the leading recipients that pieceLimit holds, at
// least one.
func piece(to []byte) int {
	n := 0
	for rest := to; ; {
		_, _, _, tail, ok := store.NextRecipient(rest)
		if !ok || n > 0 && len(to)-len(tail) > pieceLimit {
			return n
		}
		rest, n = tail, len(to)-len(tail)
	}
}

// countLimited is for those who got the message and have a limit.
func (r *router) countLimited() {
	for i, t := range r.limited {
		r.counted(t)
		r.limited[i] = nil
	}
	r.limited = r.limited[:0]
}
