package router

import (
	"fmt"
	"slices"
	"strings"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

var (
	everythingAllowed = privsep.Profile{PublishAll: true, SubscribeAll: true, Modes: privsep.AllModes, Weight: 1}
	nothingAllowed    = privsep.Profile{Weight: 1}
)

// profile returns the profile of a name, nil: there is none.
func (m *model) profile(id identity) *privsep.Profile {
	name := id.profile
	if id.mark == 0 { // has not logged in
		name = m.g.r.cfg.AnonymousProfile
	}
	if name == "" {
		return &everythingAllowed
	}
	for i := range m.profiles {
		if m.profiles[i].Name == name {
			return &m.profiles[i]
		}
	}
	return nil
}

func limitsOf(f *privsep.Profile) limits {
	return limits{payload: uint32(f.MaxPayload), pending: uint32(f.MaxPending), rate: uint32(f.Rate)}
}

// wantLimits checks what the cms have been told last of the limits of all sessions.
func (m *model) wantLimits() {
	m.g.t.Helper()
	for cm := range m.sessions {
		for _, s := range m.bySlot(cm) {
			if got, want := m.limits[to{cm: cm, conn: s.conn}], limitsOf(s.prof); s.limited && got != want {
				m.g.t.Fatalf("cm/%d knows limits %+v of %v, want %+v", cm, got, s.conn, want)
			}
		}
	}
}

// isCalled is what a client may call itself: type and instance, and whether its profile
// vouches for that.
func (s *modelSession) isCalled() (kind, instance string, vouched bool) {
	kind, instance, ok := wire.SplitName(s.opts.Name)
	if !ok || len(s.prof.Types) > 0 && !slices.Contains(s.prof.Types, kind) {
		return "", "", false
	}
	return kind, instance, len(s.prof.Types) > 0
}

// stamp is what one session is told of another that sends it a message.
func (m *model) stamp(from, to *modelSession) string {
	if !to.prof.Stamp || !to.opts.Headers {
		return ""
	}
	var parts []string
	add := func(key, value string) {
		escaped := ""
		for _, c := range []byte(value) {
			if c <= ' ' || c >= 0x7f || strings.ContainsRune(`;%"`, rune(c)) {
				escaped += fmt.Sprintf("%%%02X", c)
			} else {
				escaped += string(rune(c))
			}
		}
		if value != "" {
			parts = append(parts, key+"="+escaped)
		}
	}
	add("user", from.id.user)
	add("organisation", from.id.organisation)
	if kind, instance, vouched := from.isCalled(); vouched {
		add("type", kind)
		add("instance", instance)
	}
	if len(parts) == 0 {
		return "anonymous"
	}
	return strings.Join(parts, "; ")
}

func anyOf(patterns []string, subject string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return wire.Match([]byte(p), []byte(subject)) })
}

func (s *modelSession) uses(mode store.Mode) bool {
	return s.prof.Modes>>(mode-store.ModeBroadcast)&1 == 1
}

// mayPublish tells whether a message may be sent, and takes what its sender hears if not.
func (m *model) mayPublish(x *modelMessage) bool {
	m.g.t.Helper()
	s, f := x.from, x.from.prof
	switch {
	case wire.ReservedPublish(x.rec.Subject):
	case x.reply != "" && wire.ReservedReply(x.rec.Reply):
		m.wantErr(s, wire.CodeReplyPermission, x.rec.Reply)
		return false
	case x.isAnswer() && f.Responses != 0:
		return true // whatever its subject is
	case !s.uses(x.mode) && !x.isAnswer():
	case (f.PublishAll || anyOf(f.PublishAllow, x.subject)) && !anyOf(f.PublishDeny, x.subject):
		return true
	}
	m.wantErr(s, wire.CodePubPermission, x.rec.Subject)
	return false
}

// isAnswer tells whether a message answers a request, and does nothing beside that.
func (x *modelMessage) isAnswer() bool {
	return x.answers != nil && (x.mode == store.ModeBroadcast || x.mode == store.ModeDirect && x.reply == "")
}

// suits tells whether a message is for a session, whatever that has subscribed to.
func (m *model) suits(x *modelMessage, to *modelSession) bool {
	kind, _, vouched := to.isCalled()
	org, f := to.id.organisation, x.from.prof
	switch {
	case len(x.facts.ToType) > 0 && string(x.facts.ToType) != kind:
	case len(x.facts.ToOrganisation) > 0 && string(x.facts.ToOrganisation) != org:
	case x.reply != "" && len(f.RequestTypes) > 0 && !(vouched && slices.Contains(f.RequestTypes, kind)):
	case x.reply != "" && len(f.RequestOrganisations) > 0 && !slices.Contains(f.RequestOrganisations, org):
	default:
		return true
	}
	return false
}

// maySubscribe tells whether a session may have a subscription, perhaps but for some of
// its subjects.
func (m *model) maySubscribe(s *modelSession, pattern string) bool {
	if isDirect(pattern) {
		kind, instance, _ := s.isCalled()
		if kind == "" || pattern != "_APP."+kind+"."+instance || !s.uses(store.ModeDirect) {
			return false
		}
	}
	within := func(of string) bool { return isWithin(pattern, of) }
	return (s.prof.SubscribeAll || slices.ContainsFunc(s.prof.SubscribeAllow, within)) && !slices.ContainsFunc(s.prof.SubscribeDeny, within)
}

// isWithin tells whether all that a pattern matches is matched by another: it is if
// subjects are of which a wildcard matches what stands nowhere else.
func isWithin(pattern, of string) bool {
	literal := strings.Split(pattern, ".")
	for i, token := range literal {
		if token == "*" {
			literal[i] = "other"
		}
	}
	subject := strings.Join(literal, ".")
	base, rest := strings.CutSuffix(subject, ">")
	if !rest {
		return wire.Match([]byte(of), []byte(subject))
	}
	for range 5 {
		base += "other"
		if !wire.Match([]byte(of), []byte(base)) {
			return false
		}
		base += "."
	}
	return true
}

// reprofile accounts for profiles that have changed: subscriptions that are taken away, and
// sessions whose profile is no more.
func (m *model) reprofile() {
	m.g.t.Helper()
	for cm := range m.sessions {
		for _, s := range m.bySlot(cm) {
			most := s.prof.MaxPayload
			if s.prof = m.profile(s.id); s.prof == nil {
				s.prof = &nothingAllowed
				m.fail(s, wire.CodeAuthViolation)
				continue
			}
			if s.prof.MaxPayload != most && s.opts.Protocol == 1 && s.told {
				m.wantSend(s, "INFO ", false)
			}
			m.wantTaken(s)
		}
	}
	m.wantLater()
}

// wantTaken takes an -ERR for each subscription that a session may not have any more, in
// whatever order.
func (m *model) wantTaken(s *modelSession) {
	m.g.t.Helper()
	m.wantLosses(s, func(t *modelSub) bool { return t.ses == s && !m.maySubscribe(s, t.subject) })
}

// wantLosses takes an -ERR for each subscription that a session loses, in whatever order.
func (m *model) wantLosses(s *modelSession, loses func(*modelSub) bool) {
	m.g.t.Helper()
	var gone []string
	m.drop(func(t *modelSub) bool {
		if !loses(t) {
			return false
		}
		gone = append(gone, refused(t.subject, t.queue))
		return true
	})
	for range len(gone) {
		ins, _ := m.next(s.cm).(*store.InsSend)
		i := -1
		if ins != nil && ins.Conn == s.conn && ins.Flags == 0 {
			i = slices.Index(gone, string(ins.Data))
		}
		if i < 0 {
			m.g.t.Fatalf("cm/%d: %+v, want one of %q to %v", s.cm, ins, gone, s.conn)
		}
		gone = slices.Delete(gone, i, i+1)
	}
}
