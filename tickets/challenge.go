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
