package parent

import (
	"fmt"

	"gatehouse/privsep"
)

// bound is a listening socket. The parent holds it for as long as it lives, so
// the port stays open whatever happens to the dispatcher.
type bound struct {
	fd      int
	network privsep.Network
	address string // as bound
	path    string // of a Unix socket, to be removed
	port    int
	host    string
}

// listen opens every listener of the configuration.
func (p *parent) listen() error {
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
		p.listeners = append(p.listeners, bound{fd: fd, network: privsep.NetUnix, address: path, path: path})
	}
	for _, l := range p.listeners {
		p.networks = append(p.networks, l.network)
	}
	return nil
}

func (p *parent) listenTCP(network privsep.Network, address string) error {
	ap, err := ParseListen(address)
	if err != nil {
		return fmt.Errorf("listen %s: %w", address, err)
	}
	fd, got, err := privsep.ListenTCP(ap)
	if err != nil {
		return fmt.Errorf("listen %v %s: %w", network, address, err)
	}
	p.listeners = append(p.listeners, bound{fd: fd, network: network, address: got.String(),
		host: got.Addr().Unmap().String(), port: int(got.Port())})
	return nil
}

func (p *parent) closeListeners() {
	for _, l := range p.listeners {
		privsep.CloseFD(l.fd)
		if l.path != "" {
			privsep.RemoveSocket(l.path)
		}
	}
	p.listeners = nil
}
