package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gatehouse/testdata/tree"
)

// reload has the configuration read and returns what the log says of it.
func (b *broker) reload(event string) *tree.Line {
	b.t.Helper()
	mark := b.log.Mark()
	must(b.t, b.cmd.Process.Signal(syscall.SIGHUP))
	l := b.log.Find(mark, event, patience)
	if l == nil {
		b.t.Fatalf("no %q after SIGHUP", event)
	}
	return l
}

// Limits change under traffic, for whoever is there and whoever comes; nobody
// notices anything else, and clients that want news have the new max_payload.
func TestReloadLimits(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, limits: "max_payload = 100"})
	calm, before := startCalm(t, b.client(""), b.client(""), 0), b.processes()
	sub, p := b.clientOn("cm/0"), b.clientOn("cm/1")
	must(t, sub.send("SUB a 1\r\n"))
	must(t, sub.sync())
	news, err := dial(b.addr)
	must(t, err)
	defer news.reset()
	must(t, news.send(strings.Replace(quiet, `"protocol":0`, `"protocol":1`, 1)))
	must(t, news.sync())
	if f, err := news.next(); err != nil || f.verb() != "INFO" {
		t.Fatalf("%q, %v", f.line, err)
	}

	b.edit("max_payload = 100", "max_payload = 100000\nmax_subscriptions = 1")
	if got := b.reload("reloaded").Fields["changed"]; got != "limits.max_payload,limits.max_subscriptions" {
		t.Errorf("changed: %v", got)
	}
	if f, err := news.next(); err != nil || f.verb() != "INFO" || !strings.Contains(f.line, `"max_payload":100000,`) {
		t.Errorf("%q, %v, want an INFO", f.line, err)
	}
	big := strings.Repeat("b", 50000)
	must(t, p.send(pub("a", big)))
	if got := sub.expect(t, "MSG a 1 50000"); got != big {
		t.Error("another message came")
	}
	must(t, sub.send("SUB b 2\r\n"))
	sub.expect(t, "-ERR 'maximum subscriptions exceeded'")

	// Down again, while larger messages are on their way: whoever read them
	// before the change may still pass them on.
	flood := b.clientOn("cm/1")
	done := make(chan error, 1)
	go func() {
		for range 200 {
			if err := flood.send(pub("c", big)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	b.edit("max_payload = 100000", "max_payload = 100")
	b.reload("reloaded")
	<-done // it may have been told in the middle
	must(t, sub.sync())
	if c := b.client(""); !strings.Contains(c.info, `"max_payload":100,`) {
		t.Errorf("greeted with %s", c.info)
	}
	late := b.client("")
	must(t, late.send("PUB a 101\r\n"))
	late.expect(t, "-ERR 'Maximum Payload Violation'")
	calm.end(t)
	b.unchanged(before)
}

// A role that is started after a reload has what was changed by it, and so has
// one that was just starting.
func TestReloadThenRestart(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 1, limits: "max_payload = 100"})
	for i, role := range []string{"router", "cm/0", "dispatcher"} {
		n := 1000 * (i + 1)
		b.edit("[limits]\nmax_payload = ", fmt.Sprintf("[limits]\nmax_payload = %d\nmax_subscriptions = 1 # ", n))
		mark := b.log.Mark()
		b.kill(role)
		must(t, b.cmd.Process.Signal(syscall.SIGHUP))
		if b.log.Find(mark, "reloaded", patience) == nil || b.log.Find(mark, "role ready", patience, "role", role) == nil {
			t.Fatal("no reload, or no new " + role)
		}
		text, err := os.ReadFile(b.config)
		must(t, err)
		b.write(b.config, strings.Replace(string(text), fmt.Sprintf("%d\nmax_subscriptions = 1 # ", n), "", 1))
		await(t, "the limit of the new "+role, patience, func() bool {
			c, err := dial(b.addr)
			if err != nil {
				return false
			}
			defer c.reset()
			body := strings.Repeat("x", n)
			if !strings.Contains(c.info, fmt.Sprintf(`"max_payload":%d,`, n)) || c.send(quiet+"SUB a 1\r\n"+pub("a", body)) != nil {
				return false
			}
			f, err := c.next()
			return err == nil && string(f.body) == body
		})
	}
}

// Reloads and exchanges of processes do not know of each other: whoever comes has
// what was read last, also if it stood by meanwhile, and no client notices.
func TestReloadWhileReplaced(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 1, limits: "max_payload = 1000"})
	calm := startCalm(t, b.client(""), b.client(""), 0)
	for i, role := range []string{"dispatcher", "router", "cm", "router", "dispatcher", "cm"} {
		if role == "cm" {
			role = b.cms()[0]
		}
		b.edit(fmt.Sprintf("max_payload = %d", 1000+i), fmt.Sprintf("max_payload = %d", 1001+i))
		b.edit("[listen]\ntcp = [", fmt.Sprintf("[listen]\ntcp = [\"127.0.0.%d:0\", ", 2+i))
		mark := b.log.Mark()
		done := make(chan error, 1)
		go func() { done <- exec.Command(gatehouse, "restart", "--runtime-dir", b.run, role).Run() }()
		if b.log.Find(mark, "role is being replaced", patience) == nil {
			t.Fatal(role + " is not replaced")
		}
		b.reload("reloaded")
		must(t, within(t, "the exchange of "+role, done))
		b.processes()
		ls := b.status().Listeners
		if len(ls) != i+3 {
			t.Fatalf("after %s: listeners %q", role, ls)
		}
		for _, addr := range ls[:i+2] {
			c, err := dial(addr)
			must(t, err)
			if !strings.Contains(c.info, fmt.Sprintf(`"max_payload":%d,`, 1001+i)) {
				t.Errorf("after %s, %s greets with %s", role, addr, c.info)
			}
			must(t, c.send(quiet+"SUB a 1\r\n"+pub("a", strings.Repeat("x", 1001+i))))
			c.expect(t, fmt.Sprintf("MSG a 1 %d", 1001+i))
			c.reset()
		}
	}
	calm.end(t)
}

// Listeners come and go; connections stay, whatever becomes of the address that
// they came in by.
func TestReloadListeners(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, tls: "sign"})
	old, secure := b.client("SUB a 1\r\n"), b.tlsClient("SUB a 1\r\n")
	other := filepath.Join(b.dir, "other")
	b.edit("unix = ["+fmt.Sprintf("%q", b.unix)+"]", fmt.Sprintf("unix = [%q]", other))
	b.edit(`tcp = ["127.0.0.1:0"]`, `tcp = ["127.0.0.2:0"]`)
	b.edit(`tls = ["127.0.0.1:0"]`, `tls = ["127.0.0.1:0", "127.0.0.2:0"]`)
	if got := b.reload("reloaded").Fields["changed"]; got != "listen.tcp,listen.tls,listen.unix" {
		t.Errorf("changed: %v", got)
	}
	for _, gone := range []string{b.addr, b.unix} {
		if c, err := dial(gone); err == nil {
			c.reset()
			t.Errorf("%s is still open", gone)
		}
	}
	if _, err := os.Lstat(b.unix); err == nil {
		t.Errorf("%s was left behind", b.unix)
	}
	ls := b.status().Listeners
	if len(ls) != 4 || ls[1] != b.tls || ls[3] != other || !strings.HasPrefix(ls[0], "127.0.0.2:") {
		t.Fatalf("listeners %q", ls)
	}
	b.addr = ls[0]
	p := b.client("")
	for _, add := range []string{b.tls, ls[2]} {
		b.tls = add
		b.tlsClient("")
	}
	c, err := dial(other)
	must(t, err)
	b.login(c, "")
	must(t, p.send(pub("a", "x")))
	old.expect(t, "MSG a 1 1")
	secure.expect(t, "MSG a 1 1")

	// The port that was for TLS is now for plaintext, and is the same socket.
	b.edit(`"127.0.0.1:0", "127.0.0.2:0"`, `"127.0.0.2:0"`)
	b.edit(`tcp = ["127.0.0.2:0"]`, `tcp = ["127.0.0.1:0"]`)
	b.reload("reloaded")
	b.addr = ls[1]
	if now := b.status().Listeners; now[0] != ls[1] || now[1] != ls[2] {
		t.Errorf("listeners %q, were %q", now, ls)
	}
	b.client("")
	must(t, p.send(pub("a", "y")))
	old.expect(t, "MSG a 1 1")
	secure.expect(t, "MSG a 1 1")
}

// TLS settings change for those who come.
func TestReloadTLS(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{tls: "sign"})
	old := b.tlsClient("SUB a 1\r\n")
	ca := filepath.Join(b.dir, "ca.pem")
	b.write(ca, string(b.ca.PEM))
	b.edit("[tls]\n", fmt.Sprintf("[tls]\nclient_auth = \"require\"\nclient_ca = %q\n", ca))
	if got := b.reload("reloaded").Fields["changed"]; got != "tls.client_auth,tls.client_ca" {
		t.Errorf("changed: %v", got)
	}
	if c, err := b.dialTLS(&net.Dialer{Timeout: patience}); err == nil {
		if f, err := c.next(); err == nil {
			t.Errorf("without a certificate: %q", f.line)
		}
		c.reset()
	}
	must(t, old.send(pub("a", "x")))
	old.expect(t, "MSG a 1 1")
	b.edit("client_auth = \"require\"\n", "")
	b.reload("reloaded")
	b.tlsClient("")
}

// What is wrong is named, and changes nothing: not the certificate, not a
// listener, not a limit, not what the log shows.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, tls: "sign", limits: "max_payload = 1000"})
	calm, before := startCalm(t, b.client(""), b.client(""), 0), b.processes()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	good, err := os.ReadFile(b.config)
	must(t, err)
	for what, c := range map[string]struct{ from, to, key string }{
		"unknown key":  {"[limits]", "[limits]\nmax_paylaod = 1", "limits.max_paylaod"},
		"bad value":    {"max_payload = 1000", "max_payload = \"1 MB\"", "limits.max_payload"},
		"no TOML":      {"max_payload = 1000", "max_payload = ", "limits.max_payload"},
		"port in use":  {`tcp = ["127.0.0.1:0"]`, fmt.Sprintf("tcp = [\"127.0.0.1:0\", %q]", taken.Addr()), "listen.tcp"},
		"no such file": {"cert = ", "cert = \"nowhere.pem\" # ", "tls.cert"},
	} {
		b.edit("[log]\n", "[log]\nlevel = \"error\"\n")
		b.edit(c.from, c.to)
		want := b.lineOf(c.to[strings.LastIndexByte(c.to, '\n')+1:]) + c.key + ": "
		l := b.reload("reload failed: everything stays as it is")
		if e, _ := l.Fields["error"].(string); !strings.HasPrefix(e, want) {
			t.Errorf("%s: %q, want %s", what, e, want)
		}
		b.write(b.config, string(good))
	}
	st := b.status()
	if !slices.Equal(st.Listeners, []string{b.addr, b.tls, b.unix}) {
		t.Errorf("listeners %q", st.Listeners)
	}
	if c := b.client(""); !strings.Contains(c.info, `"max_payload":1000,`) {
		t.Errorf("greeted with %s", c.info)
	}
	b.tlsClient("")
	calm.end(t)
	b.unchanged(before)
}

// What cannot change is named, once in each reload, and shown by status.
func TestReloadNextStart(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{limits: "max_connections = 1000\nping_max = 3"})
	b.edit("count = 1", "count = 2")
	b.edit("max_connections = 1000\nping_max = 3", "max_connections = 2000\nping_max = 4")
	mark := b.log.Mark()
	if got := b.reload("reloaded").Fields["changed"]; got != "limits.ping_max" {
		t.Errorf("changed: %v", got)
	}
	const event = "takes effect at the next start"
	if b.log.Find(mark, event, patience, "key", "cm.count", "running", "1", "file", "2") == nil ||
		b.log.Find(mark, event, patience, "key", "limits.max_connections", "running", "1000", "file", "2000") == nil {
		t.Errorf("not named:\n%s", b.log.Text())
	}
	if n := len(b.log.All(event)); n != 2 {
		t.Errorf("%d options are named", n)
	}
	if st := b.status(); len(st.NextStart) != 2 || st.NextStart[0].Key != "cm.count" || st.NextStart[1].File != "2000" {
		t.Errorf("status shows %+v", st.NextStart)
	}
	b.edit("count = 2", "count = 1")
	b.edit("max_connections = 2000", "max_connections = 1000")
	if got := b.reload("reloaded").Fields["changed"]; got != "" {
		t.Errorf("changed: %v", got)
	}
	if st := b.status(); len(st.NextStart) != 0 {
		t.Errorf("status shows %+v", st.NextStart)
	}
}

// Rates and the level of the log change at once, too.
func TestReloadRates(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	b.client("")
	b.edit("[limits]\n", "[limits]\nconnect_rate = 1\n")
	b.reload("reloaded")
	b.client("")
	if c, err := dial(b.addr); err == nil {
		c.reset()
		t.Error("two connections within a second")
	}
	b.edit("connect_rate = 1\n", "")
	b.edit("[log]\n", "[log]\nlevel = \"error\"\n")
	mark := b.log.Mark()
	must(t, b.cmd.Process.Signal(syscall.SIGHUP))
	await(t, "the end of the rate", patience, func() bool {
		c, err := dial(b.addr)
		if err == nil {
			c.reset()
		}
		return err == nil
	})
	b.kill("router")
	if b.log.Find(mark, "role died", patience) == nil {
		t.Error("an error is not logged")
	}
	b.serves()
	for _, l := range b.log.Lines(mark) {
		if l.Fields["level"] == "info" {
			t.Errorf("logged all the same: %s", l.Text)
		}
	}
}
