package router

import (
	"fmt"

	"gatehouse/store"
	"gatehouse/wire"
)

// pieceLimit bounds the recipients of one instruction, in bytes: a message to
// more than that goes out as several, of which only the last is reported.
const pieceLimit = 16 << 10

// publish routes one message.
func (r *router) publish(l *link, rec []byte) error {
	p := &r.pub
	if err := p.Parse(rec); err != nil {
		return err
	}
	if r.tooLong(len(p.Subject) + len(p.Reply)) {
		return errLong
	}
	if routed, err := r.number(l, p); routed || err != nil {
		return err
	}
	s := l.session(p.Conn)
	if s == nil {
		l.named.Set(p.Seq, 0)
		return nil
	}
	if string(s.lastSubject) != string(p.Subject) && !isText(p.Subject) || !isText(p.Reply) {
		return errText
	}
	if !r.mayPublish(s, p) {
		l.named.Set(p.Seq, 0)
		return nil
	}
	r.messages++
	if s.verbose {
		r.send(s, okBytes, 0)
	}
	m := r.matchFor(s, p.Subject)
	n := 0
	switch {
	case m.simple && len(m.blocks) == 1 && len(m.groups) == 0:
		n = r.deliverBlock(l, p, m)
	case !m.none():
		if n = r.collect(s, m); n > 0 {
			r.deliver(l, p)
		}
	}
	if n == 0 {
		l.named.Set(p.Seq, 0)
		if len(p.Reply) > 0 && s.noResponders {
			r.noResponders(s, p)
		}
		return nil
	}
	r.delivered += uint64(n)
	if r.spent {
		r.dropSpent()
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

// number checks what a cm says of a body. Bodies are numbered one after the
// other. One that was named before was routed, by a router before this one: its
// instructions may or may not have got into the rings, so those it was named to
// are told again to finish with it, and nothing else.
func (r *router) number(l *link, p *store.RecPub) (routed bool, err error) {
	if uint64(p.Off)+uint64(p.Len) > uint64(r.cfg.Arena) || r.tooBig(p.Len) {
		return false, errBody
	}
	if p.Seq == l.seq+1 {
		l.seq = p.Seq
		return false, nil
	}
	if p.Seq > l.seq || l.in.Position() > l.before {
		return false, errNumber
	}
	if last, cms := l.named.Get(p.Seq); last == p.Seq {
		for i, to := range r.links {
			if cms>>i&1 == 1 {
				ins := store.InsDeliver{Handle: handle(l, p), HeaderLen: -1}
				to.out.Commit(ins.Put(r.room(to, ins.Size())))
			}
		}
	}
	return true, nil
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

// mayPublish answers for the subjects that are not for clients, and in pedantic
// sessions for malformed ones (which are delivered all the same).
func (r *router) mayPublish(s *session, p *store.RecPub) bool {
	if s.pedantic && (!wire.ValidSubject(p.Subject) || !wire.IsLiteral(p.Subject)) {
		r.sendErr(s, wire.CodeInvalidPubSubject)
	}
	if wire.ReservedPublish(p.Subject) {
		r.sendErr(s, wire.CodePubPermission, p.Subject)
		return false
	}
	if len(p.Reply) > 0 && wire.ReservedReply(p.Reply) {
		r.sendErr(s, wire.CodeReplyPermission, p.Reply)
		return false
	}
	return true
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
				r.add(t)
				n++
			}
		}
	}
	for i := range m.groups {
		if t := r.pick(s, m.groups[i].members); t != nil {
			r.add(t)
			n++
		}
	}
	return n
}

func (r *router) add(t *sub) {
	l := t.ses.cm
	l.to = store.AppendRecipient(l.to, t.ses.slot, t.ses.gen, t.sid)
	l.toN++
	t.delivered++
	if t.max > 0 && t.delivered >= t.max {
		r.spent = true
		r.spentSubs = append(r.spentSubs, t)
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
func (r *router) deliver(from *link, p *store.RecPub) {
	cms := uint64(0)
	for i, l := range r.links {
		if l.toN > 0 {
			cms |= 1 << i
		}
	}
	from.named.Set(p.Seq, cms)
	ins := &r.ins
	*ins = store.InsDeliver{Handle: handle(from, p), HeaderLen: p.HeaderLen, Subject: p.Subject, Reply: p.Reply}
	for _, l := range r.links {
		if l.toN == 0 {
			continue
		}
		r.instruct(l, ins, l.to)
		l.to, l.toN = l.to[:0], 0
	}
}

// deliverBlock is deliver for the commonest case: plain subscriptions on one cm,
// already encoded.
func (r *router) deliverBlock(from *link, p *store.RecPub, m *match) int {
	for _, t := range m.plain {
		t.delivered++
	}
	b := &m.blocks[0]
	from.named.Set(p.Seq, 1<<b.cm)
	ins := &r.ins
	ins.Handle, ins.HeaderLen, ins.Subject, ins.Reply = handle(from, p), p.HeaderLen, p.Subject, p.Reply
	r.instruct(r.links[b.cm], ins, b.recipients)
	return b.n
}

func handle(l *link, p *store.RecPub) store.Handle {
	return store.Handle{Arena: uint16(l.index), Seq: p.Seq, Off: p.Off, Len: p.Len}
}

func (r *router) instruct(l *link, ins *store.InsDeliver, to []byte) {
	for len(to) > pieceLimit {
		n := piece(to)
		ins.Flags, ins.Recipients = store.DeliverMore, to[:n]
		l.out.Commit(ins.Put(r.room(l, ins.Size())))
		to = to[n:]
	}
	ins.Flags, ins.Recipients = 0, to
	l.out.Commit(ins.Put(r.room(l, ins.Size())))
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
			if t.max > 0 && t.delivered >= t.max {
				r.unsubscribe(t)
			}
			return
		}
	}
}

func (r *router) dropSpent() {
	for i, t := range r.spentSubs {
		r.unsubscribe(t)
		r.spentSubs[i] = nil
	}
	r.spentSubs, r.spent = r.spentSubs[:0], false
}

// holdFor stops reading from a sender that feeds a reader which is behind but
// still reading; the reader's relief or end lets it go on.
func (r *router) holdFor(s *session, m *match) {
	for _, t := range m.plain {
		r.holdOne(s, t.ses)
	}
	for i := range m.groups {
		for _, t := range m.groups[i].members {
			r.holdOne(s, t.ses)
		}
	}
}

func (r *router) holdOne(s, reader *session) {
	if !reader.congested || s == reader {
		return
	}
	for _, h := range reader.holds {
		if h == s {
			return
		}
	}
	reader.holds = append(reader.holds, s)
	if s.heldBy++; s.heldBy == 1 {
		r.tell(s, &store.InsHold{Conn: s.conn()})
	}
}

func (r *router) relieve(reader *session) {
	if !reader.congested {
		return
	}
	reader.congested = false
	r.congested--
	for i, s := range reader.holds {
		reader.holds[i] = nil
		if s.heldBy--; s.heldBy == 0 && !s.ended {
			r.tell(s, &store.InsResume{Conn: s.conn()})
		}
	}
	reader.holds = nil
}
