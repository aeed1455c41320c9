package auth

import (
	"hash/maphash"
	"io"
	"runtime"
	"slices"
	"time"

	"gatehouse/privsep"
)

type auth struct {
	cfg    *privsep.Settings
	parent *privsep.Channel
	log    *privsep.Logger
	poll   *privsep.Poller

	router      *privsep.Channel // nil while it is away
	routers     uint64           // how many there were
	congested   bool             // it has no room for verdicts
	unsaid      []*privsep.Verdict
	users       *users
	issuers     []privsep.Issuer   // that come with the next users
	approval    approval           // that comes with them, if it does not hold yet
	directory   *privsep.Directory // that comes with them
	directoryCA []byte
	known       *known // the directory, nil: there is none
	dialer      dialer
	coming      privsep.UserSet
	comingBy    privsep.IssuerSet
	seen        seen
	witness     witness
	digests     digests
	queue       *queue
	running     [numClasses]int
	takes       [numClasses]time.Duration // that a check lately took, about
	processors  int                       // there are for Go, beside those for hashes
	done        finished
	bell        int
	seed        maphash.Seed
	turned      bool // it is this one's turn
	stopping    bool
	walls       privsep.Sandbox
	until       time.Time // when an orphan stops, zero: there is a parent
	untidy      time.Time // last login since the memory was swept, zero: none
	tidied      time.Time
	swept       time.Time // what is remembered of failures
	lateSweep   time.Time

	accepted, refused  uint64
	untoldOK, untoldNo int64
	tellOK, tellNo     privsep.Pace

	buf []byte
	msg privsep.Message
}

const (
	tokenParent = iota
	tokenRouter
	tokenDone
)

// run checks until the parent says stop. What is not answered by then the next one
// is asked.
func (a *auth) run() error {
	defer a.witness.expire(time.Time{}, true)
	for !a.stopping && !a.bereft() {
		a.begin()
		a.witness.send(a.parent, time.Now())
		a.flush()
		ready, err := a.poll.Wait(a.timeout())
		if err != nil {
			return err
		}
		for _, e := range ready {
			if err := a.event(e); err != nil {
				return err
			}
		}
		a.byTime(time.Now())
	}
	if a.parent.Orphaned() {
		return nil
	}
	return a.parent.Send(privsep.KindDrained, nil)
}

func (a *auth) event(e privsep.Ready) error {
	switch {
	case e.Token == tokenRouter:
		return a.fromRouter()
	case e.Token == tokenDone:
		privsep.DrainBell(a.bell)
		a.dials()
		a.finish()
		return nil
	case a.parent.Orphaned():
		a.heard()
		return nil
	}
	return a.fromParent()
}

// turn is how many logins are taken before others have theirs.
const turn = 64

// fromRouter takes logins. Its end is nothing: the next one asks again. A router that
// breaks the rules is given up together with this process, which has no other way to
// say so.
func (a *auth) fromRouter() error {
	for range turn {
		if a.router == nil {
			return nil
		}
		err := a.router.Recv(&a.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			a.dropRouter()
			return nil
		case err == nil:
			err = a.login(&a.msg)
		}
		if err != nil {
			a.log.Error("channel closed", privsep.Str(privsep.KeyPeer, privsep.RoleRouter.String()), privsep.Err(err))
			return err
		}
	}
	return nil
}

func (a *auth) dropRouter() {
	if a.router == nil {
		return
	}
	a.poll.Del(a.router.FD())
	a.router.Close()
	a.router, a.unsaid, a.congested = nil, nil, false
	a.queue.drop(time.Time{})
}

// flush sends the verdicts that there are.
func (a *auth) flush() {
	for len(a.unsaid) > 0 {
		a.buf = a.unsaid[0].Append(a.buf[:0])
		if err := a.router.Send(privsep.KindVerdict, a.buf); err != nil {
			break // full, or its end is read soon
		}
		a.unsaid[0], a.unsaid = nil, a.unsaid[1:]
	}
	if full := len(a.unsaid) > 0; full != a.congested && a.router != nil {
		a.congested = full
		mode := privsep.In
		if full {
			mode |= privsep.Out
		}
		if err := a.poll.Mod(a.router.FD(), tokenRouter, mode); err != nil {
			a.log.Error("poll", privsep.Err(err))
		}
	}
}

func (a *auth) fromParent() error {
	for {
		err := a.parent.Recv(&a.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF && !a.turned:
			return privsep.ErrOrphan // and never was auth
		case err == io.EOF:
			return a.lost()
		case err != nil:
			return err
		}
		if err := a.handle(&a.msg); err != nil {
			return err
		}
	}
}

func (a *auth) handle(m *privsep.Message) error {
	switch m.Kind {
	case privsep.KindPeer:
		return a.newRouter(m)
	case privsep.KindUser:
		return a.newUser(m)
	case privsep.KindIssuer:
		return a.newIssuer(m)
	case privsep.KindApproval:
		return a.newApproval(m)
	case privsep.KindDirectory:
		return a.newDirectory(m)
	case privsep.KindDialed:
		return a.dialed(m)
	case privsep.KindDialFailed:
		return a.dialFailed(m)
	case privsep.KindInspected, privsep.KindInspectedFile:
		return a.witness.take(m)
	case privsep.KindSettings:
		if err := a.cfg.Live.Parse(m.Payload); err != nil {
			return err
		}
		a.log.SetLevel(a.cfg.LogLevel)
		a.useProcessors()
	case privsep.KindStatsGet:
		s := privsep.RoleStats{Logins: a.accepted, LoginsRefused: a.refused, LoginsWaiting: uint64(a.queue.waiting)}
		for _, n := range a.running {
			s.LoginsWaiting += uint64(n)
		}
		a.directoryStats(&s)
		return privsep.AnswerStats(a.parent, m, s)
	case privsep.KindShutdown:
		a.stopping = true
	}
	return nil
}

// newRouter takes the channel to a router, in the place of the one before.
func (a *auth) newRouter(m *privsep.Message) error {
	var p privsep.Peer
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	if p.ID.Role != privsep.RoleRouter {
		return privsep.ErrShape
	}
	a.turned = true
	a.dropRouter()
	a.routers++
	a.router = privsep.NewChannel(m.FDs[0], privsep.RoleAuth, privsep.RoleRouter, p.Key)
	a.router.SetPhase(privsep.PhaseRun)
	return a.poll.Add(a.router.FD(), tokenRouter, privsep.In)
}

// newUser takes one of a new set of users, which holds for the checks that begin from
// its last one on.
func (a *auth) newUser(m *privsep.Message) error {
	all, whole, err := a.coming.Take(m.Payload)
	clear(m.Payload)
	if err != nil || !whole {
		return err
	}
	return a.setUsers(all)
}

// setUsers puts all that says who there is in force.
func (a *auth) setUsers(all []privsep.User) error {
	if err := a.setDirectory(a.directory, a.directoryCA); err != nil {
		return err
	}
	s, err := newUsers(all, a.issuers, a.approval)
	if err != nil {
		return err
	}
	if a.known != nil {
		s.directory = a.known.Directory
	}
	a.users = s
	return nil
}

// newIssuer takes one of a new set of issuers, which holds when the users do that come
// after it.
func (a *auth) newIssuer(m *privsep.Message) error {
	all, whole, err := a.comingBy.Take(m.Payload)
	if whole {
		a.issuers = all
	}
	return err
}

const (
	sweepEvery = time.Minute
	lateEvery  = 100 * time.Millisecond
	bellEvery  = time.Second
)

// byTime refuses those who have waited for longer than a client may take, forgets what
// is old, and sweeps the memory when it is quiet.
func (a *auth) byTime(now time.Time) {
	if a.queue.waiting > 0 && now.Sub(a.lateSweep) >= lateEvery {
		a.lateSweep = now
		for _, t := range a.queue.drop(now.Add(-a.cfg.AuthTimeout)) {
			a.refuse(t, privsep.ReasonLate)
		}
	}
	a.tendDirectory(now)
	a.witness.expire(now, false)
	if now.Sub(a.swept) >= sweepEvery {
		a.swept = now
		a.queue.sweep(now)
	}
	if !a.untidy.IsZero() && now.Sub(a.untidy) >= tidyAfter && now.Sub(a.tidied) >= tidyAtMost {
		a.untidy, a.tidied = time.Time{}, now
		runtime.GC()
	}
}

// timeout is how long there is nothing to do but for what comes.
func (a *auth) timeout() time.Duration {
	next := time.Duration(-1)
	soon := func(t time.Time) {
		if d := max(time.Until(t), 0) + time.Millisecond; next < 0 || d < next {
			next = d
		}
	}
	if a.queue.waiting > 0 {
		soon(a.lateSweep.Add(lateEvery))
	}
	if slices.Max(a.running[:]) > 0 { // they ring; if that is ever missed, nobody waits for ever
		soon(time.Now().Add(bellEvery))
	}
	if !a.untidy.IsZero() {
		soon(later(a.untidy.Add(tidyAfter), a.tidied.Add(tidyAtMost)))
	}
	if t := a.witness.next(); !t.IsZero() {
		soon(t)
	}
	if !a.until.IsZero() {
		soon(a.until)
	}
	if a.known != nil {
		if t := a.known.NextProbe(); !t.IsZero() {
			soon(t)
		}
	}
	return next
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
