package parent

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/wire"
)

func TestProfileValues(t *testing.T) {
	cfg, err := parseConfig("f", `
[listen]
profile = "feed"
[modes]
request_timeout = "1s"
duplicate_instance = "replace"
[[profile]]
name = "feed"
[[profile]]
name = "desk"
publish = ["px.>", "a"]
publish_deny = ["px.secret"]
subscribe = []
subscribe_deny = ["*"]
modes = ["session", "direct"]
request_types = ["pricer"]
request_organisations = ["ORGB"]
types = ["desk"]
allow_responses = true
stamp_sender = true
system = true
weight = 7
max_subscriptions = 3
rate = 4
max_payload = "1KiB"
max_pending = "2MiB"
max_age = "12h"
transfer = ["orgb"]
[[profile]]
name = "none"
allow_responses = -1
modes = []
[limits]
ping_max = 7
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []privsep.Profile{
		{Name: "feed", PublishAll: true, SubscribeAll: true, Modes: privsep.AllModes, Weight: 1},
		{Name: "desk", PublishAllow: []string{"px.>", "a"}, PublishDeny: []string{"px.secret"}, SubscribeAllow: []string{},
			SubscribeDeny: []string{"*"}, Modes: privsep.ModeSession | privsep.ModeDirect, RequestTypes: []string{"pricer"},
			RequestOrganisations: []string{"ORGB"}, Types: []string{"desk"}, Responses: 1, Stamp: true, Weight: 7,
			MaxSubscriptions: 3, Rate: 4, MaxPayload: 1 << 10, MaxPending: 2 << 20, Transfer: []string{"orgb"}, System: true,
			MaxAge: 12 * time.Hour},
		{Name: "none", PublishAll: true, SubscribeAll: true, Responses: privsep.AnyResponses, Weight: 1},
	}
	for what, c := range map[string]*Config{"in the file": cfg, "effective": cfg.Effective()} {
		for i := range want {
			if got := *c.Profiles[i].payload(); !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s: %+v, want %+v", what, got, want[i])
			}
		}
		if l := new(parent).liveSettings(c); l.AnonymousProfile != "feed" || l.RequestTimeout != c.Modes.RequestTimeout || !l.ReplaceInstance || l.SessionIdle == 0 {
			t.Errorf("%s: settings %+v", what, l)
		}
	}
	if cfg.Profiles[0].Modes != nil || len(cfg.Effective().Profiles[0].Modes) != 5 {
		t.Errorf("modes %q and %q", cfg.Profiles[0].Modes, cfg.Effective().Profiles[0].Modes)
	}
}

// What looks like a header in a text of several lines must not be taken for one.
func TestHeaderThatIsNone(t *testing.T) {
	for _, text := range []string{
		"[tls]\ncert = '''\n[[profile]]\n'''",
		"[[profile]]\nname = \"\"\"\n[[profile]]\n\"\"\"",
	} {
		var bad *ConfigError
		if _, err := parseConfig("f", text); !errors.As(err, &bad) || bad.Key != "profile" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The law: what a profile may name is what a client may subscribe to, but for what
// no line of the client protocol could hold.
func TestCheckSubject(t *testing.T) {
	token := rapid.StringMatching(`[a-z*>. é]{0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOfN(token, 1, 4).Draw(t, "tokens"), ".")
		want := wire.ValidSubject([]byte(s)) && !strings.Contains(s, " ")
		if text := checkSubject(s); (text == "") != want {
			t.Fatalf("%q: %s; valid is %v", s, text, want)
		}
	})
}

// Tables are told apart by name: their order is nothing that changes.
func TestChangedTables(t *testing.T) {
	table := func(name string, weight int) ProfileConfig { return ProfileConfig{Name: name, Weight: weight} }
	running := &Config{Profiles: []ProfileConfig{table("a", 1), table("b", 1), table("c", 1)}}
	for want, file := range map[string][]ProfileConfig{
		"":                              {table("c", 1), table("a", 1), table("b", 1)},
		"profile.a,profile.b,profile.c": nil,
		"profile.b":                     {table("a", 1), table("b", 2), table("c", 1)},
		"profile.a,profile.d":           {table("b", 1), table("c", 1), table("d", 1)},
		"profile (12 of them)": {table("d", 1), table("e", 1), table("f", 1), table("g", 1), table("h", 1), table("i", 1),
			table("j", 1), table("k", 1), table("l", 1)},
	} {
		live, held := differences(running, &Config{Profiles: file})
		if got := keysOf(live); got != want || len(held) != 0 {
			t.Errorf("changed: %s, want %s; for the next start: %v", got, want, held)
		}
	}
}
