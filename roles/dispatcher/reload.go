package dispatcher

import (
	"slices"

	"gatehouse/privsep"
)

func newListener(l *privsep.Listener, fd int) *listener {
	return &listener{fd: fd, number: int(l.Number), unix: l.Network == privsep.NetUnix, tls: l.Network == privsep.NetTLS}
}

// listenerOf gives the listener of a number, nil if there is none any more.
func (d *dispatcher) listenerOf(number int) *listener {
	for _, l := range d.listeners {
		if l.number == number {
			return l
		}
	}
	return nil
}

// settings takes over what may change. Connections that were let in before stay.
func (d *dispatcher) settings(m *privsep.Message) error {
	if err := d.cfg.Live.Parse(m.Payload); err != nil {
		return err
	}
	d.rate.set(d.cfg.ConnectRate, d.cfg.ConnectBurst)
	d.log.SetLevel(d.cfg.LogLevel)
	return nil
}

// newListener takes a listener that the configuration has got.
func (d *dispatcher) newListener(m *privsep.Message) error {
	var p privsep.Listener
	if err := p.Parse(m.Payload); err != nil {
		m.CloseFDs()
		return err
	}
	l := newListener(&p, m.FDs[0])
	d.listeners = append(d.listeners, l)
	if d.listening {
		d.watch(l)
	}
	return nil
}

// queueMost is how many may wait in a listen queue: those who come while it is
// emptied have no right to more.
const queueMost = 4096

// endListener lets one go. Who waits in its queue has connected and is still
// taken, as far as a cm is there to take him.
func (d *dispatcher) endListener(m *privsep.Message) error {
	var g privsep.ListenerGone
	if err := g.Parse(m.Payload); err != nil {
		return err
	}
	l := d.listenerOf(int(g.Number))
	if l == nil {
		return nil
	}
	accepted := d.accepted
	for before := -1; before != int(d.accepted) && int(d.accepted-accepted) < queueMost; {
		before = int(d.accepted)
		d.acceptAll(l)
	}
	if d.listening {
		d.poll.Del(l.fd)
	}
	privsep.CloseFD(l.fd)
	d.listeners = slices.DeleteFunc(d.listeners, func(o *listener) bool { return o == l })
	return nil
}
