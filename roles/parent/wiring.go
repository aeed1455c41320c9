package parent

import (
	"os"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// segment is one piece of shared memory with its two kinds of fd: the writing
// role gets rw, everybody else ro.
type segment struct {
	kind  privsep.SegmentKind
	index int
	size  int
	rw    *os.File
	ro    *os.File
	id    privsep.FileID
}

func (p *parent) newSegment(kind privsep.SegmentKind, index, size int) error {
	rw, err := p.past.segment(kind, index, size)
	if rw == nil && err == nil {
		rw, err = store.Create("gatehouse-"+kind.String(), size)
	}
	if err != nil {
		return err
	}
	ro, err := store.ReadOnly(rw)
	if err != nil {
		rw.Close()
		return err
	}
	id, err := privsep.Stat(int(rw.Fd()))
	p.segments = append(p.segments, &segment{kind, index, size, rw, ro, id})
	return err
}

// makeSegments makes all shared memory: it lives as long as the parent, so that
// whoever is started anew finds it as the one before left it. A cm believes
// nothing of what it finds in its own.
func (p *parent) makeSegments() error {
	if p.alone {
		return nil
	}
	n, rows := p.settings.CMs, p.settings.Places()
	slots := store.Slots(p.settings.Arena)
	if err := p.newSegment(privsep.SegConnTable, 0, store.ConnTableSize(rows)); err != nil {
		return err
	}
	if err := p.newSegment(privsep.SegState, 0, store.StateSize(p.settings.Journal)); err != nil {
		return err
	}
	if err := p.newSegment(privsep.SegSessions, 0, store.SessionsSize(rows)); err != nil {
		return err
	}
	sizes := []struct {
		kind privsep.SegmentKind
		size int
	}{
		{privsep.SegRingUpData, store.RingDataSize(p.settings.Ring)},
		{privsep.SegRingUpHead, store.RingHeadSize},
		{privsep.SegRingDownData, store.RingDataSize(p.settings.Ring)},
		{privsep.SegRingDownHead, store.RingHeadSize},
		{privsep.SegArena, store.ArenaSize(p.settings.Arena)},
		{privsep.SegReturns, store.ReturnsSize(n, slots)},
		{privsep.SegConnColumns, store.ConnColumnsSize(rows)},
		{privsep.SegNamed, store.NamedSize(slots)},
	}
	for i := range n {
		for _, s := range sizes {
			if err := p.newSegment(s.kind, i, s.size); err != nil {
				return err
			}
		}
	}
	return nil
}

// handOutTime is how long a new process has to make room for the next message of
// its setup: there are more than its socket holds where there are many places.
const handOutTime = time.Second

// handOut sends a new process everything that it needs before it gives up its
// privileges.
func (p *parent) handOut(c *child) error {
	if err := c.ch.SendWait(handOutTime, privsep.KindConfig, p.settings.Append(nil)); err != nil {
		return err
	}
	for _, s := range p.segments {
		if err := p.handOutSegment(c, s); err != nil {
			return err
		}
	}
	c.reloads, c.listens = p.reloads, nil
	if err := p.handOutUsers(c); err != nil {
		return err
	}
	if c.id.Role == privsep.RoleRouter {
		if err := p.handOutProfiles(c); err != nil {
			return err
		}
	}
	if err := p.handOutListeners(c); err != nil {
		return err
	}
	if err := p.handOutWays(c); err != nil {
		return err
	}
	if err := p.handOutSharing(c); err != nil {
		return err
	}
	return c.ch.SendWait(handOutTime, privsep.KindSetupEnd, nil)
}

func (p *parent) handOutSegment(c *child, s *segment) error {
	reads, writes := privsep.Access(c.id, s.kind, s.index)
	f := s.ro
	switch {
	case writes:
		f = s.rw
	case !reads && !privsep.Keeps(c.id, s.kind, s.index):
		return nil
	}
	fd := int(f.Fd())
	if !reads {
		var err error
		if fd, err = privsep.Keepsake(f); err != nil {
			return err
		}
		defer privsep.CloseFD(fd)
	}
	m := privsep.Segment{Kind: s.kind, Index: s.index, Size: uint64(s.size), Writable: writes}
	return c.ch.SendWait(handOutTime, privsep.KindSegment, m.Append(nil), fd)
}

// connect gives a child that has just become ready its ways to those peers that
// are ready too; those that are not get theirs when they are. Peers that are
// stopping count, and cms that are leaving: none can finish without the router.
func (p *parent) connect(c *child) {
	p.resettle(c)
	p.renewWays(c)
	p.giveWays(c)
	if c.id.Role == privsep.RoleRouter || c.id.Role == privsep.RoleDispatcher {
		p.tellAbsent(c)
	}
	for _, o := range p.children {
		if o == c || o.leaving && o.id.Role != privsep.RoleCM || o.standsBy() || o.state != running && o.state != stopping {
			continue
		}
		a, b := c, o
		if a.id.Role == privsep.RoleCM || a.id.Role == privsep.RoleAuth || a.id.Role == privsep.RoleConsole {
			a, b = b, a // the cm last, or auth, or the console
		}
		switch [2]privsep.Role{a.id.Role, b.id.Role} {
		case [2]privsep.Role{privsep.RoleRouter, privsep.RoleAuth}, [2]privsep.Role{privsep.RoleRouter, privsep.RoleConsole}:
			p.joinPeers(a, b)
		case [2]privsep.Role{privsep.RoleDispatcher, privsep.RoleCM}:
			if !b.leaves() {
				p.joinPeers(a, b)
			}
			p.tellRetiring(a, b)
		case [2]privsep.Role{privsep.RoleRouter, privsep.RoleCM}:
			p.joinBells(a, b)
			p.tellRetiring(a, b)
		}
	}
}

// joinPeers makes a channel between two children.
func (p *parent) joinPeers(a, b *child) {
	fa, fb, err := privsep.Socketpair()
	if err != nil {
		p.log.Error().Err(err).Msg("socketpair")
		return
	}
	key := privsep.NewKey()
	toA := privsep.Peer{ID: b.id, Key: key, Generation: b.generation}
	toB := privsep.Peer{ID: a.id, Key: key, Generation: a.generation}
	p.send(a, privsep.KindPeer, toA.Append(nil), fa)
	p.send(b, privsep.KindPeer, toB.Append(nil), fb)
	privsep.CloseFD(fa)
	privsep.CloseFD(fb)
}

// joinBells makes the doorbell between the router and a cm. The cm has its end
// first: should this process die here, the router must not take a cm for dead that
// is only not yet heard.
func (p *parent) joinBells(router, cm *child) {
	fr, fc, err := privsep.Doorbell()
	if err != nil {
		p.log.Error().Err(err).Msg("socketpair")
		return
	}
	end := privsep.DoorbellEnd{CM: cm.id.Index, Generation: cm.generation}
	p.send(cm, privsep.KindDoorbell, end.Append(nil), fc)
	p.send(router, privsep.KindDoorbell, end.Append(nil), fr)
	privsep.CloseFD(fr)
	privsep.CloseFD(fc)
}

// tellAbsent tells a new router or dispatcher which cms ended while it was not
// there: the next process of such a cm waits for the router's word on the one
// before, and no other frees the places of its connections.
func (p *parent) tellAbsent(to *child) {
	for _, c := range p.children {
		gone := c.generation
		if c.state == starting {
			gone--
		}
		if c.id.Role == privsep.RoleCM && c.state != running && c.state != stopping && gone > 0 {
			m := privsep.CMGone{CM: c.id.Index, Generation: gone}
			p.send(to, privsep.KindCMGone, m.Append(nil))
		}
	}
}

// tellGone tells those who work with a cm that its process has ended.
func (p *parent) tellGone(c *child) {
	if c.id.Role != privsep.RoleCM {
		return
	}
	m := privsep.CMGone{CM: c.id.Index, Generation: c.generation}
	for _, o := range p.children {
		if (o.id.Role == privsep.RoleDispatcher || o.id.Role == privsep.RoleRouter) && !o.standsBy() {
			p.send(o, privsep.KindCMGone, m.Append(nil))
		}
	}
}
