package tickets

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestChallenge(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		c := Challenge()
		b, err := base64.URLEncoding.WithPadding(base64.NoPadding).Strict().DecodeString(c)
		if err != nil || len(b) != 24 || len(c) != ChallengeLen || ChallengeLen != 32 {
			t.Fatalf("challenge %q: %d bytes, %v", c, len(b), err)
		}
		if seen[c] {
			t.Fatalf("challenge %q came twice", c)
		}
		seen[c] = true
	}
}

// The vector was computed with Python's hmac module: key 00..1f, message
// domain + struct.pack("<QIQ", uid, index, generation).
func TestHandoffVector(t *testing.T) {
	var key HandoffKey
	for i := range key {
		key[i] = byte(i)
	}
	got := Make(key, 0x0102030405060708, 3, 9)
	const want = "ac2ead6936adcd0ab6577b7f7d8878fac850f3a3d99cbe21ccf513f75a6f36d0"
	if hex.EncodeToString(got[:]) != want {
		t.Fatalf("ticket %x, want %s", got, want)
	}
}

func TestHandoffVerify(t *testing.T) {
	key, uid, index, gen := NewHandoffKey(), uint64(7), uint32(1), uint64(3)
	good := Make(key, uid, index, gen)
	if !Verify(key, good, uid, index, gen) {
		t.Fatal("own ticket refused")
	}
	for bit := range 256 {
		bad := good
		bad[bit/8] ^= 1 << (bit % 8)
		if Verify(key, bad, uid, index, gen) {
			t.Fatalf("ticket with bit %d changed verified", bit)
		}
	}
	for bit := range 64 {
		if Verify(key, good, uid^1<<bit, index, gen) || Verify(key, good, uid, index, gen^1<<bit) ||
			Verify(key, good, uid, index^1<<(bit%32), gen) {
			t.Fatalf("ticket verified for other facts, bit %d", bit)
		}
	}
	if Verify(NewHandoffKey(), good, uid, index, gen) {
		t.Fatal("ticket verified under another key")
	}
}

func TestKeyIsHidden(t *testing.T) {
	key := NewHandoffKey()
	if s := fmt.Sprintf("%v %s %#v", key, key, key); strings.Trim(s, "* ") != "" {
		t.Fatalf("key printed as %s", s)
	}
}

func BenchmarkMake(b *testing.B) {
	key := NewHandoffKey()
	for i := range b.N {
		Make(key, uint64(i), 1, 1)
	}
}
