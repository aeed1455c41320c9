package roles

import (
	"fmt"
	"slices"
	"time"

	"gatehouse/privsep"
)

// This file is how the parent's word on profiles and modes looks in JSON.

// profile is the shape of a PROFILE but for its set, which the driver numbers.
func profile(c *coder, p *privsep.Profile) {
	name := []byte(p.Name)
	c.text("name", &name)
	p.Name = string(name)
	c.flag("publish_all", &p.PublishAll)
	c.flag("subscribe_all", &p.SubscribeAll)
	for _, l := range []struct {
		key string
		p   *[]string
	}{
		{"publish_allow", &p.PublishAllow}, {"publish_deny", &p.PublishDeny},
		{"subscribe_allow", &p.SubscribeAllow}, {"subscribe_deny", &p.SubscribeDeny},
		{"request_types", &p.RequestTypes}, {"request_organisations", &p.RequestOrganisations},
		{"types", &p.Types}, {"transfer", &p.Transfer},
	} {
		c.texts(l.key, l.p)
	}
	modeSet(c, &p.Modes)
	count(c, "responses", &p.Responses)
	c.flag("stamp", &p.Stamp)
	c.flag("system", &p.System)
	count(c, "weight", &p.Weight)
	count(c, "max_subscriptions", &p.MaxSubscriptions)
	count(c, "rate", &p.Rate)
	count(c, "max_payload", &p.MaxPayload)
	count(c, "max_pending", &p.MaxPending)
	milliseconds(c, "max_age_ms", &p.MaxAge)
	c.flag("last", &p.Last)
}

// count is a number that an int holds.
func count(c *coder, key string, p *int) {
	n := int32(*p)
	c.signed(key, &n, 0)
	*p = int(n)
}

// modeSet is a set of modes by their names.
func modeSet(c *coder, p *uint8) {
	var names []string
	for i, name := range privsep.ModeNames {
		if *p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	c.texts("modes", &names)
	*p = 0
	for _, name := range names {
		i := slices.Index(privsep.ModeNames[:], name)
		if i < 0 {
			c.wrong("modes", "%q is none", name)
			return
		}
		*p |= 1 << i
	}
}

// live is the shape of what of a SETTINGS concerns modes and profiles.
func live(c *coder, l *privsep.Live) {
	milliseconds(c, "request_timeout_ms", &l.RequestTimeout)
	milliseconds(c, "session_idle_ms", &l.SessionIdle)
	c.flag("replace_instance", &l.ReplaceInstance)
	c.flag("auth", &l.Auth)
	name := []byte(l.AnonymousProfile)
	c.text("anonymous_profile", &name)
	l.AnonymousProfile = string(name)
}

func milliseconds(c *coder, key string, d *time.Duration) {
	ms := uint32(*d / time.Millisecond)
	number(c, key, &ms)
	*d = time.Duration(ms) * time.Millisecond
}

// lineProfile passes on one profile. Those up to a last one are a set.
func (p *routerPeers) lineProfile(c *coder) error {
	m := privsep.Profile{Set: p.set, Modes: privsep.AllModes, Weight: 1}
	if profile(c, &m); m.Name == "" { // a set without any
		m = privsep.Profile{Set: p.set, Last: m.Last}
	}
	if err := c.end(); err != nil {
		return err
	}
	b := m.Append(nil)
	if err := new(privsep.Profile).Parse(b); err != nil {
		return err
	}
	if len(b) > privsep.MaxProfile {
		return fmt.Errorf("%d bytes, a profile may have %d", len(b), privsep.MaxProfile)
	}
	if m.Last {
		p.set++
	}
	return p.d.send(privsep.KindProfile, b)
}

// lineSettings changes what it names; the rest stays.
func (p *routerPeers) lineSettings(c *coder) error {
	next := p.live
	live(c, &next)
	if err := c.end(); err != nil {
		return err
	}
	p.live = next
	return p.d.send(privsep.KindSettings, next.Append(nil))
}
