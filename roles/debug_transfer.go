package roles

import (
	"encoding/base64"
	"fmt"

	"gatehouse/privsep"
)

// This file is how tickets look in JSON: what the router asks of the parent, and whose
// auth takes.

// ticketSign is the line of a TICKET_SIGN.
func ticketSign(m *privsep.Message) ([]byte, error) {
	var s privsep.TicketSign
	if err := s.Parse(m.Payload); err != nil {
		return nil, err
	}
	c := newLine(m.Kind.String())
	ident(c, "id", &s.ID)
	ident(c, "connection", &s.Connection)
	nonce := base64.RawURLEncoding.EncodeToString(s.Nonce[:])
	shortText(c, "nonce", &nonce)
	shortText(c, "user", &s.User)
	shortText(c, "organisation", &s.Organisation)
	shortText(c, "audience", &s.Audience)
	return c.line(), nil
}

// lineTicket passes on a ticket, or that there is none.
func (p *routerPeers) lineTicket(c *coder) error {
	var m privsep.TicketSigned
	ident(c, "id", &m.ID)
	c.text("ticket", &m.Ticket)
	if err := c.end(); err != nil {
		return err
	}
	if len(m.Ticket) > privsep.MaxTicket {
		return fmt.Errorf("a ticket of %d bytes", len(m.Ticket))
	}
	return p.d.send(privsep.KindTicketSigned, m.Append(nil))
}

// issuer gives auth one issuer of a set, which holds with the users that follow.
func (p *authPeers) issuer(c *coder) error {
	m := privsep.Issuer{Set: p.issuers, Mark: 1}
	shortText(c, "environment", &m.Environment)
	c.texts("keys", &m.Keys)
	c.texts("organisations", &m.Organisations)
	c.texts("users", &m.Users)
	shortText(c, "profile", &m.Profile)
	c.flag("last", &m.Last)
	for i, text := range m.Keys {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			c.wrong("keys", "%q is no base64", text)
		}
		m.Keys[i] = string(b)
	}
	if err := c.end(); err != nil {
		return err
	}
	b := m.Append(nil)
	if err := new(privsep.Issuer).Parse(b); err != nil {
		return err
	}
	if m.Last {
		p.issuers++
	}
	return p.d.send(privsep.KindIssuer, b)
}
