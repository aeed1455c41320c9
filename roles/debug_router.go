package roles

import (
	"net/netip"

	"gatehouse/privsep"
	"gatehouse/store"
)

// routerPeers stands in for the cms around a router: their records are the
// input, the instructions to them the output.
type routerPeers struct {
	d     *driver
	rings []*ring  // by cm
	seqs  []uint64 // by cm: of the last body
	said  [][]byte // by cm: lines to be printed

	auth loginPeer
	set  uint32       // number of the next profiles
	live privsep.Live // the router's
}

func newRouterPeers(d *driver) (peers, error) {
	p := &routerPeers{d: d, auth: loginPeer{d: d}, seqs: make([]uint64, d.cms), said: make([][]byte, d.cms), set: 1, live: debugSettings(d.cms).Live}
	for i := range d.cms {
		ends, err := d.mem.CMEnds(i)
		if err != nil {
			return nil, err
		}
		p.rings = append(p.rings, &ring{Ends: ends, index: i, bell: -1, generation: 1, see: p.see})
	}
	return p, nil
}

func (p *routerPeers) listeners() []privsep.ListenerFD { return nil }

func (p *routerPeers) address() netip.AddrPort { return netip.AddrPort{} }

func (p *routerPeers) start(*privsep.Boot) error {
	for i, g := range p.rings {
		if err := g.connect(p.d, tokenPeers+uint64(i)); err != nil {
			return err
		}
	}
	return p.auth.connect(tokenPeers + uint64(len(p.rings)))
}

func (p *routerPeers) lines() map[string]func(*coder) error {
	lines := map[string]func(*coder) error{
		privsep.KindCMGone.String():   p.gone,
		privsep.KindProfile.String():  p.lineProfile,
		privsep.KindSettings.String(): p.lineSettings,
		privsep.KindVerdict.String():  p.auth.lineVerdict,

		privsep.KindTicketSigned.String(): p.lineTicket,
	}
	for kind := store.KindOpen; kind <= store.KindAsk; kind++ {
		lines[kind.String()] = func(c *coder) error { return p.record(c, kind) }
	}
	return lines
}

// record passes on what a cm says. Bodies are numbered as they come, unless
// the line does it.
func (p *routerPeers) record(c *coder, kind store.RecKind) error {
	i := cmOf(c, len(p.rings))
	r := newRecord(kind)
	pub, isPub := r.(*store.RecPub)
	if isPub {
		pub.Seq = p.seqs[i] + 1
	}
	if err := decodeRecord(c, r, kind); err != nil {
		return err
	}
	if err := p.rings[i].put(r, kind); err != nil {
		return err
	}
	if isPub {
		p.seqs[i] = pub.Seq
	}
	return nil
}

func (p *routerPeers) event(token uint64) error {
	if i := int(token - tokenPeers); i < len(p.rings) {
		privsep.DrainBell(p.rings[i].bell)
		return nil
	}
	return p.auth.read()
}

func (p *routerPeers) read() (worked bool, err error) {
	for _, g := range p.rings {
		w, err := g.read()
		if err != nil {
			return worked, err
		}
		worked = worked || w
	}
	return worked, nil
}

// see keeps a line for each instruction.
func (p *routerPeers) see(g *ring, kind store.RecKind, r store.Record) {
	p.said[g.index] = append(p.said[g.index], recordLine(g.index, r, kind)...)
}

// gone tells the router that the process of a cm has ended, and puts the next one
// in its place when the router has done with it.
func (p *routerPeers) gone(c *coder) error {
	g := p.rings[cmOf(c, len(p.rings))]
	number(c, "generation", &g.generation)
	if err := c.end(); err != nil {
		return err
	}
	m := privsep.CMGone{CM: g.index, Generation: g.generation}
	if err := p.d.send(privsep.KindCMGone, m.Append(nil)); err != nil {
		return err
	}
	for g.Out.Closed() < g.generation && !p.d.gone {
		if err := p.d.ask(); err != nil {
			return err
		}
	}
	if _, err := g.read(); err != nil {
		return err
	}
	named, err := p.d.mem.Named(g.index, false)
	if err != nil {
		return err
	}
	g.Out.Restart()
	g.In.Restart()
	p.seqs[g.index] = named.Last()
	g.generation++
	p.d.refused[g.index] = false
	return g.connect(p.d, tokenPeers+uint64(g.index))
}

// settle waits until the router has taken all records, which it has when all that
// they led to is in its rings. What was logged meanwhile is printed first, then
// the instructions, by cm.
func (p *routerPeers) settle() error {
	for _, g := range p.rings {
		for g.unread() && !p.d.gone && !p.d.refused[g.index] {
			if err := p.d.ask(); err != nil {
				return err
			}
		}
	}
	if err := p.pass(); err != nil {
		return err
	}
	if _, err := p.read(); err != nil {
		return err
	}
	if err := p.d.ask(); err != nil {
		return err
	}
	for i, lines := range p.said {
		p.d.print(lines)
		p.said[i] = lines[:0]
	}
	return nil
}

// pass waits until what was said to the router beside the rings is dealt with, which it
// is between two batches: when the router has answered it has heard of all that came
// before, and when it has then taken a record, which concerns nobody, it has done with it.
func (p *routerPeers) pass() error {
	if err := p.d.ask(); err != nil {
		return err
	}
	for i, g := range p.rings {
		if p.d.gone || p.d.refused[i] {
			continue
		}
		nobody := store.RecPing{Conn: store.Conn{Slot: 1<<32 - 1}}
		if err := g.put(&nobody, store.KindPing); err != nil {
			return err
		}
		for g.unread() && !p.d.gone && !p.d.refused[i] {
			if err := p.d.ask(); err != nil {
				return err
			}
		}
		break
	}
	return nil
}

func (p *routerPeers) sleep() bool {
	for _, g := range p.rings {
		if !g.In.Sleep() {
			p.awake()
			return false
		}
	}
	return true
}

func (p *routerPeers) awake() {
	for _, g := range p.rings {
		g.In.Awake()
	}
}
