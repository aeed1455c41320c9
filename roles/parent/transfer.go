package parent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/tickets"
)

// transfer.go is how clients of this environment get to others: the key that signs their
// tickets, and what it is used for.

// transfers is the key, and what was done with it.
type transfers struct {
	key    *custody.TicketKey // nil: there is none
	pace   privsep.Pace
	signed uint64
	denied uint64
	told   privsep.Pace // lines about those
	untold int
}

// loadTransferKey reads the key of cfg, nil if it has none. It has this one purpose: it
// must not be the one of the certificate, if there is one. Errors are as those of
// loadCredential.
func loadTransferKey(cfg *Config, cred *credential) (*custody.TicketKey, error) {
	t := &cfg.Transfer
	if t.Key == "" {
		return nil, nil
	}
	k, err := custody.OpenTicketKey(custody.Options{KeyFile: t.Key, UnlockFile: t.UnlockFile, UnlockUser: t.UnlockUser})
	if errors.Is(err, custody.ErrIdentity) {
		return nil, fmt.Errorf("transfer.key: %w", err)
	}
	if err != nil {
		return nil, fileFault("transfer.key", err)
	}
	if cred != nil && k.Match(cred.leaf) == nil {
		k.Close()
		return nil, &ConfigError{Key: "transfer.key", Text: "is tls.key, too: a key has one purpose"}
	}
	return k, nil
}

// setTransferKey puts another key in the place of the one there is: no ticket is under
// way, as each is made in one go.
func (p *parent) setTransferKey(k *custody.TicketKey) {
	if p.transfers.key != nil {
		p.transfers.key.Close()
		p.untidy = time.Now()
	}
	p.transfers.key = k
}

// signTransfer serves one request for a ticket. The router says for whom, where to and
// for which challenge; everything else, and its form, is ours. An error is an offence.
func (p *parent) signTransfer(c *child, m *privsep.Message) error {
	var s privsep.TicketSign
	if err := s.Parse(m.Payload); err != nil {
		return err
	}
	if c.standsBy() {
		return &offence{m.Kind.String(), "phase"}
	}
	now := time.Now()
	t := tickets.Transfer{
		Nonce: s.Nonce, Issuer: p.cfg.Environment.Name, User: s.User, Organisation: s.Organisation, Audience: s.Audience,
		Connection: s.Connection, Issued: now.Unix(), Expires: now.Add(tickets.TransferLife).Unix(),
	}
	rand.Read(t.ID[:])
	answer := privsep.TicketSigned{ID: s.ID}
	reason := p.mayTransfer(&t, now)
	if reason == "" {
		p.untidy = now
		ticket, err := p.transfers.key.Sign(&t)
		switch {
		case errors.Is(err, tickets.ErrTransfer):
			return &offence{m.Kind.String(), "purpose"}
		case err != nil:
			reason = err.Error()
		}
		answer.Ticket = []byte(ticket)
	}
	p.tellTransfer(c, &t, reason, now)
	p.send(c, privsep.KindTicketSigned, answer.Append(p.buf[:0]))
	return nil
}

// mayTransfer names what speaks against a ticket, "" if there is nothing. Whose profile
// it is only the router knows; that it is nobody's is known here, too.
func (p *parent) mayTransfer(t *tickets.Transfer, now time.Time) string {
	allowed := func(f ProfileConfig) bool { return slices.Contains(f.Transfer, t.Audience) }
	switch {
	case p.transfers.key == nil:
		return "no_key"
	case !slices.ContainsFunc(p.cfg.Profiles, allowed):
		return "audience"
	case !p.transfers.pace.Take(p.cfg.Transfer.Rate, now):
		return "rate"
	}
	return ""
}

// deniedPace is how many refused tickets a second have a line of their own.
const deniedPace = 10

// tellTransfer has every ticket in the log, and of those that were refused enough.
func (p *parent) tellTransfer(c *child, t *tickets.Transfer, reason string, now time.Time) {
	w := &p.transfers
	e, event := p.log.Info().Str("ticket", tickets.TransferName(t.ID)), "transfer ticket signed"
	if reason == "" {
		w.signed++
		p.record(&auditTicketIssued{Ticket: tickets.TransferName(t.ID), CID: t.Connection, User: t.User, Organisation: t.Organisation, To: t.Audience})
	} else {
		if w.denied++; !w.told.Take(deniedPace, now) {
			w.untold++
			return
		}
		p.record(&auditTicketRefused{CID: t.Connection, User: t.User, Organisation: t.Organisation, To: t.Audience, Reason: reason, Omitted: uint64(w.untold)})
		e, event = p.log.Warn().Str("reason", reason).Int("n", w.untold), "transfer ticket refused"
		w.untold = 0
	}
	e.Str("role", c.id.String()).Uint64("cid", t.Connection).
		Str("user", t.User).Str("organisation", t.Organisation).Str("to", t.Audience).Msg(event)
}

// transferReport is what status says of the key for tickets.
func (p *parent) transferReport() *Transfer {
	k := p.transfers.key
	if k == nil {
		return nil
	}
	return &Transfer{Algorithm: k.Algorithm(), Memory: k.Memory(), Erased: custody.Erases(), Signed: p.transfers.signed, Refused: p.transfers.denied}
}
