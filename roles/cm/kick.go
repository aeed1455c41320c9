package cm

import (
	"io"

	"gatehouse/privsep"
)

// kick closes a connection at the operator's word, if it is here.
func (m *cm) kick(msg *privsep.Message) error {
	var k privsep.Kick
	if err := k.Parse(msg.Payload); err != nil {
		return err
	}
	answer := privsep.Kicked{ID: k.ID, Outcome: m.kickOut(k.Connection)}
	switch err := m.parent.Send(privsep.KindKicked, answer.Append(nil)); err {
	case nil, privsep.ErrAgain, io.EOF: // the parent does without
		return nil
	default:
		return err
	}
}

// kickOut gives a client what its socket takes at once, and closes it. One that is
// between two processes neither can close: it has to be asked for again.
func (m *cm) kickOut(uid uint64) privsep.KickOutcome {
	for _, c := range m.departing.queue {
		if c.uid == uid {
			return privsep.KickMoving
		}
	}
	for _, c := range m.conns {
		switch {
		case c == nil || c.uid != uid:
		case c.has(flagDeparting | flagArriving):
			return privsep.KickMoving
		default:
			if !c.securing() && !c.has(flagLingering) {
				m.flush(c)
			}
			m.close(c, reasonKicked)
			return privsep.KickClosed
		}
	}
	return privsep.KickUnknown
}
