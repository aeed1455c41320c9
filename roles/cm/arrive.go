package cm

import (
	"bytes"
	"io"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// This file is the side of a move that a connection comes to. The router tells
// of it (ARRIVING) before it instructs anything: from then on it has a place here
// that collects output. Its socket and what it was in the middle of come from the
// process before (MOVE_CONN, MOVE_BYTES). That one is believed nothing: what it
// sends makes sense for a connection that the router has announced, or that
// connection ends.

// arrivals is the way from the process before this one, one connection at a time.
type arrivals struct {
	from  *privsep.Channel // nil: there is none, or it has ended
	moved *arrival         // that is coming, nil between two
	more  bool             // the round was over
	until int64            // when one that was not announced is given up, 0: no end is near
	// over are connections that have ended before they were here.
	over map[uint64]struct{}
}

// arrival is one connection that is coming.
type arrival struct {
	privsep.MoveConn
	fd    int
	known bool   // the router has announced it, or nobody wants it
	c     *conn  // nil: what comes is thrown away
	left  uint64 // bytes of all parts
	saved []byte // parser
	body  pendingBody
	rest  []byte
	out   output
}

const (
	// lastArrival is how long after the end of its process a connection may
	// still be announced: the router is about to.
	lastArrival = time.Second
	// arriveTurn bounds the bytes that are taken in a round.
	arriveTurn = 1 << 20
)

// newPredecessor takes the channel that connections move in on.
func (m *cm) newPredecessor(p *privsep.Peer, fd int) error {
	m.dropPredecessor()
	a := &m.arriving
	a.from = privsep.NewChannel(fd, privsep.RoleCM, privsep.RoleCM, p.Key)
	a.from.SetPhase(privsep.PhaseRun)
	return m.poll.Add(a.from.FD(), tokenPredecessor, privsep.In|privsep.Edge)
}

// dropPredecessor ends the connections that have not come yet: their sockets
// have gone with a process that is no more.
func (m *cm) dropPredecessor() {
	a := &m.arriving
	if a.from == nil {
		return
	}
	m.poll.Del(a.from.FD())
	a.from.Close()
	if mv := a.moved; mv != nil {
		m.discardArrival(mv)
	}
	*a = arrivals{}
	for _, c := range m.conns {
		if c != nil && c.has(flagArriving) {
			m.close(c, reasonMoved)
		}
	}
}

// announced is the router's word on a connection that will come.
func (m *cm) announced(rec []byte) error {
	var r store.InsArriving
	if err := r.Parse(rec); err != nil {
		return err
	}
	if int(r.Slot) >= len(m.conns) || r.Gen != uint32(r.UID) {
		return store.ErrCorrupt
	}
	if m.arriving.from == nil && !m.parent.Orphaned() { // the parent had told us before it told the router
		if err := m.fromParent(); err != nil {
			return err
		}
	}
	if m.arriving.from == nil || m.conns[r.Slot] != nil {
		m.must(&store.RecClosed{Conn: r.Conn, Reason: reasonMoved})
		m.missed(r.UID)
		return nil
	}
	m.expect(&r)
	if mv := m.arriving.moved; mv != nil && !mv.known {
		m.arriving.more = true
	}
	return nil
}

// expect makes a place for a connection.
func (m *cm) expect(r *store.InsArriving) {
	c := &conn{fd: -1, slot: r.Slot, gen: r.Gen, uid: r.UID, lastIn: m.now, lastOut: m.now,
		row: m.columns.Row(int(r.Slot)), flags: flagArriving | flagOpened | flagSubscriber | flagBlocked}
	if r.Flags&store.ArrivingHeaders != 0 {
		c.flags |= flagHeaders
	}
	if r.Flags&store.ArrivingHeld != 0 {
		c.flags |= flagHeld
	}
	if r.Flags&store.ArrivingCongested != 0 {
		c.flags |= flagCongested
		m.behind = append(m.behind, c)
	}
	c.row.UID.Store(c.uid)
	c.showIn()
	c.showOut()
	m.conns[c.slot] = c
	m.live++
}

// missed notes that what comes of a connection is of no use any more.
func (m *cm) missed(uid uint64) {
	a := &m.arriving
	if a.from == nil || a.moved != nil && a.moved.known && a.moved.UID == uid {
		return
	}
	if a.over == nil {
		a.over = make(map[uint64]struct{})
	}
	a.over[uid] = struct{}{}
}

// predecessorEvent reads what has come.
func (m *cm) predecessorEvent(e privsep.Ready) {
	a := &m.arriving
	if e.Hup && a.until == 0 {
		a.until = m.now + int64(lastArrival)
	}
	a.more = true
}

// arrive takes connections in, for a round.
func (m *cm) arrive() {
	a := &m.arriving
	if mv := a.moved; mv != nil && !mv.known && a.until != 0 && m.now >= a.until {
		mv.known, a.more = true, true
	}
	if !a.more {
		return
	}
	a.more = false
	for n := 0; a.from != nil; {
		if mv := a.moved; mv != nil {
			if !m.find(mv) {
				return // announced goes on
			}
			if mv.left == 0 {
				a.moved = nil
				m.arrived(mv)
				continue
			}
		}
		if n >= arriveTurn {
			a.more = true
			return
		}
		err := a.from.Recv(&m.msg)
		if err == privsep.ErrAgain {
			return
		}
		if err == nil {
			n += len(m.msg.Payload)
			err = m.takeMoved(&m.msg)
		}
		if err != nil {
			if err != io.EOF {
				m.msg.CloseFDs()
				m.log.Error("channel closed", privsep.Str(privsep.KeyPeer, "predecessor"), privsep.Err(err))
			}
			m.dropPredecessor()
		}
	}
}

// find tells whether it is known what is to be done with what comes.
func (m *cm) find(mv *arrival) bool {
	if mv.known {
		return true
	}
	if _, over := m.arriving.over[mv.UID]; over {
		delete(m.arriving.over, mv.UID)
		mv.known = true
		return true
	}
	if c := m.lookup(mv.Slot, uint32(mv.UID)); c != nil && c.uid == mv.UID && c.has(flagArriving) {
		mv.known = true
		if m.fits(mv, c) {
			mv.c = c
		} else {
			m.unsound(c)
		}
	}
	return mv.known
}

// fits bounds what a connection may bring: what it could have had here.
func (m *cm) fits(mv *arrival, c *conn) bool {
	return int64(mv.Parser) <= int64(m.limits.MaxSaved()) &&
		int64(mv.Subject)+int64(mv.Reply) <= int64(m.limits.ControlLine) &&
		int64(mv.Size) <= int64(m.begun().Payload) && mv.Rest <= readSize && int64(mv.Output) <= int64(m.outputMost(c))
}

func (m *cm) takeMoved(msg *privsep.Message) error {
	a := &m.arriving
	switch {
	case msg.Kind == privsep.KindMoveConn && a.moved == nil:
		mv := new(arrival)
		if err := mv.Parse(msg.Payload); err != nil {
			return err
		}
		mv.fd, msg.FDs = msg.FDs[0], msg.FDs[:0]
		for _, n := range mv.parts() {
			mv.left += uint64(*n)
		}
		mv.body.headerLen, mv.body.size = mv.HeaderLen, int(mv.Size)
		a.moved = mv
		return nil
	case msg.Kind == privsep.KindMoveBytes && a.moved != nil && len(msg.Payload) > 0 && uint64(len(msg.Payload)) <= a.moved.left:
		m.takeBytes(a.moved, msg.Payload)
		return nil
	}
	return privsep.ErrShape
}

// parts are the lengths of what is still to come, in its order.
func (mv *arrival) parts() [6]*uint32 {
	return [6]*uint32{&mv.Parser, &mv.Subject, &mv.Reply, &mv.Body, &mv.Rest, &mv.Output}
}

func (m *cm) takeBytes(mv *arrival, b []byte) {
	to := [6]*[]byte{&mv.saved, &mv.body.subject, &mv.body.reply, &mv.body.buf, &mv.rest, nil}
	wanted := mv.c != nil && m.conns[mv.c.slot] == mv.c
	for i, left := range mv.parts() {
		n := min(len(b), int(*left))
		switch {
		case !wanted || n == 0:
		case to[i] != nil:
			*to[i] = append(*to[i], b[:n]...)
		default:
			if mv.out.chunks == nil {
				mv.out.chunks = [][]byte{m.chunkFor(int(*left))}
			}
			m.spill(&mv.out, b[:n])
			mv.out.size += n
		}
		b = b[n:]
		*left -= uint32(n)
		mv.left -= uint64(n)
	}
}

func (m *cm) chunkFor(n int) []byte {
	if n <= smallChunk {
		return m.small.get()
	}
	return m.large.get()
}

// arrived has a connection go on, all of which is here.
func (m *cm) arrived(mv *arrival) {
	c := mv.c
	switch {
	case c == nil || m.conns[c.slot] != c:
		m.discardArrival(mv)
	case !c.parser.Restore(mv.saved, m.begun()) || !mv.sound(&c.parser) || !privsep.NonBlocking(mv.fd) ||
		m.poll.Add(mv.fd, tokenConn+uint64(c.slot), privsep.In|privsep.Out|privsep.Edge) != nil:
		m.discardArrival(mv)
		m.unsound(c)
	default:
		m.goOn(c, mv)
	}
}

func (m *cm) unsound(c *conn) {
	m.log.Error("connection refused", privsep.Int(privsep.KeyCID, int64(c.uid)), privsep.Str(privsep.KeyReason, "moved with nonsense"))
	m.close(c, reasonMoved)
}

// sound tells whether the message that a connection is in the middle of is one
// that the parser has begun, and that the router takes: else this process would
// be held to account for it.
func (mv *arrival) sound(p *wire.Parser) bool {
	if mv.Flags&privsep.MoveMessage == 0 {
		return !p.InPayload() && len(mv.body.buf) == 0
	}
	b := &mv.body
	if p.InPayload() == (mv.Flags&privsep.MoveWaiting != 0) || len(b.buf)+p.Remaining() != b.size {
		return false
	}
	return len(b.subject) > 0 && isText(b.subject) && isText(b.reply)
}

func isText(b []byte) bool { return !bytes.ContainsAny(b, " \t\r\n") }

// goOn makes a connection of one that has arrived.
func (m *cm) goOn(c *conn, mv *arrival) {
	c.fd = mv.fd
	c.flags &^= flagArriving | flagBlocked
	for flag, have := range movedFlags {
		if mv.Flags&have != 0 {
			c.flags |= flag
		}
	}
	m.countSystem(c, 1)
	c.pings, c.lastIn = mv.Pings, m.now-int64(mv.Idle)*int64(time.Millisecond)
	c.in = traffic{mv.InMsgs, mv.InBytes}
	c.sent.msgs += mv.OutMsgs
	c.sent.bytes += mv.OutBytes
	if mv.Flags&privsep.MoveMessage != 0 {
		body := mv.body
		c.body = &body
	}
	c.rest = mv.rest
	m.putBefore(c, &mv.out)
	if mv.Deadline != 0 {
		m.await(c, time.Duration(mv.Deadline)*time.Millisecond)
	}
	c.showIn()
	if c.has(flagWaiting) && !m.full {
		m.messageEnd(c)
	}
	m.queue(c)
	m.touch(c)
}

// putBefore puts what a connection had to send before what came to it since.
func (m *cm) putBefore(c *conn, o *output) {
	if o.size == 0 {
		return
	}
	if c.out != nil {
		o.chunks = append(o.chunks, c.out.chunks...)
		o.size += c.out.size
	}
	all := *o
	c.out = &all
}

// discardArrival gives back what has come of a connection that nobody wants.
func (m *cm) discardArrival(mv *arrival) {
	for _, chunk := range mv.out.chunks {
		m.free(chunk)
	}
	privsep.CloseFD(mv.fd)
}
