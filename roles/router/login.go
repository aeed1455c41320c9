package router

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// login.go asks auth who a client is. A session waits with what its CONNECT said
// until there is a verdict, for as long as its cm lets it; the loop waits for nothing.
//
//	CONNECT --login--> unsent --LOGIN, when the channel has room--> asked --VERDICT--> admit
//	                     ^                                           |              or fail
//	                     +---------- another auth, all again --------+
//
// None of it outlives the router: the cms say a CONNECT again to a new one.

// login is a session that waits for a verdict.
type login struct {
	s     *session // nil: it has ended, or asked again
	json  []byte   // has secrets
	chain []byte   // certificates that it has shown
	sent  bool     // to an auth, which may have decided
	try   uint32
}

// What fits in a record fits in a LOGIN.
var _ [privsep.MaxChain - store.MaxChain]struct{}

// logins are all of them, and the way to auth.
type logins struct {
	auth       *privsep.Channel // nil while it is away
	generation uint64           // of auth's process
	waiting    map[uint32]*login
	unsent     []*login
	tries      uint32
	long       int           // bytes of the CONNECTs that are longer than a control line
	owed       int           // verdicts that this auth has not given
	silent     time.Duration // for how long it has given none, while this router looked
	looked     time.Time
	due        bool // there is something to be read or sent, between two batches

	coming privsep.MarkSet
	marks  map[uint64]struct{} // of the users there are
	review bool                // of the sessions, since they have changed

	buf []byte
	msg privsep.Message
}

// nameIn is what a client calls itself in its CONNECT, which makes sense.
func nameIn(json []byte) string {
	c, _ := wire.ParseConnect(json)
	return c.Name
}

// tokenAuth is far above what tokenLink reaches.
const tokenAuth = 1 << 32

// mostLong bounds the long CONNECTs together: what fits in a control line is part of
// what a connection costs.
const mostLong = 32 << 20

// login has auth check what a client said in its CONNECT. A second one replaces the
// first.
func (r *router) login(s *session, c *store.RecConnect) {
	w := &r.logins
	r.giveUp(s)
	if n := r.longOf(c.JSON, c.Chain); n > 0 {
		if w.long+n > mostLong {
			r.fail(s, wire.CodeBareClose) // clients come again
			return
		}
		w.long += n
	}
	if w.waiting == nil {
		w.waiting = make(map[uint32]*login)
	}
	w.tries++
	s.waits = &login{s: s, json: bytes.Clone(c.JSON), chain: bytes.Clone(c.Chain), sent: c.Again, try: w.tries}
	w.waiting[w.tries] = s.waits
	w.unsent = append(w.unsent, s.waits)
	w.due = true
}

// longOf is what a CONNECT counts for among the long ones.
func (r *router) longOf(json, chain []byte) int {
	n := len(json) + len(chain)
	if n <= r.cfg.MaxControlLine {
		return 0
	}
	return n
}

// giveUp forgets that a session waits, if it does.
func (r *router) giveUp(s *session) {
	l := s.waits
	if l == nil {
		return
	}
	delete(r.logins.waiting, l.try)
	r.logins.long -= r.longOf(l.json, l.chain)
	clear(l.json)
	l.s, l.json, l.chain, s.waits = nil, nil, nil, nil
}

// newAuth takes the channel to an auth, in the place of the one before: it is asked
// everything again.
func (r *router) newAuth(p *privsep.Peer, fd int) error {
	w := &r.logins
	r.dropAuth()
	w.auth, w.generation = privsep.NewChannel(fd, privsep.RoleRouter, privsep.RoleAuth, p.Key), p.Generation
	w.auth.SetPhase(privsep.PhaseRun)
	w.unsent = w.unsent[:0]
	for _, try := range slices.Sorted(maps.Keys(w.waiting)) {
		w.unsent = append(w.unsent, w.waiting[try])
	}
	w.due = true
	return r.poll.Add(w.auth.FD(), tokenAuth, privsep.In|privsep.Out|privsep.Edge)
}

func (r *router) dropAuth() {
	w := &r.logins
	if w.auth == nil {
		return
	}
	r.poll.Del(w.auth.FD())
	w.auth.Close()
	w.auth, w.owed = nil, 0
}

// converse reads and sends what there is, between two batches.
func (r *router) converse() {
	w := &r.logins
	w.due = false
	if w.review {
		r.reviewAll()
	}
	if !r.cfg.Auth {
		r.letIn()
	}
	r.verdicts()
	r.submit()
}

// letIn is for those who wait when nobody needs to log in any more.
func (r *router) letIn() {
	w := &r.logins
	for _, try := range slices.Sorted(maps.Keys(w.waiting)) {
		s := w.waiting[try].s
		name := nameIn(w.waiting[try].json)
		r.giveUp(s)
		r.outOfTurn(s, func() {
			if r.admit(s, s.options, identity{}, name); !s.ended {
				r.tellLimits(s) // its cm waits for that
			}
		})
	}
}

// submit sends what has not been sent, as far as there is room; the poller tells of more.
func (r *router) submit() {
	w := &r.logins
	for w.auth != nil && len(w.unsent) > 0 {
		l := w.unsent[0]
		if s := l.s; s != nil {
			m := privsep.Login{ID: s.uid, Try: l.try, Addr: s.client.As16(), Unix: !s.client.IsValid(), TLS: s.tls, Again: l.sent,
				Challenge: s.challenge, Process: r.processOf(s), Chain: l.chain, JSON: l.json}
			if s.answered {
				m.Challenge = ""
			}
			w.buf = m.Append(w.buf[:0])
			err := w.auth.Send(privsep.KindLogin, w.buf)
			clear(w.buf)
			if err != nil {
				return // full, or its end is read soon
			}
			l.sent = true
			if w.owed++; w.owed == 1 {
				w.silent, w.looked = 0, time.Now()
			}
		}
		w.unsent[0], w.unsent = nil, w.unsent[1:]
	}
}

// processOf is which process has connected, in the words of the dispatcher, who had the
// connection first. Of one that it has handed to another cm it says nothing.
func (r *router) processOf(s *session) (p privsep.Process) {
	if row, ok := r.rowOf(s); ok {
		return privsep.Process(row.Process)
	}
	return p
}

// rowOf is what the dispatcher says of a connection by a Unix socket.
func (r *router) rowOf(s *session) (row store.ConnInfo, ok bool) {
	if s.client.IsValid() {
		return row, false
	}
	row, ok = r.table.Row(int(s.slot)).Get()
	return row, ok && row.UID == s.uid && row.Unix && r.holds(s.cm, int(row.CM))
}

// holds tells whether a connection that was handed to cm k can be at l: there, or moved
// from there.
func (r *router) holds(l *link, k int) bool {
	return k == l.index || k < len(r.links) && r.links[k].successor == l
}

// turnOfVerdicts is how many verdicts are taken before messages have their turn.
const turnOfVerdicts = 256

// verdicts takes what auth says. Its end is nothing: the next one is asked again.
func (r *router) verdicts() {
	w := &r.logins
	for n := 0; w.auth != nil; n++ {
		if n == turnOfVerdicts {
			w.due = true
			return
		}
		err := w.auth.Recv(&w.msg)
		switch {
		case err == privsep.ErrAgain:
			return
		case err == io.EOF:
			r.dropAuth()
			return
		case err == nil:
			err = r.verdict(&w.msg)
		}
		if err != nil {
			r.log.Error("channel closed", privsep.Str(privsep.KeyPeer, privsep.RoleAuth.String()), privsep.Err(err))
			r.accuseAuth(privsep.FaultProtocol)
			r.dropAuth()
			return
		}
	}
}

// verdict carries one out. One about a session that has ended or asked again since is
// nothing; one for a user who has been changed since is a no.
func (r *router) verdict(m *privsep.Message) error {
	w := &r.logins
	var v privsep.Verdict
	if err := v.Parse(m.Payload); err != nil {
		return err
	}
	if w.owed == 0 {
		return privsep.ErrShape
	}
	w.owed, w.silent, w.looked = w.owed-1, 0, time.Now()
	r.countVerdict(&v)
	l := w.waiting[v.Try]
	if l == nil || l.s.uid != v.ID {
		return nil
	}
	s, name := l.s, nameIn(l.json)
	r.giveUp(s)
	r.outOfTurn(s, func() {
		if v.OK && w.stands(v.Mark) {
			r.admit(s, s.options, identity{v.User, v.Organisation, v.Profile, v.Mark}, name)
		} else {
			r.fail(s, wire.CodeAuthViolation)
		}
	})
	return nil
}

// outOfTurn says something to a session as if it were the answer to a record: there is
// room for it, and what it leaves due is done.
func (r *router) outOfTurn(s *session, say func()) {
	r.makeRoom(s.cm)
	say()
	r.after()
}

// accuseAuth has the parent end auth.
func (r *router) accuseAuth(reason privsep.Fault) {
	if r.parent.Orphaned() {
		return // the next one makes another way to auth
	}
	f := privsep.AuthFault{Reason: reason, Generation: r.logins.generation}
	if err := r.parent.Send(privsep.KindAuthFault, f.Append(nil)); err != nil {
		r.log.Error("fault not reported", privsep.Str(privsep.KeyPeer, privsep.RoleAuth.String()), privsep.Err(err))
	}
}

// hush bounds a wait by when auth is looked at again, while it owes something.
func (r *router) hush(d time.Duration) time.Duration {
	if every := r.lookEvery(); r.logins.owed > 0 && (d < 0 || every < d) {
		return every
	}
	return d
}

// hurryAuth has an auth ended that owes verdicts and says nothing. Time in which all of
// the broker stands still does not count.
func (r *router) hurryAuth() {
	w := &r.logins
	if w.owed == 0 {
		return
	}
	now := time.Now()
	w.silent += min(now.Sub(w.looked), 2*r.lookEvery())
	w.looked = now
	if w.silent < r.cfg.StallTimeout {
		return
	}
	w.silent = 0 // once more if nobody has ended it by then
	r.accuseAuth(privsep.FaultStalled)
}

// standing takes a part of the marks of the users there are.
func (r *router) standing(m *privsep.Message) error {
	all, whole, err := r.logins.coming.Take(m.Payload)
	if err != nil || !whole {
		return err
	}
	r.logins.setMarks(all)
	return nil
}

// stands tells whether a user is what he was when he got his mark.
func (w *logins) stands(mark uint64) bool {
	_, ok := w.marks[mark]
	return ok
}

func (w *logins) setMarks(all []uint64) {
	w.marks = make(map[uint64]struct{}, len(all))
	for _, mark := range all {
		w.marks[mark] = struct{}{}
	}
	w.review, w.due = true, true
}

// reviewAll ends the sessions of users who have been removed or changed since they
// logged in, and of nobody where everybody must log in by now: they may log in again as
// what they are now.
func (r *router) reviewAll() {
	r.logins.review = false
	for _, l := range r.links {
		for _, s := range l.sessions {
			if s == nil || !s.admitted || s.console {
				continue
			}
			mark := s.identity().mark
			if mark == 0 && r.cfg.Auth || mark != 0 && !r.logins.stands(mark) {
				r.outOfTurn(s, func() { r.fail(s, wire.CodeAuthViolation) })
			}
		}
	}
}
