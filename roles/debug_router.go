package roles

import (
	"gatehouse/privsep"
	"gatehouse/store"
)

// routerPeers stands in for the cms around a router: their records are the
// input, the instructions to them the output.
type routerPeers struct {
	d     *driver
	rings []*ring  // by cm
	seqs  []uint64 // by cm: of the last body
}

func newRouterPeers(d *driver) (peers, error) {
	p := &routerPeers{d: d, seqs: make([]uint64, d.cms)}
	for i := range d.cms {
		ends, err := d.mem.CMEnds(i)
		if err != nil {
			return nil, err
		}
		p.rings = append(p.rings, &ring{Ends: ends, index: i, bell: -1})
	}
	return p, nil
}

func (p *routerPeers) listeners() []privsep.ListenerFD { return nil }

func (p *routerPeers) start(*privsep.Boot) error {
	for i, g := range p.rings {
		if err := g.connect(p.d, tokenPeers+uint64(i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *routerPeers) lines() map[string]func(*coder) error {
	lines := map[string]func(*coder) error{privsep.KindCMGone.String(): p.d.lineGone}
	for kind := store.KindOpen; kind <= store.KindReset; kind++ {
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
	privsep.DrainBell(p.rings[token-tokenPeers].bell)
	return nil
}

func (p *routerPeers) read() (worked bool, err error) {
	for _, g := range p.rings {
		w, err := g.read(p.d)
		if err != nil {
			return worked, err
		}
		worked = worked || w
	}
	return worked, nil
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
