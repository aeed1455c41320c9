package directory

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"uid={user},ou=people,dc=a": "uid", "cn={user},dc=a": "cn", "0.9.2342={user},dc=a": "0.9.2342",
		"": "", "uid={user}": "", "uid=x{user},dc=a": "", "dc=a,uid={user},dc=b": "", "uid={user},cn={user}": "", "uid={user}x,dc=a": "",
		"uid={user}+cn=x,dc=a": "", "{user},dc=a": "", "uid={user},dc": "", "uid = {user},dc=a": "",
	} {
		tt, err := ParseUserDN(text)
		if (err == nil) != (want != "") || err == nil && tt.Attribute != want {
			t.Errorf("DN %q: %+v, %v", text, tt, err)
		}
	}
	for text, want := range map[string]string{
		"(uid={user})": "uid", "(&(objectClass=person)(mail={user}))": "mail", "(|(a=b)(!(uid={user})))": "uid",
		"": "", "uid={user}": "", "(uid=*)": "", "(uid={user}*)": "", "(uid=*{user})": "", "(&(uid={user})(cn={user}))": "", "(uid>={user})": "",
		"(uid~={user})": "", "(uid:dn:={user})": "", "(uid={user}))": "", "((uid={user})": "", "({user}=a)": "",
	} {
		tt, err := ParseFilter(text)
		if (err == nil) != (want != "") || err == nil && tt.Attribute != want {
			t.Errorf("filter %q: %+v, %v", text, tt, err)
		}
	}
}

// Law: a name changes nothing of a template but the one value that it stands for.
func FuzzTemplates(f *testing.F) {
	for _, name := range []string{"dora", "*", "*)(uid=*", "dora)(&", `\2a`, `\`, "a,b", "a+cn=b", "a=b", "#04", " a ", "a\x00b", "\"", "<>;", "d\u00f6ra", "\xff", `x\,`, ""} {
		f.Add(name)
	}
	dn, err := ParseUserDN("uid={user},ou=people,dc=a")
	must(f, err)
	filter, err := ParseFilter("(&(objectClass=person)(uid={user}))")
	must(f, err)
	plain, err := ldap.CompileFilter(filter.With("x"))
	must(f, err)
	f.Fuzz(func(t *testing.T, name string) {
		if !Speakable(name) {
			return
		}
		p, err := ldap.ParseDN(dn.With(name))
		if err != nil || len(p.RDNs) != 3 || len(p.RDNs[0].Attributes) != 1 {
			t.Fatalf("%q: %q is %+v, %v", name, dn.With(name), p, err)
		}
		if a := p.RDNs[0].Attributes[0]; a.Type != "uid" || a.Value != name {
			t.Errorf("%q: %q is %+v", name, dn.With(name), a)
		}
		if p.RDNs[1].String() != "ou=people" || p.RDNs[2].String() != "dc=a" {
			t.Errorf("%q: %q is %+v", name, dn.With(name), p)
		}
		c, err := ldap.CompileFilter(filter.With(name))
		if err != nil || len(c.Children) != 2 || c.Tag != plain.Tag || !bytes.Equal(c.Children[0].Bytes(), plain.Children[0].Bytes()) {
			t.Fatalf("%q: %q, %v", name, filter.With(name), err)
		}
		equals := c.Children[1]
		if equals.Tag != ldap.FilterEqualityMatch || len(equals.Children) != 2 || equals.Children[0].Data.String() != "uid" || equals.Children[1].Data.String() != name {
			t.Errorf("%q: %q", name, filter.With(name))
		}
	})
}

// Law: what the guard lets through is whole messages, the bytes that came, in order, and
// no more than allowed; whatever comes, it neither panics nor hangs.
func FuzzGuard(f *testing.F) {
	f.Add([]byte(message(1, result(bindDone, 0))))
	f.Add([]byte(message(1, dora) + message(1, result(done, 0))))
	f.Add([]byte("\x30\x80\x00\x00"))
	f.Add([]byte("\x30\x84\x00\x00\x00\x02\x02\x00"))
	f.Add([]byte("\x30\x84\xff\xff\xff\xff"))
	f.Add([]byte("\x30\x03\x1f\x81\x00"))
	f.Add([]byte(deep(maxDepth + 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 4096
		g := &guard{Conn: reading{Reader: bytes.NewReader(b)}}
		g.allow(most)
		got, err := io.ReadAll(g)
		if !bytes.HasPrefix(b, got) || len(got) > most {
			t.Fatalf("let through %x of %x", got, b)
		}
		if err == nil && len(got) != len(b) || (err == nil) != (g.failure() == nil || g.failure() == io.EOF) {
			t.Errorf("%d of %d bytes, %v, %v", len(got), len(b), err, g.failure())
		}
		if !wellFormed(got, maxDepth+1) {
			t.Errorf("let through %x", got)
		}
	})
}

// reading is a connection of which only reading matters.
type reading struct {
	io.Reader
	net.Conn
}

func (r reading) Read(b []byte) (int, error) { return r.Reader.Read(b) }

// A password is not left in what was written.
func TestWritesAreWiped(t *testing.T) {
	var got strings.Builder
	g := &guard{Conn: writing{Writer: &got}}
	b := []byte("horse")
	if _, err := g.Write(b); err != nil || got.String() != "horse" || !bytes.Equal(b, make([]byte, 5)) {
		t.Errorf("%q, %q, %v", got.String(), b, err)
	}
}

type writing struct {
	io.Writer
	net.Conn
}

func (w writing) Write(b []byte) (int, error) { return w.Writer.Write(b) }
