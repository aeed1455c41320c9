package tickets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
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

// Challenges are a sequence of challenges, each by its number: whoever knows this secret
// can tell all of them, and nobody else any that he was not told.
type Challenges [sha256.Size]byte

// NewChallenges draws a secret.
func NewChallenges() (c Challenges) {
	rand.Read(c[:])
	return c
}

// Append appends challenge number n, which looks like any other: its bytes are the first
// 24 of HMAC-SHA-256 (RFC 2104) over n.
func (c *Challenges) Append(dst []byte, n uint64) []byte {
	mac := hmac.New(sha256.New, c[:])
	var b [sha256.Size]byte
	binary.LittleEndian.PutUint64(b[:], n)
	mac.Write(b[:8])
	return base64.RawURLEncoding.AppendEncode(dst, mac.Sum(b[:0])[:challengeBytes])
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
