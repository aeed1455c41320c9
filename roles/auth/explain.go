package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/privsep"
	"gatehouse/tickets"
)

// Facts are what auth would have of a configuration.
type Facts struct {
	Environment string
	Kinds       privsep.CredentialSet
	Users       []privsep.User
	Issuers     []privsep.Issuer
	Approval    *privsep.ApprovalText // nil: there is none
	Directory   bool                  // there is one
	LooksUp     bool                  // and it can be asked about users without their passwords
}

// Claim is what a client would show, as far as it is known.
type Claim struct {
	Kind         privsep.Credential
	User         string // that it says it is
	NKey         string
	Chain        []byte // DER of certificates, its own first
	Issuer       string // of a ticket
	Organisation string // in it; "": that of the user here
	Secret       []byte // nil: the right one
	Process      privsep.Process
	Sight        privsep.Inspected // of it
	Content      *privsep.Content  // that it executes, nil: not known; closed
}

// Explanation is what would become of it, step by step.
type Explanation struct {
	Steps  []Step
	Reason privsep.Reason // of the one that says no
	Err    error          // more of it

	User, Organisation, Profile string
	Directory                   bool     // which says what organisation and profile are
	Names                       []string // that a certificate has, as the configuration would write them
}

// Step is one question and its answer. What is taken for granted is Assumed.
type Step struct {
	Question string
	Yes      bool
	Assumed  bool
	Reason   privsep.Reason
}

// point is a question that the check of a kind asks, in this order. A no has one of its
// reasons; one without a reason is not asked here, since it takes what only the client has.
type point struct {
	text    string
	reasons []privsep.Reason
}

func ask(text string, reasons ...privsep.Reason) point { return point{text, reasons} }

// points are those of each kind. %q is who the claim is about.
var points = map[privsep.Credential][]point{
	privsep.CredentialNone: {
		ask("it shows a credential", privsep.ReasonNoCredential),
	},
	privsep.CredentialPassword: {
		ask("somebody has a password here", privsep.ReasonNotConfigured),
		ask("there is a user %q", privsep.ReasonUnknownUser),
		ask("he has a password", privsep.ReasonNoPassword),
		ask("the password is right", privsep.ReasonWrongPassword),
	},
	privsep.CredentialToken: {
		ask("there is a token", privsep.ReasonNotConfigured),
		ask("the token is right", privsep.ReasonWrongToken),
	},
	privsep.CredentialNKey: {
		ask("it is the public nkey of a user", privsep.ReasonBadNKey),
		ask("it is a user's here", privsep.ReasonUnknownNKey),
		ask("the signature over the challenge is by that key"),
	},
	privsep.CredentialX509: {
		ask("somebody may vouch for certificates", privsep.ReasonNotConfigured),
		ask("the signature over challenge and environment is by the certificate's key"),
		ask("the certificates can be read", privsep.ReasonCMSCertificates),
		ask("its key, and those above it, are good enough", privsep.ReasonCertificateKey),
		ask("it is for clients and for signing", privsep.ReasonCertificateUsage),
		ask("a chain that is valid now leads from it to an approved key", privsep.ReasonCertificateUnapproved, privsep.ReasonCertificateExpired,
			privsep.ReasonCertificateNotYetValid, privsep.ReasonCertificateConstraint),
		ask("nothing in that is revoked", privsep.ReasonCertificateRevoked, privsep.ReasonCertificateNoList),
		ask("it is a user's here", privsep.ReasonCertificateNobody),
		ask("of one user only", privsep.ReasonCertificateAmbiguous),
	},
	privsep.CredentialTransfer: {
		ask("tickets are taken here", privsep.ReasonNotConfigured),
		ask("the ticket is for the challenge"),
		ask("its issuer is approved", privsep.ReasonTicketIssuer),
		ask("it is signed by one of the issuer's keys, for this environment, and of now"),
		ask("the issuer may send %q", privsep.ReasonTicketSender),
		ask("it has not been shown before"),
		ask("there is a user %q", privsep.ReasonUnknownUser),
		ask("he is of the same organisation here", privsep.ReasonTicketOrganisation),
	},
	privsep.CredentialProcess: {
		ask("somebody logs in by a process here", privsep.ReasonNoCredential),
		ask("it is known which process it is", privsep.ReasonProcessUnknown),
		ask("it is alive", privsep.ReasonProcessGone),
		ask("it has one uid and one gid", privsep.ReasonProcessChanged),
		ask("its executable can be looked at, if a rule asks for it", privsep.ReasonProcessUnreadable, privsep.ReasonLate),
		ask("its uid, gid and executable are somebody's", privsep.ReasonProcessNobody),
		ask("what that holds is what his rule says", privsep.ReasonProcessDigest),
		ask("one rule asks for all that the others do", privsep.ReasonProcessAmbiguous),
	},
}

// Explain tells what auth would make of a claim, by the code that it would do it with.
// An error is about the facts.
func Explain(f *Facts, c *Claim) (*Explanation, error) {
	x := new(Explanation)
	defer func() {
		if c.Content != nil {
			c.Content.Close()
		}
	}()
	var by approval
	if f.Approval != nil {
		var lists []error
		var err error
		if by, lists, err = readApproval(f.Approval, nil); err != nil {
			return nil, err
		}
		x.Err = errors.Join(lists...)
	}
	users, err := newUsers(f.Users, f.Issuers, by)
	if err != nil {
		return nil, err
	}
	t := &attempt{users: users, environment: f.Environment, seen: new(seen), digests: new(digests), until: time.Now().Add(time.Hour),
		process: c.Process, processes: f.Kinds.Has(privsep.CredentialProcess), chain: c.Chain}
	t.connect.User = c.User
	u, reason := t.claimed(c)
	if users.byName[c.User] == nil && f.asks(c, reason) {
		x.elsewhere(c)
		return x, nil
	}
	x.answer(c, reason)
	if t.err != nil {
		x.Err = t.err
	}
	if t.names.Key != "" {
		x.Names = append([]string{t.names.Subject}, append(t.names.SANs, t.names.Key)...)
	}
	if u != nil {
		x.User, x.Organisation, x.Profile = u.name, u.organisation, u.profile
	}
	return x, nil
}

// claimed does what the check of a kind does with what there is of a claim.
func (t *attempt) claimed(c *Claim) (*user, privsep.Reason) {
	switch c.Kind {
	case privsep.CredentialPassword:
		if c.Secret == nil {
			if t.users.hashFor(c.User) == nil {
				return nil, privsep.ReasonNotConfigured
			}
			return t.users.withPassword(c.User)
		}
		t.connect.Pass = string(c.Secret)
		return checkPassword(t)
	case privsep.CredentialToken:
		if c.Secret == nil && t.users.token != nil {
			return t.users.token, privsep.ReasonNone
		}
		t.connect.AuthToken = string(c.Secret)
		return checkToken(t)
	case privsep.CredentialNKey:
		_, u, reason := t.users.withNKey(c.NKey)
		return u, reason
	case privsep.CredentialX509:
		return checkTLS(t)
	case privsep.CredentialTransfer:
		return t.claimedTicket(c)
	case privsep.CredentialProcess:
		return t.claimedProcess(c)
	}
	return nil, privsep.ReasonNoCredential
}

func (t *attempt) claimedTicket(c *Claim) (*user, privsep.Reason) {
	if len(t.users.issuers) == 0 {
		return nil, privsep.ReasonNotConfigured
	}
	is := t.users.issuers[c.Issuer]
	if is == nil {
		return nil, privsep.ReasonTicketIssuer
	}
	now := time.Now()
	ticket := &tickets.Transfer{Issuer: c.Issuer, User: c.User, Organisation: c.Organisation, Audience: t.environment,
		Issued: now.Unix(), Expires: now.Add(tickets.TransferLife).Unix()}
	if u := t.users.byName[c.User]; ticket.Organisation == "" && u != nil {
		ticket.Organisation = u.organisation
	}
	rand.Read(ticket.ID[:])
	return t.sentBy(is, ticket)
}

func (t *attempt) claimedProcess(c *Claim) (*user, privsep.Reason) {
	if !t.processes {
		return nil, privsep.ReasonNoCredential
	}
	t.look = func(file bool) sighting {
		s := sighting{Inspected: c.Sight}
		if file {
			s.file, c.Content = c.Content, nil
		}
		return s
	}
	return checkProcess(t)
}

// answer makes steps of the reason: the one that it belongs to says no, those before yes.
func (x *Explanation) answer(c *Claim, reason privsep.Reason) {
	x.Reason = reason
	for _, p := range points[c.Kind] {
		s := Step{Question: p.text, Yes: true, Assumed: len(p.reasons) == 0 || c.Secret == nil && p.takesSecret()}
		if strings.Contains(p.text, "%q") {
			s.Question = fmt.Sprintf(p.text, c.User)
		}
		if slices.Contains(p.reasons, reason) {
			s.Yes, s.Assumed, s.Reason = false, false, reason
		}
		x.Steps = append(x.Steps, s)
		if !s.Yes {
			return
		}
	}
	if reason != privsep.ReasonNone { // of a check that asks more than is written here
		x.Steps = append(x.Steps, Step{Question: "everything else is right", Reason: reason})
	}
}

// asks tells whether it is for the directory to say who somebody is who is not in the
// list, and for that reason refused.
func (f *Facts) asks(c *Claim, reason privsep.Reason) bool {
	switch c.Kind {
	case privsep.CredentialPassword:
		return f.Directory && (reason == privsep.ReasonUnknownUser || reason == privsep.ReasonNotConfigured)
	case privsep.CredentialTransfer:
		return f.LooksUp && reason == privsep.ReasonUnknownUser
	}
	return false
}

// elsewhere makes the steps for such a one.
func (x *Explanation) elsewhere(c *Claim) {
	if c.Kind == privsep.CredentialTransfer {
		x.answer(c, privsep.ReasonUnknownUser)
		x.Steps = x.Steps[:len(x.Steps)-1]
	}
	x.Reason, x.User, x.Directory = privsep.ReasonNone, c.User, true
	x.Steps = append(x.Steps, Step{Question: fmt.Sprintf("%q is not in the list: the directory is asked", c.User), Yes: true},
		Step{Question: "it has one entry with that very name, of an organisation that is let in, and with a profile", Yes: true, Assumed: true})
	last := "the password is right there"
	if c.Kind == privsep.CredentialTransfer {
		last = "he is of the same organisation there"
	}
	x.Steps = append(x.Steps, Step{Question: last, Yes: true, Assumed: true})
}

// takesSecret tells of a question that is about the client's secret.
func (p *point) takesSecret() bool {
	return p.reasons[0] == privsep.ReasonWrongPassword || p.reasons[0] == privsep.ReasonWrongToken
}
