package roles

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gatehouse/privsep"
)

// tlsdPeers has no peers to stand in for: callers are real, and so are the servers that
// a policy names. The parent's part is to say policies, and to sign.
type tlsdPeers struct {
	d        *driver
	dir      string // of the socket
	listener privsep.ListenerFD
	set      uint32
}

func newTLSDPeers(d *driver) (peers, error) {
	dir, err := os.MkdirTemp("", "gatehouse")
	if err != nil {
		return nil, err
	}
	p := &tlsdPeers{d: d, dir: dir, set: 1}
	path := filepath.Join(dir, "tlsd")
	fd, err := privsep.ListenUnix(path, 0o600)
	if err == nil {
		err = privsep.TellSenders(fd)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	p.listener = privsep.ListenerFD{Listener: privsep.Listener{Network: privsep.NetTLSD, Address: path}, FD: fd}
	return p, nil
}

// Close removes the socket.
func (p *tlsdPeers) Close() error { return os.RemoveAll(p.dir) }

func (p *tlsdPeers) listeners() []privsep.ListenerFD { return []privsep.ListenerFD{p.listener} }

func (p *tlsdPeers) address() netip.AddrPort { return netip.AddrPort{} }

// start says where callers come.
func (p *tlsdPeers) start(*privsep.Boot) error {
	c := &coder{out: []byte{'{'}}
	c.put("socket", quote(p.listener.Address))
	p.d.print(c.line())
	return nil
}

func (p *tlsdPeers) lines() map[string]func(*coder) error {
	return map[string]func(*coder) error{
		privsep.KindTLSPolicy.String(): p.policy,
		privsep.KindTLSSigned.String(): p.signed,
	}
}

// policy gives tlsd one of a set. Whoever debugs it may open, read and write.
func (p *tlsdPeers) policy(c *coder) error {
	me := []privsep.TLSGrant{{To: privsep.GrantUID, ID: uint32(os.Geteuid())}}
	m := privsep.TLSPolicy{Set: p.set, MinTLS: 0x0303, IdleTimeout: 5 * time.Minute, MaxFrame: 1 << 20, Open: me, Read: me, Write: me}
	shortText(c, "name", &m.Name)
	shortText(c, "host", &m.Host)
	number(c, "port", &m.Port)
	c.texts("addresses", &m.Addresses)
	c.texts("alpn", &m.ALPN)
	c.flag("keep", &m.Keep)
	milliseconds(c, "idle_timeout_ms", &m.IdleTimeout)
	milliseconds(c, "revalidate_ms", &m.Revalidate)
	var roots, chain []byte
	c.text("roots", &roots)
	c.text("chain", &chain)
	number(c, "key", &m.Key)
	c.flag("last", &m.Last)
	if err := c.end(); err != nil {
		return err
	}
	m.Roots, m.Chain = uint32(len(roots)), uint32(len(chain))
	b := m.Append(nil)
	if err := new(privsep.TLSPolicy).Parse(b); err != nil {
		return err
	}
	fd, err := privsep.Parcel("tls-policy", slices.Concat(roots, chain))
	if err != nil {
		return err
	}
	defer privsep.CloseFD(fd)
	if m.Last {
		p.set++
	}
	return p.d.send(privsep.KindTLSPolicy, b, fd)
}

// signed passes on a signature, or that there is none.
func (p *tlsdPeers) signed(c *coder) error {
	var m privsep.TLSSigned
	ident(c, "id", &m.ID)
	c.text("signature", &m.Signature)
	if err := c.end(); err != nil {
		return err
	}
	if len(m.Signature) > privsep.MaxSignature {
		return fmt.Errorf("a signature of %d bytes", len(m.Signature))
	}
	return p.d.send(privsep.KindTLSSigned, m.Append(nil))
}

// tlsSign is the line of a TLS_SIGN.
func tlsSign(m *privsep.Message) ([]byte, error) {
	var s privsep.TLSSign
	if err := s.Parse(m.Payload); err != nil {
		return nil, err
	}
	c := newLine(m.Kind.String())
	ident(c, "id", &s.ID)
	ident(c, "key", &s.Key)
	number(c, "scheme", &s.Scheme)
	c.text("input", &s.Input)
	return c.line(), nil
}

func (p *tlsdPeers) event(uint64) error { return nil }

func (p *tlsdPeers) read() (bool, error) { return false, nil }

func (p *tlsdPeers) settle() error { return nil }

func (p *tlsdPeers) sleep() bool { return true }

func (p *tlsdPeers) awake() {}
