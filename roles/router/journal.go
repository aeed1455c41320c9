package router

import (
	"encoding/binary"
	"errors"

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
	numEntries
)

// An entry, after kind u8 and cm u8:
//
//	PROCESS  generation u64                     sessions to come are of this process
//	GONE     generation u64                     sessions of processes up to this one end
//	OPEN     flags u8, slot u32, gen u32, uid u64, generation u64, address, challenge
//	CONNECT  flags u8, slot u32                 the session begins anew
//	INFORMED slot u32
//	END      slot u32
//	SUB      slot u32, max u64, delivered u64, length of subject u32, of queue u32, both, sid
//	LIMIT    slot u32, max u64, delivered u64, sid
//	UNSUB    slot u32, sid
//	MOVE     slot u32, cm u32, generation u64     the session is that cm's, of this process
const (
	processEntry = 2 + 8
	openEntry    = 2 + 1 + 4 + 4 + 8 + 8 + 16
	connectEntry = 2 + 1 + 4
	slotEntry    = 2 + 4
	limitEntry   = slotEntry + 8 + 8
	subEntry     = limitEntry + 4 + 4
	moveEntry    = slotEntry + 4 + 8
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
)

func (e *entry) open(s *session) []byte {
	flags := uint8(0)
	if s.tls {
		flags |= openTLS
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
func (s *session) connectFlags() [7]*bool {
	return [...]*bool{&s.verbose, &s.pedantic, &s.echo, &s.noResponders, &s.headers, &s.protocol1, &s.knowsInfo}
}

func (e *entry) connect(s *session) []byte {
	flags := uint8(0)
	for i, f := range s.connectFlags() {
		if *f {
			flags |= 1 << i
		}
	}
	return e.done(le.AppendUint32(append(e.begin(entryConnect, s.cm), flags), s.slot))
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
	if len(b) < openEntry-2 || len(b) > openEntry-2+maxChallenge || b[0] > openTLS|openUnix {
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
	r.insert(s)
	return nil
}

func (r *router) replayConnect(l *link, b []byte) error {
	if len(b) != connectEntry-2 || b[0] >= 1<<7 {
		return errEntry
	}
	s, _, err := sessionOf(l, b[1:])
	if err != nil {
		return err
	}
	for i, f := range s.connectFlags() {
		*f = b[0]>>i&1 == 1
	}
	r.clearSubs(s)
	return nil
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
