package router

import (
	"bytes"
	"hash/maphash"

	"gatehouse/store"
)

// request is one that sessions are to answer. It ends when nobody owes an answer any
// more, or at its time.
//
//	expect = answered + lost + those who owe
type request struct {
	number   uint64   // in the journal
	from     *session // who asked; nil: has gone, or is not to be told anything
	reply    []byte
	mode     store.Mode // broadcast: only to let those answer who may not publish otherwise
	until    int64      // ms of the router's clock
	answered int
	lost     int
	owing    int    // duties that are owed
	live     int    // duties that are owed or granted
	duties   []duty // never grows, so that they have addresses
	queued   bool   // it is among those that are over
	ended    bool

	next, prev           *request // of those that end at the usual time
	nextAsked, prevAsked *request // of from's
	at                   int      // 1 + place among those with a time of their own
}

// duty is what one session owes to a request.
type duty struct {
	req   *request
	by    *session // nil: it is over
	hash  uint64
	owed  bool
	grant int // answers that the profile allows, the first included; -1: any number, 0: it need not

	next, prev     *duty // of the same hash, a ring, the oldest first
	nextBy, prevBy *duty // of by's
}

// work is what a session has asked, owes and goes on with.
type work struct {
	asked  *request
	duties *duty
	load   int // duties owed, and sessions served
	holds  map[string]*affinity
	serves *affinity
}

func (s *session) busy() *work {
	if s.work == nil {
		s.work = new(work)
	}
	return s.work
}

// load is how many answers a session owes, and how many sessions it serves.
func (s *session) load() int {
	if s.work == nil {
		return 0
	}
	return s.work.load
}

// requests are all that are not over.
type requests struct {
	seed    maphash.Seed
	duties  map[uint64]chain // by hash
	first   *request         // of those that end at the usual time, in their order
	last    *request
	timed   timed
	over    []*request // concluded, of which the requester is to hear
	number  uint64     // of the last one
	count   int
	bytes   int                 // that a snapshot of them takes
	known   map[uint64]*request // by number, while a journal is repeated
	pool    []*request
	members []member // of the message at hand
}

// chain are the duties of one hash: as good as always those of one session to answer to one
// subject.
type chain struct {
	first *duty
	owed  *duty // the first one that is owed, nil: none is
}

// after returns the first duty after d that is owed.
func (c *chain) after(d *duty) *duty {
	for e := d.next; e != c.first; e = e.next {
		if e.owed {
			return e
		}
	}
	return nil
}

// member is a recipient of the message at hand that has to answer, or may.
type member struct {
	ses   *session
	owed  bool
	grant int
}

func newRequests() requests {
	return requests{seed: maphash.MakeSeed(), duties: make(map[uint64]chain)}
}

// hash is that of what s answers to.
func (q *requests) hash(s *session, reply []byte) uint64 {
	return maphash.Bytes(q.seed, reply) ^ s.uid*0x9e3779b97f4a7c15
}

// dutyOf returns the oldest duty of a session to answer to reply, of those that are
// owed if there are any; nil: it has none.
func (q *requests) dutyOf(s *session, reply []byte) (found *duty) {
	c, ok := q.duties[q.hash(s, reply)]
	d := c.first
	if c.owed != nil {
		d = c.owed
	}
	if !ok || d.isTo(s, reply) {
		return d
	}
	for d = c.first; ; { // others have that hash, too
		if d.isTo(s, reply) {
			if d.owed {
				return d
			}
			if found == nil {
				found = d
			}
		}
		if d = d.next; d == c.first {
			return found
		}
	}
}

func (d *duty) isTo(s *session, reply []byte) bool {
	return d.by == s && bytes.Equal(d.req.reply, reply)
}

// dutyIn is dutyOf within one request.
func (r *request) dutyIn(s *session) (found *duty) {
	for i := range r.duties {
		if d := &r.duties[i]; d.by == s && d.by != nil && (d.owed || found == nil) {
			if d.owed {
				return d
			}
			found = d
		}
	}
	return found
}

// enlist adds a request, whose duties it has.
func (q *requests) enlist(r *request) {
	q.count++
	q.bytes += r.footprint()
	q.number = max(q.number, r.number)
	if q.known != nil {
		q.known[r.number] = r
	}
	if w := r.from; w != nil {
		b := w.busy()
		if r.nextAsked = b.asked; b.asked != nil {
			b.asked.prevAsked = r
		}
		b.asked = r
	}
	for i := range r.duties {
		if d := &r.duties[i]; d.by != nil {
			q.assign(r, d)
		}
	}
}

func (q *requests) assign(r *request, d *duty) {
	d.req, d.hash = r, q.hash(d.by, r.reply)
	c, ok := q.duties[d.hash]
	if ok {
		d.next, d.prev = c.first, c.first.prev
		d.prev.next, d.next.prev = d, d
	} else {
		c.first, d.next, d.prev = d, d, d
	}
	if first := d.owed && c.owed == nil; first || !ok {
		if first {
			c.owed = d
		}
		q.duties[d.hash] = c
	}
	b := d.by.busy()
	if d.nextBy = b.duties; b.duties != nil {
		b.duties.prevBy = d
	}
	b.duties = d
	r.live++
	if d.owed {
		r.owing++
		b.load++
	}
}

// answered notes an answer.
func (q *requests) answered(d *duty) {
	r := d.req
	if d.owed {
		r.answered++
	}
	if d.grant > 0 {
		d.grant--
	}
	if d.grant == 0 {
		q.release(d)
	} else if d.owed {
		q.waive(d)
	}
	q.conclude(r)
}

// waive: a duty is owed no more, but its session may still answer.
func (q *requests) waive(d *duty) {
	if c := q.duties[d.hash]; c.owed == d {
		c.owed = c.after(d)
		q.duties[d.hash] = c
	}
	d.waived()
}

func (d *duty) waived() {
	d.owed = false
	d.by.work.load--
	d.req.owing--
}

// conclude ends a request that nobody owes an answer to: at once, or when its sender
// has been told.
func (q *requests) conclude(r *request) {
	switch {
	case r.ended || r.owing > 0:
	case r.status() != 0:
		if !r.queued {
			r.queued = true
			q.over = append(q.over, r)
		}
	case r.live == 0:
		q.forget(r)
	}
}

// status is the one that the sender of a request to which nobody owes an answer is
// told, 0: none.
func (r *request) status() int {
	switch {
	case r.from == nil || r.mode == store.ModeBroadcast:
		return 0
	case r.mode == store.ModeFanout:
		return statusComplete
	case r.answered == 0 && r.lost > 0:
		return statusLost
	}
	return 0
}

// leave: a session has gone, with all that it owes and has asked.
func (q *requests) leave(s *session) {
	w := s.work
	if w == nil {
		return
	}
	for w.asked != nil {
		q.orphan(w.asked)
	}
	for w.duties != nil {
		d := w.duties
		r := d.req
		if d.owed {
			r.lost++
		}
		q.release(d)
		q.conclude(r)
	}
}

// orphan: nobody waits for the answers to a request any more. Those who may answer by
// its grace alone still may.
func (q *requests) orphan(r *request) {
	q.disown(r)
	for i := range r.duties {
		switch d := &r.duties[i]; {
		case d.by == nil:
		case d.grant == 0:
			q.release(d)
		case d.owed:
			q.waive(d)
		}
	}
	q.conclude(r)
}

// release ends a duty.
func (q *requests) release(d *duty) {
	if d.by == nil {
		return
	}
	q.unchain(d)
	if d.owed {
		d.waived()
	}
	if d.prevBy != nil {
		d.prevBy.nextBy = d.nextBy
	} else {
		d.by.work.duties = d.nextBy
	}
	if d.nextBy != nil {
		d.nextBy.prevBy = d.prevBy
	}
	d.req.live--
	*d = duty{}
}

func (q *requests) unchain(d *duty) {
	if d.next == d {
		delete(q.duties, d.hash)
		return
	}
	if c := q.duties[d.hash]; c.first == d || c.owed == d {
		if c.owed == d {
			c.owed = c.after(d)
		}
		if c.first == d {
			c.first = d.next
		}
		q.duties[d.hash] = c
	}
	d.next.prev, d.prev.next = d.prev, d.next
}

// forget ends a request without a word.
func (q *requests) forget(r *request) {
	for i := range r.duties {
		q.release(&r.duties[i])
	}
	q.disown(r)
	q.untime(r)
	delete(q.known, r.number)
	q.count--
	q.bytes -= r.footprint()
	r.ended = true
	if !r.queued { // otherwise it is kept when its turn comes
		q.keep(r)
	}
}

// disown takes a request from who asked it.
func (q *requests) disown(r *request) {
	if r.from == nil {
		return
	}
	if r.prevAsked != nil {
		r.prevAsked.nextAsked = r.nextAsked
	} else {
		r.from.work.asked = r.nextAsked
	}
	if r.nextAsked != nil {
		r.nextAsked.prevAsked = r.prevAsked
	}
	r.from, r.nextAsked, r.prevAsked = nil, nil, nil
}

const (
	poolLimit   = 4096 // requests kept for reuse
	poolMembers = 4    // with room for so many duties at most
)

// keep puts a request that is over aside for reuse.
func (q *requests) keep(r *request) {
	if len(q.pool) < poolLimit && cap(r.duties) <= poolMembers && cap(r.reply) <= 256 {
		*r = request{duties: r.duties[:0], reply: r.reply[:0], ended: true}
		q.pool = append(q.pool, r)
	}
}

// make gives a request of n duties.
func (q *requests) make(n int) *request {
	k := len(q.pool)
	if k == 0 || n > poolMembers {
		return &request{duties: make([]duty, n)}
	}
	r := q.pool[k-1]
	q.pool[k-1] = nil
	q.pool = q.pool[:k-1]
	if cap(r.duties) < n {
		r.duties = make([]duty, n, poolMembers)
	}
	r.duties, r.ended = r.duties[:n], false
	return r
}
