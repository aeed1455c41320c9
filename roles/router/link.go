package router

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// link is everything that the router shares with one connection manager.
type link struct {
	index      int
	process    uint64 // generation of the cm's process as the parent says, 0: none is known
	broken     bool   // that process broke the rules: it is neither read nor written to any more
	generation uint64 // of it as it says itself, for its sessions
	in         *store.Consumer
	out        *store.Producer
	named      *store.Named // of the cm's arena
	seq        uint64       // number of the last body in it
	before     uint64       // up to this position of in an earlier router may have routed
	bell       int          // doorbell fd, -1 before it is known
	wakes      int          // edges seen on bell since it was last read
	due        bool         // bell, for what was published
	sessions   []*session   // by slot; nil before the first
	slots      int
	open       int
	successor  *link // its sessions may move there

	// to collects the recipients of the message at hand on this cm.
	to  []byte
	toN int

	// Off the message path, so behind what is on it.
	returns *store.Returns
	note    note      // about the cm's arena
	accused time.Time // the cm, when last, of what a note is about
}

// session returns the session of a connection, nil if it has ended.
func (l *link) session(c store.Conn) *session {
	if int(c.Slot) >= len(l.sessions) {
		return nil
	}
	if s := l.sessions[c.Slot]; s != nil && s.gen == c.Gen {
		return s
	}
	return nil
}

// session1 returns whoever has a slot.
func (l *link) session1(slot uint32) *session {
	if int(slot) >= len(l.sessions) {
		return nil
	}
	return l.sessions[slot]
}

// keep takes a session in, whose slot is free.
func (l *link) keep(s *session) {
	if l.sessions == nil {
		l.sessions = make([]*session, l.slots)
	}
	l.sessions[s.slot] = s
	l.open++
}

// heard tells whether records of the cm are taken: there is a process that has
// not broken the rules.
func (l *link) heard() bool { return l.process != 0 && !l.broken }

// room returns n bytes of the ring to l, waiting while it is full. For a cm that
// has gone they are of no ring, and Commit ignores them.
func (r *router) room(l *link, n int) []byte {
	b := l.out.Reserve(n)
	if b != nil {
		return b
	}
	return r.waitRoom(l, n)
}

// waitRoom waits until the cm has drained enough. That ends, since a cm drains
// its incoming ring at all times; if not, the parent is told every
// stall_timeout and ends it.
func (r *router) waitRoom(l *link, n int) []byte {
	report := time.Now().Add(r.cfg.StallTimeout)
	for first := true; ; first = false {
		if l.broken || r.left(l) {
			r.nowhere = slices.Grow(r.nowhere[:0], n)
			return r.nowhere[:n]
		}
		if first {
			r.publishAll()
		}
		if b := l.out.Reserve(n); b != nil {
			return b
		}
		if l.out.WantSpace(n) {
			continue
		}
		if err := l.out.Err(); err != nil {
			r.refuse(l, "ring refused", err)
			continue
		}
		ready, err := r.poll.Wait(max(time.Until(report), 0))
		if err == nil {
			err = r.events(ready)
		}
		if err != nil {
			r.exit(err)
		}
		if !time.Now().Before(report) {
			r.fault(l, privsep.FaultStalled)
			report = time.Now().Add(r.cfg.StallTimeout)
		}
	}
}

// left tells whether the parent has said that the cm's process has ended.
func (r *router) left(l *link) bool {
	for _, g := range r.gone {
		if g.CM == l.index {
			return true
		}
	}
	return false
}

// refuse ends a cm that breaks the rules: it is not listened to from now on, and
// what is meant for it is dropped.
func (r *router) refuse(l *link, event string, err error) {
	if l.broken {
		return
	}
	l.broken = true
	r.log.Error(event, privsep.Str(privsep.KeyPeer, peerName(l)), privsep.Err(err))
	r.fault(l, privsep.FaultCorrupt)
}

// over ends what there is of a cm's process that is no more. What it had
// published is still routed, unless it broke the rules; what was meant for it is
// dropped; nobody waits for it to finish with a body. Then its successor begins,
// and believes nothing but these words of the router's. Twice is harmless.
func (r *router) over(g privsep.CMGone) {
	l := r.links[g.CM]
	l.process = g.Generation
	for r.drain(l) {
	}
	r.endOf(l, math.MaxUint64)
	l.out.Abandon()
	for _, of := range r.links {
		of.named.Drop(g.CM)
	}
	l.in.Close(g.Generation)
	r.dropBell(l)
	l.process, l.broken, l.before, l.successor = 0, false, 0, nil
	l.sessions = nil
}

// exit ends the role from within a batch: without its parent or its poller
// there is no way to go on, and what is published stays for a successor.
func (r *router) exit(err error) {
	if !errors.Is(err, privsep.ErrOrphan) && !errors.Is(err, errDone) {
		r.log.Error("ended", privsep.Err(err))
		os.Exit(1)
	}
	os.Exit(0)
}

// publishAll makes the batch visible: tails of the outgoing rings, then heads of
// the incoming ones, then the doorbells of those who wait.
func (r *router) publishAll() {
	for _, l := range r.links {
		l.due = l.out.Publish()
	}
	for _, l := range r.links {
		if r.release(l) || l.due {
			r.ring(l)
		}
	}
}

// release leaves the record at hand in the ring: a successor needs it.
func (r *router) release(l *link) bool {
	if l == r.at {
		return l.in.ReleaseDone()
	}
	return l.in.Release()
}

func (r *router) ring(l *link) {
	if l.bell >= 0 {
		privsep.Ring(l.bell)
	}
}

// errLong is about a record that no cm makes out of a control line, and that
// might not fit into a ring any more with what goes out along with it.
var errLong = fmt.Errorf("longer than a control line: %w", store.ErrRecord)

// send instructs the cm to write data to the session's connection, in pieces if
// it is long: an -ERR can be several times its control line.
func (r *router) send(s *session, data []byte, flags uint8) {
	l := s.cm
	for len(data) > pieceLimit {
		ins := store.InsSend{Conn: s.conn(), Data: data[:pieceLimit]}
		l.out.Commit(ins.Put(r.room(l, ins.Size())))
		data = data[pieceLimit:]
	}
	ins := store.InsSend{Conn: s.conn(), Flags: flags, Data: data}
	l.out.Commit(ins.Put(r.room(l, ins.Size())))
}

// tell sends an instruction about the session's connection.
func (r *router) tell(s *session, ins store.Record) {
	s.cm.out.Commit(ins.Put(r.room(s.cm, ins.Size())))
}
