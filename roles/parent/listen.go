package parent

import (
	"fmt"
	"net/netip"

	"gatehouse/privsep"
)

// bound is a listening socket. The parent holds it for as long as it lives, so
// the port stays open whatever happens to the dispatcher.
type bound struct {
	fd      int
	id      privsep.FileID
	network privsep.Network
	address string // as bound
	path    string // of a Unix socket, to be removed
	port    int
	host    string
}

// newBound takes over a socket that listens at address.
func newBound(fd int, network privsep.Network, address string) bound {
	b := bound{fd: fd, network: network, address: address}
	b.id, _ = privsep.Stat(fd) // of a socket that we have just got
	if network == privsep.NetUnix {
		b.path = address
	} else if ap, err := netip.ParseAddrPort(address); err == nil {
		b.host, b.port = ap.Addr().Unmap().String(), int(ap.Port())
	}
	return b
}

// listen opens every listener of the configuration, or takes over those of an
// earlier parent.
func (p *parent) listen() error {
	p.listeners = p.past.listeners()
	if p.listeners == nil {
		if err := p.listenAll(); err != nil {
			return err
		}
	}
	for _, l := range p.listeners {
		p.networks = append(p.networks, l.network)
	}
	return nil
}

func (p *parent) listenAll() error {
	for _, a := range p.cfg.Listen.TCP {
		if err := p.listenTCP(privsep.NetTCP, a); err != nil {
			return err
		}
	}
	for _, a := range p.cfg.Listen.TLS {
		if err := p.listenTCP(privsep.NetTLS, a); err != nil {
			return err
		}
	}
	for _, path := range p.cfg.Listen.Unix {
		fd, err := privsep.ListenUnix(path, 0o666)
		if err != nil {
			return fmt.Errorf("listen unix %s: %w", path, err)
		}
		p.listeners = append(p.listeners, newBound(fd, privsep.NetUnix, path))
	}
	return nil
}

func (p *parent) listenTCP(network privsep.Network, address string) error {
	ap, err := ParseListen(address)
	if err != nil {
		return fmt.Errorf("listen %s: %w", address, err)
	}
	if earlier := p.past.address(len(p.listeners)); earlier.IsValid() {
		ap = earlier // clients know it
	}
	fd, got, err := privsep.ListenTCP(ap)
	if err != nil {
		return fmt.Errorf("listen %v %s: %w", network, address, err)
	}
	p.listeners = append(p.listeners, newBound(fd, network, got.String()))
	return nil
}

func (p *parent) closeListeners() {
	for _, l := range p.listeners {
		privsep.CloseFD(l.fd)
		if l.path != "" && !p.spares() {
			privsep.RemoveSocket(l.path)
		}
	}
	p.listeners = nil
}
