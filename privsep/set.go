package privsep

// A set of profiles, users, issuers or marks is too long for one message. Each message
// has the number of its set, and the last one says that it is that.

// parts puts the parts of a set together. A set that begins before the one before is
// whole replaces it: its sender has died.
type parts[T any] struct {
	set   uint32
	begun bool
	have  []T
}

// Begun tells whether the last parts of a set are still to come.
func (s *parts[T]) Begun() bool { return s.begun }

// add adds what a part holds. With the last one of a set it gives all of it, in order,
// and true. A part of nothing is a whole set.
func (s *parts[T]) add(set uint32, last bool, most int, holds ...T) (all []T, whole bool, err error) {
	if set != s.set {
		*s = parts[T]{set: set}
	}
	if len(s.have)+len(holds) > most || len(holds) == 0 && (s.begun || !last) {
		return nil, false, ErrShape
	}
	if s.have, s.begun = append(s.have, holds...), !last; !last {
		return nil, false, nil
	}
	all, s.have = s.have, nil
	return all, true, nil
}

// ProfileSet puts the PROFILEs of a set together.
type ProfileSet struct{ parts[Profile] }

// Take takes the payload of the next PROFILE: see parts.add.
func (s *ProfileSet) Take(payload []byte) (all []Profile, whole bool, err error) {
	var p Profile
	if err := p.Parse(payload); err != nil {
		return nil, false, err
	}
	if p.Name == "" {
		return s.add(p.Set, p.Last, MaxProfiles)
	}
	return s.add(p.Set, p.Last, MaxProfiles, p)
}

// UserSet puts the USERs of a set together.
type UserSet struct{ parts[User] }

// Take takes the payload of the next USER: see parts.add.
func (s *UserSet) Take(payload []byte) (all []User, whole bool, err error) {
	var u User
	if err := u.Parse(payload); err != nil {
		return nil, false, err
	}
	if u.nobody() {
		return s.add(u.Set, u.Last, MaxUsers)
	}
	return s.add(u.Set, u.Last, MaxUsers, u)
}

// IssuerSet puts the ISSUERs of a set together.
type IssuerSet struct{ parts[Issuer] }

// Take takes the payload of the next ISSUER: see parts.add.
func (s *IssuerSet) Take(payload []byte) (all []Issuer, whole bool, err error) {
	var p Issuer
	if err := p.Parse(payload); err != nil {
		return nil, false, err
	}
	if p.Environment == "" {
		return s.add(p.Set, p.Last, MaxIssuers)
	}
	return s.add(p.Set, p.Last, MaxIssuers, p)
}

// MarkSet puts the STANDINGs of a set together.
type MarkSet struct{ parts[uint64] }

// Take takes the payload of the next STANDING: see parts.add.
func (s *MarkSet) Take(payload []byte) (all []uint64, whole bool, err error) {
	var p Standing
	if err := p.Parse(payload); err != nil {
		return nil, false, err
	}
	return s.add(p.Set, p.Last, MaxStanding, p.Marks...)
}
