package parent

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"

	"gatehouse/privsep"
)

// bound is a listening socket. The parent holds it for as long as it lives, so
// the port stays open whatever happens to the dispatcher.
type bound struct {
	fd      int
	id      privsep.FileID
	number  uint16 // in handoff tickets: never another listener's
	network privsep.Network
	asked   string // as configured
	address string // as bound
	path    string // of a Unix socket, to be removed
	port    int
	host    string
	fresh   bool // has no number yet
}

// listen opens every listener of the configuration, but for those that an earlier
// parent had opened and that can be had.
func (p *parent) listen() error {
	p.listeners, p.networks = p.past.listeners()
	list, _, err := p.listenersOf(p.cfg)
	if err != nil {
		return err
	}
	p.setListeners(list)
	return nil
}

// listenersOf gives the listeners that cfg wants: those there are, and for the
// rest new ones. An address that is now for another network keeps its socket,
// and with it who waits there. An error names the option in key; nothing is open
// then that was not before.
func (p *parent) listenersOf(cfg *Config) (list []bound, key string, err error) {
	list = wantedListeners(cfg)
	free := slices.Clone(p.listeners)
	for i := range list {
		w := &list[i]
		take(&free, w, func(b *bound) bool { return b.network == w.network })
	}
	fresh := len(p.networks)
	for i := range list {
		w := &list[i]
		if !w.fresh {
			continue
		}
		if network := w.network; w.path == "" && take(&free, w, func(b *bound) bool { return b.path == "" }) {
			w.network, w.fresh = network, true
		} else if err = w.open(p.past.address(w)); err != nil {
			key = w.key()
			break
		}
		if fresh++; fresh > math.MaxUint16 {
			key, err = "listen", fmt.Errorf("%d listeners have had a number so far, and that is all there are until the next start", len(p.networks))
			break
		}
	}
	if err != nil {
		p.closeFresh(list)
		return nil, key, err
	}
	return list, "", nil
}

// take makes w the listener of free that was asked for by the same address, if
// there is one that will do.
func take(free *[]bound, w *bound, will func(*bound) bool) bool {
	for i, b := range *free {
		if b.asked == w.asked && will(&b) {
			*w, *free = b, slices.Delete(*free, i, i+1)
			return true
		}
	}
	return false
}

// wantedListeners are those of the configuration, in its order, none open.
func wantedListeners(c *Config) (list []bound) {
	for _, a := range c.Listen.TCP {
		list = append(list, bound{network: privsep.NetTCP, asked: a, fd: -1, fresh: true})
	}
	for _, a := range c.Listen.TLS {
		list = append(list, bound{network: privsep.NetTLS, asked: a, fd: -1, fresh: true})
	}
	for _, path := range c.Listen.Unix {
		list = append(list, bound{network: privsep.NetUnix, asked: path, path: path, fd: -1, fresh: true})
	}
	if path := c.TLSD.Socket; path != "" {
		list = append(list, bound{network: privsep.NetTLSD, asked: path, path: path, fd: -1, fresh: true})
	}
	if c.watched() {
		list = append(list, c.Console.listeners()...)
	}
	return list
}

// open binds b; at earlier, if that is valid, since clients know it.
func (b *bound) open(earlier netip.AddrPort) (err error) {
	if b.path != "" {
		if b.fd, err = privsep.ListenUnix(b.path, b.mode()); err != nil {
			return fmt.Errorf("listen unix %s: %w", b.path, err)
		}
		if b.network == privsep.NetTLSD {
			if err = privsep.TellSenders(b.fd); err != nil {
				return fmt.Errorf("listen %v %s: %w", b.network, b.path, err)
			}
		}
		b.address = b.path
		b.id, err = privsep.Stat(b.fd)
		return err
	}
	ap, err := ParseListen(b.asked)
	if err != nil {
		return fmt.Errorf("listen %s: %w", b.asked, err)
	}
	if earlier.IsValid() {
		ap = earlier
	}
	fd, got, err := privsep.ListenTCP(ap)
	if err != nil {
		return fmt.Errorf("listen %v %s: %w", b.network, b.asked, err)
	}
	b.fd = fd
	b.at(got)
	b.id, err = privsep.Stat(fd)
	return err
}

// at notes where b listens.
func (b *bound) at(got netip.AddrPort) {
	b.address, b.host, b.port = got.String(), got.Addr().Unmap().String(), int(got.Port())
}

// closeFresh takes back what was opened for a list that is not to be.
func (p *parent) closeFresh(list []bound) {
	for _, b := range list {
		if b.fd >= 0 && !slices.ContainsFunc(p.listeners, func(o bound) bool { return o.fd == b.fd }) {
			b.close()
		}
	}
}

// setListeners makes list the listeners, gives numbers to those without and
// closes what is not among them.
func (p *parent) setListeners(list []bound) {
	for i := range list {
		if b := &list[i]; b.fresh {
			b.fresh, b.number = false, uint16(len(p.networks))
			p.networks = append(p.networks, b.network)
		}
	}
	old := p.listeners
	p.listeners = list
	for _, b := range old {
		if !slices.ContainsFunc(list, func(o bound) bool { return o.fd == b.fd }) {
			b.close()
		}
	}
}

func (b *bound) close() {
	privsep.CloseFD(b.fd)
	if b.path != "" {
		privsep.RemoveSocket(b.path)
	}
}

func (p *parent) closeListeners() {
	for _, b := range p.listeners {
		if p.spares() {
			b.path = ""
		}
		b.close()
	}
	p.listeners = nil
}

// giveListeners brings a dispatcher up to date with the listeners there are.
// One whose number it has is the one that it has.
func (p *parent) giveListeners(c *child) {
	if c.id.Role != privsep.RoleDispatcher && c.id.Role != privsep.RoleConsole {
		return
	}
	for _, n := range c.listens {
		if !slices.ContainsFunc(p.listeners, func(b bound) bool { return b.number == n }) {
			m := privsep.ListenerGone{Number: n}
			p.send(c, privsep.KindListenerGone, m.Append(nil))
		}
	}
	had := c.listens
	c.listens = nil
	for _, b := range p.listeners {
		if b.acceptor() != c.id.Role {
			continue
		}
		c.listens = append(c.listens, b.number)
		if !slices.Contains(had, b.number) {
			m := b.message()
			p.send(c, privsep.KindListener, m.Append(nil), b.fd)
		}
	}
}

// handOutListeners gives a new process those that it accepts from.
func (p *parent) handOutListeners(c *child) error {
	for _, l := range p.listeners {
		if l.acceptor() != c.id.Role {
			continue
		}
		c.listens = append(c.listens, l.number)
		m := l.message()
		if err := c.ch.SendWait(handOutTime, privsep.KindListener, m.Append(nil), l.fd); err != nil {
			return err
		}
	}
	return nil
}

// acceptor is the role that takes connections from b.
func (b *bound) acceptor() privsep.Role {
	switch b.network {
	case privsep.NetTLSD:
		return privsep.RoleTLSD
	case privsep.NetConsole, privsep.NetConsoleUnix:
		return privsep.RoleConsole
	}
	return privsep.RoleDispatcher
}

// mode is a socket's: who may connect to the console sees everything.
func (b *bound) mode() os.FileMode {
	if b.network == privsep.NetConsoleUnix {
		return 0o600
	}
	return 0o666
}

// key is the option that asks for b.
func (b *bound) key() string {
	switch b.network {
	case privsep.NetTLSD:
		return "tlsd.socket"
	case privsep.NetConsole:
		return "console.tcp"
	case privsep.NetConsoleUnix:
		return "console.unix"
	}
	return "listen." + b.network.String()
}

func (b *bound) message() privsep.Listener {
	return privsep.Listener{Number: b.number, Network: b.network, Address: b.address}
}
