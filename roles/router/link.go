package router

import (
	"errors"
	"fmt"
	"math"
	"os"
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
	seq        uint64       // number of the last body in it that was routed
	final      uint64       // up to which its bodies are named for good
	lost       bool         // seq is not known: the next number will do
	bell       int          // doorbell fd, -1 before it is known
	wakes      int          // edges seen on bell since it was last read
	due        bool         // bell, for what was published
	sessions   []*session   // by slot; nil before the first
	slots      int
	open       int
	successor  *link // its sessions may move there
	supply     supply

	// Recipients of the message at hand on this cm; the stamped ones are told who
	// sent it.
	to, stamped []byte

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

// left tells whether the parent has said that the cm's process has ended.
func (r *router) left(l *link) bool {
	for _, g := range r.ended {
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
	if l.process > g.Generation {
		// A router before this one has done all this, and the next process is heard
		// already: its DOORBELL came with this.
		r.endOf(l, g.Generation)
		return
	}
	l.process = g.Generation
	for r.drain(l) {
	}
	r.endOf(l, math.MaxUint64)
	r.after()
	r.begun(l, 0) // nothing of its supply is for the next one
	r.commit()    // before the word that lets the successor begin
	l.out.Abandon()
	for _, of := range r.links {
		of.named.Drop(g.CM)
	}
	l.in.Close(g.Generation)
	r.dropBell(l)
	l.process, l.broken, l.successor = 0, false, nil
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
