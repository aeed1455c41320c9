package roles

import (
	"fmt"
	"io"
	"net/netip"
	"slices"

	"gatehouse/privsep"
)

// authPeers stands in for the router that an auth answers.
type authPeers struct {
	d       *driver
	ch      *privsep.Channel
	routers uint64
	tries   uint32
	owed    int    // verdicts
	set     uint32 // of the users that are being given
	issuers uint32 // the same of issuers
	msg     privsep.Message
}

func newAuthPeers(d *driver) (peers, error) { return &authPeers{d: d, set: 1, issuers: 1}, nil }

func (p *authPeers) listeners() []privsep.ListenerFD { return nil }

func (p *authPeers) address() netip.AddrPort { return netip.AddrPort{} }

func (p *authPeers) start(*privsep.Boot) error { return p.connect() }

// connect gives auth its way to another router.
func (p *authPeers) connect() error {
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		return err
	}
	defer privsep.CloseFD(theirs)
	p.disconnect()
	p.routers++
	peer := privsep.Peer{ID: privsep.ID{Role: privsep.RoleRouter}, Key: privsep.NewKey(), Generation: p.routers}
	p.ch = privsep.NewChannel(mine, privsep.RoleRouter, privsep.RoleAuth, peer.Key)
	p.ch.SetPhase(privsep.PhaseRun)
	if err := p.d.poll.Add(mine, tokenPeers, privsep.In); err != nil {
		return err
	}
	return p.d.send(privsep.KindPeer, peer.Append(nil), theirs)
}

func (p *authPeers) disconnect() {
	if p.ch != nil {
		p.d.poll.Del(p.ch.FD())
		p.ch.Close()
	}
	p.ch, p.owed = nil, 0
}

func (p *authPeers) lines() map[string]func(*coder) error {
	return map[string]func(*coder) error{
		privsep.KindUser.String():     p.user,
		privsep.KindApproval.String(): p.approval,
		privsep.KindIssuer.String():   p.issuer,
		privsep.KindLogin.String():    p.login,
		privsep.KindPeer.String():     p.peer,
	}
}

// user gives auth one user of a set.
func (p *authPeers) user(c *coder) error {
	u := privsep.User{Set: p.set, Mark: 1}
	for key, s := range map[string]*string{"name": &u.Name, "password": &u.Password, "nkey": &u.NKey,
		"organisation": &u.Organisation, "profile": &u.Profile, "subject": &u.Subject, "san": &u.SAN, "key": &u.Key} {
		shortText(c, key, s)
	}
	c.flag("last", &u.Last)
	if err := c.end(); err != nil {
		return err
	}
	if u.Last {
		p.set++
	}
	return p.d.send(privsep.KindUser, u.Append(nil))
}

// approval gives auth who vouches for certificates, from now on or with the next users.
func (p *authPeers) approval(c *coder) error {
	m := privsep.Approval{Number: p.set}
	var approved, lists []byte
	c.text("approved", &approved)
	c.text("lists", &lists)
	c.flag("soon", &m.Soon)
	if err := c.end(); err != nil {
		return err
	}
	if m.Approved, m.Lists = uint32(len(approved)), uint32(len(lists)); m.Approved > 0 {
		m.Mark = 1
	}
	fd, err := privsep.Parcel("approval", slices.Concat(approved, lists))
	if err != nil {
		return err
	}
	defer privsep.CloseFD(fd)
	return p.d.send(privsep.KindApproval, m.Append(nil), fd)
}

// login asks auth about a client.
func (p *authPeers) login(c *coder) error {
	l := privsep.Login{Try: p.tries + 1}
	login(c, &l)
	if err := c.end(); err != nil {
		return err
	}
	if p.ch == nil {
		return fmt.Errorf("auth has hung up")
	}
	p.tries = l.Try
	p.owed++
	return p.ch.SendWait(patience, privsep.KindLogin, l.Append(nil))
}

// peer gives auth another router.
func (p *authPeers) peer(c *coder) error {
	if err := c.end(); err != nil {
		return err
	}
	return p.connect()
}

// shortText is a text, for those that are kept as strings.
func shortText(c *coder, key string, p *string) {
	b := []byte(*p)
	c.text(key, &b)
	*p = string(b)
}

// event takes the verdicts.
func (p *authPeers) event(uint64) error {
	for p.ch != nil {
		err := p.ch.Recv(&p.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			p.disconnect()
			return nil
		case err != nil:
			return fmt.Errorf("router from auth: %w", err)
		}
		var v privsep.Verdict
		if err := v.Parse(p.msg.Payload); err != nil {
			return err
		}
		p.owed--
		line := newLine(p.msg.Kind.String())
		verdict(line, &v)
		p.d.print(line.line())
	}
	return nil
}

// settle waits for the verdicts on all that was asked.
func (p *authPeers) settle() error {
	for p.owed > 0 && !p.d.gone {
		if err := p.d.turn(); err != nil {
			return err
		}
	}
	return nil
}

func (p *authPeers) read() (bool, error) { return false, nil }

func (p *authPeers) sleep() bool { return true }

func (p *authPeers) awake() {}
