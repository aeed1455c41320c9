package router

import (
	"encoding/binary"
	"errors"

	"gatehouse/tickets"
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
//	PROCESS  generation u64, secret and number of challenges: sessions to come are of this process
//	GONE     generation u64                     sessions of processes up to this one end
//	OPEN     flags u8, slot u32, gen u32, uid u64, generation u64, number of the challenge u64, address, challenge
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
	processEntry = 2 + 8 + len(tickets.Challenges{}) + 8
	openEntry    = 2 + 1 + 4 + 4 + 8 + 8 + 8 + 16
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
	b := append(le.AppendUint64(e.begin(entryProcess, l), l.generation), l.supply.secret[:]...)
	return e.done(le.AppendUint64(b, l.supply.used))
}

func (e *entry) gone(l *link, generation uint64) []byte {
	return e.done(le.AppendUint64(e.begin(entryGone, l), generation))
}

const (
	openTLS = 1 << iota
	openUnix
	openAdmitted
	openAnswered
	openConsole
)

// open has the number of the challenge in the cm's supply, 0: it does not matter any more.
func (e *entry) open(s *session, challenge uint64) []byte {
	flags := uint8(0)
	if s.tls {
		flags |= openTLS
	}
	if s.admitted {
		flags |= openAdmitted
	}
	if s.answered {
		flags |= openAnswered
	}
	if s.console {
		flags |= openConsole
	}
	var addr [16]byte
	if s.client.IsValid() {
		addr = s.client.As16()
	} else {
		flags |= openUnix
	}
	b := append(e.begin(entryOpen, s.cm), flags)
	b = le.AppendUint32(le.AppendUint32(b, s.slot), s.gen)
	b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, s.uid), s.generation), challenge)
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

func (e *entry) limited() []byte { return e.done(append(e.b[:0], byte(entryLimited), 0)) }

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
			r.journal(r.entry.open(s, 0))
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
