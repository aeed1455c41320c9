package tickets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
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

// ChallengeMaker makes them, for one goroutine at a time.
type ChallengeMaker struct {
	mac hash.Hash
	buf []byte
}

// Maker makes the challenges of this secret.
func (c *Challenges) Maker() *ChallengeMaker {
	return &ChallengeMaker{hmac.New(sha256.New, c[:]), make([]byte, 0, sha256.Size)}
}

// Append appends challenge number n, which looks like any other: its bytes are the first
// 24 of HMAC-SHA-256 (RFC 2104) over n.
func (m *ChallengeMaker) Append(dst []byte, n uint64) []byte {
	m.mac.Reset()
	m.mac.Write(binary.LittleEndian.AppendUint64(m.buf[:0], n))
	return base64.RawURLEncoding.AppendEncode(dst, m.mac.Sum(m.buf[:0])[:challengeBytes])
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
