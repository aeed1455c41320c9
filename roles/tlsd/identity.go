package tlsd

import (
	"slices"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// identity is who a caller is, for policies.
type identity struct {
	privsep.Caller

	// What it runs, if a grant asked for that: of the paths of all grants for its uid and
	// groups those whose file it is, and the path that logs have.
	runs   []string
	link   string
	unseen privsep.Reason // why that is not known
}

const (
	// looksAtOnce bounds how many processes are looked at for all, and uidLooks for one
	// uid.
	looksAtOnce = 8
	uidLooks    = looksAtOnce / 4
)

// is tells whether somebody is whom a grant means, whatever he runs.
func (who *identity) is(g *privsep.TLSGrant) bool {
	switch g.To {
	case privsep.GrantUID:
		return int64(g.ID) == int64(who.UID)
	case privsep.GrantGID:
		return int64(g.ID) == int64(who.GID) || slices.Contains(who.Groups, g.ID)
	}
	return g.To == privsep.GrantAll
}

// grants tells whether somebody is among those to whom a right is given.
func grants(list []privsep.TLSGrant, who *identity) bool {
	return slices.ContainsFunc(list, func(g privsep.TLSGrant) bool {
		return who.is(&g) && (g.Executable == "" || slices.Contains(who.runs, g.Executable))
	})
}

// looks tells whether it can matter to a policy what somebody runs.
func (p *policy) looks(who *identity) bool {
	return p.byExecutable && slices.ContainsFunc(p.rights(), func(g privsep.TLSGrant) bool { return g.Executable != "" && who.is(&g) })
}

// rights are all grants of a policy.
func (p *policy) rights() []privsep.TLSGrant { return slices.Concat(p.Open, p.Read, p.Write, p.Admin) }

// identify finds out what a caller runs, if a policy that may be his asks for it. The
// parent looks: at the very process that has connected, when it has said what it wants.
func (c *caller) identify() {
	if !c.hub.looks(c) {
		return
	}
	w := wait{caller: c}
	defer w.end()
	ctx := w.context()
	for _, room := range []chan struct{}{c.account.looks, c.hub.looking} {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-ctx.Done():
			c.who.unseen = privsep.ReasonLate
			return
		}
	}
	seen, err := c.hub.parent.inspect(ctx, c.process())
	if err != nil {
		seen.Reason = privsep.ReasonLate
	}
	c.who.runs, c.who.link, c.who.unseen = seen.Executables, seen.Link, seen.Reason
}

// process is the caller as the parent finds it.
func (c *caller) process() (p privsep.Process) {
	c.raw.Control(func(fd uintptr) { p = privsep.PeerProcess(int(fd), true) })
	return p
}

// looks tells whether a policy that may be a caller's asks for what it runs.
func (h *hub) looks(c *caller) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.policies, func(p *policy) bool { return p.looks(c.who) && (c.req.Session == "" || p.names(c.req.Session)) })
}

// noteRefused has the log say that policy refuses something to a caller.
func (c *caller) noteRefused(fields ...privsep.Field) {
	reason := "policy"
	if c.who.unseen != privsep.ReasonNone {
		reason = c.who.unseen.String()
	}
	fields = append(fields, privsep.Str(privsep.KeyReason, reason), privsep.Int(privsep.KeyUID, int64(c.who.UID)))
	if c.who.link != "" {
		fields = append(fields, privsep.Str(privsep.KeyExecutable, c.who.link))
	}
	c.hub.log.Warn("caller refused", fields...)
}

// excused gives the status for a caller that is refused: where there was no time to look
// at it, it may come again.
func (c *caller) excused(code protocol.Code) protocol.Code {
	late := c.who.unseen == privsep.ReasonLate || c.who.unseen == privsep.ReasonCrowded
	if late && (code == protocol.Refused || code == protocol.NoSession) {
		return protocol.Late
	}
	return code
}
