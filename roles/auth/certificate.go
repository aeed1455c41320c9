package auth

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/certname"
	"gatehouse/roles/auth/chain"
	"gatehouse/roles/auth/cms"
	"gatehouse/tickets"
	"gatehouse/wire"
)

// x509JWT is what a client that signs by the key of a certificate says in the place of
// a JWT.
const x509JWT = "x509"

// mostSigned bounds such a signature in base 64.
const mostSigned = (cms.MaxSize + 2) / 3 * 4

// messageIn is the CMS message in a CONNECT, nil: what there is is not base 64, or too
// much of it.
func messageIn(c *wire.Connect) []byte {
	der, _ := decodeBase64(c.Sig, mostSigned)
	return der
}

// checkX509 looks at a signature over this connection's challenge, and then at whose
// certificate it is by. In auth a panic would come again with the next one, which is
// asked the same: crypto/x509 has had some.
func checkX509(t *attempt) (u *user, reason privsep.Reason) {
	defer survive(t, &u, &reason)
	switch {
	case t.users.approved == nil:
		return nil, privsep.ReasonNotConfigured
	case t.challenge == "":
		return nil, privsep.ReasonChallengeUsed
	}
	m, err := cms.Parse(messageIn(&t.connect))
	if err != nil {
		return t.because(err)
	}
	t.names = certname.Of(m.Signer)
	if err := m.Verify(tickets.AuthContent(t.environment, t.challenge)); err != nil {
		return t.because(err)
	}
	return t.holder(m.Signer, m.Others)
}

// checkTLS is about a certificate whose key has been proved in a TLS handshake. That is
// the word of the connection's cm.
func checkTLS(t *attempt) (u *user, reason privsep.Reason) {
	defer survive(t, &u, &reason)
	if t.users.approved == nil {
		return nil, privsep.ReasonNotConfigured
	}
	certs, err := x509.ParseCertificates(t.chain)
	if err != nil || len(certs) == 0 || len(certs) > cms.MaxCertificates {
		return nil, privsep.ReasonCMSCertificates
	}
	t.names = certname.Of(certs[0])
	return t.holder(certs[0], certs[1:])
}

func survive(t *attempt, u **user, reason *privsep.Reason) {
	if p := recover(); p != nil {
		t.err = fmt.Errorf("crypto/x509: %v", p)
		*u, *reason = nil, privsep.ReasonCMSCertificates
	}
}

// because is a no for what package cms has found.
func (t *attempt) because(err error) (*user, privsep.Reason) {
	t.err = err
	return nil, ofCMS[cms.ReasonOf(err)]
}

var ofCMS = map[cms.Reason]privsep.Reason{
	cms.Form: privsep.ReasonCMSForm, cms.Attributes: privsep.ReasonCMSAttributes, cms.Algorithm: privsep.ReasonCMSAlgorithm,
	cms.Certificates: privsep.ReasonCMSCertificates, cms.Content: privsep.ReasonCMSContent, cms.Signature: privsep.ReasonCMSSignature,
}

var ofChain = map[error]privsep.Reason{
	chain.Unapproved: privsep.ReasonCertificateUnapproved, chain.Expired: privsep.ReasonCertificateExpired,
	chain.NotYetValid: privsep.ReasonCertificateNotYetValid, chain.Usage: privsep.ReasonCertificateUsage,
	chain.Constraint: privsep.ReasonCertificateConstraint, chain.Weak: privsep.ReasonCertificateKey,
	chain.Revoked: privsep.ReasonCertificateRevoked, chain.NoList: privsep.ReasonCertificateNoList,
}

// holder finds whose certificate it is, if it is approved.
func (t *attempt) holder(leaf *x509.Certificate, others []*x509.Certificate) (*user, privsep.Reason) {
	vouched, err := t.users.approved.Check(leaf, others, time.Now())
	if err != nil {
		return nil, ofChain[err]
	}
	return t.users.certified(&t.names, vouched, t.connect.User)
}

// certified finds the user whose certificate has these names. Where nobody vouches for
// it but its own key, that alone counts of it.
func (s *users) certified(n *certname.Names, vouched bool, name string) (*user, privsep.Reason) {
	var found *user
	for _, text := range append([]string{n.Key, n.Subject}, n.SANs...) {
		for _, c := range s.byCertificate[text] {
			if !c.wants.fits(n, vouched) || name != "" && name != c.user.name || found == c.user {
				continue
			}
			if found != nil {
				return nil, privsep.ReasonCertificateAmbiguous
			}
			found = c.user
		}
	}
	if found == nil {
		return nil, privsep.ReasonCertificateNobody
	}
	return found, privsep.ReasonNone
}

// certified is a user with what his certificate must have.
type certified struct {
	wants wanted
	user  *user
}

// wanted are names that a certificate must have, "" for any.
type wanted struct{ subject, san, key string }

func (w *wanted) fits(n *certname.Names, vouched bool) bool {
	named := w.subject != "" || w.san != ""
	return (vouched || !named) &&
		(w.subject == "" || w.subject == n.Subject) &&
		(w.san == "" || slices.Contains(n.SANs, w.san)) &&
		(w.key == "" || w.key == n.Key)
}

// first is a name by which the certificate can be looked up, "" if there is none.
func (w *wanted) first() string {
	for _, s := range []string{w.key, w.subject, w.san} {
		if s != "" {
			return s
		}
	}
	return ""
}

// certify makes a user known by certificates, as the parent has said.
func (s *users) certify(u *user, p *privsep.User) {
	if !p.Certified() {
		return
	}
	w := wanted{subject: p.Subject, san: p.SAN, key: p.Key}
	// For the router he is another one when who may vouch for him changes.
	by := *u
	by.mark = privsep.MarkThrough(u.mark, s.approvedMark)
	s.byCertificate[w.first()] = append(s.byCertificate[w.first()], certified{w, &by})
}

// approval is who may vouch for certificates.
type approval struct {
	mark     uint64 // as an issuer's; 0: nobody may
	approved *chain.Approved
}

// newApproval takes who may vouch from now on, or from the next users on.
func (a *auth) newApproval(m *privsep.Message) error {
	text, err := privsep.TakeApproval(m)
	if err != nil {
		return err
	}
	a.approve(text)
	return nil
}

// approve reads an approval. The parent has looked at the certificates and keys, and at
// the revocation lists nobody has yet.
func (a *auth) approve(text *privsep.ApprovalText) {
	if text == nil {
		return
	}
	next, errs, err := readApproval(text, a.approval.approved)
	for _, err := range errs {
		a.log.Error("revocation list not read", privsep.Err(err))
	}
	if err != nil {
		a.log.Error("approval refused", privsep.Int(privsep.KeyN, int64(text.Number)), privsep.Err(err))
		return
	}
	a.approval = next
	if !text.Soon && a.users != nil {
		users := *a.users
		users.approved = next.approved
		a.users = &users
	}
}

// readApproval reads one, which comes after another. Errors in lists are no reason to
// refuse it.
func readApproval(text *privsep.ApprovalText, before *chain.Approved) (next approval, lists []error, err error) {
	next.mark = text.Mark
	if text.Approved == 0 {
		return next, nil, nil
	}
	revoked, lists := chain.ReadLists(text.ListsPEM, before)
	next.approved, err = chain.New(text.ApprovedPEM, revoked)
	return next, lists, err
}
