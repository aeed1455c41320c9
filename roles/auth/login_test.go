package auth

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
)

// What a client shows, and what becomes of it. A refused one is told of by nothing
// but the reason.
func TestVerdicts(t *testing.T) {
	g := newRig(t, people(t), nil)
	carol, dave, nobody := key(t, 3), key(t, 4), key(t, 9)
	pub := func(k nkeys.KeyPair) string { return public(t, k) }
	nkey := func(public, sig string) string { return fmt.Sprintf(`{"nkey":%q,"sig":%q}`, public, sig) }
	raw, err := carol.Sign([]byte(challenge))
	must(t, err)
	account, err := nkeys.CreateAccount()
	must(t, err)

	const (
		none     = privsep.CredentialNone
		password = privsep.CredentialPassword
		token    = privsep.CredentialToken
		signed   = privsep.CredentialNKey
	)
	alice := privsep.Verdict{OK: true, Credential: password, Mark: 1, User: "alice", Organisation: "ORGA", Profile: "desk"}
	bob := privsep.Verdict{OK: true, Credential: password, Mark: 2, User: "bob"}
	isCarol := privsep.Verdict{OK: true, Credential: signed, Mark: 3, User: "carol", Organisation: "ORGA"}
	isDave := privsep.Verdict{OK: true, Credential: signed, Mark: 4, User: "dave"}
	robot := privsep.Verdict{OK: true, Credential: token, Mark: 5, Profile: "robots"}
	no := func(k privsep.Credential, r privsep.Reason) privsep.Verdict {
		return privsep.Verdict{Credential: k, Reason: r}
	}

	for _, tt := range []struct {
		name, json string
		want       privsep.Verdict
	}{
		{"argon2id", `{"user":"alice","pass":"horse"}`, alice},
		{"bcrypt", `{"user":"bob","pass":"battery"}`, bob},
		{"keys in capitals", `{"USER":"alice","Pass":"horse"}`, alice},
		{"the last of two", `{"user":"bob","user":"alice","pass":"horse"}`, alice},
		{"more than asked", `{"user":"alice","pass":"horse","jwt":"x","sig":"y","lang":"go","protocol":1}`, alice},
		{"another's password", `{"user":"alice","pass":"battery"}`, no(password, privsep.ReasonWrongPassword)},
		{"no password", `{"user":"alice"}`, no(password, privsep.ReasonWrongPassword)},
		{"an empty password", `{"user":"bob","pass":""}`, no(password, privsep.ReasonWrongPassword)},
		{"part of a password", `{"user":"alice","pass":"hors"}`, no(password, privsep.ReasonWrongPassword)},
		{"more than a password", `{"user":"alice","pass":"horse\u0000"}`, no(password, privsep.ReasonWrongPassword)},
		{"the hash itself", fmt.Sprintf(`{"user":"alice","pass":%q}`, horse), no(password, privsep.ReasonWrongPassword)},
		{"a long password", fmt.Sprintf(`{"user":"bob","pass":%q}`, strings.Repeat("battery", 5000)), no(password, privsep.ReasonWrongPassword)},
		{"nobody", `{"user":"mallory","pass":"horse"}`, no(password, privsep.ReasonUnknownUser)},
		{"another case", `{"user":"Alice","pass":"horse"}`, no(password, privsep.ReasonUnknownUser)},
		{"a blank more", `{"user":"alice ","pass":"horse"}`, no(password, privsep.ReasonUnknownUser)},
		{"no password to be had", `{"user":"carol","pass":"horse"}`, no(password, privsep.ReasonNoPassword)},
		{"only a password", `{"pass":"horse"}`, no(none, privsep.ReasonNoCredential)},

		{"token", `{"auth_token":"battery"}`, robot},
		{"wrong token", `{"auth_token":"horse"}`, no(token, privsep.ReasonWrongToken)},
		{"token as a password", `{"user":"","pass":"battery"}`, no(none, privsep.ReasonNoCredential)},
		{"a user who knows the token", `{"user":"alice","auth_token":"battery"}`, no(password, privsep.ReasonWrongPassword)},

		{"nkey", nkey(pub(carol), sign(t, carol, challenge)), isCarol},
		{"nkey of one with a password", nkey(pub(dave), sign(t, dave, challenge)), isDave},
		{"other base 64", nkey(pub(carol), base64.StdEncoding.EncodeToString(raw)), isCarol},
		{"padded", nkey(pub(carol), base64.URLEncoding.EncodeToString(raw)), isCarol},
		{"another challenge", nkey(pub(carol), sign(t, carol, challenge[1:]+"x")), no(signed, privsep.ReasonBadSignature)},
		{"no challenge", nkey(pub(carol), sign(t, carol, "")), no(signed, privsep.ReasonBadSignature)},
		{"another's signature", nkey(pub(carol), sign(t, dave, challenge)), no(signed, privsep.ReasonBadSignature)},
		{"no signature", nkey(pub(carol), ""), no(signed, privsep.ReasonBadSignature)},
		{"half a signature", nkey(pub(carol), sign(t, carol, challenge)[:40]), no(signed, privsep.ReasonBadSignature)},
		{"a long signature", nkey(pub(carol), strings.Repeat("A", 20000)), no(signed, privsep.ReasonBadSignature)},
		{"no base 64", nkey(pub(carol), strings.Repeat("!", 86)), no(signed, privsep.ReasonBadSignature)},
		{"nobody's nkey", nkey(pub(nobody), sign(t, nobody, challenge)), no(signed, privsep.ReasonUnknownNKey)},
		{"nobody's nkey, unsigned", nkey(pub(nobody), ""), no(signed, privsep.ReasonUnknownNKey)},
		{"an account's key", nkey(pub(account), sign(t, account, challenge)), no(signed, privsep.ReasonBadNKey)},
		{"no nkey", nkey("carol", sign(t, carol, challenge)), no(signed, privsep.ReasonBadNKey)},
		{"half an nkey", nkey(pub(carol)[:30], sign(t, carol, challenge)), no(signed, privsep.ReasonBadNKey)},
		{"an nkey in two lines", nkey(pub(carol)[:30]+"\n"+pub(carol)[30:], sign(t, carol, challenge)), no(signed, privsep.ReasonUnknownNKey)},
		{"in small letters", nkey(strings.ToLower(pub(carol)), sign(t, carol, challenge)), no(signed, privsep.ReasonBadNKey)},
		{"a seed", nkey(seed(t, carol), sign(t, carol, challenge)), no(signed, privsep.ReasonBadNKey)},
		{"wrong nkey, right password", `{"nkey":"x","user":"alice","pass":"horse"}`, no(signed, privsep.ReasonBadNKey)},
		{"right nkey, wrong password", fmt.Sprintf(`{"nkey":%q,"sig":%q,"user":"alice","pass":"x"}`, pub(carol), sign(t, carol, challenge)), isCarol},

		{"nothing", `{}`, no(none, privsep.ReasonNoCredential)},
		{"null", `null`, no(none, privsep.ReasonNoCredential)},
		{"a jwt", `{"jwt":"eyJ0eXAiOiJKV1QifQ.e30.x","sig":"x"}`, no(none, privsep.ReasonNoCredential)},
		{"an unknown key", `{"certificate":"x"}`, no(none, privsep.ReasonNoCredential)},
		{"no JSON", `user=alice`, no(none, privsep.ReasonMalformed)},
		{"half of it", `{"user":"alice","pass":"horse"`, no(none, privsep.ReasonMalformed)},
		{"two of it", `{"user":"alice","pass":"horse"}{}`, no(none, privsep.ReasonMalformed)},
		{"an array", `["alice","horse"]`, no(none, privsep.ReasonMalformed)},
		{"a number", `{"user":1,"pass":"horse"}`, no(none, privsep.ReasonMalformed)},
		{"empty", ``, no(none, privsep.ReasonMalformed)},
		{"deep", `{"a":` + strings.Repeat("[", 60000), no(none, privsep.ReasonMalformed)},
	} {
		got := g.login(byte(len(tt.name)), tt.json)
		got.ID, got.Try = 0, 0
		if got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v, %v", tt.name, got, got.Reason, tt.want, tt.want.Reason)
		}
	}

	// A challenge that has been used is no text to be signed: a hostile server can have
	// its clients sign nothing at all.
	nothing := privsep.Login{Addr: addr(200), JSON: []byte(nkey(pub(carol), sign(t, carol, "")))}
	if got := g.ask(nothing); got.Reason != privsep.ReasonChallengeUsed {
		t.Errorf("without a challenge: %+v, %v", got, got.Reason)
	}
}

func seed(t *testing.T, k nkeys.KeyPair) string {
	b, err := k.Seed()
	must(t, err)
	return string(b)
}

// Without the one or the other kind of credential, it is refused as such.
func TestNotConfigured(t *testing.T) {
	g := newRig(t, people(t)[2:3], nil) // carol
	for _, json := range []string{`{"user":"carol","pass":"horse"}`, `{"user":"nobody","pass":"horse"}`, `{"auth_token":"horse"}`} {
		if v := g.login(1, json); v.OK || v.Reason != privsep.ReasonNotConfigured {
			t.Errorf("%s: %+v", json, v)
		}
	}
}

// Every verdict is a line; what the client says of itself is in it, its secrets are
// not, and what is too much is counted.
func TestLoginLines(t *testing.T) {
	g := newRig(t, people(t), nil)
	secret := seed(t, key(t, 3))
	secrets := []string{"horse", "hunter2", "tokenly", "signature", secret, secret[1:20]}
	for _, json := range []string{`{"user":"alice","pass":"horse"}`, `{"user":"al\nice","pass":"hunter2"}`, `{"auth_token":"tokenly"}`,
		`{"nkey":"UX","sig":"signature"}`, fmt.Sprintf(`{"nkey":%q}`, secret), `{}`, `hunter2`} {
		g.login(7, json)
	}
	s := g.stats()
	if s.Logins != 1 || s.LoginsRefused != 6 || s.LoginsWaiting != 0 {
		t.Errorf("counted %+v", s)
	}
	want := []string{
		"info login cid=1024 addr=192.0.2.7 kind=password user=alice",
		`warn login refused cid=2048 addr=192.0.2.7 kind=password user="al\nice" reason=unknown_user`,
		"warn login refused cid=3072 addr=192.0.2.7 kind=token reason=wrong_token",
		"warn login refused cid=4096 addr=192.0.2.7 kind=nkey user=UX reason=bad_nkey",
		"warn login refused cid=5120 addr=192.0.2.7 kind=nkey reason=bad_nkey",
		"warn login refused cid=6144 addr=192.0.2.7 reason=no_credential",
		"warn login refused cid=7168 addr=192.0.2.7 reason=malformed",
	}
	for i, l := range g.lines {
		if i >= len(want) || text(&l) != want[i] {
			t.Errorf("line %d: %s", i, text(&l))
		}
		for _, secret := range secrets {
			if strings.Contains(text(&l), secret) {
				t.Errorf("%q is in %s", secret, text(&l))
			}
		}
	}
	if len(g.lines) != len(want) {
		t.Errorf("%d lines", len(g.lines))
	}
	g.lines = nil
	for range 200 {
		g.login(8, `{}`)
	}
	g.stats()
	if n := len(g.lines); n > 2*noPace {
		t.Errorf("%d lines", n)
	}
}

func text(l *privsep.LogLine) string {
	s := l.Level.String() + " " + l.Event
	for i := range l.Fields {
		s += " " + l.Fields[i].Key.String() + "=" + l.Fields[i].Value()
	}
	return s
}

// Users who come and go while auth runs count from the next login on, and a set that
// is not whole for nobody.
func TestUsersChange(t *testing.T) {
	all := people(t)
	g := newRig(t, all[:1], nil)
	is := func(name, pass string, want privsep.Reason) {
		t.Helper()
		if v := g.login(1, fmt.Sprintf(`{"user":%q,"pass":%q}`, name, pass)); v.Reason != want {
			t.Errorf("%s, %s: %v, want %v", name, pass, v.Reason, want)
		}
	}
	is("alice", "horse", privsep.ReasonNone)
	is("bob", "battery", privsep.ReasonUnknownUser)
	part := all[1]
	part.Set = 7
	must(t, g.parent.SendWait(patience, privsep.KindUser, part.Append(nil)))
	g.stats()
	is("bob", "battery", privsep.ReasonUnknownUser)
	g.users(8, all[1:])
	g.stats()
	is("bob", "battery", privsep.ReasonNone)
	is("alice", "horse", privsep.ReasonUnknownUser)
	changed := all[0]
	changed.Password = battery
	g.users(9, []privsep.User{changed})
	g.stats()
	is("alice", "battery", privsep.ReasonNone)
	is("alice", "horse", privsep.ReasonWrongPassword)
}

// A new router hears nothing of what the one before has asked.
func TestRouterEnds(t *testing.T) {
	g := newRig(t, people(t), nil)
	for range 50 {
		g.send(1, `{"user":"alice","pass":"horse"}`)
	}
	g.join()
	g.tries = 1000
	if v := g.login(1, `{"user":"bob","pass":"battery"}`); !v.OK || v.User != "bob" {
		t.Errorf("%+v", v)
	}
	for g.stats().LoginsWaiting > 0 {
	}
	if err := g.router.Recv(&g.msg); err != privsep.ErrAgain {
		t.Errorf("says more: %v %v", g.msg.Kind, err)
	}
}

// Who has waited for as long as a client may take is not looked at any more.
func TestLate(t *testing.T) {
	slow := strings.Replace(horse, "m=1024,t=1", "m=65536,t=8", 1) // nobody's, and takes its time
	g := newRig(t, []privsep.User{{Mark: 1, Name: "alice", Password: slow}}, func(s *privsep.Setup) {
		s.Settings.Login.Hashes, s.Settings.AuthTimeout = 1, 50*time.Millisecond
	})
	first, second := g.send(1, `{"user":"alice","pass":"mule"}`), g.send(2, `{"user":"alice","pass":"horse"}`)
	got := map[uint32]privsep.Reason{}
	for range 2 {
		v := g.next()
		got[v.Try] = v.Reason
	}
	if want := map[uint32]privsep.Reason{first: privsep.ReasonWrongPassword, second: privsep.ReasonLate}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Many at once, good and bad, from many addresses: each has his own verdict.
func TestManyLogins(t *testing.T) {
	const n = 500
	g := newRig(t, people(t), nil)
	want := map[uint32]bool{}
	got := 0
	take := func() {
		v := g.next()
		if ok, asked := want[v.Try]; !asked || ok != v.OK {
			t.Errorf("%d: %v, want %v, asked %v", v.Try, v.OK, ok, asked)
		}
		delete(want, v.Try)
		got++
	}
	for i := range n {
		pass := []string{"horse", "mule"}[i%2]
		want[g.send(byte(i), fmt.Sprintf(`{"user":"alice","pass":%q}`, pass))] = i%2 == 0
		if i >= 50 {
			take()
		}
	}
	for got < n {
		take()
	}
}

// The README's table has every reason, in order, and no other, and so has gatehouse(8).
func TestReasonsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	must(t, err)
	_, table, ok := strings.Cut(string(b), "\n| reason | means |\n| --- | --- |\n")
	if !ok {
		t.Fatal("no table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var got, want []string
	for line := range strings.Lines(table + "\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " ")
		got = append(got, name)
	}
	for r := privsep.ReasonNone + 1; r.String() != "reason"; r++ {
		want = append(want, r.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table has %q, there are %q", got, want)
	}
	page, err := os.ReadFile("../../packaging/man/gatehouse.8")
	must(t, err)
	_, list, _ := strings.Cut(string(page), "\n.Sh DIAGNOSTICS\n")
	list, _, _ = strings.Cut(list, "\n.Sh ")
	got = nil
	for line := range strings.Lines(list) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), ".It Li "); ok {
			got = append(got, name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("gatehouse(8) has %q, there are %q", got, want)
	}
}

// Whoever has too little time left for a check is refused without one, however long the
// last checks took: who has just come is always checked.
func TestHopeless(t *testing.T) {
	mine, theirs, err := privsep.Socketpair()
	must(t, err)
	k := privsep.NewKey()
	parent := privsep.NewChannel(mine, privsep.RoleParent, privsep.RoleAuth, k)
	defer parent.Close()
	child := privsep.NewChannel(theirs, privsep.RoleAuth, privsep.RoleParent, k)
	defer child.Close()
	a, err := newAuth(&privsep.Setup{Settings: standin.Settings(1)}, child)
	must(t, err)
	defer a.poll.Close()
	a.users, err = newUsers(people(t), nil, approval{})
	must(t, err)
	a.cfg.AuthTimeout = time.Minute
	a.takes[slow] = time.Hour
	checked := make(chan uint64, 2)
	c := &checker{kind: privsep.CredentialToken, class: slow, claim: func(*attempt) string { return "" },
		check: func(t *attempt) (*user, privsep.Reason) {
			checked <- t.id
			return nil, privsep.ReasonWrongToken
		}}
	now := time.Now()
	for i, left := range []time.Duration{29 * time.Second, time.Minute} {
		a.wait(&attempt{id: uint64(i), who: uint64(i), checker: c, class: slow, came: now, until: now.Add(left)}, now)
	}
	a.begin()
	if id := <-checked; id != 1 || a.refused != 1 || a.running[slow] != 1 || a.queue.waiting != 0 {
		t.Errorf("attempt %d is checked, %d refused, %d waiting", id, a.refused, a.queue.waiting)
	}
}
