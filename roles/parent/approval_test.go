package parent

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
	"gatehouse/roles/auth/cms/cmstest"
)

// write makes a file and gives its path.
func write(t testing.TB, path string, parts ...[]byte) string {
	t.Helper()
	must(t, os.WriteFile(path, bytes.Join(parts, nil), 0o600))
	return path
}

func bare(text []byte) []byte {
	b, _ := pem.Decode(text)
	return b.Bytes
}

func TestLoadApproval(t *testing.T) {
	dir := t.TempDir()
	root, other := cmstest.Root("root", cmstest.Key("p256")), cmstest.Root("other", cmstest.Key("p384"))
	file := func(name string, parts ...[]byte) string { return write(t, filepath.Join(dir, name), parts...) }
	list, more := root.List(nil), other.List(nil)
	c := Defaults()
	c.Auth.X509Approved = []string{file("both", []byte("issued by hand\n"), root.PEM(), other.PublicPEM()), file("one", other.PEM())}
	c.Auth.X509CRL = []string{file("pem", list, more), file("der", bare(list))}
	a, err := loadApproval(c)
	must(t, err)
	if want := slices.Concat(root.PEM(), other.PublicPEM(), other.PEM()); !bytes.Equal(a.approved, want) {
		t.Errorf("approved:\n%s", a.approved)
	}
	if want := slices.Concat(list, more, list); !bytes.Equal(a.listText(), want) {
		t.Errorf("lists:\n%s", a.listText())
	}
	var keys [][]byte
	for range 17 {
		keys = append(keys, cmstest.Root("root", cmstest.NewKey("p256")).PublicPEM())
	}
	large := make([]byte, privsep.MaxLists/2+1)
	for name, v := range map[string]struct {
		approved, lists []string
		want            string
	}{
		"no file":            {[]string{"/nowhere.pem"}, nil, "auth.x509_approved: open /nowhere.pem"},
		"empty":              {[]string{file("empty")}, nil, "empty: no certificate and no public key"},
		"a private key":      {[]string{file("key", root.KeyPEM())}, nil, `key: PEM block 1: "PRIVATE KEY"`},
		"a list":             {[]string{file("list", root.PEM(), list)}, nil, `list: PEM block 2: "X509 CRL"`},
		"a short key":        {[]string{file("weak", cmstest.Root("weak", cmstest.Key("rsa1024")).PEM())}, nil, "weak: PEM block 1"},
		"seventeen keys":     {[]string{file("first", keys[:9]...), file("second", keys[9:]...)}, nil, "all together: PEM block 17"},
		"no list":            {[]string{file("root", root.PEM())}, []string{"/nowhere.crl"}, "auth.x509_crl: stat /nowhere.crl"},
		"an empty list":      {[]string{file("root", root.PEM())}, []string{file("nothing")}, "nothing: is empty"},
		"a certificate":      {[]string{file("root", root.PEM())}, []string{file("cert", root.PEM())}, `cert: a PEM block "CERTIFICATE"`},
		"a folder":           {[]string{dir}, nil, "is a directory"},
		"too large together": {[]string{file("root", root.PEM())}, []string{file("large", large), file("larger", large)}, "together, more than 16MiB"},
	} {
		c.Auth.X509Approved, c.Auth.X509CRL = v.approved, v.lists
		if _, err := loadApproval(c); err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: %v, want %q", name, err, v.want)
		}
	}
}

// hears reads the next message of an auth, with what its parcel holds.
func hears(t testing.TB, far *privsep.Channel) (k privsep.Kind, a *privsep.ApprovalText) {
	t.Helper()
	var m privsep.Message
	must(t, far.RecvWait(&m, setupTimeout))
	if m.Kind == privsep.KindApproval {
		var err error
		a, err = privsep.TakeApproval(&m)
		must(t, err)
	}
	return m.Kind, a
}

// Auth gets it in its setup, before the users; the others do not.
func TestApprovalInSetup(t *testing.T) {
	root := cmstest.Root("root", cmstest.Key("p256"))
	for _, role := range []privsep.Role{privsep.RoleAuth, privsep.RoleRouter} {
		p, c, far := end(t, role, privsep.PhaseSetup)
		p.setProfiles(nil)
		p.setApproval(&approval{approved: root.PEM(), lists: []*listFile{{pem: root.List(nil)}}})
		p.setUsers(people(1), nil, nil)
		handed := make(chan error, 1)
		go func() { handed <- p.handOut(c) }()
		s, err := privsep.ReadSetup(far)
		must(t, <-handed)
		must(t, err)
		if (s.Approval != nil) != (role == privsep.RoleAuth) || c.approval != p.approval.number {
			t.Errorf("%v: %+v", role, s.Approval)
		}
		if a := s.Approval; a != nil && (!bytes.Equal(a.ApprovedPEM, p.approval.approved) || !bytes.Equal(a.ListsPEM, p.approval.listText()) || a.Mark != p.approval.mark()) {
			t.Errorf("%+v", a.Approval)
		}
	}
}

// A changed list is told at once, once; one that cannot be read is not, nor is one that
// was only written again.
func TestListsAreReadAgain(t *testing.T) {
	p, c, far := end(t, privsep.RoleAuth, privsep.PhaseRun)
	var log bytes.Buffer
	p.log, p.up, p.children = zerolog.New(&log), true, []*child{c}
	root := cmstest.Root("root", cmstest.Key("p256"))
	first, second := root.List(nil), root.List(nil)
	cfg := people(1)
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "crl"), first)
	cfg.Auth.X509Approved = []string{write(t, filepath.Join(dir, "root"), root.PEM())}
	cfg.Auth.X509CRL = []string{path}
	a, err := loadApproval(cfg)
	must(t, err)
	p.setApproval(a)
	p.setUsers(cfg, nil, nil)
	c.users, c.approval = p.userSet.number, p.approval.number
	now := time.Now()
	look := func(want []byte, line string) {
		t.Helper()
		log.Reset()
		now = now.Add(lookEvery)
		number := p.approval.number
		p.lookAtLists(now)
		p.lookAtLists(now) // not again so soon
		if want == nil && p.approval.number != number {
			t.Errorf("another number without a change")
		}
		if want != nil {
			k, got := hears(t, far)
			if k != privsep.KindApproval || got.Number != p.approval.number || got.Soon || !bytes.Equal(got.ListsPEM, want) {
				t.Errorf("%v %+v", k, got)
			}
		}
		if !strings.Contains(log.String(), line) || line == "" && log.Len() > 0 || strings.Count(log.String(), "\n") > 1 {
			t.Errorf("log %q, want %q", log.String(), line)
		}
	}
	look(nil, "")
	// As a careful program does it.
	must(t, os.Rename(write(t, path+".new", second), path))
	look(second, "revocation list read again")
	look(nil, "")
	// As a careless one does.
	must(t, os.Remove(path))
	look(nil, "no such file")
	look(nil, "")
	write(t, path)
	look(nil, "is empty")
	write(t, path, second)
	look(nil, "")
	write(t, path, first)
	look(first, "revocation list read again")
	if got := p.nextLook(); !got.Equal(now.Add(lookEvery)) {
		t.Errorf("next at %v", got)
	}
	must(t, os.WriteFile(path, make([]byte, privsep.MaxLists), 0o600))
	look(nil, "too large together")
	if !bytes.Equal(p.approval.listText(), first) {
		t.Error("not the earlier list")
	}
}

// A reload gives auth what is approved with the users that go with it, and the router
// other marks of those who have certificates, and of no others.
func TestApprovalReload(t *testing.T) {
	p, c, far := end(t, privsep.RoleAuth, privsep.PhaseRun)
	c.directory = p.userSet.directoryNumber()
	root, other := cmstest.Root("root", cmstest.Key("p256")), cmstest.Root("other", cmstest.Key("p384"))
	cfg := people(1)
	cfg.Users = append(cfg.Users, UserConfig{Name: "alice", Certificate: "cn=alice, o=ORGA"})
	step := func(a *approval, want ...privsep.Kind) (marks []uint64) {
		t.Helper()
		p.setApproval(a)
		p.setUsers(cfg, nil, nil)
		p.reloads++
		p.resettle(c)
		var got []privsep.Kind
		for k := privsep.KindNone; k != privsep.KindSettings; {
			var text *privsep.ApprovalText
			if k, text = hears(t, far); text != nil && text.Soon == (len(want) == 1) {
				t.Errorf("soon: %v", text.Soon)
			}
			if k != privsep.KindSettings && (len(got) == 0 || got[len(got)-1] != k) {
				got = append(got, k)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
		var set privsep.MarkSet
		for _, f := range p.userSet.marks {
			all, _, err := set.Take(f)
			must(t, err)
			marks = append(marks, all...)
		}
		return marks
	}
	first := step(&approval{approved: root.PEM()}, privsep.KindApproval, privsep.KindIssuer, privsep.KindUser)
	step(&approval{approved: root.PEM()})
	list := &approval{approved: root.PEM(), lists: []*listFile{{pem: root.List(nil)}}}
	step(list, privsep.KindApproval)
	second := step(&approval{approved: other.PEM()}, privsep.KindApproval, privsep.KindIssuer, privsep.KindUser)
	var gone []uint64
	for _, m := range first {
		if !slices.Contains(second, m) {
			gone = append(gone, m)
		}
	}
	u := cfg.users(1)[1]
	if len(first) != len(second) || !slices.Equal(gone, []uint64{privsep.MarkThrough(u.Mark, (&approval{approved: root.PEM()}).mark())}) {
		t.Errorf("first %v, then %v", first, second)
	}
	if u.Name != "alice" || u.Subject != "CN=alice,O=ORGA" {
		t.Errorf("%#v", u)
	}
	step(&approval{}, privsep.KindApproval, privsep.KindIssuer, privsep.KindUser)
}

func TestCertificateMistakes(t *testing.T) {
	const approved = "[auth]\nx509_approved = [\"ca.pem\"]\n"
	named := func(lines string) string { return "[[user]]\nname = \"alice\"\n" + lines }
	for text, want := range map[string]string{
		named(`certificate = "CN=alice"`):                                                              "f:3: user.certificate: needs auth.x509_approved",
		approved + named(`certificate = "alice"`):                                                      `f:5: user.certificate: "alice" "alice" is not TYPE=VALUE`,
		approved + named(`certificate = "/O=ORGA/CN=alice"`):                                           "f:5: user.certificate: \"/O=ORGA/CN=alice\" is in OpenSSL's old form",
		approved + named(`certificate_san = "alice@orga.example"`):                                     "f:5: user.certificate_san: ",
		approved + named(`certificate_key = "5f"`):                                                     "f:5: user.certificate_key: ",
		approved + named("certificate = \"CN=a\"\n[[user]]\nname = \"bob\"\ncertificate = \"cn = a\""): "f:8: user.certificate: is another user's, too",
		approved + named(""):                "f:4: user.name: \"alice\" has neither a password nor an nkey nor a certificate",
		"[auth]\nx509_crl = [\"ca.crl\"]\n": "f:2: auth.x509_crl: means nothing without auth.x509_approved",
		"[auth]\nx509_approved = [\"\"]\n":  "f:2: auth.x509_approved: ",
	} {
		if _, err := parseConfig("f", text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n%v, want %s", text, err, want)
		}
	}
	cfg, err := parseConfig("/etc/x/f", approved+named("certificate = \"CN=a\"")+"\n[[user]]\nname = \"bob\"\ncertificate = \"CN=a\"\ncertificate_san = \"dns:a\"\n")
	must(t, err)
	if cfg.Auth.X509Approved[0] != "/etc/x/ca.pem" {
		t.Errorf("%q", cfg.Auth.X509Approved)
	}
	if kinds := cfg.credentials(); !kinds.Has(privsep.CredentialX509) || kinds.Has(privsep.CredentialTLS) {
		t.Errorf("%v", kinds.Names())
	}
	cfg.TLS.ClientAuth = "request"
	if kinds := cfg.credentials(); !kinds.Has(privsep.CredentialTLS) {
		t.Errorf("%v", kinds.Names())
	}
}
