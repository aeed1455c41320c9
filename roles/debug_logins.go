package roles

import (
	"fmt"
	"io"

	"gatehouse/privsep"
)

// loginPeer stands in for the auth that a router asks: what it is asked is output, its
// verdicts are input. All users have one mark, which stands.
type loginPeer struct {
	d   *driver
	ch  *privsep.Channel // nil: the router has hung up
	msg privsep.Message
}

const debugMark = 1

// connect gives the router its way to auth.
func (p *loginPeer) connect(token uint64) error {
	mine, theirs, err := privsep.Socketpair()
	if err != nil {
		return err
	}
	defer privsep.CloseFD(theirs)
	peer := privsep.Peer{ID: privsep.ID{Role: privsep.RoleAuth}, Key: privsep.NewKey(), Generation: 1}
	p.ch = privsep.NewChannel(mine, privsep.RoleAuth, privsep.RoleRouter, peer.Key)
	p.ch.SetPhase(privsep.PhaseRun)
	if err := p.d.poll.Add(mine, token, privsep.In); err != nil {
		return err
	}
	stands := privsep.Standing{Set: 1, Last: true, Marks: []uint64{debugMark}}
	if err := p.d.send(privsep.KindStanding, stands.Append(nil)); err != nil {
		return err
	}
	return p.d.send(privsep.KindPeer, peer.Append(nil), theirs)
}

// lineVerdict says who a client is.
func (p *loginPeer) lineVerdict(c *coder) error {
	v := privsep.Verdict{}
	ident(c, "id", &v.ID)
	ident(c, "try", &v.Try)
	c.flag("ok", &v.OK)
	shortText(c, "user", &v.User)
	shortText(c, "organisation", &v.Organisation)
	shortText(c, "profile", &v.Profile)
	if err := c.end(); err != nil {
		return err
	}
	if v.OK {
		v.Mark = debugMark
	} else {
		v.Reason = privsep.ReasonWrongPassword
	}
	b := v.Append(nil)
	if err := new(privsep.Verdict).Parse(b); err != nil {
		return err
	}
	if p.ch == nil {
		return fmt.Errorf("the router has hung up")
	}
	return p.ch.SendWait(patience, privsep.KindVerdict, b)
}

// read prints what the router asks.
func (p *loginPeer) read() error {
	for p.ch != nil {
		err := p.ch.Recv(&p.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			p.d.poll.Del(p.ch.FD())
			p.ch.Close()
			p.ch = nil
			return nil
		case err != nil:
			return fmt.Errorf("auth from the router: %w", err)
		}
		var l privsep.Login
		if err := l.Parse(p.msg.Payload); err != nil {
			return err
		}
		line := newLine(p.msg.Kind.String())
		login(line, &l)
		p.d.print(line.line())
	}
	return nil
}
