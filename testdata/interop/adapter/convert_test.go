package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func spec(t *testing.T, s string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConvert(t *testing.T) {
	for in, want := range map[string]string{
		`{"name":"a b","host":"127.0.0.1","port":4333,"dir":"/d","nats_conf":"/x","requires":[],"raw":{"debug":true}}`: `[environment]
broker = "a b"
[listen]
tcp = ["127.0.0.1:4333"]
[privsep]
runtime_dir = "/d/run"
`,
		`{"host":"0.0.0.0","port":1,"dir":"/d","max_payload":33554433,"max_control_line":512,"max_pending":100,"max_connections":5,
		  "max_subscriptions":7,"ping_max":3,"ping_interval_s":0.05,"write_deadline_s":2,"auth_timeout":1.5,"unmapped":[]}`: `[limits]
auth_timeout = "1.5s"
max_connections = 5
max_control_line = "512B"
max_payload = "33554433B"
max_pending = "100B"
max_subscriptions = 7
ping_interval = "50ms"
ping_max = 3
write_deadline = "2s"
[listen]
anonymous = "any"
tcp = ["0.0.0.0:1"]
[privsep]
runtime_dir = "/d/run"
[store]
arena = "134217732B"
`,
		`{"host":"localhost","port":1,"dir":"/d","tls":{"cert_file":"/c","key_file":"/k","ca_file":"/a","timeout_s":2}}`: `[limits]
auth_timeout = "4s"
[listen]
tcp = []
tls = ["localhost:1"]
[privsep]
runtime_dir = "/d/run"
[tls]
cert = "/c"
key = "/d/server.key.enc"
unlock_file = "/d/unlock"
`,
		`{"host":"localhost","port":1,"dir":"/d","auth_timeout":0.5,"tls":{"cert_file":"/c","key_file":"/k","ca_file":"/a","verify":true,"handshake_first":true,"timeout_s":1}}`: `[limits]
auth_timeout = "1.5s"
[listen]
handshake_first = true
tcp = []
tls = ["localhost:1"]
[privsep]
runtime_dir = "/d/run"
[tls]
cert = "/c"
client_auth = "require"
client_ca = "/a"
key = "/d/server.key.enc"
unlock_file = "/d/unlock"
`,
		`{"host":"localhost","port":1,"dir":"/d","user":"a","pass":"$2a$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO","default_permissions":{"sub_deny":["x"]},
		  "users":[{"nkey":"U","permissions":{"pub_allow":["a.>"],"sub_allow":[]}}]}`: `[listen]
tcp = ["localhost:1"]
[privsep]
runtime_dir = "/d/run"
[[profile]]
name = "profile0"
publish = ["a.\u003e"]
subscribe = []
[[user]]
name = "nkey0"
nkey = "U"
profile = "profile0"
[[profile]]
name = "profile1"
subscribe_deny = ["x"]
[[user]]
name = "a"
password = "$2a$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO"
profile = "profile1"
`,
		`{"host":"localhost","port":1,"dir":"/d"}`: "[listen]\ntcp = [\"localhost:1\"]\n[privsep]\nruntime_dir = \"/d/run\"\n",
		`{"host":"::1","port":1,"dir":"/d"}`:       "[listen]\ntcp = [\"[::1]:1\"]\n[privsep]\nruntime_dir = \"/d/run\"\n",
		`{"host":"","port":1,"dir":"/d"}`:          "[listen]\nanonymous = \"any\"\ntcp = [\":1\"]\n[privsep]\nruntime_dir = \"/d/run\"\n",
	} {
		c, err := convert(spec(t, in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if got := string(c.toml()); got != want {
			t.Errorf("%s:\n%swant\n%s", in, got, want)
		}
	}
}

func TestRefusesWhatItCannotMap(t *testing.T) {
	const base = `"host":"127.0.0.1","port":1,"dir":"/d"`
	for _, extra := range []string{
		`"user":"u"`, `"users":[{"user":"a"}]`, `"users":[{"user":"a","pass":"b","account":"c"}]`, `"no_auth_user":"u"`,
		`"users":[{"user":"a","pass":"b","permissions":{"sub_allow":["a q"]}}]`, `"users":[{"user":"a","pass":"b","permissions":{"allow_responses":{"max":2}}}]`, `"tls":{"verify_and_map":true}`, `"tls":{"handshake_first":"auto"}`, `"allow_non_tls":true`, `"cluster":{}`, `"jetstream":true`,
		`"http_port":8222`, `"no_header_support":true`, `"lame_duck_duration_s":30`, `"client_advertise":"h:1"`, `"unmapped":["foo"]`,
		`"something_new":1`,
	} {
		_, err := convert(spec(t, "{"+base+","+extra+"}"))
		var unmapped *unmappedError
		if !errors.As(err, &unmapped) {
			t.Errorf("%s: error %v", extra, err)
		}
	}
	if _, err := convert(spec(t, `{"host":"x","port":"1","dir":"/d"}`)); err == nil {
		t.Error("a port that is no number: no error")
	}
}

// The adapter becomes the broker: same pid, the file written, or exit code 3.
func TestExec(t *testing.T) {
	dir := t.TempDir()
	adapter := filepath.Join(dir, "adapter")
	if out, err := exec.Command("go", "build", "-o", adapter, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	broker := filepath.Join(dir, "broker")
	if err := os.WriteFile(broker, []byte("#!/bin/sh\necho $$ \"$@\"; cat \"$3\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(extra string) (string, *exec.Cmd) {
		file := filepath.Join(dir, "spec.json")
		js, _ := json.Marshal(dir)
		if err := os.WriteFile(file, []byte(`{"host":"127.0.0.1","port":4333,"dir":`+string(js)+extra+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(adapter, "-gatehouse", broker, file)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd
	}
	pidFile := filepath.Join(dir, "pid")
	js, _ := json.Marshal(pidFile)
	out, _ := run(`,"pid_file":` + string(js))
	pid, err := os.ReadFile(pidFile)
	if err != nil || !strings.HasPrefix(out, string(pid)+" serve -c "+filepath.Join(dir, "broker.toml")+"\n[listen]\n") {
		t.Errorf("pid %s, output %q, %v", pid, out, err)
	}
	out, cmd := run(`,"cluster":{}`)
	if cmd.ProcessState.ExitCode() != exitUnmapped || !strings.Contains(out, "cluster") {
		t.Errorf("exit code %d, output %q", cmd.ProcessState.ExitCode(), out)
	}
}
