package auth

import (
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/privsep"
	"gatehouse/tickets"
	"gatehouse/wire"
)

// transferJWT is what a client that comes by a ticket says in the place of a JWT.
const transferJWT = "transfer"

// issuer is an environment whose tickets are taken.
type issuer struct {
	*privsep.Issuer
	keys []*tickets.TransferKey
}

func newIssuers(all []privsep.Issuer) (map[string]*issuer, error) {
	m := make(map[string]*issuer, len(all))
	for i := range all {
		is := &issuer{Issuer: &all[i]}
		for _, b := range is.Keys {
			k, err := tickets.ParseTransferKey([]byte(b))
			if err != nil {
				return nil, err
			}
			is.keys = append(is.keys, k)
		}
		m[is.Environment] = is
	}
	return m, nil
}

// maySend tells whether the issuer answers for a user.
func (is *issuer) maySend(t *tickets.Transfer) bool {
	return slices.Contains(is.Organisations, t.Organisation) && (len(is.Users) == 0 || slices.Contains(is.Users, t.User))
}

// checkTransfer looks at a ticket: each question in its turn, the cheap ones first, and
// none about what is only a claim yet.
func checkTransfer(t *attempt) (*user, privsep.Reason) {
	if len(t.users.issuers) == 0 {
		return nil, privsep.ReasonNotConfigured
	}
	if t.challenge == "" {
		return nil, privsep.ReasonChallengeUsed
	}
	text := ticketIn(&t.connect)
	switch is, ok := tickets.ForChallenge(text, t.challenge); {
	case !ok:
		return nil, privsep.ReasonTicketForm
	case !is:
		return nil, privsep.ReasonTicketNonce
	}
	ticket, err := tickets.ParseTransfer(text)
	if err != nil {
		return nil, privsep.ReasonTicketForm
	}
	is := t.users.issuers[ticket.Issuer]
	if is == nil {
		return nil, privsep.ReasonTicketIssuer
	}
	if !ticket.SignedBy(is.keys...) {
		return nil, privsep.ReasonTicketSignature
	}
	return t.sentBy(is, &ticket.Transfer)
}

// sentBy finds who comes by what an issuer says in a ticket.
func (t *attempt) sentBy(is *issuer, ticket *tickets.Transfer) (*user, privsep.Reason) {
	t.ticket = ticket // from here on it is the issuer's word
	if reason := t.claims(is); reason != privsep.ReasonNone {
		return nil, reason
	}
	return t.userBy(is)
}

// ticketIn is the ticket in a CONNECT, "" if there is none. Most clients write what their
// callback signs in base 64, which has no dots.
func ticketIn(c *wire.Connect) string {
	if strings.Contains(c.Sig, ".") {
		return c.Sig
	}
	b, _ := decodeBase64(c.Sig, 2*tickets.MaxTransfer)
	return string(b)
}

// claims tells what speaks against a ticket that its issuer has signed.
func (t *attempt) claims(is *issuer) privsep.Reason {
	now := time.Now()
	switch {
	case t.ticket.Audience != t.environment:
		return privsep.ReasonTicketAudience
	case t.ticket.Early(now):
		return privsep.ReasonTicketEarly
	case t.ticket.Expired(now):
		return privsep.ReasonTicketExpired
	case t.connect.User != "" && t.connect.User != t.ticket.User:
		return privsep.ReasonTicketUser
	case !is.maySend(t.ticket):
		return privsep.ReasonTicketSender
	}
	return t.seen.see(t, now)
}

// userBy finds whose ticket it is. Whom the list does not have the directory is asked
// about, in its turn.
func (t *attempt) userBy(is *issuer) (*user, privsep.Reason) {
	u := t.users.byName[t.ticket.User]
	switch {
	case u == nil && t.users.directory != nil && t.users.directory.LooksUp():
		t.asks = true
		return nil, privsep.ReasonNone
	case u == nil:
		return nil, privsep.ReasonUnknownUser
	case u.organisation != t.ticket.Organisation:
		return nil, privsep.ReasonTicketOrganisation
	}
	return through(u, is), privsep.ReasonNone
}

// through is a user as who he is by a ticket. What he may do is the issuer's affair if
// that says so, and he is who he is for as long as both are what they are.
func through(u *user, is *issuer) *user {
	come := &user{mark: privsep.MarkThrough(u.mark, is.Mark), name: u.name, organisation: u.organisation, profile: u.profile}
	if is.Profile != "" {
		come.profile = is.Profile
	}
	return come
}

// seen are the tickets that have been shown, for at least as long as any could be good:
// two halves, of which the older is forgotten when the younger is that old. It does not
// outlive the process, and need not: a ticket is for the challenge of one connection,
// and the router gives that for one try. What this table adds is that it is good there
// once, whatever the router says.
type seen struct {
	mu         sync.Mutex
	young, old map[shown]uint64 // UID of the connection
	since      time.Time
}

type shown struct {
	issuer string
	id     [16]byte
}

// mostSeen bounds each half: what issuers may sign in that time, who alone can fill it.
const mostSeen = 1 << 16

// see notes a ticket that is good otherwise. A router that does not know what became of
// a login asks again, which is no second one.
func (s *seen) see(t *attempt, now time.Time) privsep.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || now.Sub(s.since) > tickets.TransferLife+2*tickets.TransferSkew {
		s.old, s.young, s.since = s.young, map[shown]uint64{}, now
	}
	key := shown{t.ticket.Issuer, t.ticket.ID}
	for _, half := range []map[shown]uint64{s.young, s.old} {
		if uid, ok := half[key]; ok && !(t.again && uid == t.id) {
			return privsep.ReasonTicketSeen
		}
	}
	if len(s.young) == mostSeen {
		return privsep.ReasonCrowded
	}
	s.young[key] = t.id
	return privsep.ReasonNone
}
