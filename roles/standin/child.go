package standin

import (
	"gatehouse/privsep"
)

// Child is what a role's Main has in hand after its first two steps.
type Child struct {
	Boot   *privsep.Boot
	Setup  *privsep.Setup
	Parent *privsep.Channel // the role's end
}

// Child hands a role in this process its setup, as the parent would. The
// second result is the parent's end of its channel, in PhaseSetup: the next
// thing to come over it is SETUP_DONE. listeners stay the caller's.
func (m *Memory) Child(id privsep.ID, listeners ...privsep.ListenerFD) (*Child, *privsep.Channel, error) {
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		return nil, nil, err
	}
	key := privsep.NewKey()
	parent := privsep.NewChannel(mine, privsep.RoleParent, id.Role, key)
	child := privsep.NewChannel(theirs, id.Role, privsep.RoleParent, key)
	parent.SetPhase(privsep.PhaseSetup)
	child.SetPhase(privsep.PhaseSetup)
	err = m.handOut(parent, id, listeners)
	var set *privsep.Setup
	if err == nil {
		set, err = privsep.ReadSetup(child)
	}
	if err != nil {
		parent.Close()
		child.Close()
		return nil, nil, err
	}
	boot := &privsep.Boot{ID: id, Key: key, Generation: 1}
	return &Child{boot, set, child}, parent, nil
}

// handOut relies on the socket to hold a whole setup: nobody reads meanwhile.
func (m *Memory) handOut(ch *privsep.Channel, id privsep.ID, listeners []privsep.ListenerFD) error {
	if err := ch.Send(privsep.KindConfig, m.cfg.Append(nil)); err != nil {
		return err
	}
	for p, f := range m.files {
		reads, writes := privsep.Access(id, p.kind, p.index)
		if !reads {
			continue
		}
		file := f.ro
		if writes {
			file = f.rw
		}
		s := privsep.Segment{Kind: p.kind, Index: p.index, Size: uint64(f.size), Writable: writes}
		if err := ch.Send(privsep.KindSegment, s.Append(nil), int(file.Fd())); err != nil {
			return err
		}
	}
	for _, l := range listeners {
		if err := ch.Send(privsep.KindListener, l.Append(nil), l.FD); err != nil {
			return err
		}
	}
	return ch.Send(privsep.KindSetupEnd, nil)
}
