package router

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// commit makes what was routed so far final and visible. The redo entry is the
// commit: before it nothing of the batch has happened, after it all of it has,
// whoever stores the words that it speaks of. What is committed of the record at
// hand is that it has not been routed.
func (r *router) commit() {
	e, j := &r.redo, &r.state.Journal
	due := e.Turn != j.Turn() || e.Tail != j.Tail() || e.Plan != j.Planned() || e.Done != r.done
	for i, l := range r.links {
		m := store.Mark{Tail: l.out.Position(), Head: r.taken(l), Seq: l.seq}
		if m != e.Links[i] {
			e.Links[i], due = m, true
		}
	}
	if due {
		e.Turn, e.Tail, e.Plan, e.Done = j.Turn(), j.Tail(), j.Planned(), r.done
		e.Messages, e.Delivered = r.messages, r.delivered
		r.state.Redo.Commit(e)
	}
	r.apply()
}

// taken is up to where the records of a cm have been routed.
func (r *router) taken(l *link) uint64 {
	if l.index == r.at {
		return l.in.Begin()
	}
	return l.in.Position()
}

// apply makes the committed entry visible: who is named, and tails of the outgoing
// rings, then heads of the incoming ones, then the doorbells of those who wait.
func (r *router) apply() {
	for i, l := range r.links {
		if seq := r.redo.Links[i].Seq; seq != l.final {
			l.final = seq
			l.named.Commit(seq)
		}
		l.due = l.out.Publish()
	}
	for i, l := range r.links {
		if l.in.ReleaseTo(r.redo.Links[i].Head) || l.due {
			r.ring(l)
		}
	}
}

func (r *router) ring(l *link) {
	if l.bell >= 0 {
		privsep.Ring(l.bell)
	}
}

// sizes are bounds that follow from the settings. A record is never committed in
// part, so before anything is said or noted of one there is room for all of it:
//
//   - answers for what its own connection is told, waited for before each record;
//   - half of a ring for the instructions about a message, waited for by spread; if
//     they are longer they go whole into a plan;
//   - the journal for its entries, of which there is one, or one for each
//     subscription with a limit that a message goes to: no more bytes than a
//     snapshot has. A snapshot has at most a third of a half of the journal, and
//     compaction is due at two thirds.
type sizes struct {
	answers int // what a record can lead to on its own link
	most    int // longest instruction
	half    int // of a ring
	state   int // of a snapshot
	request int // of a snapshot's requests and affinities
	subs    int // of a snapshot's subscriptions: what their list takes in a plan fits, too
	turn    int // of the journal, at which compaction is due at the latest
}

func newSizes(cfg *privsep.Settings, j *store.Journal) sizes {
	// An -ERR can quote a subject in four bytes for each of its own.
	z := sizes{answers: 4*cfg.MaxControlLine + 8<<10, most: pieceLimit + 2*cfg.MaxControlLine + store.MaxFrom + 128, half: cfg.Ring / 2}
	z.state, z.turn = j.Half()/3, j.Half()/3*2
	z.request = z.state / 6
	piece := cfg.MaxControlLine + planHead + store.MaxFrom + 64 // what each has beside its recipients
	planned := int64(max(0, j.Half()-cfg.CMs*piece)) * pieceLimit / int64(pieceLimit+2*piece)
	reserved := min(z.state/2, cfg.MaxConnections*128) // for sessions
	z.subs = min(z.state-z.request-reserved, int(planned))
	return z
}

// leastTurn is how much the journal grows, in bytes, before it pays to compact it.
const leastTurn = 1 << 20

// compact writes the state anew into the other half of the journal.
func (r *router) compact() {
	j := &r.state.Journal
	j.Begin()
	r.snapshot()
	r.commit()
	r.discard()
	r.compactAt()
}

// compactAt sets when the journal is to be compacted next: when it has twice what
// the state takes, so that memory and time that go into it stay within those of
// the state and its changes.
func (r *router) compactAt() {
	r.turnAt = uint64(min(r.size.turn, max(leastTurn, 2*r.stateSize())))
}

func (r *router) discard() {
	if err := r.state.Journal.Discard(); err != nil && !r.hoards {
		r.hoards = true
		r.log.Error("journal keeps memory", privsep.Err(err))
	}
}

// after is called when a record is done with, and has left something due: a plan,
// what it leads to beside its own output, compaction.
func (r *router) after() {
	r.due = false
	if r.state.Journal.Planned() > 0 {
		r.carryOut()
	}
	r.tellLater()
	r.trim()
	if len(r.requests.over) > 0 {
		r.informAll()
	}
}

// room returns n bytes of the ring to l. For the output of a record they are
// there; for anything else it waits while the ring is full. For a cm that has gone
// they are of no ring, and Commit ignores them.
func (r *router) room(l *link, n int) []byte {
	b := l.out.Reserve(n)
	if b == nil {
		r.await(l, store.Framed(n))
		b = l.out.Reserve(n)
	}
	if b == nil {
		if cap(r.nowhere) < n {
			r.nowhere = make([]byte, n)
		}
		b = r.nowhere[:n]
	}
	return b
}

// await waits until instructions of n bytes in all have room, none longer than
// most, and commits what came before them. That ends, since a cm drains its
// incoming ring at all times; if not, the parent is told every stall_timeout and
// ends it. For a cm that has gone it does not wait. Time in which all of the broker
// stands still does not count.
func (r *router) await(l *link, n int) {
	waited := time.Duration(0)
	for first := true; ; first = false {
		if l.broken || r.left(l) {
			return
		}
		if first {
			r.commit()
		}
		if l.out.WantFits(n, r.size.most) {
			return
		}
		if err := l.out.Err(); err != nil {
			if l.process != 0 { // else newBell does it
				r.refuse(l, "ring refused", err)
			}
			return
		}
		if waited >= r.cfg.StallTimeout {
			r.fault(l, privsep.FaultStalled)
			waited = 0
		}
		began := time.Now()
		ready, err := r.poll.Wait(r.patience(r.lookEvery()))
		if err == nil {
			err = r.events(ready)
		}
		if err == nil && r.bereft() {
			err = errDone
		}
		if err != nil {
			r.exit(err)
		}
		waited += min(time.Since(began), 2*r.lookEvery())
	}
}
