package client

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestSender(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  Identity
		ok    bool
	}{
		{"anonymous", Identity{}, true},
		{"user=alice; organisation=ORGA; type=pricer; instance=1", Identity{"alice", "ORGA", "pricer", "1"}, true},
		{"user=alice", Identity{User: "alice"}, true},
		{"type=pricer; instance=1", Identity{Type: "pricer", Instance: "1"}, true},
		{"user=a%3B%20organisation=ORGB; organisation=O%C3%96", Identity{User: "a; organisation=ORGB", Organisation: "OÖ"}, true},
		{"", Identity{}, false},
		{"alice", Identity{}, false},
		{"user=", Identity{}, false},
		{"user=alice;", Identity{}, false},
		{"user=alice; user=bob", Identity{}, false},
		{"organisation=ORGA; user=alice", Identity{}, false},
		{"user=alice; role=root", Identity{}, false},
		{"user=alice;organisation=ORGA", Identity{}, false},
		{"user=al ice", Identity{}, false},
		{"user=%61lice", Identity{}, false},
		{"user=%3b", Identity{}, false},
		{"user=%3", Identity{}, false},
		{"user=%", Identity{}, false},
		{"Anonymous", Identity{}, false},
	} {
		got, ok := Sender(&nats.Msg{Header: nats.Header{HeaderFrom: {tt.value}}})
		if got != tt.want || ok != tt.ok {
			t.Errorf("%q: %+v, %v", tt.value, got, ok)
		}
	}
	for _, h := range []nats.Header{nil, {}, {"gatehouse-from": {"user=alice"}}, {HeaderFrom: {"user=alice", "user=bob"}}} {
		if got, ok := Sender(&nats.Msg{Header: h}); ok || got != (Identity{}) {
			t.Errorf("%v: %+v", h, got)
		}
	}
}

// written is an identity as the broker writes it.
func written(id Identity) string {
	var parts []string
	for _, f := range []struct{ key, value string }{{"user", id.User}, {"organisation", id.Organisation}, {"type", id.Type}, {"instance", id.Instance}} {
		if f.value == "" {
			continue
		}
		var b strings.Builder
		for _, c := range []byte(f.value) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte(`;%"`, c) >= 0 {
				fmt.Fprintf(&b, "%%%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
		parts = append(parts, f.key+"="+b.String())
	}
	if parts == nil {
		return "anonymous"
	}
	return strings.Join(parts, "; ")
}

// What is taken is what the broker writes for what it says, and every identity can be
// said.
func FuzzSender(f *testing.F) {
	f.Add("anonymous", "", "", "", "")
	f.Add("user=alice; organisation=ORGA; type=pricer; instance=1", "alice", "ORGA", "pricer", "1")
	f.Add("user=a%3B%20b", "a; b", "%", "\"", "\xff\x00")
	f.Add("user=%3b", "=", "user=x", "", "")
	f.Fuzz(func(t *testing.T, value, user, organisation, kind, instance string) {
		if id, ok := parseIdentity(value); ok && written(id) != value {
			t.Errorf("%q is taken for %+v", value, id)
		} else if !ok && id != (Identity{}) {
			t.Errorf("%q is refused, and says %+v", value, id)
		}
		want := Identity{user, organisation, kind, instance}
		if got, ok := parseIdentity(written(want)); !ok || got != want {
			t.Errorf("%+v, written %q, is read as %+v, %v", want, written(want), got, ok)
		}
	})
}

func TestName(t *testing.T) {
	var o nats.Options
	if err := Name("pricer", "1")(&o); err != nil || o.Name != "pricer/1" {
		t.Errorf("%q, %v", o.Name, err)
	}
	long := strings.Repeat("x", 129)
	for _, bad := range [][2]string{{"", "1"}, {"a", ""}, {"a.b", "1"}, {"a", "b/c"}, {"*", "1"}, {"a", ">"}, {"a b", "1"}, {"ä", "1"}, {long, "1"}} {
		if Name(bad[0], bad[1])(&o) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if got := Direct("pricer", "1"); got != "_APP.pricer.1" {
		t.Errorf("subject %q", got)
	}
}
