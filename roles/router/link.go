package router

import (
	"errors"
	"fmt"
	"os"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// link is everything that the router shares with one connection manager.
type link struct {
	index      int
	generation uint64 // of the cm's process
	in         *store.Consumer
	out        *store.Producer
	bell       int        // doorbell fd, -1 before it is known
	wakes      int        // edges seen on bell since it was last read
	due        bool       // bell, for what was published
	sessions   []*session // by slot
	open       int

	// to collects the recipients of the message at hand on this cm.
	to  []byte
	toN int
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

// room returns n bytes of the ring to l, waiting while it is full.
func (r *router) room(l *link, n int) []byte {
	b := l.out.Reserve(n)
	if b != nil {
		return b
	}
	return r.waitRoom(l, n)
}

// waitRoom waits until the cm has drained enough. That ends, since a cm drains
// its incoming ring at all times; if not, the parent is told every
// stall_timeout and puts a new cm in its place that does.
func (r *router) waitRoom(l *link, n int) []byte {
	r.publishAll()
	report := time.Now().Add(r.cfg.StallTimeout)
	for {
		if b := l.out.Reserve(n); b != nil {
			return b
		}
		if l.out.WantSpace(n) {
			continue
		}
		if err := l.out.Err(); err != nil {
			r.log.Error("ring refused", privsep.Str(privsep.KeyPeer, peerName(l)), privsep.Err(err))
			r.fault(l, privsep.FaultCorrupt)
		}
		ready, err := r.poll.Wait(time.Until(report))
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
		if l.in.Release() || l.due {
			r.ring(l)
		}
	}
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
