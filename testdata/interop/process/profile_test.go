package process

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// profiles puts tables at the end of the configuration, instead of those that a
// test has put there before.
func (b *broker) profiles(text string) {
	b.t.Helper()
	all, err := os.ReadFile(b.config)
	must(b.t, err)
	rest, _, _ := strings.Cut(string(all), "[[profile]]")
	b.write(b.config, rest+text)
}

// Profiles and the modes change while the broker runs; what changed is named. A
// mistake is named with its line, and changes nothing.
func TestReloadProfiles(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	calm, before := startCalm(t, b.client(""), b.client(""), 0), b.processes()
	changed := func(want string) {
		t.Helper()
		if got := b.reload("reloaded").Fields["changed"]; got != want {
			t.Errorf("changed: %v, want %s", got, want)
		}
	}
	b.profiles("[[profile]]\nname = \"all\"\n[[profile]]\nname = \"desk\"\npublish = [\"px.>\"]\n")
	changed("profile.all,profile.desk")
	b.profiles("[[profile]]\nname = \"desk\"\npublish = [\"px.*\"]\n[[profile]]\nname = \"all\"\n")
	changed("profile.desk")
	b.edit("[listen]\n", "[listen]\nprofile = \"all\"\n")
	b.edit("[log]\n", "[modes]\nsession_idle = \"1m\"\n[log]\n")
	mark := b.log.Mark()
	changed("listen.profile,modes.session_idle")
	if b.log.Find(mark, `no authentication: whoever reaches a listener is a client with the profile "all"`, patience, "level", "warn") == nil {
		t.Error("no warning of what clients may do")
	}
	if w := strings.Join(b.status().Warnings, "\n"); !strings.Contains(w, `profile "all"`) || strings.Contains(w, "all rights") {
		t.Errorf("status warns: %s", w)
	}

	good, err := os.ReadFile(b.config)
	must(t, err)
	for what, c := range map[string]struct{ from, to, line, key string }{
		"no such profile": {"profile = \"all\"", "profile = \"nobody\"", "profile = ", "listen.profile"},
		"no subject":      {"publish = [\"px.*\"]", "publish = [\"px..a\"]", "publish = ", "profile.publish"},
		"unknown key":     {"publish = [\"px.*\"]", "publsh = []", "publsh", "profile.publsh"},
		"twice":           {"name = \"desk\"", "name = \"all\" # too", "name = \"all\"\n", "profile.name"},
	} {
		b.edit(c.from, c.to)
		want := b.lineOf(c.line) + c.key + ": "
		l := b.reload("reload failed: everything stays as it is")
		if e, _ := l.Fields["error"].(string); !strings.HasPrefix(e, want) {
			t.Errorf("%s: %q, want %s", what, e, want)
		}
		b.write(b.config, string(good))
	}
	changed("")
	calm.end(t)
	b.unchanged(before)
	must(t, b.serves())
}

// Whatever becomes of router and parent, there is a router that has the profiles.
func TestProfilesOutlive(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{})
	b.edit("[listen]\n", "[listen]\nprofile = \"all\"\n")
	b.profiles("[[profile]]\nname = \"all\"\n")
	b.start()
	b.kill("router")
	must(t, b.serves())
	b.restart("router")
	must(t, b.serves())
	left := b.orphan()
	b.profiles("[[profile]]\nname = \"all\"\npublish_deny = [\"px\"]\n")
	b.succeed()
	b.adopted(left)
	must(t, b.serves())
	_, err := b.upgrade()
	must(t, err)
	must(t, b.serves())
}

// manyProfiles are as many as there can be, each with a rate of its own.
func manyProfiles(rate int) string {
	var s strings.Builder
	for i := range 1024 {
		fmt.Fprintf(&s, "[[profile]]\nname = \"p%d\"\npublish = [\"px.%d.>\"]\nrate = %d\n", i, i, rate+i)
	}
	return s.String()
}

// More profiles than the router's channel holds are no trouble, and a router that
// does not read them is none for the parent: it is replaced.
func TestReloadManyProfiles(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	before := b.processes()
	for rate := range 3 {
		b.profiles(manyProfiles(rate + 1))
		if got := b.reload("reloaded").Fields["changed"]; got != "profile (1024 of them)" {
			t.Errorf("changed: %v", got)
		}
	}
	b.unchanged(before)
	b.kill("router")
	must(t, b.serves())

	b.signal("router", syscall.SIGSTOP)
	b.deaths++
	b.profiles(manyProfiles(7))
	mark := b.log.Mark()
	began := time.Now()
	must(t, b.cmd.Process.Signal(syscall.SIGHUP))
	if b.log.Find(mark, "role does not read its channel", patience, "role", "router", "kind", "PROFILE") == nil {
		t.Fatal("nothing is said of the router")
	}
	if took := time.Since(began); took > soon {
		t.Errorf("the parent waited %v for it", took)
	}
	if b.log.Find(mark, "reloaded", patience) == nil {
		t.Error("the reload has no end")
	}
	must(t, b.serves())
}

// What a running broker has can be printed from its configuration, and is one.
func TestCheckProfiles(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{})
	b.profiles("[[profile]]\nname = \"desk\"\npublish = []\nallow_responses = true\nmax_payload = \"1KiB\"\n")
	out, err := exec.Command(gatehouse, "check", "-c", b.config, "--print").Output()
	must(t, err)
	for _, want := range []string{
		"\n[[profile]]\nname = \"desk\"\npublish = []\nallow_responses = 1\n", "\nmax_payload = \"1KiB\"\n",
		"\nmodes = [\"broadcast\", \"semaphore\", \"session\", \"fanout\", \"direct\"]\n", "\nrequest_timeout = \"30s\"\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	b.write(b.config, string(out))
	again, err := exec.Command(gatehouse, "check", "-c", b.config, "--print").Output()
	must(t, err)
	if string(again) != string(out) {
		t.Errorf("printed\n%s\nand then\n%s", out, again)
	}
}
