package auth

import (
	"bytes"
	"reflect"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/erase"
	"gatehouse/roles/auth/directory"
)

// directory.go is who is in no list: a directory knows. Its connections are made by the
// parent; what is asked of it waits in goroutines of its own class.

// known is the directory that there is, and what it was made of.
type known struct {
	set *privsep.Directory
	ca  []byte
	*directory.Directory
}

// setDirectory puts another one in the place of the one there is, unless it is the same;
// nil or one without a mark: there is none.
func (a *auth) setDirectory(set *privsep.Directory, ca []byte) error {
	old := a.known
	if set == nil || set.Mark == 0 {
		a.known = nil
	} else {
		if old != nil && reflect.DeepEqual(without(old.set), without(set)) && bytes.Equal(old.ca, ca) {
			old.set = set
			a.dialer.use(set.Number)
			return nil
		}
		d, err := directory.New(set, ca, a.dialer.dial)
		if err != nil {
			return err
		}
		a.known = &known{set, ca, d}
		a.dialer.use(set.Number)
	}
	if old != nil {
		old.Close()
	}
	return nil
}

// without is a set without its number.
func without(set *privsep.Directory) privsep.Directory {
	d := *set
	d.Number = 0
	return d
}

// newDirectory takes the one that holds with the next users.
func (a *auth) newDirectory(m *privsep.Message) (err error) {
	a.directory, a.directoryCA, err = privsep.TakeDirectory(m)
	return err
}

// inDirectory tells whether the directory is to be asked about a name: the list comes first.
func (s *users) inDirectory(name string) bool { return s.directory != nil && s.byName[name] == nil }

// checkDirectory has the directory check a password.
func checkDirectory(t *attempt) (u *user, reason privsep.Reason) {
	var e *directory.Entry
	var err *directory.Error
	erase.Do(func() { e, err = t.users.directory.Login(t.connect.User, t.connect.Pass, t.until) })
	switch t.at = "ldap"; {
	case err != nil:
		return t.unknown(err)
	case e.Unfit != privsep.ReasonNone:
		t.dn = e.DN
		return nil, e.Unfit
	case e.NoProfile:
		t.dn = e.DN
		return nil, privsep.ReasonDirectoryProfile
	}
	t.dn = e.DN
	return &user{mark: t.users.directory.Mark(), name: t.connect.User, organisation: e.Organisation, profile: e.Profile}, privsep.ReasonNone
}

// lookUp has the directory say who somebody is who came by a ticket.
func (t *attempt) lookUp() (*user, privsep.Reason) {
	is := t.users.issuers[t.ticket.Issuer]
	switch {
	case t.users.directory == nil || !t.users.inDirectory(t.ticket.User):
		return nil, privsep.ReasonUnknownUser // since it was found out who it is
	case is == nil:
		return nil, privsep.ReasonTicketIssuer
	case !is.maySend(t.ticket):
		return nil, privsep.ReasonTicketSender
	}
	e, err := t.users.directory.Lookup(t.ticket.User, t.until)
	if err != nil {
		return t.unknown(err)
	}
	switch t.dn = e.DN; {
	case e.Unfit != privsep.ReasonNone:
		return nil, e.Unfit
	case e.Organisation != t.ticket.Organisation:
		return nil, privsep.ReasonTicketOrganisation
	case e.NoProfile && is.Profile == "":
		return nil, privsep.ReasonDirectoryProfile
	}
	return through(&user{mark: t.users.directory.Mark(), name: t.ticket.User, organisation: e.Organisation, profile: e.Profile}, is), privsep.ReasonNone
}

// unknown is a no for what the directory says.
func (t *attempt) unknown(err *directory.Error) (*user, privsep.Reason) {
	if err.Err != nil {
		t.err = err.Err
	}
	return nil, err.Reason
}

// blameless are the reasons that are the directory's doing, not the client's.
func blameless(r privsep.Reason) bool {
	return r >= privsep.ReasonDirectoryDown && r <= privsep.ReasonDirectoryAccount
}

// tendDirectory says what has become of it, and looks after one that is not up.
func (a *auth) tendDirectory(now time.Time) {
	if a.known == nil {
		return
	}
	for _, n := range a.known.News() {
		if n.Err == nil {
			a.log.Info("directory answers", privsep.Str(privsep.KeyAddr, n.Server))
			continue
		}
		fields := []privsep.Field{privsep.Str(privsep.KeyAddr, n.Server), privsep.Str(privsep.KeyReason, n.Err.Reason.String())}
		if n.Err.Err != nil {
			fields = append(fields, privsep.Err(n.Err.Err))
		}
		a.log.Error("directory does not answer", fields...)
	}
	if next := a.known.NextProbe(); !next.IsZero() && !now.Before(next) {
		d := a.known.Directory
		d.BeginProbe()
		go func() {
			d.Probe()
			privsep.Ring(a.done.bell)
		}()
	}
}

// directoryStats are what status shows of it.
func (a *auth) directoryStats(s *privsep.RoleStats) {
	if a.known == nil {
		return
	}
	h := a.known.Health()
	s.Directory, s.DirectorySince, s.DirectoryReason = uint64(h.State), uint64(h.Since.UnixMilli()), uint64(h.Reason)
	s.DirectoryAsked, s.DirectoryFailed = h.Asked, h.Failed
}
