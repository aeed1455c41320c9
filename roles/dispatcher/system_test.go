package dispatcher

import (
	"net/netip"
	"syscall"
	"testing"

	"gatehouse/privsep"
	"gatehouse/tickets"
)

// desk is a dispatcher with that floor and cm 0 alone, of whose channel the other end is
// there, too.
func (f *floor) desk(t *testing.T, most int) (d *dispatcher, cm *privsep.Channel) {
	t.Helper()
	near, far, err := privsep.Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptInt(near, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 64<<10); err != nil {
		t.Fatal(err)
	}
	key := privsep.NewKey()
	cm = privsep.NewChannel(far, privsep.RoleCM, privsep.RoleDispatcher, key)
	d = &dispatcher{cfg: &privsep.Settings{MaxConnections: most}, table: f.table, slots: f.s, cms: make([]cmPeer, testCMs), rate: newLimiter(0, 0),
		maker: tickets.NewMaker(tickets.HandoffKey{1}), log: privsep.NewLogger(cm), complaints: map[string]complaint{}, now: 1}
	if d.poll, err = privsep.NewPoller(); err != nil {
		t.Fatal(err)
	}
	d.cms[0].ch = privsep.NewChannel(near, privsep.RoleDispatcher, privsep.RoleCM, key)
	d.cms[0].ch.SetPhase(privsep.PhaseRun)
	cm.SetPhase(privsep.PhaseRun)
	t.Cleanup(func() {
		d.dropCM(0)
		cm.Close()
		d.poll.Close()
	})
	return d, cm
}

// The console's connections are beyond max_connections and not of it, a few at a time;
// another dispatcher knows them by the table.
func TestSystemConn(t *testing.T) {
	f := newFloor(t, testRows)
	most := testRows - privsep.SystemPlaces
	d, cm := f.desk(t, most)
	// come has a connection arrive, and gives what the cm gets of it.
	come := func(take func(fd int)) *privsep.ConnHandoff {
		t.Helper()
		a, b, err := privsep.Connection()
		if err != nil {
			t.Fatal(err)
		}
		defer privsep.CloseFD(a)
		take(b)
		var m privsep.Message
		if err := cm.Recv(&m); err == privsep.ErrAgain {
			return nil
		} else if err != nil {
			t.Fatal(err)
		}
		m.CloseFDs()
		h := new(privsep.ConnHandoff)
		if err := h.Parse(m.Payload); err != nil {
			t.Fatal(err)
		}
		f.columns[0].Row(int(h.Slot)).UID.Store(h.UID)
		return h
	}
	client := func(fd int) {
		l := &listener{}
		full := d.slots.total() >= most
		if !full && !d.offer(l) {
			t.Fatal("no place is offered")
		}
		d.admit(pending{fd: fd, addr: netip.MustParseAddrPort("192.0.2.1:1"), lst: l}, full)
	}
	console := func(fd int) { d.systemConn(&privsep.Message{FDs: []int{fd}}) }
	for range most {
		if h := come(client); h == nil || h.System {
			t.Fatalf("a client is handed over as %+v", h)
		}
	}
	if come(client) != nil {
		t.Fatal("one more client than there may be")
	}
	var last *privsep.ConnHandoff
	for range privsep.SystemPlaces {
		if last = come(console); last == nil || !last.System || !last.Unix || last.Listener != privsep.SystemListener {
			t.Fatalf("the console is handed over as %+v", last)
		}
		if row, ok := f.table.Row(int(last.Slot)).Get(); !ok || !row.System || row.UID != last.UID {
			t.Fatalf("it stands in the table as %+v", row)
		}
	}
	if come(console) != nil {
		t.Fatal("one more console than there may be")
	}
	check := func(when string, systems int) {
		t.Helper()
		if d.slots.system() != systems || d.slots.total() != most || d.accepted != uint64(most) {
			t.Fatalf("%s: %d of the console, %d of %d clients, %d accepted", when, d.slots.system(), d.slots.total(), most, d.accepted)
		}
	}
	check("at first", privsep.SystemPlaces)
	d.slots = newSlots(f.table, f.seen, testServing, f.next())
	check("for the next dispatcher", privsep.SystemPlaces)
	f.release(0, last.Slot)
	check("when one has ended", privsep.SystemPlaces-1)
	if come(console) == nil {
		t.Fatal("its place is not free")
	}
	check("with another one", privsep.SystemPlaces)
}
