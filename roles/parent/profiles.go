package parent

import (
	"slices"
	"time"

	"gatehouse/privsep"
)

// openness is what an operator is told of a broker that asks nobody who it is, "" if
// it does ask.
func openness(c *Config) string {
	if c.credentials() != 0 || !c.listens() {
		return ""
	}
	rights := "all rights"
	if c.Listen.Profile != "" {
		rights = "the profile " + show(c.Listen.Profile)
	}
	return "no authentication: whoever reaches a listener is a client with " + rights
}

// profileSet is what the router has, or gets, of the profiles.
type profileSet struct {
	number uint32   // rises with each change; 0: none has been made
	frames [][]byte // payload of each PROFILE
}

// setProfiles makes a set of what the configuration has, unless it is the one that
// there is. A parent begins to count where no other one does, since the router may
// have the beginning of a set from one that has died.
func (p *parent) setProfiles(list []ProfileConfig) {
	s := &p.profiles
	if s.number != 0 && slices.EqualFunc(s.frames, framesOf(list, s.number), slices.Equal) {
		return
	}
	if s.number == 0 {
		s.number = uint32(p.began)
	}
	s.number = max(s.number+1, 1)
	s.frames = framesOf(list, s.number)
}

// framesOf gives the frames of a set, which for no profile at all is one.
func framesOf(list []ProfileConfig, set uint32) (frames [][]byte) {
	for i := range list {
		m := list[i].payload()
		m.Set, m.Last = set, i == len(list)-1
		frames = append(frames, m.Append(nil))
	}
	if len(list) == 0 {
		none := privsep.Profile{Set: set, Last: true}
		frames = append(frames, none.Append(nil))
	}
	return frames
}

// handOutProfiles gives a new router all of them.
func (p *parent) handOutProfiles(c *child) error {
	for _, f := range p.profiles.frames {
		if err := c.ch.SendWait(handOutTime, privsep.KindProfile, f); err != nil {
			return err
		}
	}
	c.profile = p.profiles.number
	return nil
}

// setTime is how long a child may take to read a set that its socket does not hold;
// that takes more than a hundred profiles.
const setTime = time.Second

// giveProfiles gives the router those that it does not have. There is room in its
// channel for anything else afterwards.
func (p *parent) giveProfiles(c *child) {
	if c.profile == p.profiles.number {
		return
	}
	c.profile = p.profiles.number
	p.giveSet(c, privsep.KindProfile, p.profiles.frames)
}

// giveSet gives a child the frames of a set, at the pace at which it reads.
func (p *parent) giveSet(c *child, k privsep.Kind, frames [][]byte) {
	end := time.Now().Add(setTime)
	for _, f := range frames {
		if !c.hears(k, len(f), 0) {
			return
		}
		if !p.heard(c, k, c.ch.SendPaced(max(time.Until(end), 0), k, f)) {
			return
		}
	}
}
