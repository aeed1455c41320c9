package dispatcher

import (
	"io"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/tickets"
)

type dispatcher struct {
	cfg    *privsep.Settings
	parent *privsep.Channel
	log    *privsep.Logger
	poll   *privsep.Poller
	key    tickets.HandoffKey
	maker  *tickets.Maker // by that key

	listeners  []*listener
	table      *store.ConnTable
	columns    []*store.ConnColumns
	slots      *slots // nil before begin
	generation uint64
	rate       *limiter
	cms        []cmPeer
	order      []int

	waiting    *pending // accepted, but no cm takes it now
	told       []refused
	pauseUntil int64
	since      int64 // the first cm was there
	gathered   bool  // as many cms as serve were there, or have been waited for
	listening  bool  // the listeners are in the poller
	ending     bool  // some are to go
	stopping   bool
	stopBy     int64
	now        int64
	uptime     int64 // privsep.Monotonic when now was 0, or just before

	walls       privsep.Sandbox
	orphanUntil int64             // when an orphan stops, 0: there is a parent
	unsaid      []privsep.CMFault // what an orphan could not report

	accepted, refusedRate, refusedMax uint64

	complaints map[string]complaint
	buf        []byte
	place      place // taken last
	msg        privsep.Message
}

type listener struct {
	fd      int
	number  int
	address string
	unix    bool
	tls     bool
	system  bool // none, see system.go

	// Of one that is to go, see reload.go.
	endBy int64 // 0: it is not
	left  int   // how many more are taken
	same  bool  // another one goes on with the socket
}

// cmPeer is the way to one connection manager; ch is nil while it is away.
type cmPeer struct {
	ch         *privsep.Channel
	generation uint64
}

type complaint struct {
	at int64
	n  int64
}

const (
	tokenParent   = 0
	tokenListener = 1 // + number of the listener
	tokenCM       = 1 << 32

	acceptPause = 100 * time.Millisecond
	retryPause  = time.Millisecond
	lastHandoff = time.Second // for what was accepted before the end

	// gatherTime is how long after the first cm the others are waited for at the
	// start: who waits in the listen queue is then spread over all of them.
	gatherTime = 500 * time.Millisecond
)

var clock = time.Now()

func (d *dispatcher) readClock() { d.now = int64(time.Since(clock)) + 1 }

// run accepts and hands over until the parent says stop. What it has accepted
// by then it hands over first.
func (d *dispatcher) run() error {
	for !d.bereft() && (!d.stopping || d.waiting != nil && d.now < d.stopBy) {
		d.readClock()
		d.closeRefused()
		if d.waiting != nil && d.handOver(*d.waiting) {
			d.waiting = nil
		}
		d.listen(d.open() && d.waiting == nil)
		ready, err := d.poll.Wait(d.patience(d.timeout()))
		if err != nil {
			return err
		}
		d.readClock()
		if d.ending {
			d.endListeners()
		}
		for _, e := range ready {
			if err := d.event(e); err != nil {
				return err
			}
		}
	}
	d.listen(false)
	if d.parent.Orphaned() {
		return nil
	}
	return d.parent.Send(privsep.KindDrained, nil)
}

// open tells whether connections can be taken at all.
func (d *dispatcher) open() bool {
	if d.now < d.pauseUntil || d.stopping {
		return false
	}
	present := 0
	for _, c := range d.cms {
		if c.ch != nil {
			present++
		}
	}
	if present >= d.cfg.Serving || d.since != 0 && d.now >= d.since+int64(gatherTime) {
		d.gathered = true
	}
	return present > 0 && d.gathered
}

// listen puts the listeners into the poller, or takes them out so that
// connections wait in the kernel's queue.
func (d *dispatcher) listen(on bool) {
	if on == d.listening {
		return
	}
	d.listening = on
	if on && len(d.listeners) > 1 { // whoever is first has the room that there is
		d.listeners = append(d.listeners[1:], d.listeners[0])
	}
	for _, l := range d.listeners {
		if on {
			d.watch(l)
		} else {
			d.poll.Del(l.fd)
		}
	}
}

func (d *dispatcher) watch(l *listener) {
	if err := d.poll.Add(l.fd, tokenListener+uint64(l.number), privsep.In); err != nil {
		d.log.Error("poll", privsep.Err(err))
	}
}

func (d *dispatcher) timeout() time.Duration {
	if d.waiting != nil || d.ending {
		return retryPause
	}
	next := time.Duration(-1)
	if len(d.told) > 0 {
		next = max(time.Duration(d.told[0].due-d.now), 0)
	}
	until := d.pauseUntil
	if !d.gathered && d.since != 0 {
		until = max(until, d.since+int64(gatherTime))
	}
	if pause := time.Duration(until - d.now); pause > 0 && (next < 0 || pause < next) {
		next = pause
	}
	return next
}

func (d *dispatcher) event(e privsep.Ready) error {
	switch {
	case e.Token == tokenParent && d.parent.Orphaned():
		d.heard()
	case e.Token == tokenParent:
		return d.fromParent()
	case e.Token >= tokenCM:
		d.fromCM(int(e.Token - tokenCM))
	default:
		if l := d.listenerOf(int(e.Token - tokenListener)); l != nil && l.endBy == 0 {
			d.acceptAll(l)
		}
	}
	return nil
}

// fromCM: a cm has nothing to say here; what comes is its end, or an offence.
func (d *dispatcher) fromCM(k int) {
	if d.cms[k].ch == nil {
		return
	}
	err := d.cms[k].ch.Recv(&d.msg)
	if err == privsep.ErrAgain {
		return
	}
	if err != io.EOF {
		d.log.Error("channel closed", privsep.Str(privsep.KeyPeer, privsep.ID{Role: privsep.RoleCM, Index: k}.String()), privsep.Err(err))
		d.accuse(privsep.CMFault{CM: k, Reason: privsep.FaultProtocol, Generation: d.cms[k].generation})
	}
	d.dropCM(k)
}

func (d *dispatcher) dropCM(k int) {
	if ch := d.cms[k].ch; ch != nil {
		d.poll.Del(ch.FD())
		ch.Close()
		d.cms[k].ch = nil
	}
}

func (d *dispatcher) fromParent() error {
	for {
		err := d.parent.Recv(&d.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF && d.slots == nil:
			return privsep.ErrOrphan // and never was the dispatcher
		case err == io.EOF:
			return d.lost()
		case err != nil:
			return err
		}
		if err := d.handle(&d.msg); err != nil {
			return err
		}
	}
}

// begin takes up the table as the dispatcher before has left it. It follows the
// parent's first word on a cm: until then that one may still be there.
func (d *dispatcher) begin() {
	d.slots = newSlots(d.table, d.columns, d.cfg.Serving, d.generation)
	d.slots.countByOrigin(d.cfg.AddressConns > 0)
}

func (d *dispatcher) handle(m *privsep.Message) error {
	if d.slots == nil && m.Kind != privsep.KindStatsGet {
		d.begin()
	}
	switch m.Kind {
	case privsep.KindPeer:
		return d.newCM(m)
	case privsep.KindCMGone:
		var g privsep.CMGone
		if err := g.Parse(m.Payload); err != nil {
			return err
		}
		if k := g.CM; k < len(d.cms) {
			d.dropCM(k)
			d.slots.lost(k)
		}
	case privsep.KindCMRetire:
		return d.retire(m)
	case privsep.KindStatsGet:
		return privsep.AnswerStats(d.parent, m, privsep.RoleStats{Connections: uint64(d.connections()), Accepted: d.accepted,
			RefusedRate: d.refusedRate, RefusedMax: d.refusedMax})
	case privsep.KindSystemConn:
		d.systemConn(m)
	case privsep.KindSettings:
		return d.settings(m)
	case privsep.KindListener:
		return d.newListener(m)
	case privsep.KindListenerGone:
		return d.endListener(m)
	case privsep.KindShutdown:
		d.stopping, d.stopBy = true, d.now+int64(lastHandoff)
	}
	return nil
}

func (d *dispatcher) connections() int {
	if d.slots == nil {
		return 0
	}
	d.slots.settleDoubts()
	return d.slots.total()
}

// retire gives a cm no more connections. What lies in its channel it still takes.
func (d *dispatcher) retire(m *privsep.Message) error {
	var c privsep.CMRetire
	if err := c.Parse(m.Payload); err != nil {
		return err
	}
	if c.CM >= len(d.cms) || c.To >= len(d.cms) || c.CM == c.To {
		return privsep.ErrShape
	}
	d.dropCM(c.CM)
	d.slots.retire(c.CM, c.To)
	return nil
}

// newCM takes the channel to a cm that has started.
func (d *dispatcher) newCM(m *privsep.Message) error {
	var p privsep.Peer
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	k := p.ID.Index
	if p.ID.Role != privsep.RoleCM || k < 0 || k >= len(d.cms) {
		return privsep.ErrShape
	}
	d.dropCM(k)
	d.slots.recount(k)
	ch := privsep.NewChannel(m.FDs[0], privsep.RoleDispatcher, privsep.RoleCM, p.Key)
	ch.SetPhase(privsep.PhaseRun)
	if err := d.poll.Add(ch.FD(), tokenCM+uint64(k), privsep.In); err != nil {
		return err
	}
	if d.since == 0 {
		d.since = d.now
	}
	d.cms[k] = cmPeer{ch: ch, generation: p.Generation}
	return nil
}
