package auth

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/certname"
	"gatehouse/privsep/erase"
	"gatehouse/tickets"
	"gatehouse/wire"
)

// attempt is one login on its way from LOGIN to VERDICT.
type attempt struct {
	id          uint64
	try         uint32
	router      uint64 // which of the routers there were asked
	addr        [16]byte
	unix, tls   bool
	again       bool // it may have been answered before
	challenge   string
	environment string          // that this is
	process     privsep.Process // that has connected to a Unix socket
	processes   bool            // can log in
	until       time.Time       // when it is late
	began       time.Time       // its check
	chain       []byte          // certificates of its TLS session
	connect     wire.Connect    // has secrets; nobody has it when the attempt is over
	size        int             // that it counts for in the queue
	came        time.Time

	checker *checker
	class   class
	origin  privsep.Origin
	who     uint64 // of whom it claims to be, with its kind
	source  *source
	lane    *lane
	users   *users // that there were when its check began
	seen    *seen
	look    func(file bool) sighting // at the process, by the parent
	digests *digests
	ticket  *tickets.Transfer // that its issuer has signed, nil: none
	asks    bool              // what is left is to ask the directory whose that is

	user       *user // what the check found
	reason     privsep.Reason
	names      certname.Names // of the certificate, if that could be read
	executable string         // of the process, if that was looked at
	err        error          // more of the reason
	at         string         // where the user is known, "": in the list
	dn         string         // of his entry in a directory
}

// attemptSize is what an attempt takes beside what the client sent.
const attemptSize = 512

// login takes a LOGIN. What can be said at once is.
func (a *auth) login(m *privsep.Message) error {
	defer clear(m.Payload)
	var l privsep.Login
	if err := l.Parse(m.Payload); err != nil {
		return err
	}
	now := time.Now()
	t := &attempt{
		id: l.ID, try: l.Try, router: a.routers, addr: l.Addr, unix: l.Unix, tls: l.TLS, again: l.Again,
		challenge: l.Challenge, environment: a.cfg.Environment, chain: bytes.Clone(l.Chain),
		process: l.Process, processes: a.cfg.Login.Kinds.Has(privsep.CredentialProcess), digests: &a.digests,
		size: attemptSize + len(l.JSON) + len(l.Chain), came: now, until: now.Add(a.cfg.AuthTimeout), origin: originOf(&l), seen: &a.seen,
	}
	t.look = func(file bool) sighting { return a.witness.look(t, file) }
	var err error
	erase.Do(func() { t.connect, err = wire.ParseConnect(l.JSON) })
	if err != nil {
		a.refuse(t, privsep.ReasonMalformed)
		return nil
	}
	if t.checker = checkerOf(t); t.checker == nil {
		a.refuse(t, privsep.ReasonNoCredential)
		return nil
	}
	t.who, t.class = a.whose(t), a.classOf(t)
	a.wait(t, t.came)
	return nil
}

// wait has an attempt wait for its turn.
func (a *auth) wait(t *attempt, now time.Time) {
	if out, reason := a.queue.add(t, now); out != nil {
		a.refuse(out, reason)
	}
}

// whose is what failures are counted by: who is claimed, by which kind, and by which
// certificates, since who has one does not need to claim anything. Nobody
// outside can find two that are the same.
func (a *auth) whose(t *attempt) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	h.WriteByte(byte(t.checker.kind))
	h.WriteString(t.checker.claim(t))
	if t.checker.certificates != nil {
		h.WriteByte(0)
		h.Write(t.checker.certificates(t))
	}
	return h.Sum64()
}

// begin starts as many checks as may run.
func (a *auth) begin() {
	now := time.Now()
	for c := range numClasses {
		for a.running[c] < a.most(c) {
			t, reason := a.queue.next(c, now)
			if t == nil {
				break
			}
			if reason != privsep.ReasonNone {
				a.refuse(t, reason)
				continue
			}
			if t.class = a.classOf(t); t.class != c { // since it came others have become users
				a.wait(t, now)
				continue
			}
			if t.until.Sub(now) < a.atLeast(c) {
				a.refuse(t, privsep.ReasonLate)
				continue
			}
			t.users, t.began = a.users, now
			a.queue.began(t)
			a.running[c]++
			go func() {
				if t.asks {
					t.user, t.reason = t.lookUp()
				} else {
					t.user, t.reason = t.checker.check(t)
				}
				a.done.put(t)
			}()
		}
	}
}

// atLeast is how much time an attempt must have left for it to be worth its check. Where
// more come than can be checked, whoever has waited longest is the one whose client is
// about to give up: without it all checks would be made, and all of them in vain.
func (a *auth) atLeast(c class) time.Duration {
	return min(a.takes[c]*3/2, a.cfg.AuthTimeout/2)
}

// took notes how long a check has taken, of which the last few count.
func (a *auth) took(c class, d time.Duration) { a.takes[c] += (d - a.takes[c]) / 4 }

// quickChecks is how many signatures are verified at a time.
const quickChecks = 4

// processChecks is how many processes are looked at at a time.
const processChecks = 8

// most is how many checks of a class may run: of hashes as many as there is memory
// for, were all of them the greediest.
func (a *auth) most(c class) int {
	switch {
	case c == quick:
		return quickChecks
	case c == looking:
		return processChecks
	case c == remote && a.known != nil:
		return a.known.Links()
	}
	n := a.cfg.Login.Hashes
	if a.users.memory > 0 {
		n = min(n, a.cfg.Login.Memory/a.users.memory)
	}
	return max(1, n)
}

// finished are checks that are done: goroutines put them, the loop takes them.
type finished struct {
	mu    sync.Mutex
	tries []*attempt
	bell  int
}

func (f *finished) put(t *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries = append(f.tries, t)
	privsep.Ring(f.bell)
}

func (f *finished) take() (all []*attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, f.tries = f.tries, nil
	return all
}

// finish answers what has been checked.
func (a *auth) finish() {
	now := time.Now()
	for _, t := range a.done.take() {
		a.running[t.class]--
		a.took(t.class, now.Sub(t.began))
		switch {
		case t.reason == privsep.ReasonNone && t.user == nil: // now it is the directory's turn
			a.queue.paused(t)
			t.class = remote
			a.wait(t, now)
		case blameless(t.reason):
			a.queue.paused(t)
			a.refuse(t, t.reason)
		case t.reason != privsep.ReasonNone:
			a.queue.ended(t, false, now)
			a.refuse(t, t.reason)
		default:
			a.queue.ended(t, true, now)
			a.accept(t, now)
		}
	}
}

func (a *auth) accept(t *attempt, now time.Time) {
	a.accepted++
	if t.ticket != nil || a.tellOK.Take(okPace, now) {
		a.log.Info("login", append(t.fields(), untold(&a.untoldOK)...)...)
	} else {
		a.untoldOK++
	}
	u := t.user
	if a.cfg.Audit {
		a.log.Audit("login", append(t.fields(), privsep.Str(privsep.KeyOrganisation, u.organisation), privsep.Str(privsep.KeyProfile, u.profile))...)
	}
	a.say(t, &privsep.Verdict{OK: true, Mark: u.mark, User: u.name, Organisation: u.organisation, Profile: u.profile})
}

// refuse answers no. The reason is for the log.
func (a *auth) refuse(t *attempt, reason privsep.Reason) {
	a.refused++
	if a.tellNo.Take(noPace, time.Now()) {
		fields := append(t.fields(), privsep.Str(privsep.KeyReason, reason.String()))
		a.log.Warn("login refused", append(fields, untold(&a.untoldNo)...)...)
	} else {
		a.untoldNo++
	}
	if a.cfg.Audit {
		a.log.Audit("login refused", append(t.fields(), privsep.Str(privsep.KeyReason, reason.String()))...)
	}
	a.say(t, &privsep.Verdict{Reason: reason})
}

// Lines a second about logins; those beyond are counted in the next.
const (
	okPace = 100
	noPace = 50
)

// untold is the field with the number of lines that were left out, if there are any.
func untold(n *int64) (f []privsep.Field) {
	if *n > 0 {
		f = append(f, privsep.Int(privsep.KeyN, *n))
	}
	*n = 0
	return f
}

// fields say whose attempt it is, as far as he says so himself.
func (t *attempt) fields() []privsep.Field {
	f := []privsep.Field{privsep.Int(privsep.KeyCID, int64(t.id)), privsep.Str(privsep.KeyAddr, t.from())}
	if t.process.PID != 0 {
		f = append(f, privsep.Int(privsep.KeyUID, int64(t.process.UID)))
	}
	if t.checker == nil {
		return f
	}
	f = append(f, privsep.Str(privsep.KeyKind, t.checker.kind.String()))
	name := t.named()
	if t.ticket != nil {
		name = t.ticket.User
	}
	if t.user != nil {
		name = t.user.name
	}
	if name != "" {
		f = append(f, privsep.Str(privsep.KeyUser, name))
	}
	if t.names.Subject+t.dn != "" {
		f = append(f, privsep.Str(privsep.KeySubject, t.names.Subject+t.dn))
	}
	if t.executable != "" {
		f = append(f, privsep.Str(privsep.KeyExecutable, t.executable))
	}
	if t.err != nil {
		f = append(f, privsep.Err(t.err))
	}
	if c := t.ticket; c != nil {
		f = append(f, privsep.Str(privsep.KeyTicket, tickets.TransferName(c.ID)), privsep.Str(privsep.KeyFrom, c.Issuer))
	} else if t.at != "" {
		f = append(f, privsep.Str(privsep.KeyFrom, t.at))
	}
	return f
}

// from is the address, or that it is a Unix socket.
func (t *attempt) from() string {
	if t.unix {
		return "unix"
	}
	return netip.AddrFrom16(t.addr).Unmap().String()
}

// say sends a verdict, if the router that asked is still there; the attempt is over.
func (a *auth) say(t *attempt, v *privsep.Verdict) {
	v.ID, v.Try = t.id, t.try
	if t.checker != nil {
		v.Credential = t.checker.kind
	}
	a.untidy = time.Now()
	defer func() { t.connect = wire.Connect{} }()
	if a.router == nil || t.router != a.routers {
		return
	}
	a.unsaid = append(a.unsaid, v)
}

// tidyAfter is how long after the last login the memory is swept, and tidyAtMost how
// often: what secrets leave is erased then.
const (
	tidyAfter  = 200 * time.Millisecond
	tidyAtMost = 5 * time.Second
)
