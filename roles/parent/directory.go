package parent

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/erase"
)

// directory.go is what auth gets of the directory (LDAP), and the way there. Auth has no
// network: it asks for a connection to a server, by its number, and gets a socket of
// which this process has never read or written a byte. That goes to no address but those
// of the configuration, whoever asks.

// sameDirectory tells whether two are, but for their numbers.
func sameDirectory(a, b *directoryText) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := a.set, b.set
	x.Number, y.Number = 0, 0
	return reflect.DeepEqual(x, y) && bytes.Equal(a.ca, b.ca) && slices.Equal(a.address, b.address) && bytes.Equal(a.password(), b.password())
}

func (d *directoryText) password() []byte {
	if d.secret == nil {
		return nil
	}
	return d.secret.Bytes()
}

// mark is the directory's, 0: there is none.
func (d *directoryText) mark() uint64 {
	if d == nil {
		return 0
	}
	return d.set.Mark
}

// directoryNumber is another one when the directory is, and never 0.
func (s *userSet) directoryNumber() uint64 {
	if s.directory == nil {
		return 1
	}
	return 1 + uint64(s.directory.set.Number)
}

// parcelDirectory gives the message of the present one, to be wiped, with its parcel to
// be closed.
func (p *parent) parcelDirectory() (m []byte, fd int, err error) {
	set, ca, secret := privsep.Directory{}, []byte(nil), []byte(nil)
	if d := p.userSet.directory; d != nil {
		set, ca, secret = d.set, d.ca, d.password()
	}
	if fd, err = privsep.Parcel("directory", ca); err != nil {
		return nil, -1, err
	}
	erase.Do(func() {
		with := set
		with.BindPass = string(secret)
		m = with.Append(nil)
	})
	p.untidy = time.Now()
	return m, fd, nil
}

// handOutDirectory gives it to a new auth.
func (p *parent) handOutDirectory(c *child) error {
	c.directory = p.userSet.directoryNumber()
	if c.id.Role != privsep.RoleAuth || p.userSet.directory == nil {
		return nil
	}
	m, fd, err := p.parcelDirectory()
	if err != nil {
		return err
	}
	defer clear(m)
	defer privsep.CloseFD(fd)
	return c.ch.SendWait(handOutTime, privsep.KindDirectory, m, fd)
}

// giveDirectory gives it to an auth that does not have it and is to have other users, with
// which it holds.
func (p *parent) giveDirectory(c *child) {
	if c.id.Role != privsep.RoleAuth || c.directory == p.userSet.directoryNumber() {
		return
	}
	c.directory = p.userSet.directoryNumber()
	m, fd, err := p.parcelDirectory()
	if err != nil {
		p.log.Error().Err(err).Msg("directory not handed out")
		return
	}
	defer clear(m)
	defer privsep.CloseFD(fd)
	p.send(c, privsep.KindDirectory, m, fd)
}

// dial begins a connection that auth asks for. An error is an offence.
func (p *parent) dial(c *child, m *privsep.Message) error {
	var d privsep.Dial
	if err := d.Parse(m.Payload); err != nil {
		return err
	}
	fd, err := -1, error(errStale)
	if to, ok := p.userSet.server(&d); ok {
		fd, err = privsep.ConnectTCP(to)
	}
	if err != nil {
		no := privsep.DialFailed{ID: d.ID, Errno: privsep.Errno(err)}
		p.send(c, privsep.KindDialFailed, no.Append(p.buf[:0]))
		return nil
	}
	defer privsep.CloseFD(fd)
	yes := privsep.Dialed{ID: d.ID}
	p.send(c, privsep.KindDialed, yes.Append(p.buf[:0]), fd)
	return nil
}

// errStale is for a server of another configuration: it is asked again.
const errStale = syscall.EAGAIN

// server is the address of one, if it is of the present directory.
func (s *userSet) server(d *privsep.Dial) (to netip.AddrPort, ok bool) {
	if s.directory == nil || d.Number != s.directory.set.Number || int(d.Server) >= len(s.directory.address) {
		return to, false
	}
	return s.directory.address[d.Server], true
}

// directoryReport is what status says of it: as auth sees it.
func (p *parent) directoryReport() *Directory {
	if p.userSet.directory == nil {
		return nil
	}
	r := &Directory{State: privsep.DirectoryUnknown.String(), Since: p.started, URLs: slices.Compact(slices.Clone(p.userSet.directory.set.Servers))}
	for _, c := range p.children {
		t := &c.stats
		if c.id.Role != privsep.RoleAuth || c.state != running || c.standsBy() || t.Directory == 0 {
			continue
		}
		r.State, r.Since = privsep.DirectoryState(min(t.Directory, 0xff)).String(), time.UnixMilli(int64(min(t.DirectorySince, 1<<50)))
		r.Asked, r.Failed = t.DirectoryAsked, t.DirectoryFailed
		if t.DirectoryReason != 0 {
			r.LastError = privsep.Reason(min(t.DirectoryReason, 0xff)).String()
		}
	}
	return r
}
