package parent

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
)

// Hashes that cost little, and a public key.
const (
	argonHash  = "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHQ$+ZBx63iOJQl7cGEIS28lPx+fVIZl9idUMRS0/n+XnWI"
	bcryptHash = "$2b$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO"
	publicKey  = "UCTFWXB6UAIUZAG3P6VSEESKO5OZSNM6UV4F6KJZALKEYDFHDN6D7OJG"
)

// user is a table of one who can log in.
func user(name string, lines ...string) string {
	return fmt.Sprintf("[[user]]\nname = %q\n%s\n", name, strings.Join(lines, "\n"))
}

func TestUserMistakes(t *testing.T) {
	const pass = "password = '" + argonHash + "'"
	const socket = "[listen]\nunix = [\"/run/a\"]\n"
	for _, tt := range []struct{ text, want string }{
		{user("", pass), `f:2: user.name: is empty`},
		{user("al ice", pass), `f:2: user.name: "al ice" has a space`},
		{user("al\u00efce", pass), `f:2: user.name: "alïce" is not ASCII`},
		{user(strings.Repeat("a", 129), pass), `f:2: user.name: is longer than 128 bytes`},
		{user("a", pass) + user("b", pass) + user("a", pass), `f:8: user.name: "a" is the name of another user`},
		{user("a"), `f:2: user.name: "a" has neither a password nor an nkey`},
		{user("a", pass, `executable = "/bin/a"`), `f:4: user.executable: needs a uid or a gid`},
		{user("a", `uid = 7`), `f:3: user.uid: needs a Unix socket, in listen.unix`},
		{user("a", `uid = "no-such-user"`) + socket, `f:3: user.uid: "no-such-user" is no user here`},
		{user("a", `gid = "no-such-group"`) + socket, `f:3: user.gid: "no-such-group" is no group here`},
		{user("a", `uid = -1`) + socket, `f:3: user.uid: "-1" is no user here`},
		{user("a", `uid = 4294967295`) + socket, `f:3: user.uid: "4294967295" stands for nobody`},
		{user("a", `uid = true`) + socket, `f:3: user.uid: true is neither a name nor a number`},
		{user("a", `uid = 7`, `executable = "a"`) + socket, `f:4: user.executable: "a" is not a whole path`},
		{user("a", `uid = 7`, `executable = "/b/../a"`) + socket, `f:4: user.executable: "/b/../a" is not a whole path`},
		{user("a", `uid = 7`, `sha256 = "a0"`) + socket, `f:4: user.sha256: "a0" is not the 64 hexadecimal digits`},
		{user("a", `uid = 7`) + user("b", `uid = "7"`) + socket, `f:6: user.uid: is another user's, too`},
		{user("a", `gid = "root"`) + user("b", `gid = 0`) + socket, `f:6: user.gid: is another user's, too`},
		{user("a", `password = "secret"`), `f:3: user.password: is not a hash of a password: gatehouse passwd makes one`},
		{user("a", `password = ["secret"]`), `f:3: user.password: is not a string`},
		{user("a", `password = "$argon2id$v=19$m=8,t=1,p=1$c2VjcmV0c2VjcmV0$c2VjcmV0c2VjcmV0c2VjcmV0"`), `f:3: user.password: m=8 is not between`},
		{"[auth]\nmemory = \"512KiB\"", `f:2: auth.memory: 512KiB is not between`},
		{user("a", strings.Replace(pass, "m=1024", "m=65536", 1)) + "[auth]\nmemory = \"1MiB\"", `f:3: user.password: takes 64MiB, more than auth.memory (1MiB)`},
		{user("a", `nkey = "secret"`), `f:3: user.nkey: is not an nkey`},
		{user("a", `nkey = "`+strings.ToLower(publicKey)+`"`), `f:3: user.nkey: is not an nkey`},
		{user("a", `nkey = "`+publicKey[:30]+`\n`+publicKey[30:]+`"`), `f:3: user.nkey: is not`},
		{user("a", `nkey = "SUAGZ5TAYHBK46PIF3QCQCMFPJKMTYOVIGZNRSQSPDXHEMP42HTMBJ2ZVY"`), `f:3: user.nkey: is not an nkey`},
		{user("a", `nkey = "AAHAQJWIFO6LDZXNKJQG2FMDXGFF4TTWTZHUAWSVBTJP5JVZRBE4KRFN"`), `f:3: user.nkey: is not`},
		{user("a", `nkey = "`+publicKey+`"`) + user("b", `nkey = "`+publicKey+`"`), `f:6: user.nkey: is another user's, too`},
		{user("a", pass, `profile = "desk"`), `f:4: user.profile: "desk" is not the name of a [[profile]]`},
		{user("a", pass, `organisation = "A B"`), `f:4: user.organisation: "A B" has a space`},
		{user("a", pass, `pasword = "secret"`), `f:4: user.pasword: unknown key`},
		{"[auth]\ntoken = \"secret\"", `f:2: auth.token: is not a hash`},
		{"[auth]\ntoken_profile = \"desk\"\n[[profile]]\nname = \"desk\"", `f:2: auth.token_profile: means nothing without auth.token`},
		{"[auth]\ntoken = '" + bcryptHash + "'\ntoken_profile = \"desk\"", `f:3: auth.token_profile: "desk" is not the name`},
		{"[auth]\nfailure_rate = 0", `f:2: auth.failure_rate: 0 is not between 1 and`},
		{"[auth]\nbackoff = \"1ms\"", `f:2: auth.backoff: 1ms is not between 1s and 1h0m0s`},
		{"[auth]\nhashes = -1", `f:2: auth.hashes: -1 is not between`},
		{"[user]\nname = \"a\"", `f:1: user: is a list of tables: write [[user]]`},
	} {
		_, err := parseConfig("f", tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// Who has credentials may listen anywhere, and is not warned of.
func TestCredentials(t *testing.T) {
	const anywhere = "[listen]\ntcp = [\"0.0.0.0:1\"]\n"
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", []string{}},
		{anywhere + user("a", "password = '"+argonHash+"'"), []string{"password"}},
		{anywhere + user("a", "nkey = '"+publicKey+"'"), []string{"nkey"}},
		{anywhere + "[auth]\ntoken = '" + bcryptHash + "'\n", []string{"token"}},
		{anywhere + "[auth]\ntoken = '" + bcryptHash + "'\n" + user("a", "password = '"+argonHash+"'", "nkey = '"+publicKey+"'"), []string{"password", "token", "nkey"}},
	} {
		cfg, err := parseConfig("f", tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		l := new(parent).liveSettings(cfg.Effective())
		if got := cfg.credentials().Names(); !slices.Equal(got, tt.want) || l.Auth != (len(got) > 0) || l.Login.Kinds != cfg.credentials() || l.Login.Hashes < 1 || l.Login.Backoff == 0 {
			t.Errorf("%q: %q, %+v", tt.text, got, l.Login)
		}
		if open := openness(cfg); (open == "") != l.Auth {
			t.Errorf("%q: warned %q", tt.text, open)
		}
	}
}

// A mark is the same as long as nothing about a user changes, and another if anything
// does.
func TestMarks(t *testing.T) {
	u := privsep.User{Name: "a", Password: "b", NKey: "c", Organisation: "d", Profile: "e"}
	seen := map[uint64]bool{userMark(&u): true}
	same := u
	same.Set, same.Last = 7, true
	if !seen[userMark(&same)] {
		t.Error("another mark for the same user")
	}
	for _, o := range []privsep.User{
		{Name: "x", Password: "b", NKey: "c", Organisation: "d", Profile: "e"},
		{Name: "a", Password: "x", NKey: "c", Organisation: "d", Profile: "e"},
		{Name: "a", Password: "b", NKey: "x", Organisation: "d", Profile: "e"},
		{Name: "a", Password: "b", NKey: "c", Organisation: "x", Profile: "e"},
		{Name: "a", Password: "b", NKey: "c", Organisation: "d", Profile: "x"},
		{Name: "ab", NKey: "c", Organisation: "d", Profile: "e"},
		{Name: "", Password: "ab", NKey: "c", Organisation: "d", Profile: "e"},
		{Name: "a", Password: "b", NKey: "c", Organisation: "d", Profile: "e", Subject: "f"},
		{Name: "a", Password: "b", NKey: "c", Organisation: "d", Profile: "e", SAN: "f"},
		{Name: "a", Password: "b", NKey: "c", Organisation: "d", Profile: "e", Key: "f"},
	} {
		if m := userMark(&o); seen[m] || m == 0 {
			t.Errorf("%#v has another's mark", o)
		} else {
			seen[m] = true
		}
	}
}

// end is a parent with a child, of which this is the other end.
func end(t *testing.T, role privsep.Role, phase privsep.Phase) (*parent, *child, *privsep.Channel) {
	t.Helper()
	near, far, err := privsep.Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	key := privsep.NewKey()
	p := &parent{cfg: Defaults().Effective(), log: zerolog.Nop(), began: privsep.Uptime()}
	c := &child{id: privsep.ID{Role: role}, state: running, ch: privsep.NewChannel(near, privsep.RoleParent, role, key)}
	e := privsep.NewChannel(far, role, privsep.RoleParent, key)
	c.ch.SetPhase(phase)
	e.SetPhase(phase)
	t.Cleanup(func() { c.ch.Close(); e.Close() })
	return p, c, e
}

// people gives a configuration with n users, and the token if there is any.
func people(n int) *Config {
	c := Defaults()
	for i := range n {
		c.Users = append(c.Users, UserConfig{Name: fmt.Sprint("u", i), Password: argonHash})
	}
	if n > 0 {
		c.Auth.Token = bcryptHash
	}
	return c.Effective()
}

// Auth gets the users in its setup, the router their marks, the others nothing.
func TestUsersInSetup(t *testing.T) {
	for _, n := range []int{0, 1, privsep.MaxMarks, 9000} {
		for _, role := range []privsep.Role{privsep.RoleAuth, privsep.RoleRouter, privsep.RoleDispatcher} {
			p, c, far := end(t, role, privsep.PhaseSetup)
			p.setProfiles(nil)
			p.setUsers(people(n), nil, nil)
			handed := make(chan error, 1)
			go func() { handed <- p.handOut(c) }()
			s, err := privsep.ReadSetup(far)
			if err := <-handed; err != nil || c.users != p.userSet.number {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			all := people(n).users(p.userSet.number)
			var marks []uint64
			for _, u := range all {
				marks = append(marks, u.Mark)
			}
			if role != privsep.RoleAuth {
				all = nil
			}
			if role != privsep.RoleRouter {
				marks = nil
			}
			if !reflect.DeepEqual(s.Users, all) || !slices.Equal(s.Marks, marks) {
				t.Errorf("%v of %d: %d users, %d marks", role, n, len(s.Users), len(s.Marks))
			}
		}
	}
}

// A set is told once, before the settings that go with it, and again when it changes.
func TestUsersToRoles(t *testing.T) {
	for _, role := range []privsep.Role{privsep.RoleAuth, privsep.RoleRouter} {
		p, c, far := end(t, role, privsep.PhaseRun)
		c.profile = 1
		p.profiles.number = 1
		told := p.userSet.framesFor(role)
		kind := told[len(told)-1].kind
		for i, step := range []struct {
			cfg  *Config
			sets int
		}{{people(3), 1}, {people(3), 0}, {people(2), 1}} {
			p.setUsers(step.cfg, nil, nil)
			p.reloads++
			p.resettle(c)
			sets := 0
			var m privsep.Message
			for m.Kind != privsep.KindSettings {
				if err := far.RecvWait(&m, setupTimeout); err != nil {
					t.Fatal(err)
				}
				if m.Kind == kind {
					var u privsep.User
					var s privsep.Standing
					if u.Parse(m.Payload) == nil && u.Last || s.Parse(m.Payload) == nil && s.Last {
						sets++
					}
				}
			}
			if sets != step.sets {
				t.Errorf("%v, step %d: %d sets", role, i, sets)
			}
		}
	}
}

// No name of a secret's type shows what is in it.
func TestSecretIsHidden(t *testing.T) {
	c := people(1)
	c.Users[0].Password, c.Auth.Token = "hunter2", "hunter2"
	u := c.users(1)[0]
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", c.Users, c.Users, c.Users), fmt.Sprintf("%v %+v %#v", c.Auth, c.Auth, c.Auth),
		fmt.Sprintf("%v %+v %#v", &u, &u, &u)} {
		if strings.Contains(s, "hunter2") {
			t.Error(s)
		}
	}
	live, _ := differences(people(1), c)
	if got := keysOf(live); got != "auth.token,user.u0" || strings.Contains(fmt.Sprint(live), "hunter2") {
		t.Errorf("changed: %s, %v", got, live)
	}
}

// A file with hashes that everybody can read is warned of for as long as that is so.
func TestExposed(t *testing.T) {
	s := newSigner(t)
	s.warnings = []string{openness(s.cfg)}
	s.reloadWith(func(c *Config) { c.Auth.Token = bcryptHash })
	for _, v := range []struct {
		mode os.FileMode
		want []string
	}{
		{0o640, []string{}},
		{0o644, []string{s.source + " has hashes of passwords, which everybody here can read (mode 0644): chmod o= it"}},
		{0o604, []string{s.source + " has hashes of passwords, which everybody here can read (mode 0604): chmod o= it"}},
		{0o600, []string{}},
	} {
		must(t, os.Chmod(s.source, v.mode))
		s.reload()
		if !slices.Equal(s.warnings, v.want) {
			t.Errorf("mode %v: warnings %q, want %q", v.mode, s.warnings, v.want)
		}
	}
}
