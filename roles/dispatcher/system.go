package dispatcher

import "gatehouse/privsep"

// console is where the console's connections come from: no listener, but the parent. That
// a connection is one of them is said in the connection table, where the router sees it;
// nobody else can say so.
var console = &listener{fd: -1, number: privsep.SystemListener, unix: true, system: true}

// systemConn hands over a connection of the console's, beyond max_connections. If that
// cannot be now it is closed, and the console asks for another one.
func (d *dispatcher) systemConn(m *privsep.Message) {
	fd := m.FDs[0]
	if d.stopping || d.slots.system() >= privsep.SystemPlaces || !d.handOver(pending{fd: fd, lst: console}) {
		privsep.CloseFD(fd)
	}
}
