package process

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"gatehouse/tickets"
)

// ticketed is a login by a ticket.
func ticketed(user string, ticket func(nonce string) string) func(string) string {
	return func(challenge string) string {
		return connect(map[string]any{"jwt": "transfer", "user": user, "sig": ticket(challenge)})
	}
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// edited is a ticket of the key with its claims changed, and the signature that it had.
func (p *pair) edited(old, now string) func(string) string {
	return func(nonce string) string {
		parts := strings.Split(p.ticket(nonce, nil), ".")
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		parts[1] = encoded([]byte(strings.Replace(string(payload), old, now, 1)))
		return strings.Join(parts, ".")
	}
}

// forged is one with another header, signed by whatever makes it look right.
func (p *pair) forged(header string, sign func(in string) []byte) func(string) string {
	return func(nonce string) string {
		in := encoded([]byte(header)) + "." + strings.Split(p.ticket(nonce, nil), ".")[1]
		return in + "." + encoded(sign(in))
	}
}

// ticketAttempts are those by the ticket of another environment, orga or orgc.
func ticketAttempts(t testing.TB, b *broker, orga, orgc *pair) (all []attempt) {
	t.Helper()
	stranger := newPair(t, newEd25519(t))
	// The oldest forgery: the public key, which everybody has, as the secret of an HMAC.
	mac := func(in string) []byte {
		m := hmac.New(sha256.New, orga.Public().(ed25519.PublicKey))
		m.Write([]byte(in))
		return m.Sum(nil)
	}
	own := func(in string) []byte { return ed25519.Sign(orga.Signer.(ed25519.PrivateKey), []byte(in)) }
	none := func(string) []byte { return nil }
	const typ = `"typ":"gatehouse-transfer+jwt"}`
	by := func(p *pair, change func(*tickets.Transfer)) func(string) string {
		return func(nonce string) string { return p.ticket(nonce, change) }
	}
	says := func(issuer, user, organisation string) func(*tickets.Transfer) {
		return func(c *tickets.Transfer) { c.Issuer, c.User, c.Organisation = issuer, user, organisation }
	}
	later := func(seconds int64) func(*tickets.Transfer) {
		return func(c *tickets.Transfer) { c.Issued, c.Expires = c.Issued+seconds, c.Expires+seconds }
	}
	once := ""
	good := func(nonce string) string { once = orga.ticket(nonce, nil); return once }
	for _, v := range []struct {
		reason, name, user string
		ticket             func(nonce string) string
	}{
		{"", "ticket", "", good},
		{"", "in base 64", "alice", func(nonce string) string { return encoded([]byte(orga.ticket(nonce, nil))) }},
		{"", "ES256", "carol", by(orgc, says("orgc", "carol", "ORGC"))},
		{"", "a clock that is 4 s ahead", "alice", by(orga, later(4))},

		{"ticket_nonce", "one that was shown", "", func(string) string { return once }},
		{"ticket_nonce", "another connection's", "", func(string) string { return orga.ticket(b.otherChallenge(t), nil) }},
		{"ticket_nonce", "no connection's", "", func(string) string { return orga.ticket(tickets.Challenge(), nil) }},
		{"ticket_nonce", "a claim before the nonce", "", orga.edited(`{"nonce"`, `{"admin":1,"nonce"`)},
		{"ticket_form", "a password", "", func(string) string { return "swordfish" }},
		{"ticket_form", "nothing", "", func(string) string { return "" }},
		{"ticket_form", "alg none", "", orga.forged(`{"alg":"none",`+typ, none)},
		{"ticket_form", "alg none, signed", "", orga.forged(`{"alg":"none",`+typ, own)},
		{"ticket_form", "HS256 by the public key", "", orga.forged(`{"alg":"HS256",`+typ, mac)},
		{"ticket_form", "the same as EdDSA", "", orga.forged(`{"alg":"EdDSA",`+typ, mac)},
		{"ticket_form", "RS256", "", orga.forged(`{"alg":"RS256",`+typ, own)},
		{"ticket_form", "another type", "", orga.forged(`{"alg":"EdDSA","typ":"JWT"}`, own)},
		{"ticket_form", "a key inside", "", orga.forged(`{"alg":"EdDSA","jwk":{},`+typ, own)},
		{"ticket_form", "another claim", "", orga.edited(`"org":`, `"admin":true,"org":`)},
		{"ticket_form", "a claim twice", "", orga.edited(`"sub":"alice"`, `"sub":"alice","sub":"root"`)},
		{"ticket_form", "good for longer", "", orga.edited(`"exp":`, `"exp":9`)},
		{"ticket_form", "something after it", "", func(nonce string) string { return orga.ticket(nonce, nil) + "." }},
		{"ticket_issuer", "unknown issuer", "", by(stranger, says("orgd", "alice", "ORGA"))},
		{"ticket_issuer", "this environment", "", by(orga, says("orgb", "alice", "ORGA"))},
		{"ticket_signature", "a stranger's", "", by(stranger, nil)},
		{"ticket_signature", "another issuer's", "", by(orgc, nil)},
		{"ticket_signature", "another user", "", orga.edited(`"sub":"alice"`, `"sub":"dora"`)},
		{"ticket_signature", "another organisation", "", orga.edited(`"org":"ORGA"`, `"org":"ORGB"`)},
		{"ticket_signature", "ES256 by an Ed25519 key", "", orga.forged(`{"alg":"ES256",`+typ, own)},
		{"ticket_audience", "another audience", "", by(orga, func(c *tickets.Transfer) { c.Audience = "orgc" })},
		{"ticket_expired", "expired", "", by(orga, later(-120))},
		{"ticket_early", "not yet", "", by(orga, later(120))},
		{"ticket_user", "another user than it says", "bob", by(orga, nil)},
		{"ticket_sender", "an organisation not the issuer's", "", by(orga, says("orga", "bob", "ORGB"))},
		{"ticket_sender", "a user not the issuer's", "", by(orgc, says("orgc", "erin", "ORGC"))},
		{"ticket_organisation", "of another organisation here", "", by(orga, says("orga", "carol", "ORGA"))},
		{"unknown_user", "nobody here", "", by(orga, says("orga", "mallory", "ORGA"))},
	} {
		all = append(all, attempt{name: "ticket: " + v.name, reason: v.reason, kind: "transfer", say: ticketed(v.user, v.ticket)})
	}
	return append(all, attempt{name: "ticket: a second time", reason: "challenge_used", kind: "transfer", say: func(challenge string) string {
		text := ticketed("", func(nonce string) string { return orga.ticket(nonce, nil) })(challenge)
		return text + text
	}})
}
