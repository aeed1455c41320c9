package router

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
	"gatehouse/wire"
)

// who is what is known of a client beside its connection; nil: nothing.
type who struct {
	user, organisation string
	profile            string // name, "": see identity
	mark               uint64 // of the user, 0: nobody has logged in
	kind, instance     string // of the program, as its name says

	// What its profile makes of that, see under.
	known   bool   // it may be of that kind
	vouched bool   // and the profile answers for it
	stamp   []byte // value of Gatehouse-From
}

// identity is what the credentials of a client have proved. The profile "" is that of
// clients without any, or allows everything.
type identity struct {
	user, organisation, profile string
	mark                        uint64 // of all that is known of the user, 0: nobody has logged in
}

// profile is a privsep.Profile made ready for the message path.
type profile struct {
	name               string
	publish, subscribe rights
	modes              uint8 // bit: see modeBit
	free               bool  // may publish everything, in every mode, to everybody
	choosy             bool  // requests may not go to everybody
	requestTypes       []string
	requestOrgs        []string
	types              []string
	transfer           []string // environments that its clients may go to
	responses          int      // to each request received, beyond publish; -1: any number
	stamp              bool
	system             bool // may ask for the state of the broker
	weight             uint64
	maxAge             time.Duration // of a connection, 0: any
	maxSubs            int
	limits             limits
}

// limits are those that a cm keeps, 0: the general one.
type limits struct{ payload, pending, rate uint32 }

// rights are what subjects are for.
type rights struct {
	all         bool // but for deny
	allow, deny [][]byte
}

// modeBit is the bit of a mode in a profile.
func modeBit(m store.Mode) uint8 { return 1 << (m - store.ModeBroadcast) }

// unrestricted is the profile of clients without credentials, unless one is named.
var unrestricted = &profile{publish: rights{all: true}, subscribe: rights{all: true}, modes: privsep.AllModes, free: true, weight: 1}

// powerless is the profile of those whose own is no more, until they are told.
var powerless = &profile{weight: 1}

func newProfile(p *privsep.Profile) *profile {
	f := &profile{
		name:    p.Name,
		publish: rights{p.PublishAll, subjects(p.PublishAllow), subjects(p.PublishDeny)}, modes: p.Modes,
		subscribe:    rights{p.SubscribeAll, subjects(p.SubscribeAllow), subjects(p.SubscribeDeny)},
		requestTypes: p.RequestTypes, requestOrgs: p.RequestOrganisations, types: p.Types, transfer: p.Transfer,
		responses: p.Responses, stamp: p.Stamp, system: p.System, maxAge: p.MaxAge, weight: uint64(max(p.Weight, 1)), maxSubs: p.MaxSubscriptions,
		limits: limits{uint32(p.MaxPayload), uint32(p.MaxPending), uint32(p.Rate)},
	}
	f.choosy = len(f.requestTypes)+len(f.requestOrgs) > 0
	f.free = f.publish.all && len(f.publish.deny) == 0 && f.modes == privsep.AllModes && !f.choosy
	return f
}

func subjects(list []string) (out [][]byte) {
	for _, s := range list {
		out = append(out, []byte(s))
	}
	return out
}

// allows tells whether a message on this subject may be sent.
func (g *rights) allows(subject []byte) bool {
	return (g.all || anyMatches(g.allow, subject)) && !anyMatches(g.deny, subject)
}

func anyMatches(patterns [][]byte, subject []byte) bool {
	for _, p := range patterns {
		if wire.Match(p, subject) {
			return true
		}
	}
	return false
}

// covers tells whether a subscription is allowed; partly: but for some subjects.
func (g *rights) covers(pattern []byte) (ok, partly bool) {
	ok = g.all
	for _, a := range g.allow {
		ok = ok || wire.Subset(pattern, a)
	}
	for _, d := range g.deny {
		if wire.Subset(pattern, d) {
			return false, false
		}
		partly = partly || wire.Overlap(pattern, d)
	}
	return ok, ok && partly
}

// profileOf returns the profile of a session, whoever it is; nil: there is none.
func (r *router) profileOf(s *session, id identity) *profile {
	if s.console {
		return consoleProfile
	}
	name := id.profile
	if name == "" && id.mark == 0 {
		name = r.cfg.AnonymousProfile
	}
	if name == "" {
		return unrestricted
	}
	return r.profiles[name]
}

// limits tells whether there is a profile with any.
func (r *router) limits() bool {
	for _, f := range r.profiles {
		if f.limits != (limits{}) {
			return true
		}
	}
	return false
}

// newSet takes the profiles of a set that is complete.
func newSet(list []privsep.Profile) map[string]*profile {
	set := make(map[string]*profile, len(list))
	for i := range list {
		set[list[i].Name] = newProfile(&list[i])
	}
	return set
}

// profile takes one profile of a new set. The set is in force when the settings that
// follow it are.
func (r *router) profile(m *privsep.Message) error {
	all, whole, err := r.coming.Take(m.Payload)
	if whole {
		r.next = newSet(all)
	}
	return err
}

// whoIs puts together what is known of a client; its name is its own word.
func whoIs(id identity, name string, f *profile) *who {
	w := &who{user: id.user, organisation: id.organisation, profile: id.profile, mark: id.mark}
	if kind, instance, ok := wire.SplitName(name); ok {
		w.kind, w.instance = kind, instance
	}
	if id == (identity{}) && w.kind == "" {
		return nil
	}
	return w.under(f)
}

// under is who, as far as a profile lets it be.
func (w *who) under(f *profile) *who {
	if w == nil {
		return nil
	}
	n := *w
	n.known = w.kind != "" && f.mayBe(w.kind)
	n.vouched = n.known && len(f.types) > 0
	n.stamp = n.appendStamp(nil)
	return &n
}

// mayBe tells whether clients of this profile may call themselves a type.
func (f *profile) mayBe(kind string) bool { return len(f.types) == 0 || contains(f.types, kind) }

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// anonymousStamp is the value of Gatehouse-From for a client that has proved nothing.
var anonymousStamp = []byte("anonymous")

// appendStamp makes the value of Gatehouse-From: nothing in it is a client's own word
// alone.
func (w *who) appendStamp(dst []byte) []byte {
	n := len(dst)
	for _, f := range []struct {
		key, value string
		is         bool
	}{{"user", w.user, w.user != ""}, {"organisation", w.organisation, w.organisation != ""},
		{"type", w.kind, w.vouched}, {"instance", w.instance, w.vouched}} {
		if !f.is {
			continue
		}
		if len(dst) > n {
			dst = append(dst, "; "...)
		}
		dst = appendEscaped(append(append(dst, f.key...), '='), f.value)
	}
	if len(dst) == n {
		return append(dst, anonymousStamp...)
	}
	return dst
}

// appendEscaped writes what may not stand in a value as %XX (RFC 3986, 2.1).
func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != ';' && c != '%' && c != '"' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// from is the value of Gatehouse-From on what a session sends.
func (s *session) from() []byte {
	if s.who == nil {
		return anonymousStamp
	}
	return s.who.stamp
}

// stamped tells whether a session is told who sent what it gets.
func (s *session) stamped() bool { return s.prof.stamp && s.headers }

// reprofile holds all sessions against the profiles that are in force: what they may
// subscribe to no longer is taken away and told, who has no profile any more goes.
func (r *router) reprofile() {
	r.index.forget()
	for _, l := range r.links {
		for _, s := range l.sessions {
			if s != nil && s.admitted {
				r.rejudge(s)
			}
		}
	}
	r.untold = false
}

func (r *router) rejudge(s *session) {
	old := s.prof
	if s.prof = r.profileOf(s, s.identity()); s.prof == nil {
		s.prof = powerless
		r.makeRoom(s.cm)
		r.fail(s, wire.CodeAuthViolation)
		return
	}
	if s.prof.limits != old.limits || r.untold {
		r.makeRoom(s.cm)
		r.tellLimits(s)
		if s.protocol1 && s.knowsInfo && s.prof.limits.payload != old.limits.payload {
			r.buf = r.greeting.of(s).connected.append(r.buf[:0], s)
			r.send(s, r.buf, 0)
		}
	}
	s.who = s.who.under(s.prof)
	s.due = 0
	for _, t := range s.subs {
		ok, partly := r.mayHave(s, []byte(t.subject))
		if t.partly = partly; ok {
			continue
		}
		r.makeRoom(s.cm)
		r.refuseSub(s, []byte(t.subject), []byte(t.queue))
		r.drop(t)
		r.trim()
	}
}

func (s *session) identity() (id identity) {
	if w := s.who; w != nil {
		id = identity{w.user, w.organisation, w.profile, w.mark}
	}
	return id
}

// mayHave tells whether a session may subscribe to what matches a pattern; partly: but
// for some subjects.
func (r *router) mayHave(s *session, pattern []byte) (ok, partly bool) {
	if wire.Direct(pattern) {
		w := s.who
		if w == nil || !w.known || s.prof.modes&modeBit(store.ModeDirect) == 0 {
			return false, false
		}
		r.buf = wire.AppendDirect(r.buf[:0], w.kind, w.instance)
		if string(r.buf) != string(pattern) {
			return false, false
		}
	}
	return s.prof.subscribe.covers(pattern)
}

// tellLimits tells the cm what it is to keep a session to, and that it is open.
func (r *router) tellLimits(s *session) {
	l := s.prof.limits
	if l != (limits{}) {
		r.bounds()
	}
	r.tell(s, &store.InsSession{Conn: s.conn(), Flags: store.SessionOpen, MaxPayload: l.payload, MaxPending: l.pending, Rate: l.rate})
}
