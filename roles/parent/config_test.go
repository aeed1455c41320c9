package parent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
)

const example = "../../broker.toml.example"

// The example, the struct and the defaults are one thing said three times.
func TestExampleHoldsEveryDefault(t *testing.T) {
	cfg, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, Defaults()) {
		t.Errorf("the example gives\n%+v\nthe defaults are\n%+v", cfg, Defaults())
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := decodeConfig(string(text), Defaults())
	if err != nil {
		t.Fatal(err)
	}
	for section, options := range Defaults().options() {
		if _, list := options[""]; list {
			continue // see TestExampleHoldsEveryTable
		}
		for name := range options {
			n := keys.line(section + "." + name)
			if n == 0 {
				t.Errorf("%s.%s is not in the example", section, name)
			} else if l := strings.Split(string(text), "\n")[n-1]; !oneLine.MatchString(l) {
				t.Errorf("line %d of the example does not explain its option: %s", n, l)
			}
		}
	}
}

// oneLine is how the example shows an option.
var oneLine = regexp.MustCompile(`^[a-z0-9_]+ = \S.* # \S.*$`)

// The example has one table of each list, commented out, with all keys. Each shows
// its default, or says what happens without it.
func TestExampleHoldsEveryTable(t *testing.T) {
	b, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^#(\[\[|[a-z])`).ReplaceAllString(string(b), "$1")
	if _, err := parseConfig("example", text); err != nil {
		t.Fatal(err)
	}
	cfg := Defaults()
	keys, err := decodeConfig(text, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for list, tables := range cfg.listsOf() {
		if tables.Len() != 1 {
			t.Errorf("the example has %d tables [[%s]]", tables.Len(), list)
			continue
		}
		defaults := Defaults()
		numberTables("[["+list+"]]", defaults)
		want := fields(defaults.listsOf()[list].Index(0))
		for key, v := range fields(tables.Index(0)) {
			n := keys.line(tableName(list, 0) + "." + key)
			if n == 0 {
				t.Errorf("%s.%s is not in the example", list, key)
				continue
			}
			l := strings.Split(text, "\n")[n-1]
			says := strings.Contains(l, "missing: ") || strings.Contains(l, "required")
			if !oneLine.MatchString(l) || !says && valueText(v) != valueText(want[key]) {
				t.Errorf("line %d of the example neither explains its option nor shows the default %s: %s", n, valueText(want[key]), l)
			}
		}
	}
}

// A default in the code that is not the default in the example is caught only
// if the example's value was read at all: it must win over another start.
func TestExampleValuesAreRead(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	empty := &Config{}
	if _, err := decodeConfig(string(text), empty); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(empty, Defaults()) {
		t.Errorf("read into nothing the example gives\n%+v", empty)
	}
}

// many gives n entries of a list of that length.
func many(n, length int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%q,", fmt.Sprintf("%0*d", max(length, 3), i))
	}
	return b.String()
}

// profiles gives n of them, two lines each.
func profiles(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[[profile]]\nname = \"p%d\"\n", i)
	}
	return b.String()
}

// issuer gives one for a user, with a key of its own and more.
func issuer(environment, more string) string {
	text := "[[user]]\nname = \"alice\"\npassword = \"" + argonHash + "\"\n[[transfer_issuer]]\n" + environment + "\n"
	for _, line := range []string{"keys = [\"k\"]", "organisations = [\"B\"]"} {
		if key, _, _ := strings.Cut(line, " "); !strings.HasPrefix(more, key) {
			text += line + "\n"
		}
	}
	return text + more
}

func TestConfigMistakes(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, tt := range []struct{ text, want string }{
		{"[limits]\n\nmax_payload = \"1 mebi\"", `f:3: limits.max_payload: "1 mebi" is not a size`},
		{"[limits]\nmax_payload = -1", `f:2: limits.max_payload: -1 is not a size`},
		{"[limits]\nmax_payload = 1.5", `f:2: limits.max_payload: 1.5 is not a size`},
		{"limits.max_payload = \"1kb\"", `f:1: limits.max_payload: "1kb" is not a size`},
		{"limits = { max_payload = true }", `f:1: limits.max_payload: true is not a size`},
		{"[limits]\nmax_paylod = 1", `f:2: limits.max_paylod: unknown key`},
		{"[limits]\nMax_Payload = 1", `f:2: limits.Max_Payload: unknown key`},
		{"[limit]\nmax_payload = 1", `f:1: limit: unknown key`},
		{"\nfoo = 1", `f:2: foo: unknown key`},
		{"[limits.extra]\na = 1", `f:1: limits.extra: unknown key`},
		{"[limits]\nmax_payload.big = 1", `unknown key`},
		{"[[limits]]\nmax_payload = 1", `f:1: limits: is a table: write [limits]`},
		{"listen = 3", `f:1: listen: is a table: write [listen]`},
		{"[limits]\nauth_timeout = 2", `f:2: limits.auth_timeout: 2 is not a duration (write "500ms"`},
		{"[limits]\nauth_timeout = \"2 s\"", `f:2: limits.auth_timeout: "2 s" is not a duration`},
		{"[limits]\nauth_timeout = \"-2s\"", `f:2: limits.auth_timeout: -2s is not between 1ms and 1h0m0s`},
		{"[limits]\nmax_connections = \"many\"", `f:2: limits.max_connections: "many" is not a whole number`},
		{"[limits]\nmax_connections = 0", `f:2: limits.max_connections: 0 is not between 1 and 1048576`},
		{"[limits]\nmax_control_line = \"1MiB\"", `f:2: limits.max_control_line: 1MiB is not between 64B and 64KiB`},
		{"[limits]\nconnect_burst = 5", `f:2: limits.connect_burst: limits.connect_burst means nothing without`},
		{"[cm]\ncount = 33", `f:2: cm.count: 33 is not between 0 and 32`},
		{"[cm]\ncount = 2026-11-21", `f:2: cm.count: a date or time is not a whole number`},
		{"[store]\narena = \"3MiB\"", `f:2: store.arena: store.arena (3MiB) must be at least 4 times limits.max_payload (1MiB)`},
		{"[limits]\nmax_payload = \"32MiB\"", `f:2: limits.max_payload: store.arena (64MiB) must be at least 4 times`},
		{"[limits]\nmax_pending = \"512KiB\"", `f:2: limits.max_pending: limits.max_pending (512KiB) must be at least limits.max_payload (1MiB)`},
		{"[store]\njournal = \"8MiB\"", `f:2: store.journal: 8MiB is not between 16MiB and 64GiB`},
		{"[store]\njournal = \"32MiB\"", `f:2: store.journal: store.journal (32MiB) must be at least 1KiB for each of limits.max_connections (65536)`},
		{"[store]\nring = \"256KiB\"", `f:2: store.ring: 256KiB is not between 512KiB and 1GiB`},
		{"[listen]\ntcp = \"127.0.0.1:4222\"", `f:2: listen.tcp: "127.0.0.1:4222" is not a list of strings`},
		{"[listen]\ntcp = [4222]", `f:2: listen.tcp: 4222 is not a string`},
		{"[listen]\ntcp = [\n\"127.0.0.1\"]", `f:2: listen.tcp: "127.0.0.1" is not IP:PORT`},
		{"[listen]\ntcp = [\"example.com:4222\"]", `write an address, not a name`},
		{"[listen]\ntcp = [\"127.0.0.1:70000\"]", `has no port between 0 and 65535`},
		{"[listen]\ntcp = [\"127.0.0.1:1\", \"localhost:1\"]", `"localhost:1" is there twice`},
		{"[listen]\ntcp = [\"0.0.0.0:4222\"]", `f:2: listen.tcp: "0.0.0.0:4222" is not a loopback address and clients need no credentials: listen on 127.0.0.1, or allow it with listen.anonymous = "any"`},
		{"[listen]\ntcp = [\":4222\"]", `is not a loopback address`},
		{"[listen]\ntcp = []", `f:2: listen.tcp: there is no address to listen on`},
		{"[listen]\nunix = [\"@abstract\"]", `f:2: listen.unix: "@abstract" is an abstract socket`},
		{"[listen]\nunix = [\"/" + long + "\"]", `is longer than the 107 bytes of a socket's path`},
		{"[listen]\nunix = [\"/a\", \"/b/../a\"]", `"/b/../a" is there twice`},
		{"[listen]\nanonymous = \"all\"", `f:2: listen.anonymous: "all" is not one of loopback, any`},
		{"[listen]\ntls = [\"127.0.0.1:1\"]", `f:2: listen.tls: needs tls.cert`},
		{"[listen]\ntls = [\"127.0.0.1:1\"]\n[tls]\ncert = \"a\"", `f:2: listen.tls: needs tls.key`},
		{"[listen]\ntls = [\"127.0.0.1:1\"]\n[tls]\ncert = \"a\"\nkey = \"b\"", `f:5: tls.key: needs tls.unlock_file`},
		{"[listen]\ntls = [\"0.0.0.0:1\"]\n[tls]\ncert = \"a\"\nkey = \"b\"\nunlock_file = \"c\"", `f:2: listen.tls: "0.0.0.0:1" is not a loopback address`},
		{"[listen]\ntls = [\"127.0.0.1:4222\"]", `f:2: listen.tls: "127.0.0.1:4222" is there twice`},
		{"[tls]\nclient_auth = \"require\"", `f:2: tls.client_auth: needs tls.client_ca`},
		{"[tls]\nmin_version = \"1.2\"", `f:2: tls.min_version: tls.min_version = "1.2" needs tls.key_use = "release"`},
		{"[tls]\nmin_version = \"1.1\"", `f:2: tls.min_version: "1.1" is not one of 1.3, 1.2`},
		{"[tls]\nsign_rate = 0", `f:2: tls.sign_rate: 0 is not between 10 and 10000`},
		{"[console]\ntcp = [\"0.0.0.0:8222\"]", `f:2: console.tcp: "0.0.0.0:8222" is not a loopback address, and who reaches it sees everything`},
		{"[console]\ntcp = [\"example.com:8222\"]", `write an address, not a name`},
		{"[console]\ntcp = [\"127.0.0.1:4222\"]", `f:2: console.tcp: "127.0.0.1:4222" is there twice`},
		{"[console]\nunix = \"/" + long + "\"", `is longer than the 107 bytes of a socket's path`},
		{"[console]\nunix = \"/a\"\n[listen]\nunix = [\"/a\"]", `f:2: console.unix: "/a" is a socket for others, too`},
		{"[console]\nnames = [\"a b\"]", `f:2: console.names: "a b" is not the name of a host`},
		{"[console]\nnames = [\"a\", \"a\"]", `f:2: console.names: "a" is there twice`},
		{"[console]\nnames = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \"i\"]", `f:2: console.names: are more than 8`},
		{"[console]\nremote = 1", `f:2: console.remote: 1 is not true or false`},
		{"[listen]\nhandshake_first = 1", `f:2: listen.handshake_first: 1 is not true or false`},
		{"[log]\nlevel = \"loud\"", `f:2: log.level: "loud" is not one of debug, info, warn, error`},
		{"[environment]\nname = \"\"", `f:2: environment.name: is empty`},
		{"[environment]\nname = \"a b\"", `f:2: environment.name: "a b" has a space`},
		{"[environment]\nbroker = \"" + long + "\"", `f:2: environment.broker: is longer than 128 bytes`},
		{"[privsep]\nruntime_dir = \"/" + long + "\"", `f:2: privsep.runtime_dir:`},
		{"[privsep]\nuid_base = 65500", `f:2: privsep.uid_base: the 84 uids from 65500 on include 65534`},
		{"[limits]\nmax_payload = 64MiB", `f:2: limits.max_payload: `},
		{"[limits]\nping_max = 1\nping_max = 2", `f:3: limits.ping_max: `},
		{"[limits]\nmax_payload = \"1 mebi\nx", `f:2: limits.max_payload: `},
		{"limits.max_payload = 64MiB", `f:1: limits.max_payload: `},
		{"[limits\nmax_payload = 1", "to end table name"},
		{"a\x00b", `f:1: `},
		{"[log]\nlevel = \"loud\"\n[cm]\ncount = 99", `f:2: log.level`},
		{"[modes]\nrequest_timeout = \"0s\"", `f:2: modes.request_timeout: 0s is not between 1ms and 24h0m0s`},
		{"[modes]\nduplicate_instance = \"both\"", `f:2: modes.duplicate_instance: "both" is not one of refuse, replace`},
		{"[listen]\nprofile = \"desk\"\n[[profile]]\nname = \"Desk\"", `f:2: listen.profile: "desk" is not the name of a [[profile]]`},
		{"[profile]\nname = \"a\"", `f:1: profile: is a list of tables: write [[profile]]`},
		{"profile = 3", `f:1: profile: is a list of tables`},
		{"profile = []", `f:1: profile: is a list of tables`},
		{"profile = [\n{name = \"a\"}]", `f:1: profile: is a list of tables`},
		{"\n[[\"profile\"]]\nname = \"a\"", `f:2: profile: is a list of tables`},
		{"[[profile]]\nname = \"a\"\n[profile.limits]\nrate = 1", `f:3: profile: is a list of tables: write [[profile]]`},
		{"[[profile]]\nname = \"a\"\n[\"profile 1\"]\nrate = 1", `f:3: `},
		{"[\"profile 1\"]\nrate = 1", `f:1: profile: unknown key`},
		{"[[profile]]", `f:1: profile: is empty`},
		{"[[profile]]\nrate = 1", `f:1: profile: is empty`},
		{"[[profile]]\nname = \"a b\"", `f:2: profile.name: "a b" has a space`},
		{"[[profile]]\nname = \"a\"\n\n [[ profile ]]\nrate = 1\nname = \"a\"", `f:6: profile.name: "a" is the name of another profile`},
		{"[[profile]]\nname = \"a\"\npublish = [\"b\"]\n[[profile]]\nname = \"b\"\npublsh = []", `f:6: profile.publsh: unknown key`},
		{"[[profile]]\nname = \"a\"\npublish = [\"b\"]\n[[profile]]\nname = \"b\"\npublish = [1]", `f:6: profile.publish: 1 is not a string`},
		{"[[profile]]\nname = \"a\"\npublish = [\"b..c\"]\n[[profile]]\nname = \"b\"\npublish = [\"c.\"]", `f:3: profile.publish: "b..c" is not a subject: there is nothing before`},
		{"[[profile]]\nname = \"a\"\n[limits]\nping_max = 0\n[[profile]]\nname = \"a\"", `f:4: limits.ping_max`},
		{"[[profile]]\nname = \"a\"\nname = \"b\"", `f:3: profile.name: `},
		{"[[profile]]\nname = \"a\"\nsubscribe = [\"b.>.c\"]", `f:3: profile.subscribe: "b.>.c" is not a subject: > stands for the rest`},
		{"[[profile]]\nname = \"a\"\nsubscribe_deny = [\"a b\"]", `f:3: profile.subscribe_deny: "a b" has a space`},
		{"[[profile]]\nname = \"a\"\npublish_deny = [\"a\", \"a\"]", `f:3: profile.publish_deny: "a" is there twice`},
		{"[[profile]]\nname = \"a\"\nmodes = [\"casting\"]", `f:3: profile.modes: "casting" is not one of broadcast, semaphore, session, fanout, direct`},
		{"[[profile]]\nname = \"a\"\ntypes = [\"a/1\"]", `f:3: profile.types: "a/1" is not a type of program`},
		{"[[profile]]\nname = \"a\"\nrequest_types = [\"\"]", `f:3: profile.request_types: is empty`},
		{"[[profile]]\nname = \"a\"\nrequest_organisations = [\"\u00e9\"]", `f:3: profile.request_organisations: "é" is not ASCII`},
		{"[[profile]]\nname = \"a\"\ntransfer = [\"a b\"]", `f:3: profile.transfer: "a b" has a space`},
		{"[[profile]]\nname = \"a\"\nallow_responses = \"all\"", `f:3: profile.allow_responses: "all" is not true, false or a number`},
		{"[[profile]]\nname = \"a\"\nallow_responses = -2", `f:3: profile.allow_responses: -2 is not between -1 and 1048576`},
		{"[[profile]]\nname = \"a\"\nweight = 0", `f:3: profile.weight: 0 is not between 1 and 1000`},
		{"[[profile]]\nname = \"a\"\nrate = -1", `f:3: profile.rate: -1 is not between 0 and 10000000`},
		{"[[profile]]\nname = \"a\"\nmax_payload = \"2MiB\"", `f:3: profile.max_payload: 2MiB is more than limits.max_payload (1MiB)`},
		{"[[profile]]\nname = \"a\"\nmax_age = \"500ms\"", `f:3: profile.max_age: 500ms is less than 1s; 0 is no limit`},
		{"[[profile]]\nname = \"a\"\nmax_pending = \"1KiB\"", `f:3: profile.max_pending: 1KiB is less than limits.max_payload (1MiB)`},
		{"[[profile]]\nname = \"a\"\npublish = [\"" + strings.Repeat("x", 257) + "\"]", `is longer than 256 bytes`},
		{"[[profile]]\nname = \"a\"\npublish = [" + many(257, 1) + "]", `f:3: profile.publish: has 257 entries, more than 256`},
		{"[[profile]]\nname = \"a\"\npublish = [" + many(200, 200) + "]", `f:1: profile: the lists of "a" take 40475 bytes together, more than 32768`},
		{profiles(1025), `f:2049: profile: there are more than 1024`},
		{"[transfer]\nkey = \"k\"", `f:2: transfer.key: needs transfer.unlock_file`},
		{"[transfer]\nrate = 0", `f:2: transfer.rate: 0 is not between 1 and 1000`},
		{issuer("", ""), `f:4: transfer_issuer: is empty`},
		{issuer("environment = \"a b\"", ""), `f:5: transfer_issuer.environment: "a b" has a space`},
		{issuer("environment = \"local\"", ""), `f:5: transfer_issuer.environment: "local" is this environment itself`},
		{issuer("environment = \"b\"", "[[transfer_issuer]]\nenvironment = \"b\"\nkeys = [\"k\"]\norganisations = [\"B\"]"), `f:9: transfer_issuer.environment: "b" is there twice`},
		{issuer("environment = \"b\"", "keys = []"), `f:7: transfer_issuer.keys: are 0: there is one, and`},
		{issuer("environment = \"b\"", "keys = [\"a\", \"b\", \"c\"]"), `f:7: transfer_issuer.keys: are 3: there is one, and`},
		{issuer("environment = \"b\"", "keys = [\"\"]"), `f:7: transfer_issuer.keys: one of them is empty`},
		{issuer("environment = \"b\"", "organisations = []"), `f:7: transfer_issuer.organisations: names no organisation`},
		{issuer("environment = \"b\"", "organisations = [\"a b\"]"), `f:7: transfer_issuer.organisations: "a b" has a space`},
		{issuer("environment = \"b\"", "users = [\"a\", \"a\"]"), `f:8: transfer_issuer.users: "a" is there twice`},
		{issuer("environment = \"b\"", "profile = \"c\""), `f:8: transfer_issuer.profile: "c" is not the name of a [[profile]]`},
		{"[[transfer_issuer]]\nenvironment = \"b\"\nkeys = [\"k\"]\norganisations = [\"B\"]", `f:2: transfer_issuer.environment: nobody can come from there`},
		{issuer("environment = \"b\"", "users = ["+many(256, 128)+"]"), `f:7: transfer_issuer.organisations: and users take 33`},
		{"[cm]\ncount = 99\n[log]\nlevel = \"loud\"", `f:2: cm.count`},
	} {
		_, err := parseConfig("f", tt.text)
		var bad *ConfigError
		switch {
		case !errors.As(err, &bad):
			t.Errorf("%.200q: error %v, want a ConfigError", tt.text, err)
		case !strings.Contains(err.Error(), tt.want):
			t.Errorf("%.200q:\n got %s\nwant %s", tt.text, err, tt.want)
		case bad.Line == 0 || strings.Contains(err.Error(), "\n"):
			t.Errorf("%.200q: %q is not one line that names a line", tt.text, err)
		}
	}
}

func TestConfigValues(t *testing.T) {
	cfg, err := parseConfig("f", `
[environment]
name = "orga"
[listen]
tcp = ["localhost:0", ":4222", "[::1]:4222", "10.0.0.1:4222"]
unix = ["client.sock"]
anonymous = "any"
[privsep]
runtime_dir = "state"
[store]
arena = "65MiB"
ring = 600000
[limits]
ping_interval = "1h30m"
connect_rate = 7
`)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Store.Ring != 600000 || cfg.Limits.PingInterval != 90*time.Minute || cfg.Limits.PingMax != 2 {
		t.Errorf("read %+v", cfg)
	}
	e := cfg.Effective()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, got, want any }{
		{"tcp", e.Listen.TCP, []string{"127.0.0.1:0", "[::]:4222", "[::1]:4222", "10.0.0.1:4222"}},
		{"unix", e.Listen.Unix, []string{filepath.Join(here, "client.sock")}},
		{"runtime_dir", e.Privsep.RuntimeDir, filepath.Join(here, "state")},
		{"arena", e.Store.Arena, Size(128 << 20)},
		{"ring", e.Store.Ring, Size(1 << 20)},
		{"connect_burst", e.Limits.ConnectBurst, 7},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s is %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if e.Environment.Broker == "" || e.CM.Count < 1 || cfg.Store.Ring != 600000 || cfg.Listen.TCP[0] != "localhost:0" {
		t.Errorf("effective %+v of %+v", e, cfg)
	}
	if err := e.Validate(); err != nil {
		t.Errorf("the effective configuration is not valid: %v", err)
	}
}

func TestRuntimeDir(t *testing.T) {
	for _, tt := range []struct {
		configured string
		euid       int
		want       string
	}{{"", 0, "/run/gatehouse"}, {"", 1000, "run"}, {"/x", 0, "/x"}, {"/x", 1000, "/x"}} {
		if got := runtimeDir(tt.configured, tt.euid); got != tt.want {
			t.Errorf("runtimeDir(%q, %d) = %q, want %q", tt.configured, tt.euid, got, tt.want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	standard := filepath.Join(dir, "standard.toml")
	cfg, source, err := find("", standard)
	if err != nil || source != BuiltIn || !reflect.DeepEqual(cfg, builtIn()) {
		t.Errorf("without any file: %v from %q, %v", cfg, source, err)
	}
	explicit := filepath.Join(dir, "broker.toml")
	if _, _, err := find(explicit, standard); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), explicit) {
		t.Errorf("a named file that is missing: %v", err)
	}
	if err := os.WriteFile(standard, []byte("[cm]\ncount = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, source, err = find("", standard); err != nil || source != standard || cfg.CM.Count != 3 {
		t.Errorf("with the standard file: %+v from %q, %v", cfg, source, err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a folder was read as a configuration")
	}
}

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Size
		out  string
	}{
		{"0", 0, "0"}, {"512", 512, "512B"}, {"512B", 512, "512B"}, {"4KiB", 4096, "4KiB"}, {"1024KiB", 1 << 20, "1MiB"},
		{"2GiB", 2 << 30, "2GiB"}, {"1073741824GiB", 1 << 60, "1073741824GiB"},
	} {
		got, err := ParseSize(tt.in)
		if err != nil || got != tt.want || got.String() != tt.out {
			t.Errorf("ParseSize(%q) = %v, %v, want %v", tt.in, got, err, tt.out)
		}
	}
	for _, in := range []string{"", "B", "KiB", "-1", "+1", "1.5MiB", "1 MiB", "1MB", "1mib", "0x10", "1_000", "1073741825GiB", "99999999999999999999"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", in, got)
		}
	}
}

// The law: any text gives a configuration that prints and reads back as
// itself, as does its effective form, or one line that names the file.
func FuzzConfig(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzConfig/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no corpus in testdata/fuzz/FuzzConfig: %v", err)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("[limits]\nmax_payload = 17\nauth_timeout = \"1h2m3.5s\"\n")
	f.Add("[environment]\nname = \"\\u00e9\\\"\\\\\"\n[listen]\nunix = [\"a \\\" b\"]\n")
	f.Add("[[profile]]\nname = \"a\"\npublish = []\nallow_responses = true\n[limits]\nping_max = 3\n [[ profile ]]\nname = 'b.c'\nmax_pending = 1048577\n")
	f.Add("listen = {tcp = [], unix = ['x']}\n[[limits]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := parseConfig("file", text)
		if err != nil {
			if s := err.Error(); !strings.HasPrefix(s, "file:") || strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("error %q", s)
			}
			return
		}
		for _, c := range []*Config{cfg, cfg.Effective()} {
			printed, err := c.TOML()
			if err != nil {
				t.Fatal(err)
			}
			again, err := parseConfig("printed", string(printed))
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("printed as\n%s\nread back as %+v, %v", printed, again, err)
			}
		}
	})
}

// Paths in a file are the file's, wherever the broker is started; and a client
// certificate is a credential, so TLS may then listen everywhere.
func TestConfigTLS(t *testing.T) {
	cfg, err := parseConfig("/etc/gatehouse/broker.toml", `
[listen]
tls = ["0.0.0.0:4443"]
handshake_first = true
[tls]
cert = "server.pem"
key = "/keys/server.key"
unlock_file = "../private/unlock"
client_auth = "require"
client_ca = "clients.pem"
`)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{cfg.TLS.Cert, cfg.TLS.Key, cfg.TLS.UnlockFile, cfg.TLS.ClientCA}
	want := []string{"/etc/gatehouse/server.pem", "/keys/server.key", "/etc/private/unlock", "/etc/gatehouse/clients.pem"}
	if !reflect.DeepEqual(got, want) || !cfg.Listen.HandshakeFirst {
		t.Errorf("%q, want %q", got, want)
	}
}
