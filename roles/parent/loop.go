package parent

import (
	"errors"
	"io"
	"syscall"
	"time"

	"gatehouse/privsep"
)

const (
	tokenSignal  = 0
	tokenControl = 1
	tokenStatus  = 2    // + connection of the control socket
	tokenChild   = 1000 // + 2 for each child: its channel, then its pidfd
)

func (c *child) alive() bool {
	return c.state == starting || c.state == running || c.state == stopping
}

func (p *parent) anyAlive() bool {
	for _, c := range p.children {
		if c.alive() {
			return true
		}
	}
	return false
}

// run keeps the roles up until a signal ends the broker.
func (p *parent) run() error {
	for !p.stopping || p.anyAlive() {
		if err := p.step(); err != nil {
			return err
		}
		if p.fatal != nil {
			return p.fatal
		}
	}
	p.log.Info().Msg("stopped")
	p.tellUses()
	p.record(&auditStopped{})
	return nil
}

// step waits for events and for time, once.
func (p *parent) step() error {
	ready, err := p.poll.Wait(p.timeout())
	if err != nil {
		return err
	}
	for _, e := range ready {
		switch {
		case e.Token == tokenSignal:
			p.signal()
		case e.Token == tokenControl:
			p.control.accept(p)
		case e.Token < tokenChild:
			p.control.event(p, e)
		default:
			c := p.children[(e.Token-tokenChild)/2]
			if e.Token != c.token {
				p.lastWords(c)
				p.ended(c)
			} else {
				p.fromChild(c)
			}
		}
	}
	now := time.Now()
	for _, c := range p.children {
		p.byTime(c, now)
	}
	p.control.byTime(p, now)
	p.tend(privsep.RoleAuth, p.settings.Auth)
	p.tend(privsep.RoleConsole, p.cfg.watched())
	p.showByTime(now)
	p.lookAtLists(now)
	p.retire(now)
	p.tidy(now)
	p.reloadByTime(now)
	p.notifyByTime(now)
	p.upgradeByTime(now)
	p.usesByTime(now)
	p.stopByTime(now)
	return nil
}

func (p *parent) timeout() time.Duration {
	next := p.control.next()
	if by := p.stopBy; p.stopping {
		if !p.hurried {
			by = by.Add(-lastWord / 2)
		}
		if next.IsZero() || by.Before(next) {
			next = by
		}
	}
	for _, t := range append(p.keyTimes(), p.reloading.by, p.notify.next(), p.upgrade.next(), p.nextLook(), p.showing.due, p.usesDue()) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, c := range p.children {
		if c.timed() && (next.IsZero() || c.wake.Before(next)) {
			next = c.wake
		}
		if c.mute() && (next.IsZero() || c.muteBy.Before(next)) {
			next = c.muteBy
		}
	}
	if next.IsZero() {
		return -1
	}
	return max(time.Until(next), 0) + time.Millisecond
}

// lastWords reads what a child had said before it ended: what its socket holds.
func (p *parent) lastWords(c *child) {
	for range 100 {
		if c.ch == nil || !p.fromChild(c) {
			return
		}
	}
}

// turn is how many messages of one child are taken before the others have
// theirs.
const turn = 32

// fromChild reads a child's channel, for one turn, and tells whether there may
// be more. A child that breaks the role protocol is ended.
func (p *parent) fromChild(c *child) bool {
	for range turn {
		if c.ch == nil {
			return false
		}
		err := c.ch.Recv(&p.msg)
		switch {
		case errors.Is(err, privsep.ErrAgain):
			return false
		case errors.Is(err, io.EOF):
			p.dropChannel(c)
			c.muteBy = time.Now().Add(muteTime) // its pidfd should tell the rest
			return false
		case err == nil:
			err = p.handle(c, &p.msg)
		}
		if err != nil {
			p.punish(c, err)
			return false
		}
	}
	return true
}

// muteTime is how long a child may live on after it closed its channel.
const muteTime = time.Second

func (p *parent) handle(c *child, m *privsep.Message) error {
	switch m.Kind {
	case privsep.KindSetupDone:
		return p.ready(c, m)
	case privsep.KindLog:
		return p.logFrom(c, m)
	case privsep.KindStats:
		return p.statsFrom(c, m)
	case privsep.KindSign:
		return p.sign(c, m)
	case privsep.KindTicketSign:
		return p.signTransfer(c, m)
	case privsep.KindInspect:
		return p.inspect(c, m)
	case privsep.KindTLSSign:
		return p.signTLS(c, m)
	case privsep.KindCMFault:
		return p.fault(c, m)
	case privsep.KindAuthFault:
		return p.authFault(c, m)
	case privsep.KindStatusGet:
		return p.show(c, m)
	case privsep.KindDial:
		return p.dial(c, m)
	case privsep.KindSystemGet:
		p.connectConsole(c)
	case privsep.KindAudit:
		return p.auditFrom(c, m)
	case privsep.KindKicked:
		return p.kickedBy(c, m)
	case privsep.KindRetiring:
		return p.retiring(c, m)
	case privsep.KindDrained:
		p.hasDrained(c)
	}
	return nil
}

func (p *parent) ready(c *child, m *privsep.Message) error {
	var d privsep.SetupDone
	if err := d.Parse(m.Payload); err != nil {
		return err
	}
	if d.Version != privsep.Version {
		return privsep.ErrShape
	}
	if differs := p.unconfined(c); differs != "" {
		p.refuse(c, differs)
		return nil
	}
	c.walls = d.Sandbox
	p.noteMissing(c)
	c.ch.SetPhase(privsep.PhaseRun)
	c.state, c.everRan = running, true
	p.log.Info().Str("role", c.id.String()).Int("pid", c.proc.PID).Int("uid", c.proc.Record.UID).
		Dur("took", time.Since(c.started)).Msg("role ready")
	p.record(&auditRoleStarted{Role: c.id.String(), PID: c.proc.PID, UID: c.proc.Record.UID, Restarts: c.restarts})
	c.statsID, c.stats = p.lastAsk, privsep.RoleStats{} // it was asked for nothing yet
	p.sendCredential(c)
	if !c.standsBy() {
		p.connect(c)
	}
	if c.change != nil && c == c.change.new {
		p.turn(c.change)
	}
	if p.stopping {
		p.stop(c)
	}
	return nil
}

// fault ends a cm of which the router says that it does not drain its ring or
// writes nonsense into it, or the dispatcher that it breaks the rules.
func (p *parent) fault(from *child, m *privsep.Message) error {
	var f privsep.CMFault
	if err := f.Parse(m.Payload); err != nil {
		return err
	}
	for _, c := range p.children {
		if c.id == (privsep.ID{Role: privsep.RoleCM, Index: f.CM}) && c.generation == f.Generation && c.alive() {
			p.accused(c, from, m.Kind, f.Reason)
		}
	}
	return nil
}

// accused ends a child of which another says so.
func (p *parent) accused(c, by *child, k privsep.Kind, reason privsep.Fault) {
	p.log.Error().Str("role", c.id.String()).Int("pid", c.proc.PID).Str("reason", reason.String()).Str("from", by.id.String()).Str("kind", k.String()).
		Bool("security", reason != privsep.FaultStalled).Msg("role killed at another's word")
	p.offences[offenceKey{c.id, offence{k.String(), reason.String()}}]++
	p.record(&auditRoleAccused{Role: c.id.String(), PID: c.proc.PID, By: by.id.String(), Kind: k.String(), Reason: reason.String()})
	p.kill(c)
}

func (p *parent) signal() {
	var b [8]byte
	n, _ := privsep.RawRead(p.signals, b[:])
	for _, s := range b[:max(n, 0)] {
		switch s {
		case 0:
			p.hasDigest()
			continue
		case trialKnock:
			p.tried()
			continue
		case auditKnock:
			p.auditFails()
			continue
		case inspectKnock:
			p.inspected()
			continue
		}
		switch syscall.Signal(s) {
		case syscall.SIGHUP:
			p.reload()
			continue
		case syscall.SIGUSR1:
			p.reopenAudit()
			continue
		}
		if p.stopping {
			p.hurry()
			continue
		}
		p.beginStop()
	}
}

// beginStop ends the broker in order: no new connections, the news to clients,
// no more reading from clients, then the connection managers once all that was
// sent is delivered.
func (p *parent) beginStop() {
	drain := p.cfg.Limits.DrainTimeout
	p.log.Info().Dur("drain", drain).Msg("stopping")
	p.record(&auditStop{})
	p.endReload()
	p.stopping, p.stopBy = true, time.Now().Add(drain+lastWord)
	p.notify.stopping(p.stopBy)
	p.closeListeners()
	p.abandonChanges()
	for _, c := range p.children {
		if c.state == backoff {
			p.giveUp(c)
		}
		if c.id.Role != privsep.RoleCM {
			p.stop(c)
		}
	}
	p.stopCMs()
}

// lastWord is how long the cms have, when messages have had their time, to
// report what is not delivered and to close what is open.
const lastWord = time.Second

// hurry is for signals after the first: one ends the wait for messages, another
// one any wait.
func (p *parent) hurry() {
	p.log.Warn().Msg("another signal: not waiting any longer")
	if p.hurried {
		p.stopBy = time.Now()
		return
	}
	p.hurried, p.stopBy = true, time.Now().Add(lastWord)
	p.tellCMs()
}

// tellCMs tells every cm that time is up, also those that have not been told of
// the end yet: the router has to say its word first, and may be what hangs.
func (p *parent) tellCMs() {
	for _, c := range p.children {
		if c.id.Role == privsep.RoleCM && c.alive() {
			p.stop(c)
		}
	}
}

// giveUp lets a component that is away stay away; but the cms need a router to
// finish with.
func (p *parent) giveUp(c *child) {
	if c.id.Role == privsep.RoleRouter {
		c.wake = time.Now()
		return
	}
	c.state = gone
}

// stop asks one child to finish. The router is asked for the news to clients
// only: it serves until the last cm has ended. A cm is asked twice: to read no
// more, and to go.
func (p *parent) stop(c *child) {
	m := privsep.Shutdown{Drain: max(time.Until(p.stopBy)-lastWord, 0)}
	p.send(c, privsep.KindShutdown, m.Append(nil))
	if c.state == running {
		c.state, c.wake = stopping, p.stopBy.Add(time.Second)
	}
	if c.ch != nil && c.state == stopping && (c.leaving || c.id.Role != privsep.RoleCM && c.id.Role != privsep.RoleRouter) {
		c.ch.SetPhase(privsep.PhaseDrain) // it has heard the last of us
	}
}

// stopCMs follows when the router has said what it had to say, or is not there.
func (p *parent) stopCMs() {
	for _, c := range p.children {
		if c.id.Role == privsep.RoleRouter && c.alive() && !c.drained {
			return
		}
	}
	for _, c := range p.children {
		if c.id.Role == privsep.RoleCM && c.state == running {
			p.stop(c)
		}
	}
}

// letCMsGo follows when all that the cms had read is routed: from then on none
// has anything for another.
func (p *parent) letCMsGo() {
	for _, c := range p.children {
		if c.id.Role == privsep.RoleCM && c.alive() && !c.drained {
			return
		}
	}
	for _, c := range p.children {
		if c.id.Role == privsep.RoleCM && c.alive() && !c.leaving {
			c.leaving = true
			p.stop(c)
		}
	}
}

func (p *parent) hasDrained(c *child) {
	c.drained = true
	if p.stopping {
		p.stopCMs()
	}
}

// stopByTime ends the router after the last cm, and everybody when time is up.
func (p *parent) stopByTime(now time.Time) {
	if !p.stopping {
		return
	}
	p.letCMsGo()
	if now.After(p.stopBy.Add(-lastWord/2)) && !p.hurried {
		p.hurried = true
		p.tellCMs()
	}
	cms := false
	for _, c := range p.children {
		cms = cms || c.id.Role == privsep.RoleCM && c.alive()
	}
	for _, c := range p.children {
		switch {
		case !c.alive():
		case now.After(p.stopBy) && !c.killed:
			c.killed = true
			p.kill(c)
		case !cms && c.id.Role == privsep.RoleRouter && c.state == stopping && !c.leaving: // one that is starting is told when it is ready
			c.leaving = true
			p.stop(c)
		}
	}
}
