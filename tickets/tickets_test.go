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

func TestAuthContent(t *testing.T) {
	const want = "gatehouse-auth-v1\x00orga\x00mO9qYk1z"
	if got := AuthContent("orga", "mO9qYk1z"); string(got) != want {
		t.Fatalf("%q, want %q", got, want)
	}
}

// The vector was computed with Python's hmac module: key 00..1f, message
// domain + struct.pack("<QHHQQ", uid, cm, listener, generation, issued).
func TestHandoffVector(t *testing.T) {
	var key HandoffKey
	for i := range key {
		key[i] = byte(i)
	}
	got := Make(key, Handoff{0x0102030405060708, 3, 5, 9, 77})
	const want = "23ddeaa3f62dcc096bfdf628aae89aeaac58929735d12d85327661ba13814145"
	if hex.EncodeToString(got[:]) != want {
		t.Fatalf("ticket %x, want %s", got, want)
	}
}

func TestHandoffVerify(t *testing.T) {
	key, h := NewHandoffKey(), Handoff{7, 1, 2, 3, 9}
	good := Make(key, h)
	if !Verify(key, good, h) {
		t.Fatal("own ticket refused")
	}
	for bit := range 256 {
		bad := good
		bad[bit/8] ^= 1 << (bit % 8)
		if Verify(key, bad, h) {
			t.Fatalf("ticket with bit %d changed verified", bit)
		}
	}
	for bit := range 64 {
		for field := range 5 {
			o := h
			switch field {
			case 0:
				o.UID ^= 1 << bit
			case 1:
				o.CM ^= 1 << (bit % 16)
			case 2:
				o.Listener ^= 1 << (bit % 16)
			case 3:
				o.Generation ^= 1 << bit
			case 4:
				o.Issued ^= 1 << bit
			}
			if Verify(key, good, o) {
				t.Fatalf("ticket for %+v verified for %+v", h, o)
			}
		}
	}
	if Verify(NewHandoffKey(), good, h) {
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
		Make(key, Handoff{UID: uint64(i)})
	}
}
