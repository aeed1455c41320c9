package cm

import (
	"io"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// This file is the side of a move that a connection leaves. When this process
// is to be replaced (RETIRE) each connection that can goes to the successor:
//
//	here        stops reading; MOVE is its last record
//	router      ARRIVING to the successor, then MOVED to here, with nothing about
//	            the connection behind it: the session is the successor's
//	here        MOVE_CONN with the socket, MOVE_BYTES with all that was begun
//
// so that at any time one process alone reads from the client and writes to it,
// and what one has not finished the other goes on with.

const (
	// movesMost is how many connections are on their way at once: few, so that
	// none is long without a process.
	movesMost = 64
	// moveTurn bounds the bytes that are sent to the successor in a round.
	moveTurn = 1 << 20
	// moveSmall is what a connection may have unsent to be moved before others.
	moveSmall = 256 << 10
	sweepTime = 5 * time.Millisecond
	retryTime = time.Millisecond
	shownTime = 50 * time.Millisecond
)

// departure is all that a retiring cm knows of its retirement.
type departure struct {
	on    bool
	place int              // the successor's
	to    *privsep.Channel // nil while the successor is away
	by    int64            // when those who stay are closed

	asked  int // have said MOVE and wait for the answer
	slot   int // where the present sweep is
	wide   bool
	next   int64   // when the next sweep begins
	queue  []*conn // MOVED, to be sent in this order
	parts  [][]byte
	sent   bool // MOVE_CONN of the first of queue
	retry  int64
	moved  uint64
	left   int // as the last sweep saw it: will move or end
	stay   int
	shown  privsep.Retiring
	showAt int64
	told   bool
}

// retire begins the end of this process, or gives it another successor.
func (m *cm) retire(msg *privsep.Message) error {
	var r privsep.Retire
	if err := r.Parse(msg.Payload); err != nil {
		msg.CloseFDs()
		return err
	}
	d := &m.departing
	m.dropSuccessor()
	d.to = privsep.NewChannel(msg.FDs[0], privsep.RoleCM, privsep.RoleCM, r.Key)
	d.to.SetPhase(privsep.PhaseRun)
	if !d.on {
		d.on, d.by = true, m.now+int64(r.Drain)
	}
	d.place, d.slot, d.next = r.To, 0, 0
	return m.poll.Add(d.to.FD(), tokenSuccessor, privsep.In|privsep.Out|privsep.Edge)
}

// successorEvent: there may be room in the channel again, or it has ended.
func (m *cm) successorEvent(e privsep.Ready) {
	d := &m.departing
	if d.to == nil || !e.In && !e.Hup {
		return
	}
	// It has nothing to say here: what comes is its end, or an offence.
	if err := d.to.Recv(&m.msg); err != privsep.ErrAgain {
		if err != io.EOF {
			m.msg.CloseFDs()
			m.log.Error("channel closed", privsep.Str(privsep.KeyPeer, "successor"), privsep.Err(err))
		}
		m.dropSuccessor()
	}
}

// dropSuccessor ends the way to a successor. Whoever was on it has a session
// there and ends with it.
func (m *cm) dropSuccessor() {
	d := &m.departing
	if d.to == nil {
		return
	}
	m.poll.Del(d.to.FD())
	d.to.Close()
	d.to = nil
	for _, c := range d.queue {
		m.letGo(c)
	}
	d.queue, d.parts, d.sent = nil, nil, false
}

// depart does a round's part of the moving.
func (m *cm) depart() {
	d := &m.departing
	if !d.on {
		return
	}
	if d.to != nil {
		if !m.stopping {
			m.sweep()
		}
		m.sendMoved()
	}
	if m.now >= d.by && m.live > 0 && !m.stopping {
		m.report(nil) // what is in the ring is still routed
		m.endAll(reasonShutdown)
	}
	m.showRetiring()
}

// sweep asks for connections to be moved, as many as may be under way.
func (m *cm) sweep() {
	d := &m.departing
	if d.slot == 0 {
		if m.now < d.next {
			return
		}
		d.left, d.stay = 0, 0
	}
	for ; d.slot < len(m.conns); d.slot++ {
		if d.asked+len(d.queue) >= movesMost || m.full {
			return
		}
		c := m.conns[d.slot]
		switch {
		case c == nil:
		case c.tls != nil:
			d.stay++
		case !c.movable(), !d.wide && c.pending() > moveSmall:
			d.left++
		default:
			d.left++
			d.asked++
			c.flags |= flagDeparting
			m.must(&store.RecMove{Conn: c.ref(), To: uint16(d.place)})
		}
	}
	// Those with much to send are taken when nobody else is left to be.
	d.slot, d.wide, d.next = 0, d.asked+len(d.queue) == 0, m.now+int64(sweepTime)
}

// movable tells whether a connection can go on elsewhere. One that is about to
// end ends here, and a login ends where it began.
func (c *conn) movable() bool {
	return c.tls == nil && c.has(flagOpened) && !c.has(flagFailed|flagClosing|flagLingering|flagDeparting|flagArriving|flagLogin)
}

// movedTo is the router's answer to MOVE.
func (m *cm) movedTo(rec []byte) error {
	var r store.InsMoved
	if err := r.Parse(rec); err != nil {
		return err
	}
	c := m.lookup(r.Slot, r.Gen)
	if c == nil || !c.has(flagDeparting) {
		return nil
	}
	m.remain(c)
	if r.Flags&store.MovedNot != 0 {
		return nil
	}
	d := &m.departing
	m.conns[c.slot] = nil
	m.live--
	m.countSystem(c, -1)
	m.poll.Del(c.fd)
	c.row.MovedUID.Store(c.uid) // before it is not here any more
	c.row.UID.Store(0)
	m.columns.Counters().Moved.Add(1)
	d.moved++
	if d.to == nil {
		m.letGo(c)
		return nil
	}
	d.queue = append(d.queue, c)
	return nil
}

// remain takes a connection as one that does not move, or not yet.
func (m *cm) remain(c *conn) {
	if !c.has(flagDeparting) {
		return
	}
	m.departing.asked--
	c.flags &^= flagDeparting | flagBlocked
	m.touch(c)
	m.requeue(c)
}

// letGo gives back what a connection has here that is the successor's now.
func (m *cm) letGo(c *conn) {
	c.flags |= flagFailed
	m.dropBody(c)
	m.dropOutput(c)
	c.rest = nil
	privsep.CloseFD(c.fd)
}

// sendMoved sends those whose sessions have moved, until the channel is full.
func (m *cm) sendMoved() {
	d := &m.departing
	if m.now < d.retry {
		return
	}
	for left := moveTurn; len(d.queue) > 0 && left > 0; {
		n, err := m.sendPart(d.queue[0])
		switch err {
		case nil:
			left -= n
		case privsep.ErrAgain: // the poller tells
			return
		case privsep.ErrInFlight: // nobody tells
			d.retry = m.now + int64(retryTime)
			return
		default:
			if err != io.EOF {
				m.log.Error("channel closed", privsep.Str(privsep.KeyPeer, "successor"), privsep.Err(err))
			}
			m.dropSuccessor()
			return
		}
	}
	if len(d.queue) == 0 {
		d.queue = nil
	}
}

// sendPart sends the next message about the first of the queue.
func (m *cm) sendPart(c *conn) (int, error) {
	d := &m.departing
	if !d.sent {
		mv, parts := m.moveConn(c)
		if err := d.to.Send(privsep.KindMoveConn, mv.Append(nil), c.fd); err != nil {
			return 0, err
		}
		d.sent, d.parts = true, parts
	}
	n, err := 0, error(nil)
	for len(d.parts) > 0 && len(d.parts[0]) == 0 {
		d.parts = d.parts[1:]
	}
	if len(d.parts) > 0 {
		b := d.parts[0][:min(len(d.parts[0]), privsep.MaxMoveBytes)]
		if err = d.to.Send(privsep.KindMoveBytes, b); err != nil {
			return 0, err
		}
		n, d.parts[0] = len(b), d.parts[0][len(b):]
	}
	if len(d.parts) == 0 || len(d.parts) == 1 && len(d.parts[0]) == 0 {
		d.queue[0], d.queue = nil, d.queue[1:]
		d.parts, d.sent = nil, false
		m.letGo(c)
	}
	return n, nil
}

// moveConn describes a connection, and gives the bytes of its parts.
func (m *cm) moveConn(c *conn) (*privsep.MoveConn, [][]byte) {
	mv := &privsep.MoveConn{UID: c.uid, Slot: c.slot, Pings: c.pings, Idle: millis(m.now - c.lastIn),
		InMsgs: c.in.msgs, InBytes: c.in.bytes, OutMsgs: c.sent.msgs, OutBytes: c.sent.bytes}
	for have, flag := range movedFlags {
		if c.has(have) {
			mv.Flags |= flag
		}
	}
	if c.deadline != 0 {
		mv.Deadline = max(millis(c.deadline-m.now), 1)
	}
	saved := c.parser.Save(nil)
	parts := [][]byte{saved}
	if b := c.body; b != nil {
		mv.Flags |= privsep.MoveMessage
		mv.HeaderLen, mv.Size = b.headerLen, uint32(b.size)
		mv.Subject, mv.Reply, mv.Body = uint32(len(b.subject)), uint32(len(b.reply)), uint32(len(b.buf))
		parts = append(parts, b.subject, b.reply, b.buf)
	}
	mv.Parser, mv.Rest, mv.Output = uint32(len(saved)), uint32(len(c.rest)), uint32(c.pending())
	parts = append(parts, c.rest)
	if o := c.out; o != nil {
		for i, chunk := range o.chunks {
			if i == 0 {
				chunk = chunk[o.off:]
			}
			parts = append(parts, chunk)
		}
	}
	return mv, parts
}

// movedFlags are the flags that a connection keeps, here and in a MOVE_CONN.
var movedFlags = map[connFlags]privsep.MoveFlags{
	flagUnix: privsep.MoveUnix, flagConnected: privsep.MoveConnected,
	flagWide: privsep.MoveWide, flagWaiting: privsep.MoveWaiting, flagSystem: privsep.MoveSystem,
}

func millis(d int64) uint32 { return uint32(min(max(d, 0)/int64(time.Millisecond), 1<<32-1)) }

// retired tells whether nothing is left to do here: no connection, none to
// come, all that they sent is routed, and delivered from the arena. The parent is
// told before.
func (m *cm) retired() bool {
	d := &m.departing
	if !d.on || m.stopping || m.live > 0 || len(d.queue) > 0 || m.disp != nil || m.out.Pending() || !m.routed() || m.in.Backlog() > 0 {
		return false
	}
	if !m.arena.Discard() {
		return false
	}
	d.left, d.stay, d.slot, d.showAt = 0, 0, 0, 0
	m.showRetiring()
	return true
}

// showRetiring tells the parent how far it is, as the last sweep saw it.
func (m *cm) showRetiring() {
	d := &m.departing
	r := privsep.Retiring{Moved: d.moved, Left: uint32(d.left), Stay: uint32(d.stay)}
	switch {
	case d.slot != 0, d.told && r == d.shown, m.now < d.showAt:
	case r.Left == 0 && (m.disp != nil || d.asked+len(d.queue) > 0): // more to come
	default:
		d.showAt = m.now + int64(shownTime)
		if m.parent.Send(privsep.KindRetiring, r.Append(nil)) == nil {
			d.shown, d.told = r, true
		}
	}
}

// moveTimeout is how long the loop may sleep while connections move, 0: for ever.
func (m *cm) moveTimeout() int64 {
	d := &m.departing
	switch {
	case d.on && (len(d.queue) > 0 || d.slot > 0 || d.left > 0 || !d.told && !m.parent.Orphaned() || m.live == 0):
		return int64(retryTime)
	case d.on, m.arriving.until != 0:
		return int64(fastTick)
	}
	return 0
}
