package dispatcher

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"gatehouse/privsep"
)

// hall is a desk with one listener.
type hall struct {
	*floor
	*dispatcher
	t     *testing.T
	cm    *privsep.Channel
	l     *listener
	ports []uint16 // of the clients, as they came
	taken int      // of them by the cm
	slot  uint32   // of the last of these
}

func newHall(t *testing.T, most int) *hall {
	t.Helper()
	f := newFloor(t, most+privsep.SystemPlaces)
	h := &hall{floor: f, t: t}
	h.dispatcher, h.cm = f.desk(t, most)
	fd, addr, err := privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	h.l = newListener(&privsep.Listener{Number: 3, Network: privsep.NetTCP, Address: addr.String()}, fd)
	h.listeners, h.gathered = []*listener{h.l}, true
	t.Cleanup(func() {
		for _, l := range h.listeners {
			privsep.CloseFD(l.fd)
		}
	})
	return h
}

// come has n clients connect.
func (h *hall) come(n int) {
	h.t.Helper()
	for range n {
		c, err := net.Dial("tcp", h.l.address)
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { c.Close() })
		h.ports = append(h.ports, uint16(c.LocalAddr().(*net.TCPAddr).Port))
	}
}

// round accepts as many as there is room for.
func (h *hall) round() {
	h.t.Helper()
	for before := h.accepted + 1; before != h.accepted; {
		before = h.accepted
		h.acceptAll(h.l)
	}
	if h.waiting != nil {
		h.t.Fatalf("one more than there was room for was accepted, after %d", h.accepted)
	}
}

// take has the cm read what it was given, which is who came, in order.
func (h *hall) take() {
	h.t.Helper()
	var m privsep.Message
	for {
		err := h.cm.Recv(&m)
		if err == privsep.ErrAgain {
			return
		} else if err != nil {
			h.t.Fatal(err)
		}
		m.CloseFDs()
		var c privsep.ConnHandoff
		if err := c.Parse(m.Payload); err != nil {
			h.t.Fatal(err)
		}
		if h.taken == len(h.ports) || c.UID != uint64(h.taken+1) || c.Listener != 3 || c.Port != h.ports[h.taken] {
			h.t.Fatalf("connection %d of the ports %d is handed over as %+v", h.taken, h.ports, c)
		}
		h.taken++
		h.slot = c.Slot
		h.floor.columns[0].Row(int(c.Slot)).UID.Store(c.UID)
	}
}

// gone ends the listener.
func (h *hall) gone() {
	h.t.Helper()
	m := privsep.Message{Payload: (&privsep.ListenerGone{Number: 3}).Append(nil)}
	if err := h.endListener(&m); err != nil {
		h.t.Fatal(err)
	}
}

// later lets a pause pass.
func (h *hall) later() { h.now += int64(2 * retryPause) }

// What no cm has room for stays in the listen queue, where it outlives a dispatcher, and
// leaves it in order.
func TestAcceptRoom(t *testing.T) {
	const clients = 200
	h := newHall(t, clients)
	h.come(clients)
	h.round()
	if h.accepted == 0 || h.accepted > clients/2 {
		t.Fatalf("%d of %d accepted by a cm that reads nothing", h.accepted, clients)
	}
	if h.open() || h.timeout() != retryPause {
		t.Fatalf("beside a full cm the next look is in %v", h.timeout())
	}
	if n, last := len(h.slots.used[0]), h.floor.table.Counters().LastUID.Load(); uint64(n) != h.accepted || last != h.accepted {
		t.Fatalf("%d places and UIDs up to %d for %d connections", n, last, h.accepted)
	}
	h.take()
	for before := h.accepted; h.taken < clients; before = h.accepted {
		h.later()
		h.round()
		if h.accepted == before {
			t.Fatal("nobody taken by a cm that has room again")
		}
		h.take()
	}
}

// An address has so many connections at a time and no more; who has gone makes room.
func TestAddressConnections(t *testing.T) {
	h := newHall(t, 10)
	h.cfg.AddressConns = 2
	h.slots.countByOrigin(true)
	h.come(3)
	h.round()
	h.take()
	if h.taken != 2 || h.refusedMax != 1 || len(h.told) != 1 {
		t.Fatalf("%d taken, %d refused", h.taken, h.refusedMax)
	}
	h.closeRefused()
	h.ports = h.ports[:2]
	h.release(0, h.slot)
	h.come(1)
	h.round()
	h.take()
	if h.taken != 3 || h.refusedMax != 1 || h.slots.total() != 2 {
		t.Fatalf("%d taken, %d refused, %d are there", h.taken, h.refusedMax, h.slots.total())
	}
	if n := len(h.slots.free) + len(h.slots.used[0]); n != h.floor.table.Len() {
		t.Fatalf("%d places of %d", n, h.floor.table.Len())
	}
}

// A listener that is to go is closed when nobody waits there any more.
func TestEndListener(t *testing.T) {
	t.Run("busy", func(t *testing.T) {
		const clients = 200
		h := newHall(t, clients)
		h.come(clients)
		for h.gone(); h.ending; h.endListeners() {
			h.take()
			h.later()
		}
		h.take()
		if h.taken != clients || len(h.listeners) != 0 {
			t.Fatalf("%d of %d came through, %d listeners left", h.taken, clients, len(h.listeners))
		}
	})
	t.Run("quiet before", func(t *testing.T) {
		h := newHall(t, 2)
		h.come(1)
		h.round()
		h.pauseUntil = h.now + int64(retryPause)
		h.come(1)
		if h.gone(); len(h.listeners) != 1 {
			t.Fatal("closed beside who had connected")
		}
		h.later()
		h.endListeners()
		h.take()
		if h.taken != 2 || len(h.listeners) != 0 {
			t.Fatalf("%d of 2 came through, %d listeners left", h.taken, len(h.listeners))
		}
	})
	t.Run("never a cm", func(t *testing.T) {
		h := newHall(t, 1)
		h.pauseUntil = h.now + 2*int64(queueTime)
		h.come(1)
		h.gone()
		h.now += int64(queueTime) + 1
		if h.endListeners(); len(h.listeners) != 0 {
			t.Fatal("still open")
		}
	})
	t.Run("another kind", func(t *testing.T) {
		h := newHall(t, 1)
		h.pauseUntil = h.now + int64(retryPause)
		h.come(1)
		h.gone()
		again, err := syscall.Dup(h.l.fd)
		if err != nil {
			t.Fatal(err)
		}
		p := privsep.Listener{Number: 4, Network: privsep.NetTLS, Address: h.l.address}
		if err := h.newListener(&privsep.Message{Payload: p.Append(nil), FDs: []int{again}}); err != nil {
			t.Fatal(err)
		}
		if len(h.listeners) != 1 || h.listeners[0].number != 4 {
			t.Fatal("two listeners of one socket")
		}
		h.later()
		h.acceptAll(h.listeners[0])
		if h.accepted != 1 || !h.place.handoff.TLS {
			t.Fatalf("%d accepted, the last as %+v", h.accepted, h.place.handoff)
		}
	})
}
