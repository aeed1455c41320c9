package tickets

import (
	"crypto/rand"
	"encoding/base64"
)

const challengeBytes = 24

// ChallengeLen is the length of a challenge in characters.
const ChallengeLen = challengeBytes / 3 * 4

// Challenge draws a fresh challenge: 24 random bytes in URL-safe base64 without
// padding.
func Challenge() string {
	var b [challengeBytes]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// authDomain keeps what a client signs to log in from being anything else that its key
// may be asked to sign.
const authDomain = "gatehouse-auth-v1\x00"

// AuthContent is what a client with a certificate signs: the challenge, as it stands in
// INFO, and the environment that it means to log in to. A broker of another environment
// that passes on somebody's challenge gets a signature of no use there.
func AuthContent(environment, challenge string) []byte {
	return []byte(authDomain + environment + "\x00" + challenge)
}
