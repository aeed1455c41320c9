package dispatcher

import (
	"net/netip"
	"syscall"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/tickets"
	"gatehouse/wire"
)

// acceptBatch is how many connections are taken from one listener before the
// others have their turn.
const acceptBatch = 64

// pending is an accepted connection that no cm could take yet.
type pending struct {
	fd   int
	addr netip.AddrPort // zero for Unix sockets
	lst  *listener
}

// acceptAll takes connections from one listener while the cms take them. Whatever can
// be settled before one is accepted is: one that was accepted and not yet handed over
// ends with the dispatcher, and nothing else of it does.
func (d *dispatcher) acceptAll(l *listener) {
	for n := range acceptBatch {
		if d.waiting != nil || !d.open() {
			return
		}
		if n > 0 && !privsep.Waiting(l.fd) { // mostly: it costs less than a place for nobody
			return
		}
		full := d.slots.total() >= d.cfg.MaxConnections
		if !full && !d.offer(l) {
			d.pauseUntil = d.now + int64(retryPause) // the kernel's queue keeps them
			return
		}
		fd, addr, errno := privsep.Accept(l.fd)
		if errno == 0 {
			d.admit(pending{fd, addr, l}, full)
			continue
		}
		if !full {
			d.slots.giveBack(d.place.cm)
		}
		switch errno {
		case syscall.EAGAIN:
			return
		case syscall.ECONNABORTED, syscall.EINTR:
		default:
			// Out of descriptors or memory: leave the rest in the queue a while.
			d.pauseUntil = d.now + int64(acceptPause)
			d.complain("accept", errno.Error())
			return
		}
	}
}

// admit checks the limits of its address and hands the connection over to whom a place
// was taken with, unless all have theirs.
func (d *dispatcher) admit(p pending, full bool) {
	most, from := 0, privsep.Origin{}
	if !p.lst.unix {
		most, from = d.cfg.AddressConns, privsep.OriginOf(p.addr.Addr().As16())
	}
	switch {
	case !p.lst.unix && !d.rate.allow(from, d.now):
		if !full {
			d.slots.giveBack(d.place.cm)
		}
		privsep.CloseFD(p.fd)
		d.refusedRate++
		d.table.Counters().Limited.Add(1)
		d.complain("connection refused", "rate", privsep.Str(privsep.KeyAddr, p.addr.Addr().String()))
		return
	case full:
		d.table.Counters().Refused.Add(1)
		d.refuse(p, "max_connections")
		return
	case most > 0 && d.slots.crowd[from] >= most:
		d.slots.giveBack(d.place.cm)
		// Whoever only knocks has closed nothing, so there is nothing to be looked at.
		if d.slots.reclaim(); d.slots.crowd[from] >= most {
			d.table.Counters().Crowded.Add(1)
			d.refuse(p, "address_connections", privsep.Str(privsep.KeyAddr, p.addr.Addr().String()))
			return
		}
	case d.handOn(p):
		return
	}
	if !d.handOver(p) {
		kept := p // p itself is none of the heap's
		d.waiting = &kept
	}
}

// refused is a connection that was told why and is closed soon: a client that
// writes to a closed one may never read what it was told.
type refused struct {
	fd  int
	due int64
}

const (
	refusedTime = 250 * time.Millisecond
	refusedMost = 64
)

// refuse says why, in the words that clients know, and ends the connection. The
// client expects INFO before anything else; one that begins with TLS would
// understand nothing, so it is told nothing.
func (d *dispatcher) refuse(p pending, reason string, fields ...privsep.Field) {
	if !p.lst.tls || !d.cfg.TLS.HandshakeFirst {
		d.tell(p)
	}
	privsep.ShutdownWrite(p.fd)
	d.told = append(d.told, refused{p.fd, d.now + int64(refusedTime)})
	d.refusedMax++
	d.complain("connection refused", reason, fields...)
}

// tell says why in plaintext, as nats-server does before TLS, too.
func (d *dispatcher) tell(p pending) {
	i := wire.Info{ServerID: d.cfg.ServerID, ServerName: d.cfg.Broker, Version: wire.ServerVersion, Proto: 1,
		Host: d.cfg.Host, Port: int(d.cfg.Port), Headers: true, MaxPayload: d.cfg.MaxPayload,
		TLSRequired: p.lst.tls, TLSVerify: p.lst.tls && d.cfg.TLS.Client == privsep.ClientAuthRequire}
	b := wire.AppendErr(wire.AppendInfo(nil, &i), wire.CodeMaxConnections)
	privsep.RawWrite(p.fd, b) // best effort: an empty socket buffer takes it
}

// closeRefused closes those whose time is up, and the oldest when there are many.
func (d *dispatcher) closeRefused() {
	for len(d.told) > 0 && (d.told[0].due <= d.now || len(d.told) > refusedMost) {
		privsep.CloseFD(d.told[0].fd)
		d.told = d.told[1:]
	}
}

// place is where the next connection goes, with all that is known of it by then.
type place struct {
	cm      int
	handoff privsep.ConnHandoff
	info    store.ConnInfo
}

// offer takes a place for a connection from a listener with the least loaded cm that
// has room for it; false: none has now.
func (d *dispatcher) offer(l *listener) bool {
	for try := range d.cms {
		k := d.pick(try)
		if k < 0 {
			return false
		}
		if d.cms[k].ch.Roomy() {
			return d.takePlace(k, l)
		}
	}
	return false
}

// handOver gives the connection to the least loaded cm that takes it; false: none does now.
func (d *dispatcher) handOver(p pending) bool {
	for try := 0; ; {
		k := d.pick(try)
		if k < 0 || !d.takePlace(k, p.lst) {
			return false
		}
		if d.handOn(p) {
			return true
		}
		if d.cms[k].ch != nil { // one that is gone is not counted again
			try++
		}
	}
}

// pick returns the try-th least loaded cm that is there, or -1.
func (d *dispatcher) pick(try int) int {
	d.order = d.order[:0]
	for k, c := range d.cms {
		if c.ch == nil {
			continue
		}
		i, load := len(d.order), d.slots.load(k)
		d.order = append(d.order, k)
		for ; i > 0 && d.slots.load(d.order[i-1]) > load; i-- {
			d.order[i] = d.order[i-1]
		}
		d.order[i] = k
	}
	if try >= len(d.order) {
		return -1
	}
	return d.order[try]
}

// takePlace takes a place for a connection from a listener with cm k; false: there is none.
func (d *dispatcher) takePlace(k int, l *listener) bool {
	slot, ok := d.slots.take(k)
	if !ok {
		return false
	}
	p := &d.place
	p.cm = k
	h := &p.handoff
	*h = privsep.ConnHandoff{UID: d.table.Counters().LastUID.Load() + 1, Slot: slot, Listener: uint16(l.number), Unix: l.unix, TLS: l.tls, System: l.system,
		Issued: uint64(d.uptime+d.now) / uint64(time.Millisecond)}
	h.Ticket = d.maker.Make(tickets.Handoff{UID: h.UID, CM: uint16(k), Listener: h.Listener, Generation: d.cms[k].generation, Issued: h.Issued})
	p.info = store.ConnInfo{UID: h.UID, CM: uint16(k), Listener: h.Listener, Unix: h.Unix, System: h.System, Accepted: time.Now().UnixNano()}
	return true
}

// handOn gives the connection to the cm that a place was taken with, and gives that back
// if it could not be.
func (d *dispatcher) handOn(p pending) bool {
	h, info := &d.place.handoff, &d.place.info
	k, c := d.place.cm, &d.cms[d.place.cm]
	if p.addr.IsValid() {
		h.Addr, h.Port = p.addr.Addr().As16(), p.addr.Port()
		info.Addr, info.Port = h.Addr, h.Port
	}
	if h.Unix {
		info.Process = store.ConnProcess(privsep.PeerProcess(p.fd, d.cfg.Login.Kinds.Has(privsep.CredentialProcess)))
	}
	// UIDs are counted in the table, so that none is used twice, whichever dispatcher
	// gives it, and in spite of an error.
	d.table.Counters().LastUID.Store(h.UID)
	row := d.table.Row(int(h.Slot))
	row.Set(info)
	d.buf = h.Append(d.buf[:0])
	err := c.ch.Send(privsep.KindConnHandoff, d.buf, p.fd)
	if err == nil {
		privsep.CloseFD(p.fd)
		if p.lst.system {
			d.slots.systems = append(d.slots.systems, h.Slot)
		} else {
			d.accepted++
			d.table.Counters().Accepted.Add(1)
			d.slots.came(info)
		}
		return true
	}
	row.Clear()
	d.slots.giveBack(k)
	if err != privsep.ErrAgain && err != privsep.ErrInFlight {
		d.log.Warn("handoff", privsep.Str(privsep.KeyPeer, privsep.ID{Role: privsep.RoleCM, Index: k}.String()), privsep.Err(err))
		d.dropCM(k)
	}
	return false
}

// complain logs a refusal, at most once a second for each event and reason.
func (d *dispatcher) complain(event, reason string, fields ...privsep.Field) {
	key := event + reason
	c := d.complaints[key]
	c.n++
	if d.now-c.at >= int64(time.Second) || c.at == 0 {
		d.log.Warn(event, append(fields, privsep.Str(privsep.KeyReason, reason), privsep.Int(privsep.KeyN, c.n))...)
		c.at, c.n = d.now, 0
	}
	d.complaints[key] = c
}
