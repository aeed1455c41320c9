package router

import "gatehouse/store"

// This file is all that changes the state which outlives the process: each change
// and its entry in the journal side by side. What is not here, or not in the
// journal, a new router does not know: holds and who is behind, which the cms say
// again; matches, which are found again; who got how many messages of those whose
// subscription has no limit, which it knows from the last snapshot only.
//
//	begin, anew, informed, end    a session, begin with its challenge
//	spent                         a challenge without a session
//	resettle                      one that moves to another cm
//	add, limit, counted, drop     a subscription
//	request, answer, informedOf, lapse   a request
//	bind, unbind                  an affinity
//	bounds                        limits of profiles, that cms keep
//	begun, gone                   a process of a cm

// begin adds a session, unless the state has no room for it. The number is that of its
// challenge in the cm's supply, 0: it has another one.
func (r *router) begin(s *session, challenge uint64) bool {
	if r.stateSize()+s.footprint() > r.size.state {
		return false
	}
	r.insert(s)
	r.journal(r.entry.open(s, challenge))
	r.show(s)
	return true
}

// spent notes which challenge of a cm's was used last.
func (r *router) spent(l *link) { r.journal(r.entry.process(l)) }

// insert is begin without a journal.
func (r *router) insert(s *session) {
	s.cm.keep(s)
	r.live.sessions += s.footprint()
	if s.console {
		r.consoles++
	}
}

// end forgets a session: its subscriptions, and what others wait for from it.
func (r *router) end(s *session) {
	r.journal(r.entry.end(s))
	r.remove(s)
}

// remove is end without a journal.
func (r *router) remove(s *session) {
	s.ended = true
	r.showEnd(s)
	r.giveUp(s)
	r.shed(s)
	r.relieve(s)
	s.cm.sessions[s.slot] = nil
	s.cm.open--
	r.live.sessions -= s.footprint()
	if s.console {
		r.consoles--
	}
}

// anew begins a session anew after a CONNECT: with the options and whatever else is
// known of its client by now. It returns false if the state has no room for that.
func (r *router) anew(s *session, opts options) bool {
	r.shed(s)
	before := s.footprint()
	s.options = opts
	if r.live.sessions += s.footprint() - before; r.stateSize() > r.size.state {
		return false
	}
	r.journal(r.entry.connect(s))
	r.showSubs(s)
	return true
}

// shed takes from a session all that it has.
func (r *router) shed(s *session) {
	for _, t := range s.subs {
		r.index.remove(t)
		r.live.subs -= t.footprint()
	}
	s.subs, s.last = nil, nil
	r.requests.leave(s)
	r.affinities.leave(s)
}

// resettle makes a session one of another cm's, where its slot is free.
func (r *router) resettle(s *session, to *link) {
	r.journal(r.entry.move(s, to))
	r.carry(s, to, to.process)
}

// carry is resettle without a journal. What is kept of the session's subscriptions
// by cm is void.
func (r *router) carry(s *session, to *link, process uint64) {
	s.cm.sessions[s.slot] = nil
	s.cm.open--
	s.cm, s.generation = to, process
	to.keep(s)
	for _, t := range s.subs {
		r.index.changed(t.subject)
	}
}

// informed notes that a client has had its second INFO.
func (r *router) informed(s *session) {
	s.knowsInfo = true
	r.journal(r.entry.informed(s))
}

// hasRoom tells whether the state has room for one more subscription. The log says
// so at most once a second.
func (r *router) hasRoom(c *store.RecSub) bool {
	n := subFootprint(len(c.Subject), len(c.Queue), len(c.SID))
	if r.live.subs+n <= r.size.subs {
		return true
	}
	r.complain("subscriptions refused: store.journal is too small", r.index.count)
	return false
}

// add adds a subscription whose sid the session does not have.
func (r *router) add(t *sub) {
	r.enter(t)
	r.journal(r.entry.sub(t))
	r.watch.added++
	r.showSubs(t.ses)
}

// enter is add without a journal.
func (r *router) enter(t *sub) {
	if t.ses.subs == nil {
		t.ses.subs = make(map[string]*sub, 1)
	}
	t.ses.subs[string(t.sid)] = t
	r.index.insert(t)
	r.live.subs += t.footprint()
}

// drop ends a subscription.
func (r *router) drop(t *sub) {
	if t.ses.subs[string(t.sid)] != t {
		return
	}
	r.journal(r.entry.unsub(t))
	r.leave(t)
	r.showSubs(t.ses)
}

// leave is drop without a journal.
func (r *router) leave(t *sub) {
	delete(t.ses.subs, string(t.sid))
	r.index.remove(t)
	r.live.subs -= t.footprint()
}

// limit lets a subscription end after max messages, of which it has had some.
func (r *router) limit(t *sub, max uint64) {
	t.max = max
	r.index.changed(t.subject) // its matches must look at max from now on
	r.journal(r.entry.limit(t))
}

// counted is called when a subscription with a limit has had one more message.
func (r *router) counted(t *sub) {
	if t.delivered >= t.max {
		r.drop(t)
		return
	}
	r.journal(r.entry.limit(t))
}

// request adds a request, which has its number, and duties that are owed or granted.
func (r *router) request(q *request) {
	r.requests.enlist(q)
	r.requests.time(q)
	r.journal(r.entry.request(q))
}

// answer notes an answer to a request.
func (r *router) answer(d *duty) {
	r.journal(r.entry.answer(d))
	r.requests.answered(d)
}

// informedOf notes that the sender of a request knows how it ended.
func (r *router) informedOf(q *request) {
	r.journal(r.entry.told(q))
	r.requests.orphan(q)
}

// lapse ends a request by time.
func (r *router) lapse(q *request) {
	r.journal(r.entry.lapse(q))
	r.requests.forget(q)
}

// bind adds an affinity.
func (r *router) bind(a *affinity) {
	r.affinities.bind(a)
	r.journal(r.entry.bind(a))
}

// unbind ends an affinity.
func (r *router) unbind(a *affinity) {
	r.journal(r.entry.unbind(a))
	r.affinities.unbind(a)
}

// bounds notes that cms are told limits of profiles.
func (r *router) bounds() {
	if !r.limitsKept {
		r.limitsKept = true
		r.journal(r.entry.limited())
	}
}

// begun notes which process of a cm's the sessions to come are of.
func (r *router) begun(l *link, generation uint64) {
	l.generation, l.supply = generation, newSupply()
	r.journal(r.entry.process(l))
}

// gone ends the sessions of a cm's processes up to a generation, and returns how
// many there were.
func (r *router) gone(l *link, generation uint64) int {
	r.journal(r.entry.gone(l, generation))
	return r.removeAll(l, generation)
}

// removeAll is gone without a journal.
func (r *router) removeAll(l *link, generation uint64) (n int) {
	if l.open == 0 {
		return 0
	}
	for _, s := range l.sessions {
		if s != nil && s.generation <= generation {
			r.remove(s)
			n++
		}
	}
	return n
}

// footprints are what a snapshot takes for sessions and subscriptions, in bytes.
type footprints struct{ sessions, subs int }

// stateSize is what a snapshot takes.
func (r *router) stateSize() int {
	return r.live.sessions + r.live.subs + r.requests.bytes + r.affinities.bytes
}

func (s *session) footprint() int {
	return store.Framed(openEntry+len(s.challenge)) + store.Framed(connectEntry+s.who.texts())
}

func (q *request) footprint() int { return requestFootprint(len(q.duties), len(q.reply)) }

func requestFootprint(duties, reply int) int {
	return store.Framed(requestEntry + duties*dutyEntry + reply)
}

func (a *affinity) footprint() int { return store.Framed(bindEntry + len(a.key) + len(a.queue)) }

func (t *sub) footprint() int { return subFootprint(len(t.subject), len(t.queue), len(t.sid)) }

func subFootprint(subject, queue, sid int) int { return store.Framed(subEntry + subject + queue + sid) }
