package tlsd

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/protocol"
)

// list tells a caller of the sessions that it may see: those that it has opened, or
// may end.
func (c *caller) list() {
	now := time.Now()
	c.hub.mu.Lock()
	var all []*session
	for _, s := range c.hub.all {
		if s.policy.rightsOf(c.who, s.owner.uid).admin {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *session) int { return cmp.Or(cmp.Compare(a.name, b.name), a.began.Compare(b.began)) })
	var out []protocol.Session
	for _, s := range all {
		out = append(out, s.describe(now))
	}
	c.hub.mu.Unlock()
	var b []byte
	if c.word == nil || *c.word != passList {
		a := protocol.Answer{Code: protocol.OK, Text: "list"}
		b = a.Append(nil)
	}
	for i := range out {
		line, err := json.Marshal(&out[i])
		if err == nil {
			b = append(append(b, line...), '\n')
		}
	}
	next := c.hub.shards.self + 1
	last := next == c.hub.shards.of
	if last {
		b = append(b, '\n')
	}
	if c.write(b, partTime) != nil || !last && c.hub.shards.pass(c, next, passList) {
		return
	}
	c.settle()
}

// describe is what is told of a session. The hub's lock is held.
func (s *session) describe(now time.Time) protocol.Session {
	d := protocol.Session{ID: s.id, Name: s.name, Remote: s.remote(), SNI: s.sni, Mode: s.mode.String(), State: "opening", Shared: s.shared, Owner: s.owner.uid,
		Callers: s.users, Age: now.Sub(s.began).Seconds(), Idle: now.Sub(time.Unix(0, s.lastUse.Load())).Seconds(),
		InBytes: s.inBytes.Load(), OutBytes: s.outBytes.Load()}
	s.mu.Lock()
	d.Unread, d.Unasked, d.Dropped = len(s.unread), s.unasked, s.dropped
	if s.holder != nil {
		d.Holder, d.HolderUID = s.holder.who.PID, s.holder.who.UID
	}
	over := s.over
	s.mu.Unlock()
	select {
	case <-s.opened:
	default:
		return d
	}
	if s.failure != nil {
		d.State = "failed"
		return d
	}
	switch d.State = "open"; {
	case over:
		d.State = "over"
	case s.worn.Load():
		d.State = "worn"
	}
	d.Address, d.Subject = s.wire.remote.String(), s.state.PeerCertificates[0].Subject.String()
	d.InRecords, d.OutRecords = s.wire.in.records.Load(), s.wire.out.records.Load()
	d.Version, d.Cipher, d.ALPN = tls.VersionName(s.state.Version), tls.CipherSuiteName(s.state.CipherSuite), s.state.NegotiatedProtocol
	return d
}

// closeSession ends a session for a caller who may.
func (c *caller) closeSession() {
	c.hub.mu.Lock()
	s := c.hub.named[c.req.Target]
	if s == nil {
		s = c.hub.all[c.req.Target]
	}
	may := s != nil && s.policy.rightsOf(c.who, s.owner.uid).admin
	c.hub.mu.Unlock()
	switch {
	case s == nil:
		c.refuse(&refusal{code: protocol.NoSession})
		return
	case !may: // who may not need not know
		c.noteRefused(privsep.Str(privsep.KeySession, c.req.Target))
		c.refuse(&refusal{code: protocol.NoSession})
		return
	}
	s.end("closed", false)
	a := protocol.Answer{Code: protocol.OK, Text: "closed"}
	a.Add("Session-Id", s.id)
	a.Add("Session", s.name)
	c.write(a.Append(nil), partTime)
	c.settle()
}
