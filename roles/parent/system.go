package parent

import "gatehouse/privsep"

// connectConsole, where a profile allows what it is for, gives the console a connection to the broker, whose other end goes the
// way of all connections. While there is no dispatcher it is closed at once, and the
// console asks again.
func (p *parent) connectConsole(c *child) {
	if !p.settings.System {
		return // it has not heard yet, or asks for what it may not have
	}
	mine, theirs, err := privsep.Connection()
	if err != nil {
		p.log.Error().Err(err).Msg("socketpair")
		return
	}
	for _, o := range p.children {
		if o.id.Role == privsep.RoleDispatcher && !o.standsBy() && o.state == running {
			p.send(o, privsep.KindSystemConn, nil, theirs)
		}
	}
	p.send(c, privsep.KindSystemConn, nil, mine)
	privsep.CloseFD(mine)
	privsep.CloseFD(theirs)
}
