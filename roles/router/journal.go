package router

import (
	"bytes"
	"encoding/binary"
	"errors"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// entryKind is the first byte of a journal entry; append only.
type entryKind uint8

const (
	entryNone entryKind = iota
	entryProcess
	entryGone
	entryOpen
	entryConnect
	entryInformed
	entryEnd
	entrySub
	entryLimit
	entryUnsub
	entryMove
	entryRequest
	entryAnswer
	entryTold
	entryLapse
	entryBind
	entryUnbind
	entryLimited
	numEntries
)

// An entry, after kind u8 and cm u8:
//
//	PROCESS  generation u64                     sessions to come are of this process
//	GONE     generation u64                     sessions of processes up to this one end
//	OPEN     flags u8, slot u32, gen u32, uid u64, generation u64, address, challenge
//	CONNECT  flags u8, slot u32, who            the session begins anew
//	INFORMED slot u32
//	END      slot u32
//	SUB      slot u32, max u64, delivered u64, length of subject u32, of queue u32, both, sid
//	LIMIT    slot u32, max u64, delivered u64, sid
//	UNSUB    slot u32, sid
//	MOVE     slot u32, cm u32, generation u64     the session is that cm's, of this process
//	REQUEST  slot u32, flags u8, mode u8, number u64, until u64, answered u32, lost u32, duties u32,
//	         each: cm u8, flags u8, slot u32, grant i32; reply
//	ANSWER   slot u32, number u64               by that session
//	TOLD     number u64                         the sender of a request knows how it ended
//	LAPSE    number u64                         a request ends by time
//	BIND     slot u32, flags u8, cm u8 and slot u32 of the member, length of key u32, key, queue
//	UNBIND   slot u32, length of key u32, key, queue
//	LIMITED                                     cms keep limits of profiles
//
// Who is mark u64 and five texts, each after its length u16; nothing at all if nothing is known.
const (
	processEntry = 2 + 8
	openEntry    = 2 + 1 + 4 + 4 + 8 + 8 + 16
	connectEntry = 2 + 1 + 4
	slotEntry    = 2 + 4
	limitEntry   = slotEntry + 8 + 8
	subEntry     = limitEntry + 4 + 4
	moveEntry    = slotEntry + 4 + 8
	requestEntry = slotEntry + 2 + 8 + 8 + 4 + 4 + 4
	dutyEntry    = 2 + 4 + 4
	answerEntry  = slotEntry + 8
	numberEntry  = 2 + 8
	bindEntry    = slotEntry + 2 + 4 + 4
)

var le = binary.LittleEndian

// entry is scratch space in which entries are made.
type entry struct{ b []byte }

func (e *entry) begin(k entryKind, l *link) []byte { return append(e.b[:0], byte(k), byte(l.index)) }

func (e *entry) done(b []byte) []byte {
	e.b = b
	return b
}

func (e *entry) process(l *link) []byte {
	return e.done(le.AppendUint64(e.begin(entryProcess, l), l.generation))
}

func (e *entry) gone(l *link, generation uint64) []byte {
	return e.done(le.AppendUint64(e.begin(entryGone, l), generation))
}

const (
	openTLS = 1 << iota
	openUnix
	openAdmitted
)

func (e *entry) open(s *session) []byte {
	flags := uint8(0)
	if s.tls {
		flags |= openTLS
	}
	if s.admitted {
		flags |= openAdmitted
	}
	var addr [16]byte
	if s.client.IsValid() {
		addr = s.client.As16()
	} else {
		flags |= openUnix
	}
	b := append(e.begin(entryOpen, s.cm), flags)
	b = le.AppendUint32(le.AppendUint32(b, s.slot), s.gen)
	b = le.AppendUint64(le.AppendUint64(b, s.uid), s.generation)
	return e.done(append(append(b, addr[:]...), s.challenge...))
}

// connectFlags are the options of a session in the order of their bits.
func (s *session) connectFlags() [8]*bool {
	return [...]*bool{&s.verbose, &s.pedantic, &s.echo, &s.noResponders, &s.headers, &s.protocol1, &s.knowsInfo, &s.admitted}
}

func (e *entry) connect(s *session) []byte {
	flags := uint8(0)
	for i, f := range s.connectFlags() {
		if *f {
			flags |= 1 << i
		}
	}
	b := le.AppendUint32(append(e.begin(entryConnect, s.cm), flags), s.slot)
	return e.done(s.who.append(b))
}

// fields are the texts of who in their order.
func (w *who) fields() [5]*string {
	return [...]*string{&w.user, &w.organisation, &w.profile, &w.kind, &w.instance}
}

// texts is how many bytes append takes.
func (w *who) texts() (n int) {
	if w == nil {
		return 0
	}
	for _, s := range w.fields() {
		n += 2 + len(*s)
	}
	return n + 8
}

func (w *who) append(b []byte) []byte {
	if w == nil {
		return b
	}
	b = le.AppendUint64(b, w.mark)
	for _, s := range w.fields() {
		b = append(le.AppendUint16(b, uint16(len(*s))), *s...)
	}
	return b
}

func flag(is bool) uint8 {
	if is {
		return 1
	}
	return 0
}

// parseWho reads what append wrote, nil for nothing.
func parseWho(b []byte) (*who, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 8 {
		return nil, errEntry
	}
	w := &who{mark: le.Uint64(b)}
	b = b[8:]
	for _, s := range w.fields() {
		if len(b) < 2 || int(le.Uint16(b)) > min(privsep.MaxSettingsText, len(b)-2) {
			return nil, errEntry
		}
		n := 2 + int(le.Uint16(b))
		*s, b = string(b[2:n]), b[n:]
	}
	if len(b) > 0 {
		return nil, errEntry
	}
	return w, nil
}

func (e *entry) about(k entryKind, s *session) []byte {
	return le.AppendUint32(e.begin(k, s.cm), s.slot)
}

func (e *entry) informed(s *session) []byte { return e.done(e.about(entryInformed, s)) }

func (e *entry) end(s *session) []byte { return e.done(e.about(entryEnd, s)) }

func (e *entry) sub(t *sub) []byte {
	b := e.about(entrySub, t.ses)
	b = le.AppendUint64(le.AppendUint64(b, t.max), t.delivered)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(t.subject))), uint32(len(t.queue)))
	return e.done(append(append(append(b, t.subject...), t.queue...), t.sid...))
}

func (e *entry) limit(t *sub) []byte {
	b := e.about(entryLimit, t.ses)
	return e.done(append(le.AppendUint64(le.AppendUint64(b, t.max), t.delivered), t.sid...))
}

func (e *entry) unsub(t *sub) []byte { return e.done(append(e.about(entryUnsub, t.ses), t.sid...)) }

func (e *entry) move(s *session, to *link) []byte {
	b := le.AppendUint32(e.about(entryMove, s), uint32(to.index))
	return e.done(le.AppendUint64(b, to.process))
}

func (e *entry) request(q *request) []byte {
	var b []byte
	if q.from != nil {
		b = append(e.about(entryRequest, q.from), 1)
	} else {
		b = append(e.begin(entryRequest, q.some().cm), 0, 0, 0, 0, 0)
	}
	b = append(b, uint8(q.mode))
	b = le.AppendUint64(le.AppendUint64(b, q.number), uint64(q.until))
	b = le.AppendUint32(le.AppendUint32(b, uint32(q.answered)), uint32(q.lost))
	b = le.AppendUint32(b, uint32(q.live))
	for i := range q.duties {
		if d := &q.duties[i]; d.by != nil {
			b = le.AppendUint32(append(b, uint8(d.by.cm.index), flag(d.owed)), d.by.slot)
			b = le.AppendUint32(b, uint32(int32(d.grant)))
		}
	}
	return e.done(append(b, q.reply...))
}

// some returns one of those who may answer.
func (q *request) some() *session {
	for i := range q.duties {
		if s := q.duties[i].by; s != nil {
			return s
		}
	}
	return nil
}

func (e *entry) answer(d *duty) []byte {
	return e.done(le.AppendUint64(e.about(entryAnswer, d.by), d.req.number))
}

func (e *entry) told(q *request) []byte { return e.numbered(entryTold, q) }

func (e *entry) lapse(q *request) []byte { return e.numbered(entryLapse, q) }

func (e *entry) numbered(k entryKind, q *request) []byte {
	return e.done(le.AppendUint64(append(e.b[:0], byte(k), 0), q.number))
}

func (e *entry) bind(a *affinity) []byte {
	b := e.about(entryBind, a.from)
	if a.by != nil {
		b = le.AppendUint32(append(b, 1, uint8(a.by.cm.index)), a.by.slot)
	} else {
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	return e.done(a.appendKey(b))
}

func (e *entry) unbind(a *affinity) []byte { return e.done(a.appendKey(e.about(entryUnbind, a.from))) }

func (e *entry) limited() []byte { return e.done(append(e.b[:0], byte(entryLimited), 0)) }

func (a *affinity) appendKey(b []byte) []byte {
	return append(append(le.AppendUint32(b, uint32(len(a.key))), a.key...), a.queue...)
}

// journal adds an entry. There is room: see sizes.
func (r *router) journal(b []byte) {
	if !r.state.Journal.Append(b) {
		r.exit(errFull)
	}
	r.due = r.due || r.state.Journal.Tail() > r.turnAt
}

var errFull = errors.New("router: an entry or a plan has no room in the journal")

// snapshot writes the state as entries: the sessions of each process of a cm, each
// with its subscriptions.
func (r *router) snapshot() {
	for _, l := range r.links {
		r.journal(r.entry.process(l))
		if l.open == 0 {
			continue
		}
		for _, s := range l.sessions {
			if s == nil {
				continue
			}
			r.journal(r.entry.open(s))
			r.journal(r.entry.connect(s))
			for _, t := range s.subs {
				r.journal(r.entry.sub(t))
			}
		}
	}
	for _, q := range r.requests.byAge() {
		r.journal(r.entry.request(q))
	}
	for a := r.affinities.first; a != nil; a = a.next {
		r.journal(r.entry.bind(a))
	}
	if r.limitsKept {
		r.journal(r.entry.limited())
	}
}

// replayers are one for each kind of entry. What they are given was written by a
// router that may have been taken over.
var replayers = [numEntries]func(*router, *link, []byte) error{
	entryProcess:  (*router).replayProcess,
	entryGone:     (*router).replayGone,
	entryOpen:     (*router).replayOpen,
	entryConnect:  (*router).replayConnect,
	entryInformed: (*router).replayInformed,
	entryEnd:      (*router).replayEnd,
	entrySub:      (*router).replaySub,
	entryLimit:    (*router).replayLimit,
	entryUnsub:    (*router).replayUnsub,
	entryMove:     (*router).replayMove,
	entryRequest:  (*router).replayRequest,
	entryAnswer:   (*router).replayAnswer,
	entryTold:     (*router).replayTold,
	entryLapse:    (*router).replayLapse,
	entryBind:     (*router).replayBind,
	entryUnbind:   (*router).replayUnbind,
	entryLimited:  (*router).replayLimited,
}

var (
	errEntry   = errors.New("malformed entry")
	errSession = errors.New("entry about a session that is not there, or is already")
	errSub     = errors.New("entry about a subscription that is not there, or is already")
)

// replay repeats the change that an entry is about.
func (r *router) replay(b []byte) error {
	if len(b) < 2 || b[0] >= byte(numEntries) || replayers[b[0]] == nil || int(b[1]) >= len(r.links) {
		return errEntry
	}
	return replayers[b[0]](r, r.links[b[1]], b[2:])
}

func (r *router) replayProcess(l *link, b []byte) error {
	if len(b) != 8 {
		return errEntry
	}
	l.generation = le.Uint64(b)
	return nil
}

func (r *router) replayGone(l *link, b []byte) error {
	if len(b) != 8 {
		return errEntry
	}
	r.removeAll(l, le.Uint64(b))
	return nil
}

// maxChallenge bounds what is kept of a challenge.
const maxChallenge = 64

func (r *router) replayOpen(l *link, b []byte) error {
	if len(b) < openEntry-2 || len(b) > openEntry-2+maxChallenge || b[0] > openTLS|openUnix|openAdmitted {
		return errEntry
	}
	o := store.RecOpen{UID: le.Uint64(b[9:]), TLS: b[0]&openTLS != 0, Unix: b[0]&openUnix != 0}
	o.Slot, o.Gen = le.Uint32(b[1:]), le.Uint32(b[5:])
	o.Addr = [16]byte(b[25:41])
	if o.Unix && o.Addr != [16]byte{} || uint64(o.Slot) >= uint64(l.slots) || l.session1(o.Slot) != nil {
		return errSession
	}
	s := newSession(l, &o, string(b[41:]))
	s.generation = le.Uint64(b[17:])
	if s.admitted = b[0]&openAdmitted != 0; s.admitted {
		r.assume(s)
	}
	r.insert(s)
	return nil
}

func (r *router) replayConnect(l *link, b []byte) error {
	if len(b) < connectEntry-2 {
		return errEntry
	}
	s, rest, err := sessionOf(l, b[1:])
	if err != nil {
		return err
	}
	w, err := parseWho(rest)
	if err != nil {
		return err
	}
	r.shed(s)
	r.live.sessions -= s.footprint()
	for i, f := range s.connectFlags() {
		*f = b[0]>>i&1 == 1
	}
	s.who = w
	r.live.sessions += s.footprint()
	r.assume(s)
	return nil
}

// assume gives a session the profile that it should have, if there is one: see reprofile.
func (r *router) assume(s *session) {
	s.prof = powerless
	if f := r.profileOf(s.identity()); f != nil && s.admitted {
		s.prof = f
	}
	s.who = s.who.under(s.prof)
}

func (r *router) replayInformed(l *link, b []byte) error {
	s, rest, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errEntry
	}
	s.knowsInfo = true
	return nil
}

func (r *router) replayEnd(l *link, b []byte) error {
	s, rest, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errEntry
	}
	r.remove(s)
	return nil
}

// maxTexts bounds subject, queue and sid of a subscription together: the longest
// control line that can be configured.
const maxTexts = 64 << 10

func (r *router) replaySub(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	if len(b) < subEntry-slotEntry || len(b) > subEntry-slotEntry+maxTexts {
		return errEntry
	}
	t := &sub{ses: s, max: le.Uint64(b), delivered: le.Uint64(b[8:])}
	subject, queue := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:]))
	b = b[24:]
	if subject+queue > uint64(len(b)) || t.max > 0 && t.delivered >= t.max || !wire.ValidSubject(b[:subject]) {
		return errEntry
	}
	t.subject, t.queue = string(b[:subject]), r.intern(b[subject:subject+queue])
	t.sid = append([]byte(nil), b[subject+queue:]...)
	if s.subs[string(t.sid)] != nil {
		return errSub
	}
	r.enter(t)
	return nil
}

func (r *router) replayLimit(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	if len(b) < limitEntry-slotEntry {
		return errEntry
	}
	t := s.subs[string(b[16:])]
	if t == nil {
		return errSub
	}
	if t.max, t.delivered = le.Uint64(b), le.Uint64(b[8:]); t.delivered >= t.max {
		return errEntry
	}
	return nil
}

func (r *router) replayUnsub(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	t := s.subs[string(b)]
	if t == nil {
		return errSub
	}
	r.leave(t)
	return nil
}

func (r *router) replayMove(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	if len(b) != moveEntry-slotEntry || uint64(le.Uint32(b)) >= uint64(len(r.links)) {
		return errEntry
	}
	to := r.links[le.Uint32(b)]
	if to.session1(s.slot) != nil {
		return errSession
	}
	r.carry(s, to, le.Uint64(b[4:]))
	return nil
}

func (r *router) replayRequest(l *link, b []byte) error {
	if len(b) < requestEntry-2 || b[4] > 1 || b[5] > uint8(store.ModeDirect) {
		return errEntry
	}
	q := &request{number: le.Uint64(b[6:]), until: int64(le.Uint64(b[14:])), mode: store.Mode(b[5]),
		answered: int(le.Uint32(b[22:])), lost: int(le.Uint32(b[26:]))}
	if b[4] == 1 {
		s, _, err := sessionOf(l, b)
		if err != nil {
			return err
		}
		q.from = s
	}
	n, rest := uint64(le.Uint32(b[30:])), b[34:]
	if q.number > maxNumber || r.requests.known[q.number] != nil || n*dutyEntry > uint64(len(rest)) {
		return errRequest
	}
	rest, q.reply = rest[:n*dutyEntry], bytes.Clone(rest[n*dutyEntry:])
	if !isText(q.reply) || !r.fits(requestFootprint(int(n), len(q.reply))) {
		return errEntry
	}
	q.duties = make([]duty, n)
	for i := range q.duties {
		if err := r.replayDuty(&q.duties[i], rest[i*dutyEntry:]); err != nil {
			return err
		}
	}
	r.requests.enlist(q)
	r.requests.time(q)
	r.requests.conclude(q)
	return nil
}

// maxNumber bounds the numbers of requests, which no broker comes to the end of.
const maxNumber = 1 << 62

func (r *router) replayDuty(d *duty, b []byte) error {
	if int(b[0]) >= len(r.links) || b[1] > 1 {
		return errEntry
	}
	s := r.links[b[0]].session1(le.Uint32(b[2:]))
	if s == nil {
		return errSession
	}
	*d = duty{by: s, owed: b[1] == 1, grant: int(int32(le.Uint32(b[6:])))}
	return nil
}

func (r *router) replayAnswer(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	q, err := r.numbered(b)
	if err != nil {
		return err
	}
	d := q.dutyIn(s)
	if d == nil {
		return errRequest
	}
	r.requests.answered(d)
	return nil
}

var errRequest = errors.New("entry about a request or an affinity that is not there, or is already")

func (r *router) numbered(b []byte) (*request, error) {
	if len(b) != 8 {
		return nil, errEntry
	}
	if q := r.requests.known[le.Uint64(b)]; q != nil {
		return q, nil
	}
	return nil, errRequest
}

func (r *router) replayTold(_ *link, b []byte) error {
	q, err := r.numbered(b)
	if err == nil {
		r.requests.orphan(q)
	}
	return err
}

func (r *router) replayLapse(_ *link, b []byte) error {
	q, err := r.numbered(b)
	if err == nil {
		r.requests.forget(q)
	}
	return err
}

func (r *router) replayBind(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	if len(b) < bindEntry-slotEntry || b[0] > 1 || int(b[1]) >= len(r.links) {
		return errEntry
	}
	a := &affinity{from: s}
	if b[0] == 1 {
		if a.by = r.links[b[1]].session1(le.Uint32(b[2:])); a.by == nil {
			return errSession
		}
	}
	if a.key, a.queue, err = r.keyOf(b[6:]); err != nil {
		return err
	}
	if s.affinity(a.key).ofQueue(a.queue) != nil || !r.fits(a.footprint()) {
		return errRequest
	}
	r.affinities.bind(a)
	return nil
}

func (r *router) replayUnbind(l *link, b []byte) error {
	s, b, err := sessionOf(l, b)
	if err != nil {
		return err
	}
	key, queue, err := r.keyOf(b)
	if err != nil {
		return err
	}
	a := s.affinity(key).ofQueue(queue)
	if a == nil {
		return errRequest
	}
	r.affinities.unbind(a)
	return nil
}

func (r *router) replayLimited(_ *link, b []byte) error {
	if len(b) > 0 {
		return errEntry
	}
	r.limitsKept = true
	return nil
}

func (r *router) keyOf(b []byte) (key, queue string, err error) {
	if len(b) < 4 || uint64(le.Uint32(b)) > uint64(len(b)-4) || len(b) > 2*maxTexts {
		return "", "", errEntry
	}
	n := 4 + le.Uint32(b)
	return string(b[4:n]), r.intern(b[n:]), nil
}

// sessionOf returns the session that an entry is about, and what follows its slot.
func sessionOf(l *link, b []byte) (*session, []byte, error) {
	if len(b) < 4 {
		return nil, nil, errEntry
	}
	slot := le.Uint32(b)
	if uint64(slot) >= uint64(len(l.sessions)) || l.sessions[slot] == nil {
		return nil, nil, errSession
	}
	return l.sessions[slot], b[4:], nil
}
