package tickets

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// seeded is a key that is always the same.
func seeded(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), n))
}

// curved is a P-256 key that is always the same.
func curved(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), n))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func alice() *Transfer {
	t := &Transfer{Issuer: "orga", User: "alice", Organisation: "ORGA", Audience: "orgb", Connection: 77, Issued: 1700000000, Expires: 1700000060}
	for i := range t.Nonce {
		t.Nonce[i] = byte(i)
	}
	for i := range t.ID {
		t.ID[i] = byte(0xf0 + i)
	}
	return t
}

func signed(t testing.TB, k crypto.Signer, c *Transfer) string {
	t.Helper()
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
	return s
}

func keyOf(t testing.TB, k crypto.Signer) *TransferKey {
	t.Helper()
	key, err := NewTransferKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseTransferKey(key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

const aliceSays = `{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX","iss":"orga","sub":"alice","org":"ORGA","aud":"orgb","cid":77,` +
	`"iat":1700000000,"exp":1700000060,"jti":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"}`

// What a ticket says is JSON, and what it is made of is there in plain.
func TestTransferSays(t *testing.T) {
	header, payload, _, _ := parts(signed(t, seeded(1), alice()))
	if b, _ := base64.RawURLEncoding.DecodeString(header); string(b) != `{"alg":"EdDSA","typ":"gatehouse-transfer+jwt"}` {
		t.Errorf("header %s", b)
	}
	b, _ := base64.RawURLEncoding.DecodeString(payload)
	if string(b) != aliceSays || !json.Valid(b) {
		t.Errorf("claims %s", b)
	}
}

func TestTransfer(t *testing.T) {
	odd := alice()
	odd.User, odd.Organisation, odd.Connection = `a"\l\\"ice`+"é"+strings.Repeat(`"`, 100), "", 1<<64-1
	for _, k := range []crypto.Signer{seeded(1), curved(t, 1)} {
		for _, want := range []*Transfer{alice(), odd} {
			s := signed(t, k, want)
			if is, ok := ForChallenge(s, base64.RawURLEncoding.EncodeToString(want.Nonce[:])); !is || !ok {
				t.Errorf("%T: not for its own challenge", k)
			}
			got, err := ParseTransfer(s)
			if err != nil {
				t.Fatalf("%T: %v", k, err)
			}
			if got.Transfer != *want {
				t.Errorf("%T: %+v, was %+v", k, got.Transfer, *want)
			}
			if !got.SignedBy(keyOf(t, seeded(2)), keyOf(t, k)) || got.SignedBy(keyOf(t, seeded(2)), keyOf(t, curved(t, 2))) || got.SignedBy() {
				t.Errorf("%T: signed by the wrong one", k)
			}
			_, payload, _, _ := parts(s)
			var said struct{ Sub, Org string }
			b, _ := base64.RawURLEncoding.DecodeString(payload)
			if err := json.Unmarshal(b, &said); err != nil || said.Sub != want.User || said.Org != want.Organisation {
				t.Errorf("others read %+v, %v", said, err)
			}
		}
	}
}

// Whatever single character of a ticket is another, it is refused.
func TestTransferChanged(t *testing.T) {
	for _, k := range []crypto.Signer{seeded(1), curved(t, 1)} {
		good := signed(t, k, alice())
		for i := range good {
			for _, c := range []byte("A_.-\n= b") {
				bad := good[:i] + string(c) + good[i+1:]
				if bad == good {
					continue
				}
				if p, err := ParseTransfer(bad); err == nil && p.SignedBy(keyOf(t, k)) {
					t.Fatalf("%T: accepted with %q at %d", k, c, i)
				}
			}
			if _, err := ParseTransfer(good[:i]); err == nil {
				t.Fatalf("%T: accepted the first %d characters", k, i)
			}
		}
	}
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// Tickets that a lenient reader would take are refused by their form, whoever signed
// them.
func TestTransferForm(t *testing.T) {
	key := seeded(1)
	const typ = `"typ":"gatehouse-transfer+jwt"`
	plain := `{"alg":"EdDSA",` + typ + `}`
	says := func(old, new string) string {
		s := strings.Replace(aliceSays, old, new, 1)
		if s == aliceSays {
			t.Fatalf("%s is not in the claims", old)
		}
		return s
	}
	long := strings.Repeat("x", MaxTransferText+1)
	for name, c := range map[string]struct{ header, payload string }{
		"alg none":           {`{"alg":"none",` + typ + `}`, aliceSays},
		"alg HS256":          {`{"alg":"HS256",` + typ + `}`, aliceSays},
		"alg RS256":          {`{"alg":"RS256",` + typ + `}`, aliceSays},
		"alg ES384":          {`{"alg":"ES384",` + typ + `}`, aliceSays},
		"alg in lower case":  {`{"alg":"eddsa",` + typ + `}`, aliceSays},
		"no alg":             {`{` + typ + `}`, aliceSays},
		"two algs":           {`{"alg":"none","alg":"EdDSA",` + typ + `}`, aliceSays},
		"another typ":        {`{"alg":"EdDSA","typ":"JWT"}`, aliceSays},
		"no typ":             {`{"alg":"EdDSA"}`, aliceSays},
		"own key":            {`{"alg":"EdDSA","jwk":{"kty":"OKP"},` + typ + `}`, aliceSays},
		"crit":               {`{"alg":"EdDSA","crit":["b64"],"b64":false,` + typ + `}`, aliceSays},
		"kid":                {`{"alg":"EdDSA","kid":"../key",` + typ + `}`, aliceSays},
		"spaces in header":   {`{"alg": "EdDSA",` + typ + `}`, aliceSays},
		"no header":          {``, aliceSays},
		"unknown claim":      {plain, says(`"iss"`, `"admin":true,"iss"`)},
		"claim twice":        {plain, says(`"sub":"alice"`, `"sub":"alice","sub":"bob"`)},
		"claim at the end":   {plain, says(`"}`, `","nbf":0}`)},
		"other order":        {plain, says(`"sub":"alice","org":"ORGA"`, `"org":"ORGA","sub":"alice"`)},
		"no user":            {plain, says(`"sub":"alice"`, `"sub":""`)},
		"no issuer":          {plain, says(`"iss":"orga"`, `"iss":""`)},
		"no audience":        {plain, says(`"aud":"orgb"`, `"aud":""`)},
		"several audiences":  {plain, says(`"aud":"orgb"`, `"aud":["orgb","orgc"]`)},
		"null":               {plain, says(`"org":"ORGA"`, `"org":null`)},
		"spaces":             {plain, says(`,"sub"`, `, "sub"`)},
		"trailing space":     {plain, aliceSays + " "},
		"two objects":        {plain, aliceSays + aliceSays},
		"escaped letter":     {plain, says("alice", `\u0061lice`)},
		"escaped slash":      {plain, says("alice", `a\/lice`)},
		"control character":  {plain, says("alice", "ali\x00ce")},
		"new line":           {plain, says("alice", "ali\nce")},
		"not UTF-8":          {plain, says("alice", "ali\xffce")},
		"long name":          {plain, says("alice", long)},
		"open string":        {plain, aliceSays[:strings.Index(aliceSays, `ice"`)]},
		"open escape":        {plain, aliceSays[:strings.Index(aliceSays, `ice"`)] + `\`},
		"negative number":    {plain, says(`"cid":77`, `"cid":-77`)},
		"fraction":           {plain, says(`"exp":1700000060`, `"exp":1700000060.0`)},
		"exponent":           {plain, says(`"exp":1700000060`, `"exp":17e8`)},
		"leading zero":       {plain, says(`"cid":77`, `"cid":077`)},
		"number as text":     {plain, says(`"cid":77`, `"cid":"77"`)},
		"65 bits":            {plain, says(`"cid":77`, `"cid":18446744073709551616`)},
		"far future":         {plain, says(`1700000000,"exp":1700000060`, `9223372036854775807,"exp":9223372036854775808`)},
		"lives too long":     {plain, says(`"exp":1700000060`, `"exp":1700000061`)},
		"over before it is":  {plain, says(`"exp":1700000060`, `"exp":1700000000`)},
		"no expiry":          {plain, says(`"exp":1700000060,`, ``)},
		"short nonce":        {plain, says("AAECAwQF", "AAECAwQ")},
		"nonce of elsewhere": {plain, says("AAECAwQF", "AAEC+/QF")},
		"id in upper case":   {plain, says("f0f1", "F0F1")},
		"short id":           {plain, says("f0f1", "f0f")},
		"empty claims":       {plain, `{}`},
		"an array":           {plain, `[` + aliceSays + `]`},
		"nothing":            {plain, ``},
	} {
		input := encode(c.header) + "." + encode(c.payload)
		if p, err := ParseTransfer(input + "." + encode(string(ed25519.Sign(key, []byte(input))))); err != ErrTransfer || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The parts themselves are written in one way, too.
func TestTransferParts(t *testing.T) {
	good := signed(t, seeded(1), alice())
	header, payload, signature, _ := parts(good)
	mac := hmac.New(sha256.New, keyOf(t, seeded(1)).Bytes())
	mac.Write([]byte(header + "." + payload))
	std := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for name, bad := range map[string]string{
		"empty":                "",
		"dots":                 "..",
		"no signature":         header + "." + payload + ".",
		"two parts":            header + "." + payload,
		"four parts":           good + ".",
		"space before":         " " + good,
		"line end behind":      good + "\n",
		"line end in claims":   header + "." + payload[:8] + "\n" + payload[8:] + "." + signature,
		"padding":              good + "==",
		"short signature":      good[:len(good)-4],
		"long signature":       good + "AAAA",
		"bits left over":       good[:len(good)-1] + "B",
		"standard alphabet":    header + "." + payload + "." + std,
		"MAC by the key":       header + "." + payload + "." + strings.TrimRight(std, "="),
		"JSON serialisation":   `{"protected":"` + header + `","payload":"` + payload + `","signature":"` + signature + `"}`,
		"too long":             header + "." + payload + "." + strings.Repeat("A", MaxTransfer),
		"claims of another":    header + "." + encode(strings.Replace(aliceSays, "alice", "carol", 1)) + "." + signature,
		"signature of another": header + "." + payload + "." + encode(strings.Repeat("s", signatureSize)),
		"all zero signature":   header + "." + payload + "." + encode(strings.Repeat("\x00", signatureSize)),
		"other key's header":   headers[ES256] + "." + payload + "." + signature,
	} {
		if p, err := ParseTransfer(bad); err == nil && p.SignedBy(keyOf(t, seeded(1)), keyOf(t, curved(t, 1))) {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestForChallenge(t *testing.T) {
	good := signed(t, seeded(1), alice())
	mine := base64.RawURLEncoding.EncodeToString(alice().Nonce[:])
	for name, c := range map[string]struct {
		ticket, challenge string
		is, ok            bool
	}{
		"its own":          {good, mine, true, true},
		"another":          {good, Challenge(), false, true},
		"none":             {good, "", false, false},
		"short":            {good, mine[:ChallengeLen-3], false, false},
		"no ticket":        {"", mine, false, false},
		"a word":           {"swordfish", mine, false, false},
		"two parts":        {good[:strings.LastIndex(good, ".")], mine, true, false},
		"too long":         {good + strings.Repeat("A", MaxTransfer), mine, false, false},
		"nonce elsewhere":  {"e30." + encode(`{"iss":"orga","nonce":"`+mine+`","sub":"alice","org":"ORGA"}`) + ".c2ln", mine, false, true},
		"of another shape": {"e30." + encode(`{"nonce":"`+mine+`"}`) + ".c2ln", mine, true, true},
	} {
		if is, ok := ForChallenge(c.ticket, c.challenge); is != c.is || ok != c.ok {
			t.Errorf("%s: %v, %v", name, is, ok)
		}
	}
}

func TestTransferTimes(t *testing.T) {
	for _, c := range []struct {
		at             int64
		early, expired bool
	}{
		{1700000000 - 6, true, false}, {1700000000 - 5, false, false}, {1700000000, false, false},
		{1700000060, false, false}, {1700000065, false, false}, {1700000066, false, true}, {0, true, false}, {1 << 41, false, true},
	} {
		at := time.Unix(c.at, 0)
		if early, expired := alice().Early(at), alice().Expired(at); early != c.early || expired != c.expired {
			t.Errorf("at %d: early %v, expired %v", c.at, early, expired)
		}
	}
}

// What no ticket may say is not signed either.
func TestTransferNotSigned(t *testing.T) {
	key := seeded(1)
	for name, change := range map[string]func(*Transfer){
		"no user":     func(c *Transfer) { c.User = "" },
		"no issuer":   func(c *Transfer) { c.Issuer = "" },
		"no audience": func(c *Transfer) { c.Audience = "" },
		"long name":   func(c *Transfer) { c.User = strings.Repeat("x", MaxTransferText+1) },
		"line end":    func(c *Transfer) { c.Organisation = "A\r\n" },
		"not UTF-8":   func(c *Transfer) { c.User = "\xc3" },
		"long life":   func(c *Transfer) { c.Expires++ },
		"no life":     func(c *Transfer) { c.Expires = c.Issued },
		"no time":     func(c *Transfer) { c.Issued = -1 },
	} {
		c := alice()
		change(c)
		called := false
		s, err := c.Sign(key.Public(), func(in []byte) ([]byte, error) { called = true; return ed25519.Sign(key, in), nil })
		if err == nil || s != "" || called {
			t.Errorf("%s: %v, signed %v", name, err, called)
		}
	}
	for name, signature := range map[string][]byte{
		"short": make([]byte, 63), "no DER": make([]byte, 64), "negative": {0x30, 6, 2, 1, 0xff, 2, 1, 1}, "rest": {0x30, 6, 2, 1, 1, 2, 1, 1, 0},
		"large": append([]byte{0x30, 38, 2, 33, 1}, make([]byte, 35)...),
	} {
		k := curved(t, 1)
		s, err := alice().Sign(k.Public(), func([]byte) ([]byte, error) { return signature, nil })
		if err == nil {
			t.Errorf("signature %s: %s", name, s)
		}
	}
}

func TestTransferKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.PublicKey{p384.Public(), nil, "key", ed25519.PublicKey("short")} {
		if _, err := NewTransferKey(k); err != ErrTransferKey {
			t.Errorf("%T: %v", k, err)
		}
	}
	off := keyOf(t, curved(t, 1)).Bytes()
	off[64] ^= 1
	compressed := append([]byte{2}, off[1:33]...)
	for _, b := range [][]byte{nil, make([]byte, 31), make([]byte, 64), make([]byte, 65), make([]byte, 66), off, compressed} {
		if _, err := ParseTransferKey(b); err != ErrTransferKey {
			t.Errorf("key of %d bytes: %v", len(b), err)
		}
	}
}

// The law: what is read is written in the same way again, what is not read is nothing,
// and nobody but the holder of a key has signed what it accepts.
func FuzzTransfer(f *testing.F) {
	ed, ec := seeded(1), curved(f, 1)
	keys := []*TransferKey{keyOf(f, ed), keyOf(f, ec)}
	good := map[string]bool{}
	for _, k := range []crypto.Signer{ed, ec} {
		s := signed(f, k, alice())
		header, payload, _, _ := parts(s)
		good[header+"."+payload] = true
		f.Add(s)
		f.Add(signed(f, seeded(9), alice()))
	}
	f.Add(encode(`{"alg":"none"}`) + "." + encode(aliceSays) + ".")
	f.Add("..")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseTransfer(s)
		if err != nil {
			if p != nil {
				t.Fatal("an error and a ticket")
			}
			return
		}
		again, err := p.Transfer.signingInput(p.alg)
		if whole := fmt.Sprint(again, ".", base64.RawURLEncoding.EncodeToString(p.signature)); err != nil || whole != s {
			t.Fatalf("%q is written as %q, %v", s, whole, err)
		}
		if is, ok := ForChallenge(s, base64.RawURLEncoding.EncodeToString(p.Nonce[:])); !is || !ok {
			t.Fatal("not for the challenge in it")
		}
		if p.SignedBy(keys...) && !good[p.input] {
			t.Fatalf("nobody has signed %q", s)
		}
	})
}

func BenchmarkTransferCheck(b *testing.B) {
	for _, k := range []crypto.Signer{seeded(1), curved(b, 1)} {
		s, key := signed(b, k, alice()), keyOf(b, k)
		b.Run(key.String(), func(b *testing.B) {
			for b.Loop() {
				if p, err := ParseTransfer(s); err != nil || !p.SignedBy(key) {
					b.Fatal("refused")
				}
			}
		})
	}
}
