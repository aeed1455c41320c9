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

// acceptAll takes connections from one listener while the cms take them.
func (d *dispatcher) acceptAll(l *listener) {
	for range acceptBatch {
		if d.waiting != nil || !d.open() {
			return
		}
		fd, addr, errno := privsep.Accept(l.fd)
		switch errno {
		case 0:
			d.admit(pending{fd, addr, l})
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

// admit checks the limits and hands the connection over.
func (d *dispatcher) admit(p pending) {
	if !p.lst.unix && !d.rate.allow(p.addr.Addr().As16(), d.now) {
		privsep.CloseFD(p.fd)
		d.refusedRate++
		d.table.Counters().Limited.Add(1)
		d.complain("connection refused", "rate", privsep.Str(privsep.KeyAddr, p.addr.Addr().String()))
		return
	}
	if d.slots.total() >= d.cfg.MaxConnections {
		d.refuse(p)
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
func (d *dispatcher) refuse(p pending) {
	if !p.lst.tls || !d.cfg.TLS.HandshakeFirst {
		d.tell(p)
	}
	privsep.ShutdownWrite(p.fd)
	d.told = append(d.told, refused{p.fd, d.now + int64(refusedTime)})
	d.refusedMax++
	d.table.Counters().Refused.Add(1)
	d.complain("connection refused", "max_connections")
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

// handOver gives the connection to the least loaded cm that takes it; false: none does now.
func (d *dispatcher) handOver(p pending) bool {
	for try := 0; try < len(d.cms); try++ {
		k := d.pick(try)
		if k < 0 {
			return false
		}
		slot, ok := d.slots.take(k)
		if !ok {
			return false
		}
		if d.sendTo(k, slot, p) {
			privsep.CloseFD(p.fd)
			if p.lst.system {
				d.slots.systems = append(d.slots.systems, slot)
			} else {
				d.accepted++
				d.table.Counters().Accepted.Add(1)
			}
			return true
		}
		d.slots.giveBack(k)
	}
	return false
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

func (d *dispatcher) sendTo(k int, slot uint32, p pending) bool {
	c := &d.cms[k]
	uid := d.nextUID()
	h := &d.handoff
	*h = privsep.ConnHandoff{UID: uid, Slot: slot, Listener: uint16(p.lst.number), Unix: p.lst.unix, TLS: p.lst.tls, System: p.lst.system,
		Issued: uint64(d.uptime+d.now) / uint64(time.Millisecond)}
	h.Ticket = d.maker.Make(tickets.Handoff{UID: uid, CM: uint16(k), Listener: h.Listener, Generation: c.generation, Issued: h.Issued})
	if p.addr.IsValid() {
		h.Addr, h.Port = p.addr.Addr().As16(), p.addr.Port()
	}
	row := d.slots.table.Row(int(slot))
	info := store.ConnInfo{UID: uid, CM: uint16(k), Listener: h.Listener, Port: h.Port, Unix: h.Unix, System: h.System, Addr: h.Addr,
		Accepted: time.Now().UnixNano()}
	if h.Unix {
		info.Process = store.ConnProcess(privsep.PeerProcess(p.fd, d.cfg.Login.Kinds.Has(privsep.CredentialProcess)))
	}
	row.Set(&info)
	d.buf = h.Append(d.buf[:0])
	err := c.ch.Send(privsep.KindConnHandoff, d.buf, p.fd)
	if err == nil {
		return true
	}
	row.Clear()
	if err != privsep.ErrAgain && err != privsep.ErrInFlight {
		d.log.Warn("handoff", privsep.Str(privsep.KeyPeer, privsep.ID{Role: privsep.RoleCM, Index: k}.String()), privsep.Err(err))
		d.dropCM(k)
	}
	return false
}

// nextUID counts in the table, so that a UID is never used twice, whichever
// dispatcher gives it.
func (d *dispatcher) nextUID() uint64 {
	return d.slots.table.Counters().LastUID.Add(1)
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
