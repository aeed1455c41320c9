package router

import (
	"bytes"
	"errors"

	"gatehouse/store"
)

// journal_request.go has the entries about requests and affinities, both how they are
// written and how they are repeated.

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

func (a *affinity) appendKey(b []byte) []byte {
	return append(append(le.AppendUint32(b, uint32(len(a.key))), a.key...), a.queue...)
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

func (r *router) keyOf(b []byte) (key, queue string, err error) {
	if len(b) < 4 || uint64(le.Uint32(b)) > uint64(len(b)-4) || len(b) > 2*maxTexts {
		return "", "", errEntry
	}
	n := 4 + le.Uint32(b)
	return string(b[4:n]), r.intern(b[n:]), nil
}
