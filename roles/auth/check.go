package auth

import (
	"encoding/base64"
	"strings"

	"github.com/nats-io/nkeys"

	"gatehouse/privsep"
	"gatehouse/privsep/erase"
	"gatehouse/wire"
)

// class says which of two lines an attempt waits in: a hash must not keep a
// signature waiting.
type class uint8

const (
	quick class = iota // less than a millisecond
	slow
	numClasses
)

// checker is one kind of credential.
type checker struct {
	kind  privsep.Credential
	class class
	// offered tells whether a CONNECT has such a credential, and claim whose it
	// says that it is: what failures are counted by.
	offered func(*wire.Connect) bool
	claim   func(*wire.Connect) string
	// check tells whose it is, or why nobody's. It runs in a goroutine of its own
	// and works on what the attempt has.
	check func(*attempt) (*user, privsep.Reason)
}

// checkers are all kinds. The first one that a CONNECT offers is what counts: a
// client that has one wrong credential is not helped by a right one.
var checkers = [...]checker{
	{privsep.CredentialTransfer, quick,
		func(c *wire.Connect) bool { return c.JWT == transferJWT },
		func(c *wire.Connect) string { return c.User }, checkTransfer},
	{privsep.CredentialNKey, quick,
		func(c *wire.Connect) bool { return c.NKey != "" },
		func(c *wire.Connect) string { return c.NKey }, checkNKey},
	{privsep.CredentialPassword, slow,
		func(c *wire.Connect) bool { return c.User != "" },
		func(c *wire.Connect) string { return c.User }, checkPassword},
	{privsep.CredentialToken, slow,
		func(c *wire.Connect) bool { return c.AuthToken != "" },
		func(*wire.Connect) string { return "" }, checkToken},
}

// checkerOf finds the kind that a CONNECT offers, nil if it offers none.
func checkerOf(c *wire.Connect) *checker {
	for i := range checkers {
		if checkers[i].offered(c) {
			return &checkers[i]
		}
	}
	return nil
}

// checkPassword does the same work whoever there is.
func checkPassword(t *attempt) (*user, privsep.Reason) {
	hash := t.users.hashFor(t.connect.User)
	if hash == nil {
		return nil, privsep.ReasonNotConfigured
	}
	right := false
	erase.Do(func() {
		password := []byte(t.connect.Pass)
		right = hash.Check(password)
		clear(password)
	})
	u := t.users.byName[t.connect.User]
	switch {
	case u == nil:
		return nil, privsep.ReasonUnknownUser
	case u.hash == nil:
		return nil, privsep.ReasonNoPassword
	case !right:
		return nil, privsep.ReasonWrongPassword
	}
	return u, privsep.ReasonNone
}

func checkToken(t *attempt) (*user, privsep.Reason) {
	u := t.users.token
	if u == nil {
		return nil, privsep.ReasonNotConfigured
	}
	right := false
	erase.Do(func() {
		token := []byte(t.connect.AuthToken)
		right = u.hash.Check(token)
		clear(token)
	})
	if !right {
		return nil, privsep.ReasonWrongToken
	}
	return u, privsep.ReasonNone
}

// checkNKey verifies before it looks up: who has no key of a user learns no
// difference.
func checkNKey(t *attempt) (*user, privsep.Reason) {
	key, err := nkeys.FromPublicKey(t.connect.NKey)
	if err != nil || !nkeys.IsValidPublicUserKey(t.connect.NKey) {
		return nil, privsep.ReasonBadNKey
	}
	u := t.users.byNKey[t.connect.NKey]
	sig, ok := decodeSignature(t.connect.Sig)
	verified := ok && key.Verify([]byte(t.challenge), sig) == nil
	switch {
	case u == nil:
		return nil, privsep.ReasonUnknownNKey
	case !verified:
		return nil, privsep.ReasonBadSignature
	}
	return u, privsep.ReasonNone
}

// maxSignature bounds a signature in base 64: 64 bytes with padding.
const maxSignature = 88

// decodeSignature reads either alphabet of base 64, as clients differ in it.
func decodeSignature(text string) ([]byte, bool) {
	if len(text) > maxSignature {
		return nil, false
	}
	text = strings.TrimRight(text, "=")
	for _, e := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		if b, err := e.DecodeString(text); err == nil {
			return b, true
		}
	}
	return nil, false
}
