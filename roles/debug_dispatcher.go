package roles

import (
	"fmt"
	"io"
	"net/netip"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/tickets"
)

// dispatcherPeers stands in for the cms that a dispatcher hands connections to.
// They keep their columns of the connection table, but no connection: clients
// are hung up on as soon as their handoff is printed.
type dispatcherPeers struct {
	d        *driver
	cms      []dispatcherCM
	key      tickets.HandoffKey
	listener privsep.ListenerFD
	addr     netip.AddrPort
	msg      privsep.Message
}

type dispatcherCM struct {
	ch         *privsep.Channel // nil while it is away
	columns    *store.ConnColumns
	generation uint64
}

func newDispatcherPeers(d *driver) (peers, error) {
	p := &dispatcherPeers{d: d}
	for i := range d.cms {
		columns, err := d.mem.Columns(i, true)
		if err != nil {
			return nil, err
		}
		p.cms = append(p.cms, dispatcherCM{columns: columns})
	}
	fd, addr, err := privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p.addr = addr
	p.listener = privsep.ListenerFD{Listener: privsep.Listener{Network: privsep.NetTCP, Address: addr.String()}, FD: fd}
	return p, nil
}

func (p *dispatcherPeers) listeners() []privsep.ListenerFD { return []privsep.ListenerFD{p.listener} }

func (p *dispatcherPeers) address() netip.AddrPort { return p.addr }

func (p *dispatcherPeers) start(boot *privsep.Boot) error {
	p.key = tickets.HandoffKey(boot.Key.Derive(tickets.HandoffPurpose))
	for i := range p.cms {
		if err := p.connect(i); err != nil {
			return err
		}
	}
	return nil
}

// connect gives the dispatcher its way to a new process of a cm.
func (p *dispatcherPeers) connect(i int) error {
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		return err
	}
	defer privsep.CloseFD(theirs)
	c := &p.cms[i]
	p.disconnect(i)
	c.generation++
	peer := privsep.Peer{ID: privsep.ID{Role: privsep.RoleCM, Index: i}, Key: privsep.NewKey(), Generation: c.generation}
	c.ch = privsep.NewChannel(mine, privsep.RoleCM, privsep.RoleDispatcher, peer.Key)
	c.ch.SetPhase(privsep.PhaseRun)
	if err := p.d.poll.Add(mine, tokenPeers+uint64(i), privsep.In); err != nil {
		return err
	}
	return p.d.send(privsep.KindPeer, peer.Append(nil), theirs)
}

func (p *dispatcherPeers) disconnect(i int) {
	if c := &p.cms[i]; c.ch != nil {
		p.d.poll.Del(c.ch.FD())
		c.ch.Close()
		c.ch = nil
	}
}

// kindClosed is what a cm says in its columns, not in a message.
var kindClosed = store.KindClosed.String()

func (p *dispatcherPeers) lines() map[string]func(*coder) error {
	return map[string]func(*coder) error{
		kindClosed:                  p.closed,
		privsep.KindCMGone.String(): p.gone,
		privsep.KindPeer.String():   p.peer,
	}
}

// closed has a cm release a connection.
func (p *dispatcherPeers) closed(c *coder) error {
	i := cmOf(c, len(p.cms))
	var slot uint32
	number(c, "slot", &slot)
	if err := c.end(); err != nil {
		return err
	}
	if !p.cms[i].release(int(slot)) {
		return fmt.Errorf("cm/%d has no connection in slot %d", i, slot)
	}
	return nil
}

func (c *dispatcherCM) release(slot int) bool {
	row := c.columns.Row(slot)
	if row == nil || row.UID.Load() == 0 {
		return false
	}
	row.ClosedUID.Store(row.UID.Load())
	row.UID.Store(0)
	c.columns.Counters().Closed.Add(1)
	return true
}

// gone ends the process of a cm.
func (p *dispatcherPeers) gone(c *coder) error {
	i := cmOf(c, len(p.cms))
	if err := c.end(); err != nil {
		return err
	}
	p.disconnect(i)
	g := privsep.CMGone{CM: i, Generation: p.cms[i].generation}
	return p.d.send(privsep.KindCMGone, g.Append(nil))
}

// peer starts a new process of a cm. It takes over the columns of the one
// before, whose connections are closed, before it is announced.
func (p *dispatcherPeers) peer(c *coder) error {
	i := cmOf(c, len(p.cms))
	if err := c.end(); err != nil {
		return err
	}
	for slot := range p.cms[i].columns.Len() {
		p.cms[i].release(slot)
	}
	return p.connect(i)
}

// event takes the handoffs to one cm.
func (p *dispatcherPeers) event(token uint64) error {
	i := int(token - tokenPeers)
	for p.cms[i].ch != nil {
		err := p.cms[i].ch.Recv(&p.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			p.disconnect(i)
			return nil
		case err != nil:
			return fmt.Errorf("cm/%d from the dispatcher: %w", i, err)
		}
		err = p.take(i, &p.msg)
		p.msg.CloseFDs()
		if err != nil {
			return fmt.Errorf("cm/%d from the dispatcher: %w", i, err)
		}
	}
	return nil
}

func (p *dispatcherPeers) take(i int, m *privsep.Message) error {
	var h privsep.ConnHandoff
	if err := h.Parse(m.Payload); err != nil {
		return err
	}
	c := &p.cms[i]
	if row := c.columns.Row(int(h.Slot)); row != nil {
		row.UID.Store(h.UID)
	}
	ticket := "bad"
	if tickets.Verify(p.key, h.Ticket, tickets.Handoff{UID: h.UID, CM: uint16(i), Listener: h.Listener,
		Generation: c.generation, Issued: h.Issued}) {
		ticket = "good"
	}
	line := newLine(m.Kind.String())
	handoff(line, uint16(i), &h, ticket)
	p.d.print(line.line())
	return nil
}

// A dispatcher says all it has to say over channels.

func (p *dispatcherPeers) read() (bool, error) { return false, nil }

func (p *dispatcherPeers) settle() error { return nil }

func (p *dispatcherPeers) sleep() bool { return true }

func (p *dispatcherPeers) awake() {}
