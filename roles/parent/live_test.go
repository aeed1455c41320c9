package parent

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
)

// Every option has one row that says when it takes effect, and no row is of
// anything else: a new option without one fails here.
func TestLivenessIsWhole(t *testing.T) {
	seen := map[string]int{}
	for _, o := range liveness {
		seen[o.section+"."+o.key]++
	}
	for section, keys := range Defaults().options() {
		for key := range keys {
			name := section + "." + key
			if seen[name] != 1 {
				t.Errorf("%s has %d rows", name, seen[name])
			}
			delete(seen, name)
		}
	}
	for name := range seen {
		t.Errorf("%s is no option", name)
	}
}

// other gives every option another value than it has.
func other(c *Config) {
	for _, keys := range c.options() {
		for _, v := range keys {
			switch p := v.Addr().Interface().(type) {
			case *string:
				*p += "x"
			case *bool:
				*p = !*p
			case *int:
				*p++
			case *Secret:
				*p += "x"
			case *[]int:
				*p = append(slices.Clone(*p), 1)
			case *[]string:
				*p = append(slices.Clone(*p), "x")
			case *Size:
				*p++
			case *time.Duration:
				*p++
			case *[]ProfileConfig:
				*p = append(slices.Clone(*p), ProfileConfig{Name: "x"})
			case *[]UserConfig:
				*p = append(slices.Clone(*p), UserConfig{Name: "x"})
			case *[]LDAPProfileConfig:
				*p = append(slices.Clone(*p), LDAPProfileConfig{Name: "x"})
			case *[]IssuerConfig:
				*p = append(slices.Clone(*p), IssuerConfig{Name: "x"})
			case *[]TLSSessionConfig:
				*p = append(slices.Clone(*p), TLSSessionConfig{Name: "x"})
			}
		}
	}
}

// What is taken over is what can be, all of it, and the rest is named.
func TestTakeLive(t *testing.T) {
	running, file := Defaults(), Defaults()
	other(file)
	live, held := differences(running, file)
	if len(live)+len(held) != len(liveness) {
		t.Fatalf("%d and %d of %d options differ", len(live), len(held), len(liveness))
	}
	got := running.takeLive(file)
	if again, still := differences(got, file); len(again) != 0 || !reflect.DeepEqual(keysOf(still), keysOf(held)) {
		t.Errorf("not taken over: %v; left: %v, want %v", again, still, held)
	}
	if changed, named := differences(running, got); !reflect.DeepEqual(changed, live) || len(named) != 0 {
		t.Errorf("changed: %v, want %v; and %v", changed, live, named)
	}
	if !reflect.DeepEqual(running, Defaults()) {
		t.Error("the running configuration was changed")
	}
	if a, b := running.frozen(), got.frozen(); !slices.Equal(a, b) || slices.Equal(a, file.frozen()) || len(a) != len(held) {
		t.Errorf("what holds from the start on is %q, was %q", b, a)
	}
}

// A ticket is good for as long as was the rule when it was issued, whatever
// happens to auth_timeout afterwards.
func TestTicketLives(t *testing.T) {
	p := &parent{cfg: Defaults()}
	at := func(d time.Duration) { // a change of auth_timeout
		p.noteLife(d)
		p.cfg.Limits.AuthTimeout = d
	}
	at(10 * time.Second)
	for now := privsep.Uptime(); privsep.Uptime() == now; { // a millisecond between the two
	}
	at(time.Second)
	if n := len(p.lives); n != 2 {
		t.Fatalf("%d rules are remembered", n)
	}
	for i, want := range []time.Duration{2 * time.Second, 10 * time.Second} {
		if got := p.lifeOf(p.lives[i].until); got != want+ticketGrace {
			t.Errorf("rule %d: %v, want %v", i, got, want+ticketGrace)
		}
	}
	if got := p.lifeOf(privsep.Uptime() + 1); got != time.Second+ticketGrace {
		t.Errorf("a new ticket lives %v", got)
	}
	if got := p.longestLife(); got != 10*time.Second+ticketGrace {
		t.Errorf("the longest life is %v", got)
	}
	for i := range p.lives {
		p.lives[i].until -= uint64(p.lives[i].long/time.Millisecond) + 1
	}
	if got := p.longestLife(); got != time.Second+ticketGrace || len(p.lives) != 0 {
		t.Errorf("the longest life is %v, %d rules are remembered", got, len(p.lives))
	}
}

// A mistake is one line with file, line and option, and nothing is changed by it.
func TestReloadRefused(t *testing.T) {
	s := newSigner(t)
	var out bytes.Buffer
	s.log = zerolog.New(&out)
	before := *s.cfg
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"no certificate":         {func(c *Config) { c.TLS.Cert = "/nowhere.pem" }, []string{"tls.cert: ", "/nowhere.pem"}},
		"no authorities":         {func(c *Config) { c.TLS.ClientAuth, c.TLS.ClientCA = "request", "/nowhere.pem" }, []string{"tls.client_ca: "}},
		"no such address":        {func(c *Config) { c.Listen.TCP = []string{"127.0.0.1:0", "192.0.2.1:9"}; c.Listen.Anonymous = "any" }, []string{"listen.tcp: ", "192.0.2.1:9"}},
		"no such folder":         {func(c *Config) { c.Listen.Unix = []string{"/nowhere/client"} }, []string{"listen.unix: ", "/nowhere/client"}},
		"a bad value":            {func(c *Config) { c.Limits.PingMax = -1 }, []string{"limits.ping_max: "}},
		"what runs is too small": {func(c *Config) { c.Store.Arena, c.Limits.MaxPayload = 256<<20, 64<<20 }, []string{"limits.max_payload: ", "store.arena will change at the next start only"}},
		"the key stays here":     {func(c *Config) { c.TLS.KeyUse, c.TLS.MinVersion = KeyUseRelease, "1.2" }, []string{"tls.min_version: ", "tls.key_use will change"}},
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			s.reloadWith(func(cfg *Config) {
				cfg.Limits.DrainTimeout++
				c.change(cfg)
			})
			line := out.String()
			if strings.Count(line, "\n") != 1 || !strings.Contains(line, "reload failed") || !strings.Contains(line, s.source+":") {
				t.Errorf("said %s", line)
			}
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			if !reflect.DeepEqual(*s.cfg, before) || s.credential().number != 1 || s.reloads != 0 || len(s.listeners) != 0 || len(s.networks) != 2 {
				t.Errorf("changed: %+v", s.parent)
			}
		})
	}
}

// One address after another is listened on; numbers are never used again, and a
// socket whose address is now for TLS is still the same one.
func TestListenerNumbers(t *testing.T) {
	p := &parent{cfg: Defaults()}
	t.Cleanup(p.closeListeners)
	set := func(tcp, secure []string) {
		t.Helper()
		c := Defaults()
		c.Listen.TCP, c.Listen.TLS, c.Console.Unix = tcp, secure, ""
		list, _, err := p.listenersOf(c)
		if err != nil {
			t.Fatal(err)
		}
		p.setListeners(list)
	}
	numbers := func() (ns []int) {
		for _, l := range p.listeners {
			ns = append(ns, int(l.number))
		}
		return ns
	}
	set([]string{"127.0.0.1:0"}, nil)
	first := p.listeners[0]
	set([]string{"127.0.0.1:0", "127.0.0.2:0"}, nil)
	if !slices.Equal(numbers(), []int{0, 1}) || p.listeners[0] != first {
		t.Fatalf("added one: %+v", p.listeners)
	}
	set([]string{"127.0.0.2:0"}, []string{"127.0.0.1:0"})
	if !slices.Equal(numbers(), []int{1, 2}) || p.listeners[1].fd != first.fd || p.listeners[1].address != first.address {
		t.Fatalf("TCP is TLS now: %+v", p.listeners)
	}
	set(nil, []string{"127.0.0.3:0"})
	if !slices.Equal(numbers(), []int{3}) {
		t.Fatalf("another one: %+v", p.listeners)
	}
	want := []privsep.Network{privsep.NetTCP, privsep.NetTCP, privsep.NetTLS, privsep.NetTLS}
	if !slices.Equal(p.networks, want) {
		t.Errorf("networks %v, want %v", p.networks, want)
	}
}

// The example marks what does not change while the broker runs, and nothing else.
func TestExampleMarksWhatIsNotLive(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	marked := map[string]bool{}
	for l := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(l, "["); ok {
			section, _, _ = strings.Cut(name, "]")
		}
		if key, rest, ok := strings.Cut(l, " ="); ok && !strings.HasPrefix(l, "#") {
			marked[section+"."+key] = strings.Contains(rest, "# (*) ")
		}
	}
	for _, o := range liveness {
		if o.key == "" {
			continue // shown commented out
		}
		if got, there := marked[o.section+"."+o.key]; !there || got != (o.from == atStart) {
			t.Errorf("%s.%s: marked %v, in the example %v", o.section, o.key, got, there)
		}
	}
}
