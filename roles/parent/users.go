package parent

import (
	"slices"
	"time"

	"gatehouse/privsep"
)

// users.go is who can log in: auth gets all that there is to know of them and of those
// whose tickets they may come by, the router only marks, by which it knows whose session
// is of somebody who has been removed or changed.

// userSet is what auth and the router have, or get.
type userSet struct {
	number    uint32         // rises with each change; 0: none has been made
	by        uint64         // mark of who vouches for certificates
	directory *directoryText // nil: there is none
	users     [][]byte       // payload of each USER
	issuers   [][]byte       // payload of each ISSUER
	marks     [][]byte       // payload of each STANDING
	rules     []privsep.ProcessRule
}

// setUsers makes a set of what the configuration has, unless it is the one that there
// is: after setApproval. Its numbers are as those of profiles.
func (p *parent) setUsers(c *Config, issuers []privsep.Issuer, d *directoryText) {
	s := &p.userSet
	by := p.approval.mark()
	same := s.setDirectory(d)
	if s.number != 0 && s.by == by && same && slices.EqualFunc(s.users, userFrames(c, s.number), slices.Equal) &&
		slices.EqualFunc(s.issuers, issuerFrames(issuers, s.number), slices.Equal) {
		return
	}
	if s.number == 0 {
		s.number = uint32(p.began)
	}
	s.number = max(s.number+1, 1)
	s.rules = c.processRules()
	s.by, s.users, s.issuers = by, userFrames(c, s.number), issuerFrames(issuers, s.number)
	if !same && d != nil {
		d.set.Number = s.number
	}
	s.marks = markFrames(c, issuers, by, d.mark(), s.number)
}

// setDirectory puts another one in the place of the one there is, and tells whether it
// is the same.
func (s *userSet) setDirectory(d *directoryText) bool {
	old := s.directory
	s.directory = d
	same := sameDirectory(old, d)
	if old != nil {
		if same {
			d.set.Number = old.set.Number
		}
		old.close()
	}
	return same
}

// userFrames gives the frames of a set, which for no user at all is one.
func userFrames(c *Config, set uint32) (frames [][]byte) {
	for _, u := range c.users(set) {
		frames = append(frames, u.Append(nil))
	}
	if len(frames) == 0 {
		none := privsep.User{Set: set, Last: true}
		frames = append(frames, none.Append(nil))
	}
	return frames
}

// issuerFrames gives the frames of a set, which for no issuer at all is one.
func issuerFrames(issuers []privsep.Issuer, set uint32) (frames [][]byte) {
	for i, is := range issuers {
		is.Set, is.Last = set, i == len(issuers)-1
		frames = append(frames, is.Append(nil))
	}
	if len(issuers) == 0 {
		none := privsep.Issuer{Set: set, Last: true}
		frames = append(frames, none.Append(nil))
	}
	return frames
}

// markFrames gives the marks of all users, and of each as who he is by a ticket or by a
// certificate. All whom the directory knows have one together.
func markFrames(c *Config, issuers []privsep.Issuer, by, directory uint64, set uint32) (frames [][]byte) {
	var marks []uint64
	if directory != 0 {
		marks = append(marks, directory)
		for _, is := range issuers {
			marks = append(marks, privsep.MarkThrough(directory, is.Mark))
		}
	}
	for i, u := range c.users(set) {
		marks = append(marks, u.Mark)
		if u.Certified() {
			marks = append(marks, privsep.MarkThrough(u.Mark, by))
		}
		for k := range issuers {
			if i < len(c.Users) && c.Issuers[k].maySend(&c.Users[i]) {
				marks = append(marks, privsep.MarkThrough(u.Mark, issuers[k].Mark))
			}
		}
	}
	for last := false; !last; {
		n := min(len(marks), privsep.MaxMarks)
		last = n == len(marks)
		m := privsep.Standing{Set: set, Last: last, Marks: marks[:n]}
		frames, marks = append(frames, m.Append(nil)), marks[n:]
	}
	return frames
}

// frames is what a role is told of one kind.
type frames struct {
	kind privsep.Kind
	all  [][]byte
}

// framesFor gives what a role is told of users.
func (s *userSet) framesFor(r privsep.Role) []frames {
	switch r {
	case privsep.RoleAuth:
		return []frames{{privsep.KindIssuer, s.issuers}, {privsep.KindUser, s.users}}
	case privsep.RoleRouter:
		return []frames{{privsep.KindStanding, s.marks}}
	}
	return nil
}

// handOutUsers gives a new auth or router all of them.
func (p *parent) handOutUsers(c *child) error {
	if err := p.handOutApproval(c); err != nil {
		return err
	}
	if err := p.handOutDirectory(c); err != nil {
		return err
	}
	for _, fs := range p.userSet.framesFor(c.id.Role) {
		for _, f := range fs.all {
			if err := c.ch.SendWait(handOutTime, fs.kind, f); err != nil {
				return err
			}
		}
	}
	c.users = p.userSet.number
	return nil
}

// giveUsers gives an auth or a router those that it does not have.
func (p *parent) giveUsers(c *child) {
	if c.users == p.userSet.number {
		return
	}
	c.users = p.userSet.number
	p.giveDirectory(c)
	for _, fs := range p.userSet.framesFor(c.id.Role) {
		p.giveSet(c, fs.kind, fs.all)
	}
}

// tend gives a role a process when it is needed, and ends it when it is not any more:
// auth while there are credentials, the console while it listens anywhere.
func (p *parent) tend(role privsep.Role, needed bool) {
	if !p.up || p.stopping {
		return
	}
	var idle []*child
	for _, c := range p.children {
		if c.id.Role != role {
			continue
		}
		switch {
		case c.state == gone, c.state == backoff && !needed:
			c.state = vacant
		case c.state == running && c.change == nil && !needed:
			p.dismiss(c)
		}
		if c.state == vacant {
			idle = append(idle, c)
		}
	}
	if needed && len(idle) == 2 {
		c := idle[0]
		c.everRan, c.quickEnds = true, 0 // it is started again and again if it does not get ready
		p.startOr(c)
	}
}

// dismiss has a role end that is not needed any more.
func (p *parent) dismiss(c *child) {
	var now privsep.Shutdown
	p.send(c, privsep.KindShutdown, now.Append(nil))
	if c.ch != nil {
		c.ch.SetPhase(privsep.PhaseDrain)
	}
	c.state, c.wake = stopping, time.Now().Add(leaveTime)
}

// authFault ends an auth of which the router says that it breaks the rules or answers
// nothing.
func (p *parent) authFault(from *child, m *privsep.Message) error {
	var f privsep.AuthFault
	if err := f.Parse(m.Payload); err != nil {
		return err
	}
	for _, c := range p.children {
		if c.id.Role == privsep.RoleAuth && c.generation == f.Generation && c.alive() {
			p.accused(c, from, m.Kind, f.Reason)
		}
	}
	return nil
}
