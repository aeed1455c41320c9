package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"gatehouse/privsep"
	"gatehouse/privsep/passhash"
	"gatehouse/roles/auth/chain"
	"gatehouse/roles/auth/directory"
)

// user is who a client can turn out to be.
type user struct {
	mark         uint64
	name         string
	organisation string
	profile      string
	hash         *passhash.Hash // nil: none
}

// users are all there are. They never change: a reload makes others, and a check goes
// on with those that there were when it began.
type users struct {
	byName  map[string]*user
	byNKey  map[string]*user   // by public key
	issuers map[string]*issuer // by environment
	token   *user              // whoever knows the token, nil: there is none
	hashes  []*passhash.Hash   // all of users with a name
	secret  [sha256.Size]byte
	memory  int // of the hash that takes most

	byCertificate map[string][]certified // by one of the names that it must have
	approved      *chain.Approved        // nil: nobody may vouch for one
	approvedMark  uint64

	directory *directory.Directory // that knows whoever has no name here, nil: nobody does
	byProcess []processed
}

// newUsers makes the set of what the parent has said, which has checked it.
func newUsers(all []privsep.User, issuers []privsep.Issuer, by approval) (*users, error) {
	byTicket, err := newIssuers(issuers)
	if err != nil {
		return nil, err
	}
	s := &users{issuers: byTicket, byName: make(map[string]*user, len(all)), byNKey: map[string]*user{},
		byCertificate: map[string][]certified{}, approved: by.approved, approvedMark: by.mark}
	sum := sha256.New()
	for i := range all {
		p := &all[i]
		u := &user{mark: p.Mark, name: p.Name, organisation: p.Organisation, profile: p.Profile}
		if p.Password != "" {
			if u.hash, err = passhash.Parse(p.Password); err != nil {
				return nil, fmt.Errorf("%v: password %w", p, err)
			}
			s.memory = max(s.memory, u.hash.Memory())
			sum.Write([]byte(p.Password))
		}
		if p.NKey != "" {
			s.byNKey[p.NKey] = u
		}
		if p.Name == "" {
			s.token = u
			continue
		}
		s.byName[p.Name] = u
		s.certify(u, p)
		if p.Process.Given() {
			s.byProcess = append(s.byProcess, processed{p.Process, u})
		}
		if u.hash != nil {
			s.hashes = append(s.hashes, u.hash)
		}
	}
	sum.Sum(s.secret[:0])
	return s, nil
}

// hashFor gives the hash that a password for name is held against. For a name that
// nobody has, or who has no password, it is that of some user, the same one as long
// as the users are the same: over all names such hashes are as expensive as those
// of the users, and a second look at a name tells nothing. Nil: nobody has a password.
func (s *users) hashFor(name string) *passhash.Hash {
	if u := s.byName[name]; u != nil && u.hash != nil {
		return u.hash
	}
	if len(s.hashes) == 0 {
		return nil
	}
	h := sha256.New()
	h.Write(s.secret[:])
	h.Write([]byte(name))
	n := binary.LittleEndian.Uint64(h.Sum(nil))
	return s.hashes[n%uint64(len(s.hashes))]
}
