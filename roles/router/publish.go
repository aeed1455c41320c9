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
	if string(s.lastSubject) != string(p.Subject) && !isText(p.Subject) || !isText(p.Reply) {
		return errText
	}
	if !mayPublish(p) {
		r.refusePub(s, p)
		l.name(p.Seq, 0)
		return nil
	}
	m := r.matchFor(s, p.Subject)
	n := 0
	switch {
	case m.simple && len(m.blocks) == 1 && len(m.groups) == 0:
		n = r.deliverBlock(l, s, p, m)
	case !m.none():
		if n = r.collect(s, m); n > 0 {
			r.deliver(l, s, p)
		}
	}
	r.messages++
	if n == 0 {
		r.answerPub(s, p)
		l.name(p.Seq, 0)
		if len(p.Reply) > 0 && s.noResponders {
			r.noResponders(s, p)
		}
		return nil
	}
	r.delivered += uint64(n)
	if len(r.limited) > 0 {
		r.countLimited()
	}
	if r.congested > 0 {
		r.holdFor(s, m)
	}
	return nil
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

// mayPublish tells whether subject and reply are for clients.
func mayPublish(p *store.RecPub) bool {
	return !wire.ReservedPublish(p.Subject) && !(len(p.Reply) > 0 && wire.ReservedReply(p.Reply))
}

// refusePub says why a message goes nowhere.
func (r *router) refusePub(s *session, p *store.RecPub) {
	if s.pedantic {
		r.pedantry(s, p)
	}
	if wire.ReservedPublish(p.Subject) {
		r.sendErr(s, wire.CodePubPermission, p.Subject)
		return
	}
	r.sendErr(s, wire.CodeReplyPermission, p.Reply)
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

// collect fills the links' recipient lists and returns how many there are.
func (r *router) collect(s *session, m *match) int {
	n := 0
	if m.simple {
		for i := range m.blocks {
			b := &m.blocks[i]
			l := r.links[b.cm]
			l.to = append(l.to, b.recipients...)
			l.toN += b.n
			n += b.n
		}
		for _, t := range m.plain {
			t.delivered++
		}
	} else {
		for _, t := range m.plain {
			if t.ses != s || s.echo {
				r.address(t)
				n++
			}
		}
	}
	for i := range m.groups {
		if t := r.pick(s, m.groups[i].members); t != nil {
			r.address(t)
			n++
		}
	}
	return n
}

func (r *router) address(t *sub) {
	l := t.ses.cm
	l.to = store.AppendRecipient(l.to, t.ses.slot, t.ses.gen, t.sid)
	l.toN++
	t.delivered++
	if t.max > 0 {
		r.limited = append(r.limited, t)
	}
}

// pick takes one member of a queue group at random; a sender without echo is
// passed over.
func (r *router) pick(s *session, members []*sub) *sub {
	if len(members) == 0 {
		return nil
	}
	i := 0
	if len(members) > 1 {
		r.rnd ^= r.rnd << 13
		r.rnd ^= r.rnd >> 7
		r.rnd ^= r.rnd << 17
		i = int(r.rnd % uint64(len(members)))
	}
	if s.echo {
		return members[i]
	}
	for range members {
		if members[i].ses != s {
			return members[i]
		}
		if i++; i == len(members) {
			i = 0
		}
	}
	return nil
}

// deliver writes the instructions for the collected recipients. Their cms are
// named before one of them can see its instruction.
func (r *router) deliver(from *link, s *session, p *store.RecPub) {
	cms, fit := r.spread(from, p)
	if s.verbose || s.pedantic {
		r.answerPub(s, p)
	}
	from.name(p.Seq, cms)
	ins := &r.ins
	*ins = store.InsDeliver{Handle: handle(from, p), HeaderLen: p.HeaderLen, Subject: p.Subject, Reply: p.Reply}
	for _, l := range r.links {
		if l.toN == 0 {
			continue
		}
		if fit {
			r.instruct(l, ins, l.to)
		} else {
			r.plan(l, ins, l.to)
		}
		l.to, l.toN = l.to[:0], 0
	}
}

// deliverBlock is deliver for the commonest case: plain subscriptions on one cm,
// already encoded.
func (r *router) deliverBlock(from *link, s *session, p *store.RecPub, m *match) int {
	b := &m.blocks[0]
	l := r.links[b.cm]
	need := r.span(from, l, besides(p), len(b.recipients))
	if need > r.size.half {
		n := r.collect(s, m)
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
	ins.Handle, ins.HeaderLen, ins.Subject, ins.Reply = handle(from, p), p.HeaderLen, p.Subject, p.Reply
	r.instruct(l, ins, b.recipients)
	return b.n
}

func handle(l *link, p *store.RecPub) store.Handle {
	return store.Handle{Arena: uint16(l.index), Seq: p.Seq, Off: p.Off, Len: p.Len}
}

func (r *router) instruct(l *link, ins *store.InsDeliver, to []byte) {
	for len(to) > pieceLimit {
		to = cutPiece(ins, to)
		l.out.Commit(ins.Put(r.room(l, ins.Size())))
	}
	ins.Flags, ins.Recipients = 0, to
	l.out.Commit(ins.Put(r.room(l, ins.Size())))
}

// cutPiece puts the first piece of a list into an instruction and returns the rest.
func cutPiece(ins *store.InsDeliver, to []byte) []byte {
	if len(to) <= pieceLimit {
		ins.Flags, ins.Recipients = 0, to
		return nil
	}
	n := piece(to)
	ins.Flags, ins.Recipients = store.DeliverMore, to[:n]
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

// noResponders tells a requester at once that nobody heard it, if it listens on
// the reply subject with a plain subscription of the same connection.
func (r *router) noResponders(s *session, p *store.RecPub) {
	m := &r.scratch
	m.reset()
	r.index.find(p.Reply, m)
	for _, t := range m.plain {
		if t.ses == s {
			r.buf = wire.AppendNoResponders(r.buf[:0], p.Reply, t.sid, p.Subject)
			r.send(s, r.buf, 0)
			// Clients count it towards UNSUB's max, so it counts here too:
			// otherwise the subscription would stay behind.
			t.delivered++
			if t.max > 0 {
				r.counted(t)
			}
			return
		}
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
