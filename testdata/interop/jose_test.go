package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"gatehouse/tickets"
)

// signers are one of each kind, always the same.
func signers(t testing.TB) []crypto.Signer {
	t.Helper()
	seed := append(make([]byte, 31), 1)
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed)
	if err != nil {
		t.Fatal(err)
	}
	return []crypto.Signer{ed25519.NewKeyFromSeed(seed), ec}
}

func ticketBy(t testing.TB, k crypto.Signer) (string, tickets.Transfer) {
	t.Helper()
	c := tickets.Transfer{Nonce: [24]byte{1}, Issuer: "orga", User: `al"ice`, Organisation: "ORG\\A", Audience: "orgb", Connection: 7,
		Issued: 1700000000, Expires: 1700000060, ID: [16]byte{2}}
	s, err := c.Sign(k.Public(), func(in []byte) ([]byte, error) {
		if _, ok := k.(ed25519.PrivateKey); ok {
			return k.Sign(nil, in, crypto.Hash(0))
		}
		sum := sha256.Sum256(in)
		return k.Sign(rand.Reader, sum[:], crypto.SHA256)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// readByJose is a ticket as go-jose reads it.
func readByJose(s string, k crypto.Signer) (claims map[string]any, typ any, err error) {
	jws, err := jose.ParseSignedCompact(s, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
	if err != nil {
		return nil, nil, err
	}
	b, err := jws.Verify(k.Public())
	if err != nil {
		return nil, nil, err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	err = d.Decode(&claims)
	return claims, jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType], err
}

// says tells whether what go-jose reads is what we read.
func says(claims map[string]any, c *tickets.Transfer) bool {
	return claims["iss"] == c.Issuer && claims["sub"] == c.User && claims["org"] == c.Organisation && claims["aud"] == c.Audience &&
		claims["jti"] == tickets.TransferName(c.ID) && len(claims) == 9
}

// A transfer ticket is a JWS to others.
func TestTicketsAreJWS(t *testing.T) {
	for _, k := range signers(t) {
		s, c := ticketBy(t, k)
		claims, typ, err := readByJose(s, k)
		if err != nil || typ != "gatehouse-transfer+jwt" || !says(claims, &c) {
			t.Errorf("%T: %v, typ %v, %v", k, claims, typ, err)
		}
	}
}

// The law: what we accept go-jose accepts, and it reads the same.
func FuzzTicketsAgainstJose(f *testing.F) {
	keys := signers(f)
	for _, k := range keys {
		s, _ := ticketBy(f, k)
		f.Add(s)
		f.Add(s + ".")
		f.Add(strings.Replace(s, "J", "I", 1))
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := tickets.ParseTransfer(s)
		if err != nil {
			return
		}
		for _, k := range keys {
			key, err := tickets.NewTransferKey(k.Public())
			if err != nil {
				t.Fatal(err)
			}
			claims, typ, err := readByJose(s, k)
			if ours := p.SignedBy(key); ours != (err == nil) {
				t.Fatalf("%T: we say %v, go-jose %v of %q", k, ours, err, s)
			}
			if err == nil && (typ != "gatehouse-transfer+jwt" || !says(claims, &p.Transfer)) {
				t.Fatalf("we read %+v, go-jose %v", p.Transfer, claims)
			}
		}
	})
}
