package parent

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"gatehouse/privsep"
)

// approval.go is who may vouch for the certificates of clients, and what they have
// revoked, as auth gets it. Files of revocation lists are looked at all the time: they
// are written by programs that know nothing of this one.

// approval is what has been read of it.
type approval struct {
	number   uint32 // rises with each change; 0: none has been made
	approved []byte // PEM
	lists    []*listFile
	looked   time.Time // at the files
}

// lookEvery is how often.
const lookEvery = 2 * time.Second

// listFile is a file of revocation lists as it was when it was read.
type listFile struct {
	path string
	seen fileState
	pem  []byte
}

// fileState is another one when a file has been written or replaced.
type fileState struct {
	dev, inode   uint64
	size         int64
	wrote, moved syscall.Timespec
}

func stateOf(path string) (s fileState, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s = fileState{sys.Dev, sys.Ino, sys.Size, sys.Mtim, sys.Ctim}
	}
	return s, nil
}

// read reads the file. Its state is taken before that: what changes meanwhile is seen
// the next time.
func (l *listFile) read() (err error) {
	if l.seen, err = stateOf(l.path); err != nil {
		return err
	}
	pem, err := readLists(l.path)
	if err == nil {
		l.pem = pem
	}
	return err
}

// mark is the same as long as the same is approved, 0 when nothing is.
func (a *approval) mark() uint64 {
	if len(a.approved) == 0 {
		return 0
	}
	return markOf(string(a.approved))
}

func (a *approval) listSize() (n int) {
	for _, l := range a.lists {
		n += len(l.pem)
	}
	return n
}

func (a *approval) listText() []byte {
	var all [][]byte
	for _, l := range a.lists {
		all = append(all, l.pem)
	}
	return bytes.Join(all, nil)
}

// setApproval puts another one in the place of the one there is, unless it says the
// same. Its numbers are as those of profiles.
func (p *parent) setApproval(a *approval) {
	old := &p.approval
	switch {
	case old.number == 0:
		a.number = max(uint32(p.began)+1, 1)
	case bytes.Equal(old.approved, a.approved) && bytes.Equal(old.listText(), a.listText()):
		a.number = old.number
	default:
		a.number = max(old.number+1, 1)
	}
	p.approval = *a
}

// lookAtLists reads what has changed since it was read last. What cannot be read is
// said once, and what was there before goes on.
func (p *parent) lookAtLists(now time.Time) {
	a := &p.approval
	if !p.up || p.stopping || len(a.lists) == 0 || now.Sub(a.looked) < lookEvery {
		return
	}
	a.looked = now
	changed := false
	for _, l := range a.lists {
		seen, err := stateOf(l.path)
		if seen == l.seen {
			continue
		}
		l.seen = seen
		before := l.pem
		if err == nil {
			err = l.read()
		}
		if err == nil && a.listSize() > privsep.MaxLists {
			l.pem, err = before, errors.New(l.path+": too large together with the others")
		}
		if err != nil {
			p.log.Error().Str("key", "auth.x509_crl").Err(err).Msg("revocation list not read: the earlier one stays")
			continue
		}
		if !slices.Equal(before, l.pem) {
			p.log.Info().Str("path", l.path).Int("bytes", len(l.pem)).Msg("revocation list read again")
			changed = true
		}
	}
	if !changed {
		return
	}
	a.number = max(a.number+1, 1)
	for _, c := range p.children {
		if c.state == running && !c.standsBy() {
			p.giveApproval(c)
		}
	}
}

// nextLook is when that is due, zero: never.
func (p *parent) nextLook() time.Time {
	if a := &p.approval; len(a.lists) > 0 && p.up && !p.stopping {
		return a.looked.Add(lookEvery)
	}
	return time.Time{}
}

// parcelApproval gives the message of the present one, with its parcel to be closed.
func (p *parent) parcelApproval(soon bool) (m privsep.Approval, fd int, err error) {
	a := &p.approval
	lists := a.listText()
	fd, err = privsep.Parcel("approval", slices.Concat(a.approved, lists))
	return privsep.Approval{Number: a.number, Mark: a.mark(), Approved: uint32(len(a.approved)), Lists: uint32(len(lists)), Soon: soon}, fd, err
}

// handOutApproval gives it to a new auth.
func (p *parent) handOutApproval(c *child) error {
	c.approval = p.approval.number
	if c.id.Role != privsep.RoleAuth || p.approval.mark() == 0 {
		return nil
	}
	m, fd, err := p.parcelApproval(true)
	if err != nil {
		return err
	}
	defer privsep.CloseFD(fd)
	return c.ch.SendWait(handOutTime, privsep.KindApproval, m.Append(nil), fd)
}

// giveApproval gives it to an auth that does not have it. If it is to have other users,
// too, both hold together.
func (p *parent) giveApproval(c *child) {
	if c.id.Role != privsep.RoleAuth || c.approval == p.approval.number {
		return
	}
	m, fd, err := p.parcelApproval(c.users != p.userSet.number)
	if err != nil {
		p.log.Error().Err(err).Msg("approval not handed out")
		return
	}
	defer privsep.CloseFD(fd)
	c.approval = m.Number
	p.send(c, privsep.KindApproval, m.Append(nil), fd)
}
