package auth

import (
	"encoding/base64"
	"strings"

	"github.com/nats-io/nkeys"

	"gatehouse/privsep"
	"gatehouse/privsep/erase"
	"gatehouse/roles/auth/cms"
)

// class says which line an attempt waits in: a hash must not keep a signature waiting,
// nor a directory either.
type class uint8

const (
	quick   class = iota // less than a millisecond
	slow                 // a hash
	looking              // waits for the parent, perhaps for an executable to be read
	remote               // what a directory is asked
	numClasses
)

// checker is one kind of credential.
type checker struct {
	kind  privsep.Credential
	class class
	// offered tells whether a client has such a credential, and claim whose it
	// says that it is: what failures are counted by.
	offered func(*attempt) bool
	claim   func(*attempt) string
	// certificates, if there is such a thing, are those by which it proves that. They
	// are counted by, too, and not looked at.
	certificates func(*attempt) []byte
	// check tells whose it is, or why nobody's. It runs in a goroutine of its own
	// and works on what the attempt has.
	check func(*attempt) (*user, privsep.Reason)
}

// checkers are all kinds. The first one that a CONNECT offers is what counts: a
// client that has one wrong credential is not helped by a right one.
var checkers = [...]checker{
	{privsep.CredentialTransfer, quick,
		func(t *attempt) bool { return t.connect.JWT == transferJWT },
		func(t *attempt) string { return t.connect.User }, nil, checkTransfer},
	{privsep.CredentialX509, quick,
		func(t *attempt) bool { return t.connect.JWT == x509JWT },
		func(t *attempt) string { return t.connect.User },
		func(t *attempt) []byte { return cms.RawCertificates(messageIn(&t.connect)) }, checkX509},
	{privsep.CredentialNKey, quick,
		func(t *attempt) bool { return t.connect.NKey != "" },
		func(t *attempt) string { return t.connect.NKey }, nil, checkNKey},
	{privsep.CredentialPassword, slow,
		func(t *attempt) bool { return t.connect.User != "" },
		func(t *attempt) string { return t.connect.User }, nil, checkPassword},
	{privsep.CredentialToken, slow,
		func(t *attempt) bool { return t.connect.AuthToken != "" },
		func(*attempt) string { return "" }, nil, checkToken},
	// What a client has said itself comes first.
	{privsep.CredentialTLS, quick,
		func(t *attempt) bool { return len(t.chain) > 0 },
		func(*attempt) string { return "" },
		func(t *attempt) []byte { return t.chain }, checkTLS},
	// Who shows nothing at all is who he is.
	{privsep.CredentialProcess, looking,
		func(t *attempt) bool { return t.unix && t.processes },
		func(*attempt) string { return "" }, nil, checkProcess},
}

// classOf is the line that an attempt belongs in, by the users that there are.
func (a *auth) classOf(t *attempt) class {
	if t.asks || t.checker.kind == privsep.CredentialPassword && a.users.inDirectory(t.connect.User) {
		return remote
	}
	return t.checker.class
}

// checkerOf finds the kind that a client offers, nil if it offers none.
func checkerOf(t *attempt) *checker {
	for i := range checkers {
		if checkers[i].offered(t) {
			return &checkers[i]
		}
	}
	return nil
}

// named is whom a client claims to be, as far as the log may have it: in the place of
// its public nkey it may have put the seed.
func (t *attempt) named() string {
	name := t.checker.claim(t)
	if t.checker.kind == privsep.CredentialNKey && !strings.HasPrefix(name, "U") {
		return ""
	}
	return name
}

// checkPassword does the same work whoever there is in the list. Whoever is not in it is
// the directory's affair, if there is one: how long that takes is its affair, too.
func checkPassword(t *attempt) (*user, privsep.Reason) {
	if t.users.inDirectory(t.connect.User) {
		return checkDirectory(t)
	}
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
	u, reason := t.users.withPassword(t.connect.User)
	if reason == privsep.ReasonNone && !right {
		return nil, privsep.ReasonWrongPassword
	}
	return u, reason
}

// withPassword finds who can log in by that name and the right password.
func (s *users) withPassword(name string) (*user, privsep.Reason) {
	u := s.byName[name]
	switch {
	case u == nil:
		return nil, privsep.ReasonUnknownUser
	case u.hash == nil:
		return nil, privsep.ReasonNoPassword
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
	key, u, reason := t.users.withNKey(t.connect.NKey)
	if reason == privsep.ReasonBadNKey {
		return nil, reason
	}
	if t.challenge == "" { // of which somebody else may have a signature
		return nil, privsep.ReasonChallengeUsed
	}
	sig, ok := decodeSignature(t.connect.Sig)
	verified := ok && key.Verify([]byte(t.challenge), sig) == nil
	if reason == privsep.ReasonNone && !verified {
		return nil, privsep.ReasonBadSignature
	}
	return u, reason
}

// withNKey finds who can log in by a signature of that key.
func (s *users) withNKey(public string) (nkeys.KeyPair, *user, privsep.Reason) {
	key, err := nkeys.FromPublicKey(public)
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, nil, privsep.ReasonBadNKey
	}
	u := s.byNKey[public]
	if u == nil {
		return key, nil, privsep.ReasonUnknownNKey
	}
	return key, u, privsep.ReasonNone
}

// maxSignature bounds a signature in base 64: 64 bytes with padding.
const maxSignature = 88

func decodeSignature(text string) ([]byte, bool) { return decodeBase64(text, maxSignature) }

// decodeBase64 reads at most so many characters of either alphabet, as clients differ
// in it.
func decodeBase64(text string, most int) ([]byte, bool) {
	if len(text) > most {
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
