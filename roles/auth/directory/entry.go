package directory

import (
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"gatehouse/privsep"
)

// Entry is what the directory says of a user.
type Entry struct {
	DN           string
	Organisation string
	Profile      string
	Unfit        privsep.Reason // why he may not log in by a password, ReasonNone: he may
	NoProfile    bool           // none goes with what he has
}

// entry makes one of what was found by a name.
func (d *Directory) entry(found *ldap.Entry, name string) (*Entry, *Error) {
	if found.DN == "" { // by which nobody in particular could log in
		return nil, no(privsep.ReasonDirectoryProtocol)
	}
	if !slices.Contains(found.GetEqualFoldAttributeValues(d.user), name) {
		return nil, no(privsep.ReasonUnknownUser) // of another spelling
	}
	e := &Entry{DN: found.DN}
	organisation, ok := d.organisation(found)
	if !ok {
		e.Unfit = privsep.ReasonDirectoryOrganisation
	}
	e.Organisation = organisation
	if e.Profile, ok = d.profile(found); !ok {
		e.NoProfile = true
	}
	return e, nil
}

// organisation is the one value of its attribute, if that is let in.
func (d *Directory) organisation(found *ldap.Entry) (string, bool) {
	allowed := d.set.Organisations
	if d.set.OrganisationAttribute == "" {
		return strings.Join(allowed, ""), true // one, or none
	}
	values := found.GetEqualFoldAttributeValues(d.set.OrganisationAttribute)
	if len(values) != 1 || !Speakable(values[0]) || len(allowed) > 0 && !slices.Contains(allowed, values[0]) {
		return "", false
	}
	return values[0], true
}

// profile is that of the first value which the user has.
func (d *Directory) profile(found *ldap.Entry) (string, bool) {
	values := found.GetEqualFoldAttributeValues(d.set.ProfileAttribute)
	for i, want := range d.set.Values {
		if slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, want) }) {
			return d.set.Profiles[i], true
		}
	}
	return d.set.Profile, !d.set.MustMatch
}
