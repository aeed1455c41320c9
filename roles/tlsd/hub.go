package tlsd

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// hub is where callers find sessions. Its lock comes before that of a session, and
// nothing waits under either.
type hub struct {
	log         *privsep.Journal
	parent      *asking
	shards      *shards
	bell        int           // is rung when a caller has gone after close
	handshakes  chan struct{} // has room for as many as may be under way
	looking     chan struct{} // the same of callers that are looked at
	uidMemory   atomic.Int64
	mostRecords uint64 // of a session, in either direction
	headTime    time.Duration

	shaken, failed, malformed, inBytes, outBytes atomic.Uint64

	mu       sync.Mutex
	limits   privsep.TLSDSettings
	policies []*policy
	named    map[string]*session // that a caller who names them joins
	all      map[string]*session // by id
	failing  map[string]failing  // by what was asked for
	accounts map[int]*account    // by uid
	callers  int
	closing  bool
}

const (
	// recordLimit is where a session is replaced: a key of TLS 1.3 is good for some 2^24
	// records, and Go begins no key update.
	recordLimit = 1<<24 - 1<<16
	// handshakesAtOnce bounds what all handshakes together take of the processor, and
	// of the parent, and uidHandshakes those of one uid: servers that do not answer hold
	// nobody else up.
	handshakesAtOnce = 32
	uidHandshakes    = handshakesAtOnce / 4
)

func newHub(limits privsep.TLSDSettings, log *privsep.Journal, parent *asking, s *shards) *hub {
	h := &hub{log: log, parent: parent, shards: s, handshakes: make(chan struct{}, handshakesAtOnce), looking: make(chan struct{}, looksAtOnce), mostRecords: recordLimit, headTime: headTime,
		named: map[string]*session{}, all: map[string]*session{}, failing: map[string]failing{}, accounts: map[int]*account{}}
	h.setLimits(limits)
	return h
}

func (h *hub) setLimits(l privsep.TLSDSettings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = l
	h.uidMemory.Store(int64(l.UIDMemory))
}

// setPolicies takes a new set. A session of which anything has changed ends, as does
// one that has no policy any more.
func (h *hub) setPolicies(set []privsep.TLSPolicyText) {
	var all []*policy
	pools := map[string]*policy{}
	for _, t := range set {
		p, err := newPolicy(t, pools)
		if err != nil { // the parent has read it, so it is not the file's fault
			h.log.Error("policy refused", privsep.Str(privsep.KeySession, t.Name), privsep.Err(err))
			continue
		}
		all = append(all, p)
	}
	h.mu.Lock()
	h.policies = all
	clear(h.failing)
	var gone []*session
	for _, s := range h.all {
		if p := h.policyFor(s.name, s.host, s.port); p == nil || !p.same(s.policy) {
			gone = append(gone, s)
		}
	}
	h.mu.Unlock()
	for _, s := range gone {
		s.end("policy", false)
	}
}

// policyFor finds the first that is for such a session. The caller holds the lock.
func (h *hub) policyFor(name, host string, port uint16) *policy {
	i := slices.IndexFunc(h.policies, func(p *policy) bool { return p.Host == host && p.Port == port && p.names(name) })
	if i < 0 {
		return nil
	}
	return h.policies[i]
}

// admit takes a connection, which is its own from now on. word is what is said of one that
// another tlsd has passed on, else nil.
func (h *hub) admit(fd int, word *byte) {
	who, err := privsep.CallerOf(fd)
	if err != nil { // gone already
		privsep.CloseFD(fd)
		return
	}
	h.mu.Lock()
	a := h.accounts[who.UID]
	if a == nil {
		a = newAccount(who.UID, &h.uidMemory)
	}
	code := protocol.OK
	switch {
	case h.closing, h.callers >= h.limits.MaxCallers:
		code = protocol.Full
	case a.callers >= h.limits.UIDCallers:
		code = protocol.TooMany
	default:
		h.callers++
		a.callers++
		h.accounts[who.UID] = a
	}
	h.mu.Unlock()
	if code != protocol.OK {
		no := protocol.Answer{Code: code, Text: code.String()}
		privsep.RawWrite(fd, no.Append(nil))
		privsep.CloseFD(fd)
		return
	}
	c := &caller{hub: h, file: privsep.Stream(fd), who: &identity{Caller: *who}, account: a, word: word}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		h.dismiss(c)
		return
	}
	go c.serve()
}

// dismiss forgets a caller.
func (h *hub) dismiss(c *caller) {
	c.file.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.callers--
	c.account.callers--
	h.settle(c.account)
	if h.closing {
		privsep.Ring(h.bell)
	}
}

// close lets nobody in any more. Sessions without a caller end.
func (h *hub) close() {
	h.mu.Lock()
	h.closing = true
	var idle []*session
	for _, s := range h.all {
		if s.users == 0 {
			idle = append(idle, s)
		}
	}
	h.mu.Unlock()
	for _, s := range idle {
		s.end("stop", false)
	}
}

// deserted tells whether there is no caller.
func (h *hub) deserted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.callers == 0
}

// farewell is how long the servers together have to take the last word.
const farewell = 500 * time.Millisecond

// endAll ends all sessions, and tells the servers.
func (h *hub) endAll(why string) {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.all))
	h.mu.Unlock()
	for _, s := range all {
		s.end(why, false)
	}
	late := time.After(farewell)
	for _, s := range all {
		select {
		case <-s.closed:
		case <-late:
			return
		}
	}
}

// refusal is why there is no session for a caller.
type refusal struct {
	code protocol.Code
	why  *failure // of NotConnected
}

// join finds the session that a caller wants, or begins one. The caller is among its
// users until leave.
func (h *hub) join(c *caller) (s *session, fresh bool, no *refusal) {
	r := &c.req
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closing:
		return nil, false, &refusal{code: protocol.Full}
	case r.Verb == protocol.Attach:
		s = h.find(r.Target)
	case r.Shared:
		s = h.named[r.Session]
	}
	if s != nil && (s.worn.Load() || s.isOver()) {
		s = nil
	}
	if s != nil {
		no := s.admits(c)
		if no != nil && no.code == protocol.Refused && r.Verb == protocol.Attach { // who may not need not know
			no.code = protocol.NoSession
		}
		if no != nil {
			return nil, false, no
		}
		s.enter()
		return s, false, nil
	}
	if r.Verb == protocol.Attach {
		return nil, false, &refusal{code: protocol.NoSession}
	}
	if s, no = h.begin(c); no != nil {
		return nil, false, no
	}
	s.enter()
	go s.open()
	return s, true, nil
}

// find gives the session of a name or an id, nil if there is none. The caller holds the
// lock.
func (h *hub) find(target string) *session {
	if s := h.named[target]; s != nil {
		return s
	}
	if s := h.all[target]; s != nil && s.shared {
		return s
	}
	return nil
}

// begin makes a session for a caller who may. The caller holds the lock.
func (h *hub) begin(c *caller) (*session, *refusal) {
	r := &c.req
	host, port, _ := protocol.SplitTarget(r.Target)
	p := h.policyFor(r.Session, host, port)
	if p == nil || !grants(p.Open, c.who) || !p.protocols(r.ALPN) {
		return nil, &refusal{code: protocol.Refused}
	}
	s := newSession(h, c, p)
	now := time.Now()
	if f, ok := h.failing[s.asked()]; ok && now.Before(f.until) {
		return nil, &refusal{protocol.NotConnected, f.why}
	}
	switch {
	case len(h.all) >= h.limits.MaxSessions:
		return nil, &refusal{code: protocol.Full}
	case c.account.sessions >= h.limits.UIDSessions:
		return nil, &refusal{code: protocol.TooMany}
	}
	if no := s.admits(c); no != nil {
		return nil, no
	}
	c.account.sessions++
	h.all[s.id] = s
	if s.shared {
		h.named[s.name] = s
	}
	return s, nil
}

// leave takes a user from a session, and ends it if it was the last one and nobody is
// to come.
func (h *hub) leave(s *session, c *caller) {
	s.mu.Lock()
	if s.reader == c {
		s.reader = nil
	}
	s.mu.Unlock()
	h.mu.Lock()
	s.users--
	last := s.users == 0
	ends := last && (!s.shared || s.worn.Load() || h.closing)
	if last && !ends && !s.isOver() {
		s.idle = time.AfterFunc(s.policy.IdleTimeout, func() { h.reap(s) })
	}
	h.mu.Unlock()
	if ends {
		s.end("unused", false)
	}
}

// reap ends a session that has had no caller for its time.
func (h *hub) reap(s *session) {
	h.mu.Lock()
	unused := s.users == 0
	if unused { // nobody is to join it in its last moment
		s.worn.Store(true)
	}
	h.mu.Unlock()
	if unused {
		s.end("idle", false)
	}
}

// unname has the next caller who names a session get another one.
func (h *hub) unname(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.named[s.name] == s {
		delete(h.named, s.name)
	}
}

// forget is the end of a session. why is of one that was never one.
func (h *hub) forget(s *session, why *failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.named[s.name] == s {
		delete(h.named, s.name)
	}
	delete(h.all, s.id)
	if s.idle != nil { // which would keep all of it until its time
		s.idle.Stop()
		s.idle = nil
	}
	s.owner.sessions--
	h.settle(s.owner)
	if why != nil {
		h.remember(s.asked(), why)
	}
}

// stats are the counters that status shows.
func (h *hub) stats() privsep.RoleStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return privsep.RoleStats{Sessions: uint64(len(h.all)), Connections: uint64(h.callers), Malformed: h.malformed.Load(),
		Handshakes: h.shaken.Load(), HandshakesFailed: h.failed.Load(), InBytes: h.inBytes.Load(), OutBytes: h.outBytes.Load()}
}
