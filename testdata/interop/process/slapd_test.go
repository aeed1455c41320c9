package process

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gatehouse.test/interop/certs"
)

const (
	suffix  = "dc=orgb,dc=example"
	service = "cn=broker," + suffix
	// swordfish is the password of that.
	swordfish = "swordfish"
)

// slapd is Debian's LDAP server with entries of the test's.
type slapd struct {
	t           testing.TB
	dir         string
	ca          *certs.Authority
	tools       string // their folder
	ldap, ldaps string // addresses
	cmd         *exec.Cmd
	ended       chan struct{}
}

// entry is one of the tree. Passwords are in plain text there: none of this is secret.
func entry(dn string, lines ...string) string {
	return "dn: " + dn + "\n" + strings.Join(lines, "\n") + "\n\n"
}

// person is one below ou=people.
func person(uid, organisation string, more ...string) string {
	lines := []string{"objectClass: inetOrgPerson", "objectClass: extensibleObject", "cn: " + uid, "sn: " + uid, "uid: " + uid, "userPassword: horse"}
	if organisation != "" {
		lines = append(lines, "o: "+organisation)
	}
	return entry("uid="+uid+",ou=people,"+suffix, append(lines, more...)...)
}

// newSlapd starts one with some entries below those that all have.
func newSlapd(t testing.TB, entries ...string) *slapd {
	t.Helper()
	path, err := exec.LookPath("slapd")
	if err != nil {
		if path = "/usr/sbin/slapd"; !exists(path) {
			t.Skip("SKIP slapd is not installed: no LDAP server to log in by")
		}
	}
	dir, err := os.MkdirTemp("", "gh")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	s := &slapd{t: t, dir: dir}
	s.ca, err = certs.NewAuthority("directory")
	must(t, err)
	pair, err := s.ca.Server("P-256")
	must(t, err)
	must(t, s.ca.Write(s.path("ca.pem")))
	must(t, certs.In(dir).Write(pair, ""))
	s.write("secret", swordfish+"\n", 0o400)
	s.write("conf", strings.ReplaceAll(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile DIR/ca.pem
TLSCertificateFile DIR/server.crt
TLSCertificateKeyFile DIR/server.key
database mdb
suffix "`+suffix+`"
directory DIR/db
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="`+service+`" read by self read by * none
`, "DIR", dir), 0o600)
	must(t, os.Mkdir(s.path("db"), 0o700))
	s.write("ldif", entry(suffix, "objectClass: domain", "dc: orgb")+
		entry("ou=people,"+suffix, "objectClass: organizationalUnit", "ou: people")+
		entry(service, "objectClass: person", "cn: broker", "sn: broker", "userPassword: "+swordfish)+strings.Join(entries, ""), 0o600)
	s.tools = filepath.Dir(path)
	s.edit("slapadd")
	s.ldap, s.ldaps = freeAddress(t), freeAddress(t)
	s.start()
	t.Cleanup(s.kill)
	return s
}

// edit has a tool do what stands in ldif, while no server is up.
func (s *slapd) edit(tool string) {
	s.t.Helper()
	if out, err := exec.Command(filepath.Join(s.tools, tool), "-f", s.path("conf"), "-l", s.path("ldif")).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", tool, err, out)
	}
}

// delete takes an entry out, likewise.
func (s *slapd) delete(dn string) {
	s.t.Helper()
	s.write("ldif", "dn: "+dn+"\nchangetype: delete\n", 0o600)
	s.edit("slapmodify")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// freeAddress is one that nobody listens at just now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (s *slapd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *slapd) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	must(s.t, os.WriteFile(s.path(name), []byte(text), mode))
}

// start runs it until it answers.
func (s *slapd) start() {
	s.t.Helper()
	s.cmd = exec.Command("/usr/sbin/slapd", "-d", "0", "-f", s.path("conf"), "-h", fmt.Sprintf("ldap://%s ldaps://%s", s.ldap, s.ldaps))
	must(s.t, s.cmd.Start())
	s.ended = make(chan struct{})
	var once sync.Once
	cmd, ended := s.cmd, s.ended
	go func() { cmd.Wait(); once.Do(func() { close(ended) }) }()
	await(s.t, "slapd", patience, func() bool {
		c, err := tls.Dial("tcp", s.ldaps, &tls.Config{RootCAs: s.ca.Pool()})
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

func (s *slapd) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// searching is a [ldap] by which users are searched for, with lines that differ from it.
func (s *slapd) searching(lines ...string) string {
	return s.table(append([]string{fmt.Sprintf("urls = [%q]", "ldaps://"+s.ldaps), fmt.Sprintf("base = %q", "ou=people,"+suffix),
		`filter = "(&(objectClass=person)(uid={user}))"`, fmt.Sprintf("bind_dn = %q", service), fmt.Sprintf("bind_password_file = %q", s.path("secret")),
		`organisation_attribute = "o"`, `organisations = ["ORGA", "ORGB"]`, fmt.Sprintf("ca = %q", s.path("ca.pem"))}, lines...))
}

// binding is one with a template of their DN, by StartTLS.
func (s *slapd) binding(lines ...string) string {
	return s.table(append([]string{fmt.Sprintf("urls = [%q]", "ldap://"+s.ldap), fmt.Sprintf("user_dn = %q", "uid={user},ou=people,"+suffix),
		`organisation_attribute = "o"`, `organisations = ["ORGB"]`, fmt.Sprintf("ca = %q", s.path("ca.pem"))}, lines...))
}

// table takes of each key the last line.
func (s *slapd) table(lines []string) string {
	last := map[string]int{}
	key := func(line string) string { k, _, _ := strings.Cut(line, " "); return k }
	for i, line := range lines {
		last[key(line)] = i
	}
	text := "[ldap]\n"
	for i, line := range lines {
		if last[key(line)] == i && !strings.HasSuffix(line, "= none") {
			text += line + "\n"
		}
	}
	return text
}
