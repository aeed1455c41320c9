package parent

import (
	"fmt"
	"time"

	"gatehouse/privsep"
)

// This file exchanges a running process for a new one, without loss. Every
// component has two places, of which at most one has a process but while they
// change; a cm's are i and i + cm.count.
//
//	                 ready                      old one has ended
//	start in the  ----------> router, dispatcher, auth: old one is ended ----> the new
//	vacant place  ----------> cm: the old one retires, its connections move    one's turn
//	      \ not ready
//	       the old one goes on as if nothing had been tried
//
// The new router or dispatcher has all that it needs by then but the first word
// on a cm, before which it writes nothing: it takes up what the old one left. A new
// auth is asked what the old one has not answered.

// change is one exchange.
type change struct {
	old, new *child
	began    time.Time
	turned   bool      // the new process is ready, and the old one told to go
	turnedAt time.Time // when
	by       time.Time // when a retiring cm closes what has stayed
	progress privsep.Retiring
	empty    bool   // the retiring cm has said that it has nothing left
	over     bool   // as far as the operator is concerned
	failed   string // why it came to nothing
	pause    time.Duration
}

const (
	// leaveTime is how long a dispatcher, auth or console that has been told to end has for it.
	leaveTime = 2 * time.Second
	// lingering is how long after its time a retiring cm may deliver what its
	// connections had sent.
	lingering = 10 * time.Second
)

// leaves tells whether c is retiring: no longer the one for new connections.
func (c *child) leaves() bool { return c.change != nil && c.change.old == c && c.change.turned }

// standsBy tells whether c is a router or dispatcher whose turn has not come.
func (c *child) standsBy() bool {
	if c.change == nil || c.change.new != c || c.id.Role == privsep.RoleCM {
		return false
	}
	return c.change.old.alive() && !(c.id.Role == privsep.RoleTLSD && c.change.turned)
}

// other is the second place of a component.
func (p *parent) other(c *child) *child {
	for _, o := range p.children {
		switch {
		case o == c || o.id.Role != c.id.Role:
		case c.id.Role == privsep.RoleCM && o.id.Index%p.cms == c.id.Index%p.cms, o.id == c.id:
			return o
		}
	}
	return nil
}

// find gives the process of a component that runs and is not being left. One of a
// cm may be in either place.
func (p *parent) find(id privsep.ID) *child {
	for _, c := range p.children {
		if c.id == id && c.state == running && !c.leaves() && !c.standsBy() {
			return c
		}
	}
	return nil
}

// replaceable says why the process of c cannot be exchanged now.
func (p *parent) replaceable(c *child) error {
	o := p.other(c)
	switch {
	case p.stopping:
		return fmt.Errorf("the broker is stopping")
	case c.leaves():
		return fmt.Errorf("%v has been replaced by %v already, and %s", c.id, c.change.new.id, c.change.waits())
	case c.change != nil && c.change.turned:
		return fmt.Errorf("%v cannot be replaced yet: %v %s", c.id, c.change.old.id, c.change.waits())
	case c.change != nil:
		return fmt.Errorf("%v is being replaced", c.id)
	case c.state != running:
		return fmt.Errorf("%v is not running (%v)", c.id, c.state)
	case o.state != vacant:
		return fmt.Errorf("%v has no vacant place: %v is %v", c.id, o.id, o.state)
	}
	return nil
}

// replace begins to exchange the process of c. An error says why not.
func (p *parent) replace(c *child) (*change, error) {
	if err := p.replaceable(c); err != nil {
		return nil, err
	}
	o := p.other(c)
	ch := &change{old: c, new: o, began: time.Now()}
	c.change, o.change = ch, ch
	o.restarts, o.quickEnds, o.everRan = c.restarts+1, 0, false
	if c.id == o.id { // else each has its own
		o.generation = c.generation
	}
	p.log.Info().Str("role", c.id.String()).Int("pid", c.proc.PID).Str("place", o.id.String()).Msg("role is being replaced")
	if err := p.start(o); err != nil {
		if o.proc != nil && o.state == starting {
			p.kill(o) // ended says the rest
			return ch, nil
		}
		p.drop(ch)
		o.state = vacant
		return nil, fmt.Errorf("start %v: %w", o.id, err)
	}
	p.writeRegistry()
	return ch, nil
}

// waits says what a retiring cm still waits for.
func (ch *change) waits() string {
	n := ch.progress
	if n.Left+n.Stay == 0 {
		return "is about to end"
	}
	return fmt.Sprintf("keeps %d connections by TLS and %d others until they end, at most until %s", n.Stay, n.Left, ch.by.Format(time.TimeOnly))
}

// drop ends a change, as far as it is one.
func (p *parent) drop(ch *change) {
	ch.old.change, ch.new.change = nil, nil
	p.finish(ch)
}

// finish tells the operator how it went.
func (p *parent) finish(ch *change) {
	if ch.over {
		return
	}
	ch.over = true
	took := time.Since(ch.began)
	if ch.failed != "" {
		p.log.Error().Str("role", ch.old.id.String()).Str("reason", ch.failed).Dur("took", took).Msg("role not replaced")
		p.record(&auditRestartFailed{Role: ch.old.id.String(), Reason: ch.failed})
	} else {
		p.log.Info().Str("role", ch.new.id.String()).Dur("took", took).Dur("pause", ch.pause).
			Uint64("moved", ch.progress.Moved).Uint32("stay", ch.progress.Stay).Msg("role replaced")
		p.record(&auditRestart{Role: ch.old.id.String(), By: ch.new.id.String(), PID: ch.new.proc.PID})
	}
	p.control.tell(ch)
	p.replaced(ch)
}

// stage is how far a change is.
func (ch *change) stage() string {
	switch n := ch.progress; {
	case !ch.turned:
		return fmt.Sprintf("%v: starting %v", ch.old.id, ch.new.id)
	case ch.old.id == ch.new.id:
		return fmt.Sprintf("%v: the old process ends", ch.old.id)
	default:
		return fmt.Sprintf("%v: %d connections moved to %v, %d left", ch.old.id, n.Moved, ch.new.id, n.Left)
	}
}

// summary is how a change went.
func (ch *change) summary() string {
	took := time.Since(ch.began).Round(time.Millisecond)
	n := ch.progress
	switch {
	case ch.old.id == ch.new.id:
		return fmt.Sprintf("%v replaced in %v", ch.old.id, took)
	case n.Stay > 0:
		return fmt.Sprintf("%v replaced by %v in %v, %d connections moved; %d by TLS stay until they end, at most until %s",
			ch.old.id, ch.new.id, took, n.Moved, n.Stay, ch.by.Format(time.TimeOnly))
	}
	return fmt.Sprintf("%v replaced by %v in %v, %d connections moved", ch.old.id, ch.new.id, took, n.Moved)
}

// turn has the old process go, since the new one is ready.
func (p *parent) turn(ch *change) {
	again := ch.turned
	if !again {
		ch.turned, ch.turnedAt = true, time.Now()
	}
	if ch.new.id.Role == privsep.RoleCM {
		if !again {
			ch.by = ch.turnedAt.Add(p.cfg.Limits.DrainTimeout)
			ch.old.wake = ch.by.Add(lingering)
		}
		p.retireCM(ch)
		return
	}
	if again {
		return
	}
	old := ch.old
	if old.id.Role == privsep.RoleTLSD {
		p.retireTLSD(ch)
		return
	}
	if old.id.Role != privsep.RoleRouter {
		var now privsep.Shutdown
		p.send(old, privsep.KindShutdown, now.Append(nil))
		if old.ch != nil {
			old.ch.SetPhase(privsep.PhaseDrain)
		}
		old.state, old.wake = stopping, ch.turnedAt.Add(leaveTime)
		return
	}
	// What a router leaves in shared memory is exact at any moment.
	old.state, old.wake = stopping, ch.turnedAt.Add(setupTimeout)
	p.kill(old)
}

// retireCM makes the way for the connections, and tells everybody: first the
// successor, so that none comes unexpected; then those who bring them there; then
// the cm itself.
func (p *parent) retireCM(ch *change) {
	old, fresh := ch.old, ch.new
	fo, fn, err := privsep.Socketpair()
	if err != nil {
		p.log.Error().Err(err).Msg("socketpair")
		return
	}
	key := privsep.NewKey()
	peer := privsep.Peer{ID: old.id, Key: key, Generation: old.generation}
	p.send(fresh, privsep.KindPeer, peer.Append(nil), fn)
	for _, o := range p.children {
		p.tellRetiring(o, old)
	}
	r := privsep.Retire{To: fresh.id.Index, Generation: fresh.generation, Key: key, Drain: max(time.Until(ch.by), 0)}
	p.send(old, privsep.KindRetire, r.Append(nil), fo)
	privsep.CloseFD(fo)
	privsep.CloseFD(fn)
	p.control.tell(ch)
}

// tellRetiring tells the router or the dispatcher of a retiring cm.
func (p *parent) tellRetiring(to, c *child) {
	if to.id.Role != privsep.RoleDispatcher && to.id.Role != privsep.RoleRouter || to.standsBy() || !c.leaves() {
		return
	}
	m := privsep.CMRetire{CM: c.id.Index, Generation: c.generation, To: c.change.new.id.Index}
	p.send(to, privsep.KindCMRetire, m.Append(nil))
}

// retiring is how far a retiring cm is.
func (p *parent) retiring(c *child, m *privsep.Message) error {
	var r privsep.Retiring
	if err := r.Parse(m.Payload); err != nil {
		return err
	}
	if !c.leaves() {
		return &offence{m.Kind.String(), "unasked"}
	}
	c.change.progress, c.change.empty = r, r.Left+r.Stay == 0
	if r.Left == 0 {
		p.finish(c.change)
	} else {
		p.control.tell(c.change)
	}
	return nil
}

// changed follows the end of a process that is part of a change, and tells
// whether that was all that is to be done about it.
func (p *parent) changed(c *child, status string) bool {
	ch := c.change
	switch {
	case ch == nil:
		return false
	case c == ch.new && !ch.turned && ch.old.alive(): // it was never needed
		p.died(c, status)
		ch.failed = fmt.Sprintf("%v, the new process, did not get ready: %s; the old one goes on", c.id, status)
		c.state = vacant
		p.drop(ch)
		p.renewWays(ch.old)
		return true
	case c == ch.new: // it is the component now, and is started again as such
		return false
	}
	if ch.orderly(status) || p.stopping {
		p.log.Info().Str("role", c.id.String()).Int("pid", c.proc.PID).Str("reason", status).Msg("role ended")
	} else {
		p.died(c, status)
	}
	c.state, c.quickEnds, c.everRan = vacant, 0, false
	ch.new.everRan = true
	if c.id.Role != privsep.RoleCM && ch.turned {
		ch.pause = time.Since(ch.turnedAt)
	}
	if c.id.Role != privsep.RoleCM && ch.new.state == running {
		p.connect(ch.new) // its turn has come
	}
	ch.progress.Left, ch.progress.Stay = 0, 0
	p.drop(ch)
	if u := p.upgrade; u != nil && u.exe == nil && u.at == nil {
		p.replaceNext() // it may have waited for the place
	}
	return true
}

// orderly tells whether the old process has ended as it was to. How one ended that
// is not our own child nobody tells us: it is enough that it could end.
func (ch *change) orderly(status string) bool {
	switch {
	case !ch.turned:
		return false
	case status == "exit 0", ch.old.id.Role == privsep.RoleRouter:
		return true
	case status == statusUnknown:
		return ch.old.id.Role != privsep.RoleCM || ch.empty
	}
	return false
}

// abandonChanges ends what has been started in vain: the broker stops.
func (p *parent) abandonChanges() {
	for _, c := range p.children {
		if c.change != nil && c == c.change.new && !c.change.turned && c.alive() {
			p.kill(c)
		}
	}
}

// goOnChanging puts the places in order after an adoption: of each two one serves,
// also if neither has a process now. Where both have one, a cm was being replaced;
// its connections go on moving by themselves. It returns the changes of which the
// old process does not know yet.
func (p *parent) goOnChanging(facts map[*child]*privsep.Adopted) (begun []*change) {
	for _, c := range p.children {
		o := p.other(c)
		if o == nil || o.token < c.token {
			continue
		}
		switch old := p.oldOf(c, o, facts); {
		case old != nil:
			ch := &change{old: old, new: p.other(old), began: time.Now(), over: true}
			old.change, ch.new.change = ch, ch
			if a := facts[old]; a.Heir != 0 {
				ch.turned, ch.turnedAt, ch.by = true, ch.began, ch.began.Add(a.Drain)
				old.wake = ch.by.Add(lingering)
			} else {
				begun = append(begun, ch)
			}
			if ch.new.state != running {
				ch.new.state = gone // to be started
			}
		case o.state == running:
			c.state = vacant
		default:
			o.state = vacant
		}
	}
	return begun
}

// oldOf tells which of two places is being left, nil if neither is. Two routers or
// dispatchers there are never: one that stands by ends with the parent.
func (p *parent) oldOf(c, o *child, facts map[*child]*privsep.Adopted) *child {
	retires := func(c *child) bool { return c.state == running && facts[c] != nil && facts[c].Heir != 0 }
	switch {
	case c.id.Role != privsep.RoleCM:
	case retires(c):
		return c
	case retires(o):
		return o
	case c.state == running && o.state == running && c.started.After(o.started):
		return o
	case c.state == running && o.state == running:
		return c
	}
	return nil
}
