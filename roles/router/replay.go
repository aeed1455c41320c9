package router

import (
	"errors"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

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
	if len(b) != processEntry-2 {
		return errEntry
	}
	l.generation = le.Uint64(b)
	n := copy(l.supply.secret[:], b[8:])
	l.supply.maker = nil
	l.supply.used = le.Uint64(b[8+n:])
	l.supply.given = l.supply.used
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
	if len(b) < openEntry-2 || len(b) > openEntry-2+maxChallenge || b[0] > openTLS|openUnix|openAdmitted|openAnswered|openConsole {
		return errEntry
	}
	o := store.RecOpen{UID: le.Uint64(b[9:]), TLS: b[0]&openTLS != 0, Unix: b[0]&openUnix != 0}
	o.Slot, o.Gen = le.Uint32(b[1:]), le.Uint32(b[5:])
	o.Addr = [16]byte(b[33:49])
	if o.Unix && o.Addr != [16]byte{} || b[0]&openConsole != 0 && !o.Unix || uint64(o.Slot) >= uint64(l.slots) || l.session1(o.Slot) != nil {
		return errSession
	}
	if n := le.Uint64(b[25:]); n != 0 && !l.supply.take(n) {
		return errEntry
	}
	s := newSession(l, &o, string(b[49:]))
	s.generation, s.answered, s.console = le.Uint64(b[17:]), b[0]&openAnswered != 0, b[0]&openConsole != 0
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
	s.answered = s.answered || s.identity().mark != 0
	r.live.sessions += s.footprint()
	r.assume(s)
	return nil
}

// assume gives a session the profile that it should have, if there is one: see reprofile.
func (r *router) assume(s *session) {
	s.prof = powerless
	if f := r.profileOf(s, s.identity()); f != nil && s.admitted {
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

func (r *router) replayLimited(_ *link, b []byte) error {
	if len(b) > 0 {
		return errEntry
	}
	r.limitsKept = true
	return nil
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
