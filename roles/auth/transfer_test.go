package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/tickets"
)

// Keys of issuers: orga has two, orgc one.
var (
	orga     = ed25519.NewKeyFromSeed(append(make([]byte, 31), 1))
	orgaNext = curved(1)
	orgc     = ed25519.NewKeyFromSeed(append(make([]byte, 31), 3))
	stranger = ed25519.NewKeyFromSeed(append(make([]byte, 31), 4))
)

func curved(n byte) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), n))
	if err != nil {
		panic(err)
	}
	return k
}

func keyBytes(t testing.TB, k crypto.Signer) string {
	t.Helper()
	key, err := tickets.NewTransferKey(k.Public())
	must(t, err)
	return string(key.Bytes())
}

// approved are the issuers of the tests.
func approved(t testing.TB) []privsep.Issuer {
	return []privsep.Issuer{
		{Environment: "orga", Mark: 100, Keys: []string{keyBytes(t, orga), keyBytes(t, orgaNext)}, Organisations: []string{"ORGA", "ORGX"}},
		{Environment: "orgc", Mark: 101, Keys: []string{keyBytes(t, orgc)}, Organisations: []string{"ORGA"}, Users: []string{"alice", "mallory"}, Profile: "guest"},
	}
}

// fresh is a sound ticket of orga's for alice, to be changed.
func fresh(t testing.TB) *tickets.Transfer {
	t.Helper()
	nonce, err := base64.RawURLEncoding.DecodeString(challenge)
	must(t, err)
	c := &tickets.Transfer{Nonce: [24]byte(nonce), Issuer: "orga", User: "alice", Organisation: "ORGA", Audience: "orgb", Connection: 7}
	c.Issued = time.Now().Unix()
	c.Expires = c.Issued + 60
	rand.Read(c.ID[:])
	return c
}

func signed(t testing.TB, k crypto.Signer, c *tickets.Transfer) string {
	t.Helper()
	s, err := c.Sign(k.Public(), func(in []byte) ([]byte, error) {
		if _, ok := k.(ed25519.PrivateKey); ok {
			return k.Sign(nil, in, crypto.Hash(0))
		}
		sum := sha256.Sum256(in)
		return k.Sign(rand.Reader, sum[:], crypto.SHA256)
	})
	must(t, err)
	return s
}

// shows is the CONNECT of a client with a ticket, as nats.go writes it.
func shows(user, ticket string) string {
	b, _ := json.Marshal(map[string]string{"jwt": "transfer", "user": user, "sig": base64.RawURLEncoding.EncodeToString([]byte(ticket))})
	return string(b)
}

// transferRig is auth of the environment orgb.
func transferRig(t *testing.T) *rig {
	return newRig(t, people(t), func(set *privsep.Setup) {
		set.Settings.Environment, set.Issuers = "orgb", approved(t)
	})
}

func encode(b string) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }

// forge puts a header of its own before what a sound ticket says.
func forge(t testing.TB, header string, sign func(input string) []byte) string {
	t.Helper()
	input := encode(header) + "." + strings.Split(signed(t, orga, fresh(t)), ".")[1]
	return input + "." + encode(string(sign(input)))
}

func mac(key []byte) func(string) []byte {
	return func(input string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(input))
		return m.Sum(nil)
	}
}

// with is a ticket of orga's that says something else.
func with(t testing.TB, k crypto.Signer, change func(*tickets.Transfer)) string {
	t.Helper()
	c := fresh(t)
	change(c)
	return signed(t, k, c)
}

func TestTransferVerdicts(t *testing.T) {
	g := transferRig(t)
	alice := privsep.Verdict{OK: true, Credential: privsep.CredentialTransfer, Mark: privsep.MarkThrough(1, 100), User: "alice", Organisation: "ORGA", Profile: "desk"}
	guest := alice
	guest.Mark, guest.Profile = privsep.MarkThrough(1, 101), "guest"
	no := func(r privsep.Reason) privsep.Verdict {
		return privsep.Verdict{Credential: privsep.CredentialTransfer, Reason: r}
	}
	good := func() string { return signed(t, orga, fresh(t)) }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	const typ = `"typ":"gatehouse-transfer+jwt"}`
	once := good()

	for i, tt := range []struct {
		name, json string
		want       privsep.Verdict
	}{
		{"sound", shows("alice", once), alice},
		{"seen", shows("alice", once), no(privsep.ReasonTicketSeen)},
		{"another one", shows("alice", good()), alice},
		{"without a name", shows("", good()), alice},
		{"by the next key", shows("alice", with(t, orgaNext, func(*tickets.Transfer) {})), alice},
		{"by another issuer", shows("alice", with(t, orgc, func(c *tickets.Transfer) { c.Issuer = "orgc" })), guest},
		{"plain", `{"jwt":"transfer","user":"alice","sig":"` + good() + `"}`, alice},
		{"other base 64", `{"jwt":"transfer","sig":"` + base64.StdEncoding.EncodeToString([]byte(good())) + `"}`, alice},
		{"with a password beside it", strings.Replace(shows("alice", good()), "{", `{"pass":"wrong",`, 1), alice},
		{"a clock that is ahead", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Issued, c.Expires = c.Issued+3, c.Expires+3 })), alice},
		{"a clock that is behind", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Issued, c.Expires = c.Issued-62, c.Expires-62 })), alice},

		{"another connection's challenge", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Nonce[23] ^= 1 })), no(privsep.ReasonTicketNonce)},
		{"another challenge and no key", shows("alice", with(t, stranger, func(c *tickets.Transfer) { c.Nonce[0] ^= 1 })), no(privsep.ReasonTicketNonce)},
		{"no ticket", `{"jwt":"transfer","user":"alice"}`, no(privsep.ReasonTicketForm)},
		{"a word", shows("alice", "swordfish"), no(privsep.ReasonTicketForm)},
		{"no base 64", `{"jwt":"transfer","user":"alice","sig":"!!!!"}`, no(privsep.ReasonTicketForm)},
		{"much", `{"jwt":"transfer","sig":"` + strings.Repeat("A", 60000) + `"}`, no(privsep.ReasonTicketForm)},
		{"much with a dot", shows("alice", good()+strings.Repeat("A", 5000)), no(privsep.ReasonTicketForm)},
		{"base 64 twice", shows("alice", encode(good())), no(privsep.ReasonTicketForm)},
		{"alg none", shows("alice", forge(t, `{"alg":"none",`+typ, func(string) []byte { return nil })), no(privsep.ReasonTicketForm)},
		{"alg none, signed", shows("alice", forge(t, `{"alg":"none",`+typ, func(in string) []byte { return ed25519.Sign(orga, []byte(in)) })), no(privsep.ReasonTicketForm)},
		{"HS256 with the public key", shows("alice", forge(t, `{"alg":"HS256",`+typ, mac(orga.Public().(ed25519.PublicKey)))), no(privsep.ReasonTicketForm)},
		{"HS256 with the public key, called EdDSA", shows("alice", forge(t, `{"alg":"EdDSA",`+typ, mac(orga.Public().(ed25519.PublicKey)))), no(privsep.ReasonTicketForm)},
		{"RS256 with a key in it", shows("alice", forge(t, `{"alg":"RS256","jwk":{},`+typ, func(in string) []byte {
			sum := sha256.Sum256([]byte(in))
			b, _ := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
			return b
		})), no(privsep.ReasonTicketForm)},
		{"of another type", shows("alice", forge(t, `{"alg":"EdDSA","typ":"JWT"}`, func(in string) []byte { return ed25519.Sign(orga, []byte(in)) })), no(privsep.ReasonTicketForm)},
		{"without signature", shows("alice", good()[:strings.LastIndex(good(), ".")+1]), no(privsep.ReasonTicketForm)},
		{"life too long", shows("alice", relived(t)), no(privsep.ReasonTicketForm)},
		{"unknown issuer", shows("alice", with(t, stranger, func(c *tickets.Transfer) { c.Issuer = "orgd" })), no(privsep.ReasonTicketIssuer)},
		{"ourselves as issuer", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Issuer = "orgb" })), no(privsep.ReasonTicketIssuer)},
		{"signed by a stranger", shows("alice", with(t, stranger, func(*tickets.Transfer) {})), no(privsep.ReasonTicketSignature)},
		{"signed by another issuer", shows("alice", with(t, orgc, func(*tickets.Transfer) {})), no(privsep.ReasonTicketSignature)},
		{"changed payload", shows("carol", changed(t, `"sub":"alice"`, `"sub":"carol"`)), no(privsep.ReasonTicketSignature)},
		{"changed organisation", shows("alice", changed(t, `"org":"ORGA"`, `"org":"ORGX"`)), no(privsep.ReasonTicketSignature)},
		{"changed audience", shows("alice", changed(t, `"aud":"orgb"`, `"aud":"orgz"`)), no(privsep.ReasonTicketSignature)},
		{"other algorithm's header", shows("alice", forge(t, `{"alg":"ES256",`+typ, func(in string) []byte { return ed25519.Sign(orga, []byte(in)) })), no(privsep.ReasonTicketSignature)},
		{"signature of nothing", shows("alice", forge(t, `{"alg":"EdDSA",`+typ, func(string) []byte { return make([]byte, 64) })), no(privsep.ReasonTicketSignature)},
		{"other audience", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Audience = "orgc" })), no(privsep.ReasonTicketAudience)},
		{"audience in capitals", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Audience = "ORGB" })), no(privsep.ReasonTicketAudience)},
		{"expired", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Issued, c.Expires = c.Issued-67, c.Expires-67 })), no(privsep.ReasonTicketExpired)},
		{"long expired", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Issued, c.Expires = 1, 2 })), no(privsep.ReasonTicketExpired)},
		{"from the future", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Issued, c.Expires = c.Issued+30, c.Expires+30 })), no(privsep.ReasonTicketEarly)},
		{"another name beside it", shows("carol", good()), no(privsep.ReasonTicketUser)},
		{"name in capitals", shows("Alice", good()), no(privsep.ReasonTicketUser)},
		{"organisation that is not the issuer's", shows("bob", with(t, orga, func(c *tickets.Transfer) { c.User, c.Organisation = "bob", "" })), no(privsep.ReasonTicketSender)},
		{"user that is not the issuer's", shows("carol", with(t, orgc, func(c *tickets.Transfer) { c.Issuer, c.User = "orgc", "carol" })), no(privsep.ReasonTicketSender)},
		{"wrong organisation", shows("alice", with(t, orga, func(c *tickets.Transfer) { c.Organisation = "ORGX" })), no(privsep.ReasonTicketOrganisation)},
		{"wrong user", shows("mallory", with(t, orga, func(c *tickets.Transfer) { c.User = "mallory" })), no(privsep.ReasonUnknownUser)},
		{"jwt of another sort", strings.Replace(shows("", good()), `"transfer"`, `"Transfer"`, 1), privsep.Verdict{Reason: privsep.ReasonNoCredential}},
	} {
		got := g.login(byte(i), tt.json)
		got.ID, got.Try = 0, 0
		if got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v, %v", tt.name, got, got.Reason, tt.want, tt.want.Reason)
		}
	}
}

// changed is a ticket whose payload is another one than that which was signed.
func changed(t testing.TB, old, now string) string {
	t.Helper()
	p := strings.Split(signed(t, orga, fresh(t)), ".")
	b, err := base64.RawURLEncoding.DecodeString(p[1])
	must(t, err)
	p[1] = encode(strings.Replace(string(b), old, now, 1))
	return strings.Join(p, ".")
}

// relived is a ticket for an hour, which orga has signed.
func relived(t testing.TB) string {
	t.Helper()
	c := fresh(t)
	exp := fmt.Sprint(c.Expires)
	p := strings.Split(changed(t, exp, fmt.Sprint(c.Expires+3600)), ".")
	return p[0] + "." + p[1] + "." + encode(string(ed25519.Sign(orga, []byte(p[0]+"."+p[1]))))
}

func TestTransferNotConfigured(t *testing.T) {
	g := newRig(t, people(t), nil)
	if v := g.login(1, shows("alice", signed(t, orga, fresh(t)))); v.Reason != privsep.ReasonNotConfigured {
		t.Errorf("%+v", v)
	}
}

// Of a ticket that its issuer has signed the log has the id and the issuer; of one that
// nobody has, what the client says of itself alone.
func TestTransferLines(t *testing.T) {
	g := transferRig(t)
	c := fresh(t)
	ticket := signed(t, orga, c)
	g.login(1, shows("", ticket))
	g.login(1, shows("", ticket))
	g.login(1, shows("root", signed(t, stranger, c)))
	g.stats()
	var got []string
	for _, l := range g.lines {
		s := l.Event
		for _, f := range l.Fields {
			if f.Key != privsep.KeyCID && f.Key != privsep.KeyAddr {
				s += fmt.Sprintf(" %v=%s", f.Key, f.Text)
			}
		}
		got = append(got, s)
	}
	by := "kind=transfer user=alice ticket=" + tickets.TransferName(c.ID) + " from=orga"
	want := []string{"login " + by, "login refused " + by + " reason=ticket_seen", "login refused kind=transfer user=root reason=ticket_signature"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A router that does not know what became of a login asks again; a client that shows a
// ticket twice, on whichever connection, does not get in twice.
func TestTransferAgain(t *testing.T) {
	g := transferRig(t)
	ask := func(id uint64, again bool, ticket string) privsep.Reason {
		g.tries++ // which is the address, too: it is not about failures
		l := privsep.Login{ID: id, Try: g.tries, Again: again, Addr: addr(byte(g.tries)), Challenge: challenge, JSON: []byte(shows("", ticket))}
		must(t, g.router.SendWait(patience, privsep.KindLogin, l.Append(nil)))
		return g.next().Reason
	}
	ticket := signed(t, orga, fresh(t))
	for i, step := range []struct {
		id    uint64
		again bool
		want  privsep.Reason
	}{
		{7, false, privsep.ReasonNone}, {7, true, privsep.ReasonNone}, {7, false, privsep.ReasonTicketSeen},
		{8, true, privsep.ReasonTicketSeen}, {8, false, privsep.ReasonTicketSeen}, {7, true, privsep.ReasonNone},
	} {
		if got := ask(step.id, step.again, ticket); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// New issuers hold with the users that come after them.
func TestIssuersChange(t *testing.T) {
	g := transferRig(t)
	login := func() privsep.Reason { return g.login(1, shows("", signed(t, orga, fresh(t)))).Reason }
	next := approved(t)[0]
	next.Set, next.Last, next.Keys = 2, true, next.Keys[1:]
	must(t, g.parent.SendWait(patience, privsep.KindIssuer, next.Append(nil)))
	g.stats()
	if got := login(); got != privsep.ReasonNone {
		t.Errorf("before the users came: %v", got)
	}
	g.users(2, people(t))
	g.stats()
	if got := login(); got != privsep.ReasonTicketSignature {
		t.Errorf("a key that was taken out: %v", got)
	}
	none := privsep.Issuer{Set: 3, Last: true}
	must(t, g.parent.SendWait(patience, privsep.KindIssuer, none.Append(nil)))
	g.users(3, people(t))
	g.stats()
	if got := login(); got != privsep.ReasonNotConfigured {
		t.Errorf("no issuer: %v", got)
	}
}

// What is remembered of tickets lasts as long as they do, and is bounded.
func TestSeen(t *testing.T) {
	var s seen
	now := time.Now()
	see := func(id byte, at time.Duration) privsep.Reason {
		c := fresh(t)
		c.ID = [16]byte{id}
		return s.see(&attempt{id: uint64(id), ticket: c}, now.Add(at))
	}
	const life = tickets.TransferLife + tickets.TransferSkew
	for i, step := range []struct {
		id   byte
		at   time.Duration
		want privsep.Reason
	}{
		{1, 0, privsep.ReasonNone}, {2, life, privsep.ReasonNone}, {1, life, privsep.ReasonTicketSeen},
		{2, 2 * life, privsep.ReasonTicketSeen}, {3, 2 * life, privsep.ReasonNone}, {2, 4 * life, privsep.ReasonNone},
	} {
		if got := see(step.id, step.at); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	for i := range mostSeen {
		c := fresh(t)
		if got := s.see(&attempt{ticket: c}, now.Add(4*life)); got != privsep.ReasonNone && i < mostSeen-1 {
			t.Fatalf("ticket %d: %v", i, got)
		}
	}
	if got := see(9, 4*life); got != privsep.ReasonCrowded {
		t.Errorf("one too many: %v", got)
	}
	if got := see(9, 7*life); got != privsep.ReasonNone {
		t.Errorf("later: %v", got)
	}
}
