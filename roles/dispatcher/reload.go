package dispatcher

import (
	"slices"
	"time"

	"gatehouse/privsep"
)

func newListener(l *privsep.Listener, fd int) *listener {
	return &listener{fd: fd, number: int(l.Number), address: l.Address, unix: l.Network == privsep.NetUnix, tls: l.Network == privsep.NetTLS}
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
	d.slots.countByOrigin(d.cfg.AddressConns > 0)
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
	for _, o := range d.listeners {
		// One of TCP that goes on as another kind is the same socket with the same queue.
		if o.endBy != 0 && !o.unix && !l.unix && o.address == l.address {
			o.same = true
		}
	}
	d.endListeners()
	d.listeners = append(d.listeners, l)
	if d.listening {
		d.watch(l)
	}
	return nil
}

// A listener that is to go takes whom it finds in its queue: they have connected. Those
// who come while it is emptied have no right to more.
const (
	queueMost = 4096
	queueTime = time.Second
)

// endListener lets one go, as soon as nobody waits there.
func (d *dispatcher) endListener(m *privsep.Message) error {
	var g privsep.ListenerGone
	if err := g.Parse(m.Payload); err != nil {
		return err
	}
	if l := d.listenerOf(int(g.Number)); l != nil {
		l.endBy, l.left = d.now+int64(queueTime), queueMost
		d.endListeners()
	}
	return nil
}

// endListeners takes whom the cms have room for from the queues of those that are to go,
// and closes what is empty.
func (d *dispatcher) endListeners() {
	d.ending = false
	d.listeners = slices.DeleteFunc(d.listeners, func(l *listener) bool {
		if l.endBy == 0 {
			return false
		}
		for before := d.accepted + 1; !l.same && before != d.accepted && l.left > 0; {
			before = d.accepted
			d.acceptAll(l)
			l.left -= int(d.accepted - before)
		}
		if !l.same && privsep.Waiting(l.fd) {
			if l.left > 0 && d.now < l.endBy {
				d.ending = true
				return false
			}
			d.log.Warn("listener closed while connections waited", privsep.Str(privsep.KeyAddr, l.address))
		}
		if d.listening {
			d.poll.Del(l.fd)
		}
		privsep.CloseFD(l.fd)
		return true
	})
}
