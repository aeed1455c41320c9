package tickets

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// Transfer is what a transfer ticket says: that a user of one environment, whose
// session there has asked for it, may log in to another, on one connection.
type Transfer struct {
	Nonce        [challengeBytes]byte // of the challenge on that connection
	Issuer       string               // environment that signs, as the names below at most MaxTransferText bytes
	User         string
	Organisation string   // "": none
	Audience     string   // environment that it is for
	Connection   uint64   // UID of the session that has asked, at the issuer
	Issued       int64    // seconds since 1970
	Expires      int64    // the same, at most TransferLife later
	ID           [16]byte // random
}

// Bounds of transfer tickets.
const (
	TransferLife    = 60 * time.Second
	TransferSkew    = 5 * time.Second // that two environments' clocks may differ by
	MaxTransfer     = 4 << 10         // characters of a ticket
	MaxTransferText = 128             // bytes of a name in it
)

// maxTime keeps sums of times from overflowing.
const maxTime = 1 << 40

// TransferName is how the id of a ticket stands in it and in logs.
func TransferName(id [16]byte) string { return hex.EncodeToString(id[:]) }

// claims lists what a ticket says, in its only order. The nonce comes first and is
// of a length that base 64 keeps apart from what follows: see ForChallenge.
func (t *Transfer) claims(c *claims) {
	nonce, id := base64.RawURLEncoding.EncodeToString(t.Nonce[:]), TransferName(t.ID)
	issued, expires := uint64(t.Issued), uint64(t.Expires)
	c.literal(nonceKey)
	c.digits(&nonce, ChallengeLen)
	c.literal(`","iss":"`)
	c.text(&t.Issuer)
	c.literal(`","sub":"`)
	c.text(&t.User)
	c.literal(`","org":"`)
	c.text(&t.Organisation)
	c.literal(`","aud":"`)
	c.text(&t.Audience)
	c.literal(`","cid":`)
	c.number(&t.Connection)
	c.literal(`,"iat":`)
	c.number(&issued)
	c.literal(`,"exp":`)
	c.number(&expires)
	c.literal(`,"jti":"`)
	c.digits(&id, 2*len(t.ID))
	c.literal(`"}`)
	c.check(t.Issuer != "" && t.User != "" && t.Audience != "")
	c.check(issued < maxTime && expires > issued && expires-issued <= uint64(TransferLife/time.Second))
	if c.encoding {
		return
	}
	t.Issued, t.Expires = int64(issued), int64(expires)
	n, err := base64.RawURLEncoding.Decode(t.Nonce[:], []byte(nonce))
	c.check(err == nil && n == len(t.Nonce))
	n, err = hex.Decode(t.ID[:], []byte(id))
	c.check(err == nil && n == len(t.ID))
}

// nonceKey is what stands before the nonce.
const nonceKey = `{"nonce":"`

// ErrTransfer means that something is no transfer ticket, or cannot be made one.
var ErrTransfer = errors.New("tickets: not a transfer ticket")

// signingInput is what the signature covers: header and claims.
func (t *Transfer) signingInput(a Algorithm) (string, error) {
	c := claims{encoding: true}
	if t.claims(&c); c.bad {
		return "", ErrTransfer
	}
	return headers[a] + "." + base64.RawURLEncoding.EncodeToString(c.out), nil
}

// Sign makes the ticket that says t. sign is given what is to be signed and returns
// the signature under the private half of public as a crypto.Signer would.
func (t *Transfer) Sign(public crypto.PublicKey, sign func(input []byte) ([]byte, error)) (string, error) {
	key, err := NewTransferKey(public)
	if err != nil {
		return "", err
	}
	input, err := t.signingInput(key.alg)
	if err != nil {
		return "", err
	}
	signature, err := sign([]byte(input))
	if err != nil {
		return "", err
	}
	if signature, err = key.plain(signature); err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// SignedTransfer is a ticket that has the right form, of which nothing is believed
// yet.
type SignedTransfer struct {
	Transfer
	alg       Algorithm
	input     string
	signature []byte
}

// ParseTransfer reads a ticket. There is one way to write each, and nothing else is
// read: whatever another reader might understand otherwise is refused.
func ParseTransfer(ticket string) (*SignedTransfer, error) {
	if len(ticket) > MaxTransfer {
		return nil, ErrTransfer
	}
	header, payload, signature, ok := parts(ticket)
	alg := algorithmOf(header)
	b, err := base64.RawURLEncoding.DecodeString(payload)
	if !ok || err != nil || alg == 0 {
		return nil, ErrTransfer
	}
	t := &SignedTransfer{alg: alg, input: header + "." + payload}
	c := claims{in: string(b)}
	if t.claims(&c); c.bad || c.in != "" {
		return nil, ErrTransfer
	}
	if again, err := t.signingInput(t.alg); err != nil || again != t.input {
		return nil, ErrTransfer
	}
	t.signature, err = base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(t.signature) != signatureSize || base64.RawURLEncoding.EncodeToString(t.signature) != signature {
		return nil, ErrTransfer
	}
	return t, nil
}

func parts(ticket string) (header, payload, signature string, ok bool) {
	header, rest, ok1 := strings.Cut(ticket, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	return header, payload, signature, ok1 && ok2
}

// ForChallenge tells whether a ticket is for the connection with that challenge,
// before anything of it is parsed or computed; ok is false where it cannot be told.
// The challenge is no secret from who shows the ticket.
func ForChallenge(ticket, challenge string) (is, ok bool) {
	begin := base64.RawURLEncoding.EncodeToString([]byte(nonceKey + challenge))
	_, payload, _, ok := parts(ticket)
	if len(ticket) > MaxTransfer || len(challenge) != ChallengeLen || len(payload) < len(begin) {
		return false, false
	}
	return payload[:len(begin)] == begin, ok
}

// SignedBy tells whether the holder of one of keys has signed the ticket.
func (t *SignedTransfer) SignedBy(keys ...*TransferKey) bool {
	for _, k := range keys {
		if k.verify(t) {
			return true
		}
	}
	return false
}

// Expired tells whether a ticket is over by a clock that shows now, and Early
// whether it is of a time to come; both with TransferSkew for the issuer's clock.
func (t *Transfer) Expired(now time.Time) bool { return now.After(t.End()) }

// Early is Expired's counterpart.
func (t *Transfer) Early(now time.Time) bool {
	return now.Before(time.Unix(t.Issued, 0).Add(-TransferSkew))
}

// End is when it is Expired.
func (t *Transfer) End() time.Time { return time.Unix(t.Expires, 0).Add(TransferSkew) }
