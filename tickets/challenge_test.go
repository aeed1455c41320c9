package tickets

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"testing"
)

// Numbered challenges look like drawn ones, are all different, the same for whoever has the
// secret, and HMAC-SHA-256's.
func TestChallenges(t *testing.T) {
	secret, foreign := NewChallenges(), NewChallenges()
	maker, again, other := secret.Maker(), secret.Maker(), foreign.Maker()
	seen := map[string]bool{}
	for n := range uint64(1000) {
		text := maker.Append([]byte("x"), n<<40)[1:]
		if len(text) != ChallengeLen || seen[string(text)] || bytes.Equal(text, other.Append(nil, n<<40)) {
			t.Fatalf("challenge %d: %q", n, text)
		}
		seen[string(text)] = true
		if b := again.Append(nil, n<<40); !bytes.Equal(b, text) {
			t.Fatalf("challenge %d: %q and %q", n, text, b)
		}
	}
	// By the definition (RFC 2104, 2).
	var inner, outer [64]byte
	for i := range inner {
		k := byte(0)
		if i < len(secret) {
			k = secret[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	in := sha256.Sum256(append(inner[:], 7, 0, 0, 0, 0, 0, 0, 0))
	mac := sha256.Sum256(append(outer[:], in[:]...))
	if want := base64.RawURLEncoding.EncodeToString(mac[:24]); string(maker.Append(nil, 7)) != want {
		t.Errorf("%q, want %q", maker.Append(nil, 7), want)
	}
}
