package router

import (
	"bytes"
	"net/netip"

	"gatehouse/store"
	"gatehouse/wire"
)

// session is what the router knows of one connection.
type session struct {
	cm         *link
	uid        uint64
	slot       uint32
	gen        uint32
	generation uint64          // of the cm's process
	subs       map[string]*sub // by sid
	work       *work           // nil: none so far

	last        *match // of lastSubject, while index.current
	lastSubject []byte

	// holds are the senders that wait for this reader; heldBy counts the
	// readers that this sender waits for.
	holds  []*session
	heldBy int

	due int64 // by when it ends by age, ms of the clock, 0: not looked at

	waits *login // for auth's verdict on its CONNECT, nil: it does not

	challenge string
	client    netip.Addr // zero for a Unix socket

	options
	knowsInfo, congested, ended, tls bool
	console                          bool // its client is the console
	shown                            bool // has a row for those who watch
	answered                         bool // its challenge: for one try to log in it was good, by whichever router
}

// options are what a CONNECT and its credentials have made of a session.
type options struct {
	verbose, pedantic, echo, noResponders bool
	headers, protocol1                    bool
	admitted                              bool // may do what its profile allows
	prof                                  *profile
	who                                   *who // nil: nothing is known
}

func (s *session) conn() store.Conn { return store.Conn{Slot: s.slot, Gen: s.gen} }

var (
	okBytes   = []byte(wire.OK)
	pongBytes = []byte(wire.Pong)
)

// open starts a session, and greets the client unless its cm has, by its supply.
func (r *router) open(l *link, rec []byte) error {
	var o store.RecOpen
	if err := o.Parse(rec); err != nil {
		return err
	}
	if int(o.Slot) >= l.slots {
		return store.ErrCorrupt
	}
	challenge := r.challengeOf(l, o.Challenge)
	if challenge == "" && l.supplied() {
		return store.ErrCorrupt
	}
	if old := l.session1(o.Slot); old != nil {
		r.end(old)
	}
	s := newSession(l, &o, challenge)
	if challenge == "" { // of a router's before this one that has left nothing: the cm ends it
		r.send(s, nil, store.FlagClose)
		return nil
	}
	s.console = r.ofConsole(s)
	s.admitted = !r.cfg.Auth
	r.assume(s)
	r.ageFrom(s)
	if !r.begin(s, o.Challenge) { // more than connections are allowed: the dispatcher keeps to that
		r.send(s, nil, store.FlagClose)
		r.spent(l)
		return nil
	}
	if o.Challenge == 0 {
		r.buf = r.greeting.of(s).first.append(r.buf[:0], s)
		r.send(s, r.buf, 0)
	}
	return nil
}

func newSession(l *link, o *store.RecOpen, challenge string) *session {
	s := &session{cm: l, uid: o.UID, slot: o.Slot, gen: o.Gen, generation: l.generation, challenge: challenge,
		options: options{prof: powerless, verbose: true, pedantic: true, echo: true}, tls: o.TLS}
	if !o.Unix {
		s.client = netip.AddrFrom16(o.Addr).Unmap()
	}
	return s
}

func (r *router) closed(l *link, rec []byte) error {
	var c store.RecClosed
	if err := c.Parse(rec); err != nil {
		return err
	}
	if s := l.session(c.Conn); s != nil {
		r.end(s)
	}
	return nil
}

// connect answers CONNECT. A second one starts the session anew.
func (r *router) connect(l *link, rec []byte) error {
	var c store.RecConnect
	if err := c.Parse(rec); err != nil {
		return err
	}
	s := l.session(c.Conn)
	if s == nil || c.Again && (s.waits != nil || s.admitted) { // that was heard
		return nil
	}
	if len(c.Chain) > 0 && !s.tls {
		return store.ErrRecord
	}
	opts := s.said()
	if err := opts.Merge(c.JSON); err != nil {
		r.fail(s, wire.CodeBareClose)
		return nil
	}
	r.showClient(s, &opts)
	if code, bad := opts.Check(); bad {
		r.fail(s, code)
		return nil
	}
	o := options{verbose: opts.Verbose, pedantic: opts.Pedantic, echo: opts.Echo, prof: powerless,
		headers: opts.Headers, noResponders: opts.NoResponders, protocol1: opts.Protocol == 1}
	if !r.cfg.Auth || s.console {
		r.admit(s, o, identity{}, opts.Name)
	} else if r.begins(s, o) {
		r.login(s, &c)
	}
	return nil
}

// admit opens a session, with what its client has proved and the name that it gives
// itself.
func (r *router) admit(s *session, o options, id identity, name string) {
	f := r.profileOf(s, id)
	if f == nil {
		r.fail(s, wire.CodeAuthViolation)
		return
	}
	s.answered = s.answered || id.mark != 0
	old := s.prof.limits
	o.admitted, o.prof, o.who = true, f, whoIs(id, name, f)
	if !r.begins(s, o) {
		return
	}
	r.showAdmitted(s)
	r.ageFrom(s)
	if r.cfg.Auth || f.limits != (limits{}) || f.limits != old {
		r.tellLimits(s)
	}
	r.ok(s)
}

// begins begins a session anew; one for which the state has no room ends.
func (r *router) begins(s *session, o options) bool {
	if r.anew(s, o) {
		return true
	}
	r.complain("connections refused: store.journal is too small", r.index.count)
	r.fail(s, wire.CodeMaxConnections)
	return false
}

// acting returns the session of a connection that may act; one that has not logged in
// ends.
func (r *router) acting(l *link, c store.Conn) *session {
	s := l.session(c)
	if s != nil && !s.admitted {
		r.fail(s, wire.CodeAuthViolation)
		return nil
	}
	return s
}

// said is what the client has said of itself so far.
func (s *session) said() wire.Connect {
	c := wire.DefaultConnect()
	c.Verbose, c.Pedantic, c.Echo = s.verbose, s.pedantic, s.echo
	c.Headers, c.NoResponders = s.headers, s.noResponders
	if s.protocol1 {
		c.Protocol = 1
	}
	if s.who != nil && s.who.kind != "" {
		c.Name = s.who.kind + "/" + s.who.instance
	}
	return c
}

func (r *router) ok(s *session) {
	if s.verbose {
		r.send(s, okBytes, 0)
	}
}

// sendErr tells the client; the connection stays.
func (r *router) sendErr(s *session, code wire.Code, args ...[]byte) {
	r.refused[code]++
	r.buf = wire.AppendErr(r.buf[:0], code, args...)
	r.send(s, r.buf, 0)
}

// fail tells the client as the code says, and has the connection closed.
func (r *router) fail(s *session, code wire.Code) {
	r.refused[code]++
	r.buf = wire.AppendErr(r.buf[:0], code)
	r.send(s, r.buf, store.FlagClose)
	r.end(s)
}

// failed ends a connection on which the cm found a protocol error, after all
// that came before it was answered.
func (r *router) failed(l *link, rec []byte) error {
	var f store.RecFail
	if err := f.Parse(rec); err != nil {
		return err
	}
	if !wire.Code(f.Code).Known() {
		return store.ErrCorrupt
	}
	if s := l.session(f.Conn); s != nil {
		r.fail(s, wire.Code(f.Code))
	}
	return nil
}

func (r *router) ping(l *link, rec []byte) error {
	var p store.RecPing
	if err := p.Parse(rec); err != nil {
		return err
	}
	s := r.acting(l, p.Conn)
	if s == nil {
		return nil
	}
	r.send(s, pongBytes, 0)
	if s.protocol1 && !s.knowsInfo {
		r.informed(s)
		r.buf = r.greeting.of(s).connected.append(r.buf[:0], s)
		r.send(s, r.buf, 0)
	}
	return nil
}

func (r *router) subscribe(l *link, rec []byte) error {
	c := &r.recSub
	if err := c.Parse(rec); err != nil {
		return err
	}
	if len(c.Subject)+len(c.Queue)+len(c.SID) > r.cfg.MaxControlLine {
		return errLong
	}
	s := r.acting(l, c.Conn)
	if s == nil {
		return nil
	}
	most := s.prof.maxSubs
	if most == 0 {
		most = r.cfg.MaxSubscriptions
	}
	if most > 0 && len(s.subs) >= most || !r.hasRoom(c) {
		r.sendErr(s, wire.CodeMaxSubs)
		return nil
	}
	if s.subs[string(c.SID)] != nil { // of two with one sid the first stays, whatever the second is
		r.ok(s)
		return nil
	}
	if !wire.ValidSubject(c.Subject) {
		r.sendErr(s, wire.CodeInvalidSubject)
		return nil
	}
	ok, partly := r.mayHave(s, c.Subject)
	if !ok || wire.Direct(c.Subject) && !r.takeOwner(s, c.Subject) {
		r.violation(s, "subscribe", c.Subject)
		r.refuseSub(s, c.Subject, c.Queue)
		return nil
	}
	r.add(&sub{ses: s, subject: string(c.Subject), queue: r.intern(c.Queue), sid: bytes.Clone(c.SID), partly: partly})
	r.ok(s)
	return nil
}

// takeOwner makes a session the owner of the subject of its application instance. If
// another one of that name has it, one of the two is told that it may not.
func (r *router) takeOwner(s *session, subject []byte) bool {
	m := &r.scratch
	m.reset()
	r.index.find(subject, m)
	owners := m.all()
	if len(owners) == 0 || owners[0].ses == s {
		return true
	}
	if !r.cfg.ReplaceInstance {
		return false
	}
	l, need, told := owners[0].ses.cm, 0, 0
	for ; told < len(owners) && need <= r.size.half/2; told++ {
		need += errRoom + store.Framed(4*(len(subject)+len(owners[told].queue)))
	}
	if !l.out.Fits(need, r.size.most) {
		r.await(l, need)
	}
	for i, t := range owners {
		if i < told {
			r.refuseSub(t.ses, subject, []byte(t.queue))
		}
		r.drop(t)
	}
	return true
}

// errRoom is what an -ERR takes in a ring beside its quoted arguments.
const errRoom = 256

// refuseSub says that a subscription is not allowed, or not any longer. Clients find it
// by subject and queue.
func (r *router) refuseSub(s *session, subject, queue []byte) {
	if len(queue) > 0 {
		r.sendErr(s, wire.CodeSubQueuePermission, subject, queue)
		return
	}
	r.sendErr(s, wire.CodeSubPermission, subject)
}

// intern keeps one copy of a queue group's name, which many subscriptions share.
func (r *router) intern(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	if s, ok := r.names[string(name)]; ok {
		return s
	}
	if len(r.names) >= 4096 {
		clear(r.names)
	}
	s := string(name)
	r.names[s] = s
	return s
}

// unsub ends a subscription, at once or after max messages counted from SUB.
func (r *router) unsub(l *link, rec []byte) error {
	c := &r.recUnsub
	if err := c.Parse(rec); err != nil {
		return err
	}
	s := r.acting(l, c.Conn)
	if s == nil {
		return nil
	}
	if t := s.subs[string(c.SID)]; t != nil {
		if c.Max == 0 || t.delivered >= uint64(c.Max) {
			r.drop(t)
		} else {
			r.limit(t, uint64(c.Max))
		}
	}
	r.ok(s)
	return nil
}

// behind and caughtUp are the cm's word on a reader that has much unsent but is
// still reading.
func (r *router) behind(l *link, rec []byte) error {
	var c store.RecCongested
	if err := c.Parse(rec); err != nil {
		return err
	}
	if s := l.session(c.Conn); s != nil && !s.congested {
		s.congested = true
		r.congested++
	}
	return nil
}

func (r *router) caughtUp(l *link, rec []byte) error {
	var c store.RecRelieved
	if err := c.Parse(rec); err != nil {
		return err
	}
	if s := l.session(c.Conn); s != nil {
		r.relieve(s)
	}
	return nil
}
