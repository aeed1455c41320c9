package parent

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"gatehouse/privsep"
)

// state of a child, as the parent sees it:
//
//	starting --SETUP_DONE--> running --stop--> stopping
//	   |                        |                 |
//	   +-------- exit ----------+                 exit
//	                |                             |
//	             backoff --delay--> starting     gone
//
// A place that has no process and needs none is vacant; see replace.go.
type state uint8

const (
	gone state = iota
	starting
	running
	backoff
	stopping
	vacant
)

var stateNames = [...]string{"gone", "starting", "running", "backoff", "stopping", "vacant"}

func (s state) String() string { return stateNames[s] }

// child is one place for a component's process: the present one, and what is
// remembered of it from one process to the next.
type child struct {
	id     privsep.ID
	second bool    // of the two places of a role of which there is one
	change *change // that it is part of, nil: none
	token  uint64  // of its events, + 1 for its pidfd
	state  state

	proc       *privsep.Child
	ch         *privsep.Channel
	generation uint64
	started    time.Time
	walls      privsep.Sandbox

	reloads   uint64   // what it was told of: parent.reloads of then
	listens   []uint16 // listeners that it was given, by number
	profile   uint32   // number of the profiles that it was given
	users     uint32   // the same of users
	approval  uint32   // and of who vouches for certificates
	directory uint64   // 1 + number of the directory that it was given; 0: it was told nothing
	policies  uint32   // and of sessions of TLS
	ways      []uint64 // and of ways to other tlsds, by theirs

	restarts    int
	quickEnds   int       // deaths in a row that came soon after the start
	wake        time.Time // next thing to do by time: setup's end, or the next start
	everRan     bool
	stats       privsep.RoleStats
	statsID     uint64 // of the last answer
	drained     bool   // said that it has nothing left to do
	adopted     bool   // an earlier parent started it
	certificate uint32 // that an adopted cm has
	leaving     bool   // was told to go, now that it is not needed any more
	killed      bool   // at the end of the broker
	condemned   bool   // by us, for what it did or did not do
	kickAsked   uint64 // the last KICK that it was told
	kickDone    uint64 // and the last that it has answered
	signPace    privsep.Pace
	signatures  uint64
	inspecting  int       // processes that are looked at for it
	muteBy      time.Time // it closed its channel and must have ended by then
	logDropped  int
	logWindow   int64
	logLines    int
}

const (
	setupTimeout = 10 * time.Second
	// A child that lived shorter died quickly; each such death in a row doubles
	// the delay before the next start.
	quickLife    = 10 * time.Second
	firstDelay   = 50 * time.Millisecond
	longestDelay = 10 * time.Second
	loopDeaths   = 5
)

// mute tells that a child has closed its channel and not ended yet.
func (c *child) mute() bool { return c.alive() && !c.muteBy.IsZero() }

// start gives a component a process and hands out what it may have.
func (p *parent) start(c *child) error {
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		return err
	}
	defer privsep.CloseFD(theirs)
	if p.unknown, err = privsep.Identify(mine); err != nil {
		privsep.CloseFD(mine)
		return err
	}
	door, err := privsep.ListenForHeir(p.dir.door(c.id, c.generation+1))
	if err != nil {
		privsep.CloseFD(mine)
		return err
	}
	defer privsep.CloseFD(door)
	proc, err := privsep.Start(p.exe, c.id, theirs, door)
	if err != nil {
		privsep.CloseFD(mine)
		return err
	}
	c.generation++
	c.proc, c.started, c.state = proc, time.Now(), starting
	c.drained, c.leaving, c.killed, c.condemned, c.muteBy = false, false, false, false, time.Time{}
	c.adopted = false
	c.kickAsked, c.kickDone = p.lastKick, p.lastKick
	c.walls = privsep.Sandbox{}
	c.wake = c.started.Add(setupTimeout)
	key := privsep.NewKey()
	if c.id.Role == privsep.RoleDispatcher {
		p.newDispatcherKey(key, c)
	}
	c.ch = privsep.NewChannel(mine, privsep.RoleParent, c.id.Role, key)
	uid, gid := p.ids(c)
	if p.root {
		proc.Record.UID = uid
	}
	p.writeRegistry() // before it has anything to do
	if err := c.ch.Expect(privsep.Sender{PID: proc.PID, PidIno: proc.Record.PidIno, UID: proc.Record.UID, Before: os.Geteuid()}); err != nil {
		return err
	}
	boot := privsep.Boot{ID: c.id, Key: key, UID: uid, GID: gid, Generation: c.generation}
	if err := c.ch.Send(privsep.KindBoot, boot.Append(nil)); err != nil {
		return err
	}
	c.ch.SetPhase(privsep.PhaseSetup)
	if err := p.poll.Add(c.ch.FD(), c.token, privsep.In); err != nil {
		return err
	}
	if err := p.poll.Add(proc.PidFD, c.token+1, privsep.In); err != nil {
		return err
	}
	return p.handOut(c)
}

// ids are the uid and gid of a place, 0 without root.
func (p *parent) ids(c *child) (uid, gid int) {
	if !p.root {
		return 0, 0
	}
	n, place := p.cfg.Privsep.UIDBase, 0
	if c.second {
		place = 1
	}
	switch {
	case c.id.Role == privsep.RoleCM:
		n += firstCM + c.id.Index
	case c.id.Index > 0: // another tlsd
		n += shardPlaces[c.id.Index][place]
	case c.second:
		n += secondRole + int(c.id.Role)
	default:
		n += int(c.id.Role)
	}
	return n, n
}

// secondRole and firstCM are where, after uid_base, the second places of the roles
// begin of which there is one, and those of the cms.
const (
	secondRole = 8
	firstCM    = 16
)

// shardPlaces are where both places of each tlsd but the first are: what the others have
// left, below the uids from 61184 on that systemd gives away.
var shardPlaces = [privsep.MaxTLSShards][2]int{1: {80, 81}, {82, 83}, {8, 9}}

// ended is called when the pidfd says that the process is no more.
func (p *parent) ended(c *child) {
	p.poll.Del(c.proc.PidFD)
	status, err := c.proc.Wait()
	if err != nil {
		status = err.Error()
	}
	status = c.explain(status)
	lived := time.Since(c.started)
	was := c.state
	p.dropChannel(c)
	c.state = gone
	privsep.RemoveSocket(p.dir.door(c.id, c.generation))
	p.tellGone(c)
	p.expireDispatcherKey(c)
	if c.id.Role == privsep.RoleTLSD {
		p.worn[c.id.Index] = true
	}
	if p.changed(c, status) {
		p.writeRegistry()
		if p.stopping {
			p.stopCMs()
		}
		return
	}
	p.writeRegistry()
	if p.stopping && p.unfinished(c, status) {
		p.log.Error().Str("role", c.id.String()).Int("pid", c.proc.PID).Str("reason", status).Msg("role died")
		c.state, c.wake = backoff, time.Now()
		return
	}
	if was == stopping || p.stopping {
		p.log.Info().Str("role", c.id.String()).Int("pid", c.proc.PID).Str("reason", status).Msg("role ended")
		if p.stopping {
			p.stopCMs() // a router that is gone is not waited for
		}
		return
	}
	p.died(c, status)
	if !c.everRan {
		p.failed = append(p.failed, c.id)
		return
	}
	if was == running && !c.condemned && status == signalKilled {
		// Somebody else's doing, which says nothing of the role.
		c.state, c.wake = backoff, time.Now()
		return
	}
	p.delay(c, lived)
}

// unfinished tells whether a broker that stops still needs what has died: the cms
// cannot deliver what they have without a router.
func (p *parent) unfinished(c *child, status string) bool {
	if c.id.Role != privsep.RoleRouter || c.killed || status == "exit 0" || time.Now().After(p.stopBy) {
		return false
	}
	return slices.ContainsFunc(p.children, func(o *child) bool { return o.id.Role == privsep.RoleCM && o.alive() })
}

// How a child ends by SIGKILL, and one that an earlier parent started.
const (
	signalKilled  = "signal killed"
	statusUnknown = "ended"
)

func (p *parent) died(c *child, status string) {
	p.log.Error().Str("role", c.id.String()).Int("pid", c.proc.PID).Str("reason", status).
		Dur("lived", time.Since(c.started)).Msg("role died")
	p.record(&auditRoleDied{Role: c.id.String(), PID: c.proc.PID, Reason: status})
}

// delay decides when a component that died gets its next process.
func (p *parent) delay(c *child, lived time.Duration) {
	c.quickEnds++
	if lived >= quickLife {
		c.quickEnds = 1
	}
	wait := time.Duration(0)
	if n := c.quickEnds - 2; n >= 0 {
		wait = min(firstDelay<<min(n, 20), longestDelay)
	}
	c.state, c.wake = backoff, time.Now().Add(wait)
	if c.quickEnds >= loopDeaths {
		p.log.Error().Str("role", c.id.String()).Int("n", c.quickEnds).Dur("delay", wait).Msg("role dies in a loop")
	}
}

// byTime does what is due for a child: its next start, or the end of one that
// did not get ready.
func (p *parent) byTime(c *child, now time.Time) {
	if c.mute() && now.After(c.muteBy) {
		p.charge(c, offence{"", "mute"}).Msg("role killed: it closed its channel and lives on")
		c.muteBy = now.Add(setupTimeout)
		p.kill(c)
	}
	switch c.state {
	case starting, stopping, running:
		if c.timed() && now.After(c.wake) {
			p.log.Error().Str("role", c.id.String()).Str("state", c.state.String()).Msg("role killed: time is up")
			c.wake = now.Add(setupTimeout)
			p.kill(c)
		}
	case backoff:
		if now.Before(c.wake) {
			return
		}
		c.restarts++
		p.startOr(c)
	}
}

// startOr starts a component, or sees to it that this is tried again.
func (p *parent) startOr(c *child) {
	err := p.start(c)
	if err == nil {
		return
	}
	p.log.Error().Str("role", c.id.String()).Err(err).Msg("role not started")
	if c.proc != nil && c.state == starting {
		p.kill(c)
		return
	}
	p.delay(c, 0)
}

// timed tells whether wake means something: a running child has no end to be
// waited for, unless it retires.
func (c *child) timed() bool {
	return c.state == starting || c.state == backoff || c.state == stopping || c.state == running && c.leaves()
}

func (p *parent) kill(c *child) {
	c.condemned = true
	if err := c.proc.Signal(sigKill); err != nil {
		p.log.Error().Str("role", c.id.String()).Err(err).Msg("kill")
	}
}

func (p *parent) dropChannel(c *child) {
	if c.ch != nil {
		p.poll.Del(c.ch.FD())
		c.ch.Close()
		c.ch = nil
	}
}

// send says something to a running child. One that does not read its channel
// is as good as dead and is made so.
func (p *parent) send(c *child, k privsep.Kind, payload []byte, fds ...int) {
	if c.hears(k, len(payload), len(fds)) {
		p.heard(c, k, c.ch.Send(k, payload, fds...))
	}
}

// hears tells whether there is anybody to be told such a thing.
func (c *child) hears(k privsep.Kind, size, fds int) bool {
	if c.ch == nil || c.state != running && c.state != stopping {
		return false
	}
	// One that is about to end need not know.
	return c.ch.Phase() != privsep.PhaseDrain || privsep.Permit(k, privsep.RoleParent, c.id.Role, privsep.PhaseDrain, size, fds) == nil
}

// heard takes the error of what was said to a child, and tells whether there was
// none.
func (p *parent) heard(c *child, k privsep.Kind, err error) bool {
	switch {
	case err == nil:
		return true
	case !errors.Is(err, io.EOF): // else it has ended; its pidfd tells
		p.log.Error().Str("role", c.id.String()).Str("kind", k.String()).Err(err).Msg("role does not read its channel")
		p.kill(c)
	}
	return false
}
