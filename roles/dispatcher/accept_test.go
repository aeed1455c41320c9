package dispatcher

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"gatehouse/privsep"
)

// What no cm has room for stays in the listen queue, where it outlives a dispatcher, and
// leaves it in order; a listener that is to go is closed when it is empty.
func TestAcceptRoom(t *testing.T) {
	const clients = 300
	f := newFloor(t, clients+privsep.SystemPlaces)
	d, cm := f.desk(t, clients)
	fd, addr, err := privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{fd: fd, number: 3}
	d.listeners, d.gathered = []*listener{l}, true
	for range clients {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	round := func() {
		for before := d.accepted + 1; before != d.accepted; {
			before = d.accepted
			d.acceptAll(l)
		}
		if d.waiting != nil {
			t.Fatalf("one more than there was room for was accepted, after %d", d.accepted)
		}
	}
	taken := uint64(0)
	take := func() {
		for {
			var m privsep.Message
			err := cm.Recv(&m)
			if err == privsep.ErrAgain {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			m.CloseFDs()
			var h privsep.ConnHandoff
			if err := h.Parse(m.Payload); err != nil {
				t.Fatal(err)
			}
			if taken++; h.UID != taken || h.Listener != 3 {
				t.Fatalf("connection %d is handed over as %+v", taken, h)
			}
			f.columns[0].Row(int(h.Slot)).UID.Store(h.UID)
		}
	}
	round()
	if d.accepted == 0 || d.accepted > clients/2 {
		t.Fatalf("%d of %d accepted by a cm that reads nothing", d.accepted, clients)
	}
	if d.open() || d.timeout() > retryPause {
		t.Fatalf("busy with a full cm: the next look in %v", d.timeout())
	}
	if n := len(f.s.used[0]); uint64(n) != d.accepted {
		t.Fatalf("%d places for %d connections", n, d.accepted)
	}
	take()
	d.now += int64(2 * time.Millisecond)
	before := d.accepted
	round()
	if d.accepted == before {
		t.Fatal("nobody taken by a cm that has room again")
	}
	m := privsep.Message{Payload: (&privsep.ListenerGone{Number: 3}).Append(nil)}
	if err := d.endListener(&m); err != nil {
		t.Fatal(err)
	}
	for d.ending {
		take()
		d.now += int64(2 * time.Millisecond)
		d.endListeners()
	}
	take()
	if taken != clients || len(d.listeners) != 0 {
		t.Fatalf("%d of %d came through, %d listeners left", taken, clients, len(d.listeners))
	}
}
