package router

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// batchLimit is how many records are taken from one ring before the batch is
// published: enough to share its cost, few enough that the cms start writing.
const batchLimit = 256

type router struct {
	cfg    *privsep.Settings
	parent *privsep.Channel
	log    *privsep.Logger
	poll   *privsep.Poller
	links  []*link
	at     int  // index of the link whose record is being routed, or nobody
	turned bool // it is this router's turn, see standBy

	// What outlives the process, and what of it was committed last.
	state  *store.State
	redo   store.Entry
	size   sizes
	live   footprints
	done   uint64 // of the plan that is in the rings
	turnAt uint64 // length of the journal at which it is compacted
	due    bool   // there is something for after
	hoards bool   // memory could not be given back
	entry  entry

	index    *index
	scratch  match
	greeting greetings
	names    map[string]string
	rnd      uint64

	// Who may do what: in force, and the set that is to be.
	profiles   map[string]*profile
	coming     privsep.ProfileSet
	next       map[string]*profile
	limitsKept bool // by cms, for profiles in force or not

	// Messaging modes.
	requests   requests
	affinities affinities
	facts      store.Facts // of the message at hand
	faced      bool        // it has some
	turn       uint64      // of the members of queue groups
	binds      []binding   // that the message at hand begins
	ending     []*affinity // scratch space
	key        []byte      // the same
	began      time.Time
	epoch      int64 // of the clock when the router began, ms
	time       int64 // of the clock, 0: not looked at in this batch

	// Scratch space of the message path.
	pub      store.RecPub
	recSub   store.RecSub
	recUnsub store.RecUnsub
	ins      store.InsDeliver
	buf      []byte
	text     []byte // of challenges
	nowhere  []byte // for instructions to a cm that has gone
	planned  []byte
	limited  []*sub // that the message at hand goes to
	later    []notice

	congested  int
	complained time.Time
	refused    map[wire.Code]uint64
	violations uint64
	denounced  denounced

	delivered, messages uint64

	ages  aging
	notes int // arenas with a note
	watch watch
	guide guide

	logins   logins
	table    *store.ConnTable // whose rows say which process has connected, and where the console has
	consoles int              // sessions of the console
	answers  uint64           // that the router has given itself
	desk     desk

	// What the parent said, acted on between batches.
	ended     []privsep.CMGone
	leaving   []*link // whose clients are to be told
	stopping  bool
	told      bool // that the broker stops
	news      bool // INFO has changed, which some clients are told
	supplying bool // a cm is to be told of greetings or challenges
	judging   bool // profiles have changed
	untold    bool // whatever limits the cms keep may be those of other profiles
	walls     privsep.Sandbox
	until     time.Time // when an orphan finishes, zero: there is a parent
	msg       privsep.Message
}

// handlers is the router's part of the ring protocol: one function per record.
var handlers = [store.KindAsk + 1]func(*router, *link, []byte) error{
	store.KindOpen:      (*router).open,
	store.KindConnect:   (*router).connect,
	store.KindPub:       (*router).publish,
	store.KindSub:       (*router).subscribe,
	store.KindUnsub:     (*router).unsub,
	store.KindPing:      (*router).ping,
	store.KindFail:      (*router).failed,
	store.KindClosed:    (*router).closed,
	store.KindCongested: (*router).behind,
	store.KindRelieved:  (*router).caughtUp,
	store.KindReset:     (*router).reset,
	store.KindStuck:     (*router).stuck,
	store.KindMove:      (*router).move,
	store.KindAsk:       (*router).asked,
}

const nobody = -1

const (
	tokenParent = iota
	tokenLink   // + index of the cm
)

// run is the router's life: batches while there is work, sleep when there is none.
func (r *router) run() error {
	if err := r.standBy(); errors.Is(err, errDone) {
		return nil
	} else if err != nil {
		return err
	}
	if err := r.between(); err != nil {
		return err
	}
	for round := 0; ; round++ {
		busy := false
		r.time = 0
		b := r.beginBatch()
		for _, l := range r.links {
			busy = r.drain(l) || busy
		}
		r.expire()
		r.commit()
		r.endBatch(b, busy)
		if busy && round%16 != 0 {
			continue
		}
		timeout := time.Duration(0)
		if !busy && !r.noted() && r.sleep() {
			timeout = r.patience(r.hush(r.pause()))
		}
		ready, err := r.poll.Wait(timeout)
		if err != nil {
			return err
		}
		r.time = 0 // it may have slept
		r.awake()
		if err := r.events(ready); errors.Is(err, errDone) {
			return nil
		} else if err != nil {
			return err
		}
		if err := r.between(); err != nil {
			return err
		}
		if r.bereft() {
			return nil
		}
		if r.notes > 0 {
			r.look(time.Now())
		}
	}
}

// standBy waits for the parent's first word on a cm: until then the router before
// this one may still be there, and nothing may be written.
func (r *router) standBy() error {
	for !r.turned {
		ready, err := r.poll.Wait(-1)
		if err != nil {
			return err
		}
		if err := r.events(ready); err != nil {
			return err
		}
	}
	return nil
}

// drain routes up to batchLimit records of one cm and tells whether there were
// any. A record that is refused stays in the ring.
func (r *router) drain(l *link) bool {
	for n := 0; n < batchLimit; n++ {
		if !l.heard() {
			return false
		}
		rec, err := l.in.Next()
		if err == nil && rec == nil {
			return n > 0
		}
		if err == nil {
			if err = r.record(l, rec); err != nil {
				l.in.Back()
			}
		}
		if err != nil {
			r.refuse(l, "record refused", err)
		}
		if r.due || len(r.requests.over) > 0 {
			r.after()
		}
	}
	return true
}

// record routes one record, when there is room for the answers to it.
func (r *router) record(l *link, rec []byte) error {
	kind := store.Kind(rec)
	if int(kind) >= len(handlers) || handlers[kind] == nil {
		return store.ErrCorrupt
	}
	hearing()
	r.at = l.index
	if !l.out.Fits(r.size.answers, r.size.most) {
		r.await(l, r.size.answers)
	}
	err := handlers[kind](r, l, rec)
	r.at = nobody
	return err
}

// sleep announces to all cms that they must ring; false: one of them has work.
func (r *router) sleep() bool {
	for i, l := range r.links {
		if l.heard() && !l.in.Sleep() {
			for _, back := range r.links[:i] {
				back.in.Awake()
			}
			return false
		}
	}
	return true
}

func (r *router) awake() {
	for _, l := range r.links {
		l.in.Awake()
	}
}

// events reads what woke the router. It may run in the middle of a batch, so it
// only takes note of what ends sessions.
func (r *router) events(ready []privsep.Ready) error {
	for _, e := range ready {
		if e.Token == tokenAuth {
			r.logins.due = true
			continue
		}
		if e.Token == tokenConsole {
			r.guide.due = true
			continue
		}
		if e.Token >= tokenLink {
			l := r.links[e.Token-tokenLink]
			if l.wakes++; l.wakes >= privsep.DrainEvery || e.Hup {
				l.wakes = 0
				privsep.DrainBell(l.bell)
			}
			if e.Hup && r.parent.Orphaned() {
				r.hungUp(l)
			}
			continue
		}
		if r.parent.Orphaned() {
			r.heardNew()
			continue
		}
		if err := r.fromParent(); err != nil {
			return err
		}
	}
	return nil
}

func (r *router) fromParent() error {
	for {
		err := r.parent.Recv(&r.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF && !r.turned:
			return privsep.ErrOrphan // and never was the router
		case err == io.EOF:
			return r.lost()
		case err != nil:
			return err
		}
		if err := r.handle(&r.msg); err != nil {
			return err
		}
	}
}

func (r *router) handle(m *privsep.Message) error {
	if !r.turned && m.Kind != privsep.KindStatsGet {
		r.turned = true
		m = &privsep.Message{Kind: m.Kind, Payload: bytes.Clone(m.Payload), FDs: slices.Clone(m.FDs)}
		r.takeOver() // which may have to wait, and hears the next ones then
	}
	switch m.Kind {
	case privsep.KindCMRetire:
		return r.retire(m)
	case privsep.KindDoorbell:
		return r.newBell(m)
	case privsep.KindCMGone:
		var g privsep.CMGone
		if err := g.Parse(m.Payload); err != nil {
			return err
		}
		if g.CM < len(r.links) {
			r.ended = append(r.ended, g)
		}
	case privsep.KindStatsGet:
		return r.stats(m)
	case privsep.KindProfile:
		return r.profile(m)
	case privsep.KindSettings:
		return r.settings(m)
	case privsep.KindPeer:
		return r.newPeer(m)
	case privsep.KindStanding:
		return r.standing(m)
	case privsep.KindTicketSigned:
		return r.ticketSigned(m)
	case privsep.KindShutdown:
		if r.told {
			return errDone
		}
		r.stopping, r.told = true, true
	}
	return nil
}

// errDone ends the loop: the parent said stop a second time, which it does when
// the last cm has gone.
var errDone = errors.New("router: nothing left to do")

// noted tells whether there is something for between, which may have come in the
// middle of a batch.
func (r *router) noted() bool {
	return r.stopping || r.news || r.judging || r.logins.due || r.guide.due || r.supplying || len(r.ended)+len(r.leaving)+len(r.desk.signed) > 0
}

// between does what may end sessions, when no batch is under way.
func (r *router) between() error {
	if r.judging { // first, since what follows may route records
		r.judging = false
		r.reprofile()
		r.watchAges()
		r.after()
	}
	for i := 0; i < len(r.ended); i++ { // more may come meanwhile
		r.over(r.ended[i])
	}
	r.ended = r.ended[:0]
	for _, l := range r.leaving {
		r.warnStaying(l)
	}
	r.leaving = r.leaving[:0]
	if r.supplying {
		r.supplyAll()
	}
	if r.news {
		r.news = false
		r.tellNews()
	}
	if r.logins.due {
		r.converse()
	}
	if r.guide.due {
		r.guideOn()
	}
	r.hurryAuth()
	r.endAged()
	if len(r.desk.signed) > 0 {
		r.handTickets()
	}
	if !r.stopping {
		return nil
	}
	r.stopping = false
	r.lameDuck()
	r.commit()
	if r.parent.Orphaned() {
		return nil
	}
	return r.parent.Send(privsep.KindDrained, nil)
}

// endOf ends the sessions of a cm's processes up to a generation.
func (r *router) endOf(l *link, generation uint64) {
	if n := r.gone(l, generation); n > 0 {
		r.log.Info("sessions ended with their cm", privsep.Str(privsep.KeyPeer, peerName(l)), privsep.Int(privsep.KeyN, int64(n)))
	}
}

// reset is a new cm process's first word.
func (r *router) reset(l *link, rec []byte) error {
	var c store.RecReset
	if err := c.Parse(rec); err != nil {
		return err
	}
	if c.Generation > 0 {
		r.endOf(l, c.Generation-1)
	}
	r.begun(l, c.Generation)
	r.supplyFor(l)
	return nil
}

// lameDuck tells the clients that asked for such news that this broker leaves.
func (r *router) lameDuck() {
	for _, l := range r.links {
		for _, s := range l.sessions {
			if s != nil && s.protocol1 {
				r.buf = r.greeting.of(s).leaving.append(r.buf[:0], s)
				r.send(s, r.buf, 0)
			}
		}
	}
}

func (r *router) newBell(m *privsep.Message) error {
	var d privsep.DoorbellEnd
	if err := d.Parse(m.Payload); err != nil {
		return err
	}
	if d.CM >= len(r.links) {
		return privsep.ErrShape
	}
	l := r.links[d.CM]
	r.dropBell(l)
	l.bell, l.wakes, l.process, l.broken = m.FDs[0], 0, d.Generation, false
	if err := r.poll.Add(l.bell, tokenLink+uint64(d.CM), privsep.In|privsep.Edge); err != nil {
		return err
	}
	if l.out.Begun(); l.out.Err() != nil {
		r.refuse(l, "ring refused", l.out.Err())
	}
	r.ring(l) // what was rung on the old one may be lost
	l.supply.knows = false
	r.supplyFor(l)
	return nil
}

func (r *router) dropBell(l *link) {
	if l.bell >= 0 {
		r.poll.Del(l.bell)
		privsep.CloseFD(l.bell)
		l.bell = -1
	}
}

// fault asks the parent to end a cm that breaks the rules.
func (r *router) fault(l *link, reason privsep.Fault) {
	f := privsep.CMFault{CM: l.index, Reason: reason, Generation: l.process}
	if err := r.parent.Send(privsep.KindCMFault, f.Append(nil)); err != nil {
		r.log.Error("fault not reported", privsep.Str(privsep.KeyPeer, peerName(l)), privsep.Err(err))
	}
}

func (r *router) stats(m *privsep.Message) error {
	open := 0
	for _, l := range r.links {
		open += l.open
	}
	return privsep.AnswerStats(r.parent, m, privsep.RoleStats{
		Connections: uint64(open - r.consoles), Subscriptions: uint64(r.index.count),
		InMsgs: r.messages, OutMsgs: r.delivered,
	})
}

func peerName(l *link) string { return privsep.ID{Role: privsep.RoleCM, Index: l.index}.String() }
