package privsep

import (
	"math"
	"time"
)

// Bounds of profiles.
const (
	MaxProfiles    = 1024     // in a set
	MaxProfileList = 256      // entries of each list
	MaxProfileText = 256      // bytes of each entry
	MaxProfile     = 32 << 10 // bytes of a whole PROFILE, which few long lists fill
	MaxWeight      = 1000
	MinMaxAge      = time.Second
)

// The messaging modes, one bit each, and their names by bit.
const (
	ModeBroadcast uint8 = 1 << iota
	ModeSemaphore
	ModeSession
	ModeFanout
	ModeDirect
	AllModes uint8 = 1<<iota - 1
)

// ModeNames are what the configuration calls the modes, in the order of their bits.
var ModeNames = [...]string{"broadcast", "semaphore", "session", "fanout", "direct"}

// AnyResponses is a Profile.Responses without limit.
const AnyResponses = -1

// Profile is what the clients that have it may do. The router's alone: others do
// what the router says.
type Profile struct {
	Set  uint32 // number of the set that it belongs to
	Last bool   // it completes the set
	Name string // at most MaxSettingsText; "": a set without any profile, all else is zero

	// Subjects, with wildcards. Without an allow list everything is allowed that
	// is not denied; an empty list allows nothing.
	PublishAll, SubscribeAll      bool // no allow list
	PublishAllow, PublishDeny     []string
	SubscribeAllow, SubscribeDeny []string
	Modes                         uint8         // bits
	RequestTypes                  []string      // types of program that requests may go to; empty: any
	RequestOrganisations          []string      // the same
	Types                         []string      // that its clients may call themselves; empty: any, which then proves nothing
	Responses                     int           // replies for each request received, beyond PublishAllow; AnyResponses
	Stamp                         bool          // its clients are told who sent a message
	Weight                        int           // 1 to MaxWeight: its share in semaphore
	MaxSubscriptions, Rate        int           // 0: the general limit, as the next two; Rate is in messages a second
	MaxPayload, MaxPending        int           // bytes
	Transfer                      []string      // environments
	System                        bool          // its clients may ask for the state of the broker
	MaxAge                        time.Duration // of a connection, at least MinMaxAge; 0: any
}

func (p *Profile) fields(c *coder) {
	c.u32(&p.Set)
	c.flag(&p.Last)
	c.text(&p.Name, MaxSettingsText)
	if p.Name == "" {
		c.check(p.Last)
		return
	}
	c.flag(&p.PublishAll)
	c.flag(&p.SubscribeAll)
	for _, l := range p.lists() {
		c.texts(l, MaxProfileList, MaxProfileText)
	}
	c.check(!p.PublishAll || len(p.PublishAllow) == 0)
	c.check(!p.SubscribeAll || len(p.SubscribeAllow) == 0)
	c.u8(&p.Modes)
	c.check(p.Modes <= AllModes)
	responses, weight := uint32(p.Responses), uint16(p.Weight)
	c.u32(&responses)
	c.flag(&p.Stamp)
	c.u16(&weight)
	if !c.encoding {
		p.Responses, p.Weight = int(int32(responses)), int(weight)
	}
	c.check(p.Responses >= AnyResponses && p.Weight >= 1 && p.Weight <= MaxWeight)
	for _, n := range []*int{&p.MaxSubscriptions, &p.Rate, &p.MaxPayload, &p.MaxPending} {
		c.number(n)
		c.check(*n <= math.MaxInt32)
	}
	c.flag(&p.System)
	c.duration(&p.MaxAge)
	c.check(p.MaxAge == 0 || p.MaxAge >= MinMaxAge)
}

func (p *Profile) lists() []*[]string {
	return []*[]string{&p.PublishAllow, &p.PublishDeny, &p.SubscribeAllow, &p.SubscribeDeny,
		&p.RequestTypes, &p.RequestOrganisations, &p.Types, &p.Transfer}
}

// Append encodes p.
func (p *Profile) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Profile) Parse(b []byte) error { return decode(p, b) }
