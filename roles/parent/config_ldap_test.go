package parent

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles/auth/cms/cmstest"
)

// ldap is a [ldap] that searches, with lines in the place of those that begin as they do.
func ldap(lines ...string) string {
	all := []string{`urls = ["ldaps://127.0.0.1"]`, `ca = "ca.pem"`, `base = "dc=a"`, `filter = "(uid={user})"`, `bind_dn = "cn=b,dc=a"`, `bind_password_file = "secret"`}
	for _, l := range lines {
		key, _, _ := strings.Cut(l, "=")
		if i := slices.IndexFunc(all, func(have string) bool { return strings.HasPrefix(have, key+"=") }); i >= 0 {
			all[i] = l
		} else {
			all = append(all, l)
		}
	}
	return "[ldap]\n" + strings.Join(all, "\n") + "\n"
}

func TestLDAPMistakes(t *testing.T) {
	const desk = "[[profile]]\nname = \"desk\"\n"
	if _, err := parseConfig("f", ldap()); err != nil {
		t.Error(err)
	}
	if _, err := parseConfig("f", ldap(`base = ""`, `filter = ""`, `user_dn = "uid={user},dc=a"`, `bind_dn = ""`, `bind_password_file = ""`)); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ text, want string }{
		{ldap(`urls = ["ldap.orga.example"]`), `f:2: ldap.urls: "ldap.orga.example" is not ldaps://HOST:PORT`},
		{ldap(`urls = ["http://127.0.0.1"]`), `f:2: ldap.urls: "http://127.0.0.1" is not ldaps://HOST:PORT`},
		{ldap(`urls = ["ldaps://a:0"]`), `f:2: ldap.urls: "ldaps://a:0" is not`},
		{ldap(`urls = ["ldaps://a:65536"]`), `f:2: ldap.urls: "ldaps://a:65536" is not`},
		{ldap(`urls = ["ldaps://u:p@a"]`), `f:2: ldap.urls: "ldaps://u:p@a" is not`},
		{ldap(`urls = ["ldaps://a/dc=a"]`), `f:2: ldap.urls: "ldaps://a/dc=a" is not`},
		{ldap(`urls = ["ldapi://%2fvar%2frun"]`), `f:2: ldap.urls: "ldapi://%2fvar%2frun" is not`},
		{ldap(`urls = ["ldaps://a", "ldaps://a"]`), `f:2: ldap.urls: "ldaps://a" is there twice`},
		{ldap(`urls = []`), `f:3: ldap.ca: means nothing without ldap.urls`},
		{ldap(`ca = ""`), `f:3: ldap.ca: is empty: certificates of the servers are verified by it, always`},
		{ldap(`server_name = "a b"`), `f:8: ldap.server_name: "a b" has a space`},
		{ldap(`base = ""`), `f:4: ldap.base: is empty`},
		{ldap(`base = "a"`), `f:4: ldap.base: "a" is no DN`},
		{ldap(`filter = ""`), `f:2: ldap.urls: is empty, and ldap.filter, too`},
		{ldap(`filter = "(uid=*)"`), `f:5: ldap.filter: "(uid=*)" is no template: one has (ATTRIBUTE={user}) in it, once`},
		{ldap(`filter = "(|(uid={user})(mail={user}))"`), `f:5: ldap.filter: "(|(uid={user})(mail={user}))" is no template`},
		{ldap(`filter = "(&(uid={user})"`), `f:5: ldap.filter: "(&(uid={user})" is no template: one is no filter`},
		{ldap(`user_dn = "uid={user},dc=a"`), `f:8: ldap.user_dn: and ldap.filter are two ways`},
		{ldap(`filter = ""`, `user_dn = "uid={user},dc=a"`), `f:4: ldap.base: means nothing without ldap.filter`},
		{ldap(`filter = ""`, `base = ""`, `user_dn = "uid=x{user},dc=a"`), `f:8: ldap.user_dn: "uid=x{user},dc=a" is no template: one begins with ATTRIBUTE={user}`},
		{ldap(`bind_dn = ""`), `f:6: ldap.bind_dn: is empty: it is who searches`},
		{ldap(`bind_dn = "nobody"`), `f:6: ldap.bind_dn: "nobody" is no DN`},
		{ldap(`bind_password_file = ""`), `f:6: ldap.bind_dn: needs ldap.bind_password_file`},
		{ldap(`organisations = ["a", "b"]`), `f:8: ldap.organisations: are more than one`},
		{ldap(`organisations = ["a b"]`), `f:8: ldap.organisations: "a b" has a space`},
		{ldap(`organisation_attribute = "o)"`), `f:8: ldap.organisation_attribute: "o)" is not the name of an attribute`},
		{ldap(`profile = "desk"`), `f:8: ldap.profile: "desk" is not the name of a [[profile]]`},
		{ldap(`profile_attribute = "memberOf"`), `f:8: ldap.profile_attribute: and [[ldap_profile]] mean nothing without each other`},
		{ldap() + "[[ldap_profile]]\nvalue = \"a\"\nprofile = \"desk\"\n" + desk, `ldap.urls: and [[ldap_profile]] mean nothing without each other`},
		{ldap(`profile_attribute = "memberOf"`) + "[[ldap_profile]]\nvalue = \"a\"\nprofile = \"x\"\n" + desk, `f:8: ldap.profile_attribute: "x" is not the name of a [[profile]]`},
		{ldap(`profile_attribute = "memberOf"`) + "[[ldap_profile]]\nprofile = \"desk\"\n" + desk, `f:8: ldap.profile_attribute: has a [[ldap_profile]] with an empty value`},
		{ldap(`timeout = "2s"`), `f:8: ldap.timeout: ldap.timeout (2s) must be less than limits.auth_timeout (2s)`},
		{ldap(`timeout = "1ms"`), `f:8: ldap.timeout: 1ms is not between`},
		{ldap(`connections = 33`), `f:8: ldap.connections: 33 is not between 1 and 32`},
		{ldap(`starttls = false`), `f:8: ldap.starttls: unknown key`},
	} {
		_, err := parseConfig("f", tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestInHosts(t *testing.T) {
	text := "127.0.0.1\tlocalhost\n# 9.9.9.9 ldap\n192.0.2.7 ldap.orga.example LDAP # the first\n::1 localhost\nfe80::1%eth0 ldap\nnonsense ldap\n192.0.2.8 ldap\n192.0.2.8 ldap\n192.0.2.9\n"
	for name, want := range map[string]string{
		"localhost": "[127.0.0.1 ::1]", "ldap": "[192.0.2.7 192.0.2.8]", "LDAP.ORGA.EXAMPLE": "[192.0.2.7]", "orga.example": "[]", "first": "[]", "192.0.2.9": "[]", "": "[]",
	} {
		if got := fmt.Sprint(inHosts(text, name)); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// ldapFiles makes what a [ldap] names, and gives its configuration.
func ldapFiles(t *testing.T, lines ...string) *Config {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.pem"), cmstest.Root("root", cmstest.Key("p256")).PEM())
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("swordfish\n"), 0o400))
	c, err := parseConfig(filepath.Join(dir, "f"), ldap(lines...))
	must(t, err)
	return c
}

func TestLoadDirectory(t *testing.T) {
	c := ldapFiles(t, `urls = ["ldaps://127.0.0.1:7", "ldap://[::1]"]`)
	d, err := loadDirectory(c)
	must(t, err)
	defer d.close()
	if string(d.password()) != "swordfish" || fmt.Sprint(d.address) != "[127.0.0.1:7 [::1]:389]" || fmt.Sprint(d.set.Servers) != "[ldaps://127.0.0.1:7 ldap://[::1]:389]" || d.set.BindPass != "" {
		t.Errorf("%+v, %v", d.set.Servers, d.address)
	}
	var back privsep.Directory
	must(t, back.Parse(d.set.Append(nil)))
	if strings.Contains(fmt.Sprintf("%v %+v %#v", &back, &back, &back), "uid") {
		t.Error("it shows what is in it")
	}
	again, err := loadDirectory(c)
	must(t, err)
	if !sameDirectory(d, again) || !sameDirectory(nil, nil) || sameDirectory(d, nil) {
		t.Error("the same is another one")
	}
	again.close()
	must(t, os.Chmod(c.LDAP.BindPasswordFile, 0o600))
	must(t, os.WriteFile(c.LDAP.BindPasswordFile, []byte("trout\n"), 0o600))
	other, err := loadDirectory(c)
	must(t, err)
	if sameDirectory(d, other) {
		t.Error("another password is the same directory")
	}
	other.close()

	for name, tt := range map[string]struct {
		spoil func()
		want  string
	}{
		"name":   {func() { c.LDAP.URLs = []string{"ldaps://ldap.invalid"} }, `ldap.urls: "ldap.invalid" is neither an address nor a name in /etc/hosts`},
		"no CA":  {func() { c.LDAP.CA += ".gone" }, "ldap.ca: open"},
		"a key":  {func() { write(t, c.LDAP.CA, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")) }, `a PEM block "PRIVATE KEY" among`},
		"no PEM": {func() { write(t, c.LDAP.CA, []byte("hello")) }, "no certificate in it"},
		"open":   {func() { must(t, os.Chmod(c.LDAP.BindPasswordFile, 0o644)) }, "ldap.bind_password_file: secret file"},
	} {
		c = ldapFiles(t)
		tt.spoil()
		_, err := loadDirectory(c)
		var bad *ConfigError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d, err := loadDirectory(Defaults()); d != nil || err != nil {
		t.Errorf("without one: %v, %v", d, err)
	}
}

// What is dialled is what the configuration says, of the directory that auth has.
func TestDialled(t *testing.T) {
	d, err := loadDirectory(ldapFiles(t, `urls = ["ldaps://127.0.0.1:7"]`))
	must(t, err)
	p := &parent{}
	p.setUsers(people(1), nil, d)
	number := p.userSet.directory.set.Number
	for want, m := range map[string]privsep.Dial{
		"127.0.0.1:7 true":         {Number: number},
		"invalid AddrPort false":   {Number: number + 1},
		"invalid AddrPort false, ": {Number: number, Server: 1},
	} {
		to, ok := p.userSet.server(&m)
		if got := fmt.Sprint(to, ok); got != strings.TrimSuffix(want, ", ") {
			t.Errorf("%+v: %s, want %s", m, got, want)
		}
	}
	p.setUsers(people(1), nil, nil)
	if to, ok := p.userSet.server(&privsep.Dial{Number: number}); ok || to != (netip.AddrPort{}) {
		t.Errorf("without a directory: %v", to)
	}
}

// Sessions of the directory's users end when what says who they are changes, and not when
// only the way there does.
func TestDirectoryMark(t *testing.T) {
	mark := func(lines ...string) uint64 {
		c, err := parseConfig("f", ldap(lines...)+"[[profile]]\nname = \"desk\"\n")
		must(t, err)
		return c.directoryMark()
	}
	for _, same := range []string{`urls = ["ldap://127.0.0.2"]`, `ca = "other.pem"`, `server_name = "a"`, `bind_dn = "cn=c"`, `bind_password_file = "x"`, `timeout = "500ms"`, `connections = 1`} {
		if mark(same) != mark() {
			t.Errorf("%s: another mark", same)
		}
	}
	for _, other := range []string{`base = "dc=b"`, `filter = "(cn={user})"`, `organisation_attribute = "o"`, `organisations = ["A"]`, `profile = "desk"`} {
		if mark(other) == mark() {
			t.Errorf("%s: the same mark", other)
		}
	}
}
