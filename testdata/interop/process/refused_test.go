package process

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"gatehouse/roles/auth/cms/cmstest"
	"gatehouse/testdata/tree"
)

// attempt is one way to log in, which is wrong in one respect. Its client says what say
// gives for the challenge that it was greeted with.
type attempt struct {
	name   string
	reason string // that the log has, "": it is let in
	say    func(challenge string) string
	kind   string            // of credential, as the log has it
	times  int               // from one address, of which the last is meant; 0: once
	shows  []*cmstest.Holder // certificates, the client's own first; nil: it comes without TLS
}

// elsewhere are the reasons that no attempt here has, with what keeps it from it or has it.
// A name that ends with _ stands for all that begin with it.
var elsewhere = map[string]string{
	"crowded":     "takes 64 MiB of logins that wait, or 65,536 tickets: TestCrowded and TestSeen of roles/auth",
	"malformed":   "takes a router that passes on what it closes for: TestVerdicts of roles/auth",
	"directory_":  "takes a directory: TestLDAPRefused, TestLDAPSilent, and TestRefusedBind of roles/auth/directory",
	"late":        "takes a login that waits for auth_timeout: TestLate of roles/auth",
	"process_":    "takes processes: TestProcess, and TestRunBy of roles/auth",
	"ticket_seen": "takes a router that gives a challenge twice: TestTransferAgain of roles/auth",
}

// refused is what a client is told whatever is wrong with it.
const refused = "-ERR 'Authorization Violation'\r\n"

// Every login that is wrong is refused for what is wrong with it, of which its client
// hears nothing; and whatever stands in the README's table happens.
func TestEveryWrongLogin(t *testing.T) {
	t.Parallel()
	a := newAuthorities(t)
	orga, orgc := newPair(t, newEd25519(t)), newPair(t, newP256(t))
	public, carol := newNKey(t)
	full := startBroker(t, settings{cms: 2, tls: "sign", limits: `auth_timeout = "20s"`, clients: a.clients(),
		users: a.lines() + fmt.Sprintf("token = %q\n[environment]\nname = \"orgb\"\n", battery) +
			issuer("orga", "ORGA", "", orga) + issuer("orgc", "ORGC", `users = ["carol"]`, orgc) +
			userTable("alice", password(horse), `certificate = "CN=alice,O=ORGA"`, organised) +
			userTable("bob", password(battery), `organisation = "ORGB"`, fmt.Sprintf("certificate_key = %q", a.pinned())) +
			userTable("carol", fmt.Sprintf("nkey = %q", public), `organisation = "ORGC"`) +
			userTable("erin", `certificate_san = "dns:erin.orga.example"`, `organisation = "ORGC"`) +
			userTable("frank", `certificate_san = "email:frank@orga.example"`) +
			userTable("frank2", `certificate_san = "dns:frank.orga.example"`)})
	plain := startBroker(t, settings{users: alice})

	all := slices.Concat(passwords(), nkeyAttempts(t, full, public, carol), a.signatures(full), a.handshakes(), ticketAttempts(t, full, orga, orgc))
	covered := tryAll(t, full, all)
	maps.Copy(covered, tryAll(t, plain, notConfigured(carol, orga)))
	t.Logf("%d attempts", len(all))
	checkCovered(t, covered, len(all))
	for _, secret := range []string{"horse", "battery", "argon2id", "mule", "eyJhbGciOi"} {
		if strings.Contains(full.log.Text(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// tryAll makes all attempts, each from an address of its own, and gives the reasons that
// there were.
func tryAll(t *testing.T, b *broker, all []attempt) map[string]bool {
	t.Helper()
	// No faster than auth writes lines: it leaves out what is beyond 50 a second.
	pace := time.NewTicker(time.Second / 50)
	defer pace.Stop()
	covered := map[string]bool{}
	for i, v := range all {
		for range max(v.times-1, 0) {
			b.attempt(t, v, i)
		}
		<-pace.C
		told, line := b.attempt(t, v, i)
		switch {
		case v.reason == "" && told == "PONG\r\n":
		case told != refused:
			t.Errorf("%s: told %q", v.name, told)
		case line == nil:
			t.Errorf("%s: no line", v.name)
		case line.Str("reason") != v.reason || line.Str("kind") != v.kind:
			t.Errorf("%s: want %s of %q, logged %s", v.name, v.reason, v.kind, line.Text)
		}
		covered[v.reason] = true
	}
	return covered
}

// attempt makes one from the i-th address. It gives what the client is told, and auth's
// line if it is refused.
func (b *broker) attempt(t *testing.T, v attempt, i int) (told string, line *tree.Line) {
	t.Helper()
	mark := b.log.Mark()
	d := from(i)
	addr := b.addr
	if v.shows != nil {
		addr = b.tls
	}
	c, err := dialWith(d, addr)
	must(t, err)
	defer c.reset()
	if v.shows != nil {
		cert := tls.Certificate{PrivateKey: v.shows[0].Key}
		for _, h := range v.shows {
			cert.Certificate = append(cert.Certificate, h.Raw)
		}
		must(t, b.secureClient(c, cert))
	}
	must(t, c.send(v.say(challengeOf(t, c.info))+"PING\r\n"))
	f, err := c.next()
	if err != nil || f.line == "PONG" {
		return f.line + "\r\n", nil
	}
	told = f.line + "\r\n" + c.rest()
	return told, b.log.Find(mark, "login refused", patience, "role", "auth", "addr", d.LocalAddr.(*net.TCPAddr).IP.String())
}

// checkCovered holds the reasons that there were against those of the README.
func checkCovered(t *testing.T, covered map[string]bool, attempts int) {
	t.Helper()
	if attempts < 60 {
		t.Errorf("%d attempts", attempts)
	}
	text, err := os.ReadFile("../../../README.md")
	must(t, err)
	_, table, ok := strings.Cut(string(text), "\n| reason | means |\n| --- | --- |\n")
	table, _, end := strings.Cut(table, "\n\n")
	if !ok || !end {
		t.Fatal("the README has no table of reasons")
	}
	known := map[string]bool{"": true}
	for line := range strings.Lines(table) {
		reason, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " ")
		known[reason] = true
		away := reason
		if family, _, _ := strings.Cut(reason, "_"); elsewhere[family+"_"] != "" {
			away = family + "_"
			known[away] = true
		}
		if why := elsewhere[away]; covered[reason] == (why != "") {
			t.Errorf("%s: an attempt has it: %v; elsewhere: %q", reason, covered[reason], why)
		}
	}
	for reason := range known {
		delete(covered, reason)
	}
	for reason := range elsewhere {
		if !known[reason] {
			covered[reason] = true
		}
	}
	if len(covered) > 0 {
		t.Errorf("not in the README's table: %q", slices.Sorted(maps.Keys(covered)))
	}
}

// connect is a CONNECT with these fields.
func connect(fields map[string]any) string {
	all := map[string]any{"verbose": false, "protocol": 1}
	maps.Copy(all, fields)
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("CONNECT %s\r\n", b)
}

// always is for what does not depend on the challenge.
func always(text string) func(string) string { return func(string) string { return text } }

// passwords are attempts by password and token, and by nothing that anybody looks at.
func passwords() (all []attempt) {
	add := func(reason, kind, name string, fields map[string]any) {
		all = append(all, attempt{name: name, reason: reason, kind: kind, say: always(connect(fields))})
	}
	user := func(reason, name, user, pass string) {
		add(reason, "password", name, map[string]any{"user": user, "pass": pass})
	}
	user("", "password", "alice", "horse")
	user("", "bcrypt", "bob", "battery")
	user("wrong_password", "another's password", "alice", "battery")
	user("wrong_password", "no password", "alice", "")
	user("wrong_password", "the hash", "alice", horse)
	user("wrong_password", "a byte more", "bob", "battery\x00")
	user("wrong_password", "longer than bcrypt looks at", "bob", strings.Repeat("battery", 20))
	user("unknown_user", "nobody", "mallory", "horse")
	user("unknown_user", "another case", "Alice", "horse")
	user("no_password", "one with an nkey", "carol", "horse")
	add("", "token", "token", map[string]any{"auth_token": "battery"})
	add("wrong_token", "token", "wrong token", map[string]any{"auth_token": "horse"})
	add("wrong_token", "token", "the hash of the token", map[string]any{"auth_token": battery})
	add("wrong_password", "password", "a user who has the token", map[string]any{"user": "alice", "auth_token": "battery"})
	add("no_credential", "", "nothing", nil)
	add("no_credential", "", "a password of nobody", map[string]any{"pass": "horse"})
	add("no_credential", "", "an unknown kind of JWT", map[string]any{"jwt": "eyJ0eXAiOiJKV1QifQ.e30.x", "sig": "x"})
	n := 0
	another := func(string) string {
		n++
		return connect(map[string]any{"user": fmt.Sprint("guess", n), "pass": "mule"})
	}
	return append(all,
		attempt{name: "an eleventh guess", reason: "rate", kind: "password", say: another, times: 11},
		attempt{name: "a fourth guess", reason: "backoff", kind: "password", say: always(connect(map[string]any{"user": "alice", "pass": "mule"})), times: 4})
}

// nkeyAttempts are those by nkey.
func nkeyAttempts(t testing.TB, b *broker, public string, carol nkeys.KeyPair) (all []attempt) {
	t.Helper()
	nobody, stranger := newNKey(t)
	account, err := nkeys.CreateAccount()
	must(t, err)
	accountKey, err := account.PublicKey()
	must(t, err)
	by := func(public string, key nkeys.KeyPair, what func(challenge string) string) func(string) string {
		return func(challenge string) string {
			sig, err := key.Sign([]byte(what(challenge)))
			must(t, err)
			return connect(map[string]any{"nkey": public, "sig": base64.RawURLEncoding.EncodeToString(sig)})
		}
	}
	it := func(challenge string) string { return challenge }
	good := by(public, carol, it)
	for _, v := range []attempt{
		{name: "nkey", say: good},
		{name: "another's challenge", reason: "bad_signature", say: func(string) string { return good(b.otherChallenge(t)) }},
		{name: "nothing signed", reason: "bad_signature", say: by(public, carol, func(string) string { return "" })},
		{name: "another's signature", reason: "bad_signature", say: by(public, stranger, it)},
		{name: "no signature", reason: "bad_signature", say: always(connect(map[string]any{"nkey": public}))},
		{name: "nobody's nkey", reason: "unknown_nkey", say: by(nobody, stranger, it)},
		{name: "an account's nkey", reason: "bad_nkey", say: by(accountKey, account, it)},
		{name: "a name as nkey", reason: "bad_nkey", say: by("carol", carol, it)},
		{name: "a second time", reason: "challenge_used", say: func(challenge string) string { return good(challenge) + good(challenge) }},
		{name: "a second time, nothing signed", reason: "challenge_used", say: func(challenge string) string {
			return good(challenge) + by(public, carol, func(string) string { return "" })("")
		}},
	} {
		v.kind, v.name = "nkey", "nkey: "+v.name
		all = append(all, v)
	}
	return all
}

// notConfigured are those of which a broker knows nothing that has users with passwords.
func notConfigured(carol nkeys.KeyPair, orga *pair) []attempt {
	return []attempt{
		{name: "a token", reason: "not_configured", kind: "token", say: always(connect(map[string]any{"auth_token": "battery"}))},
		{name: "a certificate", reason: "not_configured", kind: "x509", say: always(connect(map[string]any{"jwt": "x509", "sig": "AAAA"}))},
		{name: "a ticket", reason: "not_configured", kind: "transfer", say: ticketed("", func(nonce string) string { return orga.ticket(nonce, nil) })},
	}
}

// otherChallenge is that of a connection that is open, too, for as long as the test.
func (b *broker) otherChallenge(t testing.TB) string {
	t.Helper()
	c, err := dial(b.addr)
	must(t, err)
	t.Cleanup(c.reset)
	return challengeOf(t, c.info)
}
