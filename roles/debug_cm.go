package roles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"

	"gatehouse/privsep"
	"gatehouse/store"
)

// cmPeers stands in for what is around a cm: a dispatcher that hands over
// whoever connects, and a router whose records are the output and whose
// instructions are the input.
type cmPeers struct {
	d       *driver
	ring    *ring
	columns *store.ConnColumns
	named   *store.Named
	disp    *privsep.Channel
	listen  int
	addr    netip.AddrPort
	uid     uint64         // given last
	uids    []uint64       // by slot: of the connection that was last there
	bodies  []store.RecPub // what was published, by seq % len
}

const (
	tokenRing = tokenPeers + iota
	tokenListen
)

func newCMPeers(d *driver) (peers, error) {
	cfg := debugSettings(d.cms)
	p := &cmPeers{d: d, uids: make([]uint64, cfg.Places()), bodies: make([]store.RecPub, store.Slots(cfg.Arena))}
	ends, err := d.mem.RouterEnds(0)
	if err != nil {
		return nil, err
	}
	p.ring = &ring{Ends: ends, bell: -1, generation: 1, see: p.see}
	if p.columns, err = d.mem.Columns(0, false); err != nil {
		return nil, err
	}
	p.named, err = d.mem.Named(0, true)
	return p, err
}

func (p *cmPeers) listeners() []privsep.ListenerFD { return nil }

func (p *cmPeers) address() netip.AddrPort { return p.addr }

func (p *cmPeers) start(*privsep.Boot) (err error) {
	if err := p.ring.connect(p.d, tokenRing); err != nil {
		return err
	}
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		return err
	}
	defer privsep.CloseFD(theirs)
	peer := privsep.Peer{ID: privsep.ID{Role: privsep.RoleDispatcher}, Key: privsep.NewKey(), Generation: 1}
	p.disp = privsep.NewChannel(mine, privsep.RoleDispatcher, privsep.RoleCM, peer.Key)
	p.disp.SetPhase(privsep.PhaseRun)
	if err := p.d.send(privsep.KindPeer, peer.Append(nil), theirs); err != nil {
		return err
	}
	if p.listen, p.addr, err = privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return p.d.poll.Add(p.listen, tokenListen, privsep.In)
}

func (p *cmPeers) lines() map[string]func(*coder) error {
	lines := make(map[string]func(*coder) error)
	for _, kind := range []store.RecKind{store.KindDeliver, store.KindSend, store.KindSession, store.KindHold, store.KindResume, store.KindNewRouter,
		store.KindArriving, store.KindMoved, store.KindGreeting, store.KindChallenges} {
		lines[kind.String()] = func(c *coder) error { return p.instruct(c, kind) }
	}
	lines[privsep.KindKick.String()] = p.kick
	return lines
}

// kick says what the parent says at the operator's word.
func (p *cmPeers) kick(c *coder) error {
	var k privsep.Kick
	ident(c, "id", &k.ID)
	ident(c, "connection", &k.Connection)
	if err := c.end(); err != nil {
		return err
	}
	return p.d.send(privsep.KindKick, k.Append(nil))
}

// kicked is what a cm answers.
func kicked(m *privsep.Message) ([]byte, error) {
	var k privsep.Kicked
	if err := k.Parse(m.Payload); err != nil {
		return nil, err
	}
	c := newLine(m.Kind.String())
	ident(c, "id", &k.ID)
	c.put("outcome", quote(k.Outcome.String()))
	return c.line(), nil
}

var (
	errNoBody = errors.New("seq: no such body was published")
	errPlace  = errors.New("arena, off, len: not within the arena of cm/0")
	errConn   = errors.New("slot, gen, uid: no connection is called that")
)

// instruct passes on what the router says.
func (p *cmPeers) instruct(c *coder, kind store.RecKind) error {
	cmOf(c, p.d.cms)
	r := newRecord(kind)
	ins, isDeliver := r.(*store.InsDeliver)
	if isDeliver {
		if err := p.prefill(c, ins); err != nil {
			return err
		}
	}
	if err := decodeRecord(c, r, kind); err != nil {
		return err
	}
	// A cm ends over a router that names what does not exist.
	if isDeliver && (ins.Arena != 0 || uint64(ins.Off)+uint64(ins.Len) > uint64(debugSettings(p.d.cms).Arena)) {
		return errPlace
	}
	if a, ok := r.(*store.InsArriving); ok && (a.Gen != uint32(a.UID) || int(a.Slot) >= len(p.uids)) {
		return errConn
	}
	if isDeliver {
		p.named.Set(ins.Seq, 1)
		p.named.Commit(ins.Seq)
	}
	return p.ring.put(r, kind)
}

// prefill makes ins about the message that the line names by seq, with this cm
// the only one concerned. What else the line says comes on top.
func (p *cmPeers) prefill(c *coder, ins *store.InsDeliver) error {
	var seq uint64
	if peek(c, "seq", &seq); c.err != nil {
		return c.err
	}
	pub := &p.bodies[seq%uint64(len(p.bodies))]
	if seq == 0 || pub.Seq != seq {
		return errNoBody
	}
	ins.Off, ins.Len, ins.HeaderLen = pub.Off, pub.Len, pub.HeaderLen
	ins.Subject, ins.Reply = pub.Subject, pub.Reply
	return nil
}

// see prints a record, and remembers what a client published, for DELIVER.
func (p *cmPeers) see(g *ring, kind store.RecKind, r store.Record) {
	p.d.print(recordLine(g.index, r, kind))
	if pub, ok := r.(*store.RecPub); ok {
		keep := *pub
		keep.Subject, keep.Reply, keep.Facts = bytes.Clone(pub.Subject), bytes.Clone(pub.Reply), nil
		p.bodies[pub.Seq%uint64(len(p.bodies))] = keep
	}
}

func (p *cmPeers) event(token uint64) error {
	switch token {
	case tokenRing:
		privsep.DrainBell(p.ring.bell)
	case tokenListen:
		return p.accept()
	}
	return nil
}

// accept hands over everybody who has connected.
func (p *cmPeers) accept() error {
	for {
		fd, addr, errno := privsep.Accept(p.listen)
		switch errno {
		case 0:
		case syscall.EAGAIN:
			return nil
		case syscall.ECONNABORTED, syscall.EINTR:
			continue
		default:
			return fmt.Errorf("accept: %w", errno)
		}
		err := p.handOver(fd, addr)
		privsep.CloseFD(fd)
		if err != nil {
			return err
		}
	}
}

// handOver gives a connection to the cm, or closes it when no slot is free.
func (p *cmPeers) handOver(fd int, addr netip.AddrPort) error {
	slot := p.freeSlot()
	if slot < 0 {
		return nil
	}
	p.uid++
	p.uids[slot] = p.uid
	h := privsep.ConnHandoff{UID: p.uid, Slot: uint32(slot), Addr: addr.Addr().As16(), Port: addr.Port()}
	err := p.disp.SendWait(patience, privsep.KindConnHandoff, h.Append(nil), fd)
	if err == io.EOF {
		return nil // the role has ended, as its own channel will tell
	}
	return err
}

// freeSlot gives the lowest slot whose last connection the cm has closed, -1
// if there is none.
func (p *cmPeers) freeSlot() int {
	for i, uid := range p.uids {
		if uid == 0 || p.columns.Row(i).ClosedUID.Load() == uid {
			return i
		}
	}
	return -1
}

func (p *cmPeers) read() (bool, error) { return p.ring.read() }

// settle waits until the cm has taken all instructions. It says so only after
// it has written to its clients and published its records.
func (p *cmPeers) settle() error {
	for p.ring.unread() && !p.d.gone {
		if err := p.d.ask(); err != nil {
			return err
		}
	}
	_, err := p.read()
	return err
}

func (p *cmPeers) sleep() bool { return p.ring.In.Sleep() }

func (p *cmPeers) awake() { p.ring.In.Awake() }
