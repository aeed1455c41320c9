package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"gatehouse/testdata/tree"
)

// audited is a broker with an audit log, whose path it gives.
func audited(t testing.TB, s settings) (b *broker, path string) {
	t.Helper()
	b = newBroker(t, s)
	path = filepath.Join(b.dir, "audit.log")
	b.edit("[log]\n", fmt.Sprintf("[log]\naudit = %q\n", path))
	b.start()
	return b, path
}

// auditLines are those of a file, of which each must be whole.
func (b *broker) auditLines(path string) (lines []map[string]any) {
	b.t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(b.t, err)
	for line := range strings.Lines(string(text)) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err == nil {
			lines = append(lines, l)
		} else if strings.HasSuffix(line, "\n") {
			b.t.Errorf("%q: %v", line, err)
		}
	}
	return lines
}

// told waits for an event with fields, given as text.
func (b *broker) told(path, event string, with ...string) map[string]any {
	b.t.Helper()
	var found map[string]any
	await(b.t, event, patience, func() bool {
		for _, l := range b.auditLines(path) {
			same := l["event"] == event
			for i := 0; same && i < len(with); i += 2 {
				same = fmt.Sprint(l[with[i]]) == with[i+1]
			}
			if same {
				found = l
				return true
			}
		}
		return false
	})
	return found
}

// What a profile does not allow is told once a second for each connection, with how much
// was left out, whatever the connection wanted it to look like.
func TestAuditDenied(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{cms: 2, users: userTable("alice", password(horse), `profile = "desk"`)})
	path := filepath.Join(b.dir, "audit.log")
	b.edit("[log]\n", fmt.Sprintf("[log]\naudit = %q\n", path))
	b.profile(`publish = ["ok"]`, `subscribe = ["ok"]`)
	b.start()
	const each = 50
	for range 2 {
		nc, err := nats.Connect("nats://"+b.addr, nats.UserInfo("alice", "horse"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		must(t, err)
		defer nc.Close()
		for range each {
			must(t, nc.Publish("no.\x1b[31m", nil))
		}
		must(t, nc.FlushTimeout(patience))
		cid, err := nc.GetClientID()
		must(t, err)
		l := b.told(path, "permission_denied", "cid", fmt.Sprint(cid), "what", "publish", "about", "no.\x1b[31m")
		if l["user"] != "alice" || l["profile"] != "desk" {
			t.Errorf("%v", l)
		}
		_, err = nc.SubscribeSync("no.>")
		must(t, err)
		must(t, nc.FlushTimeout(patience))
	}
	nc, err := nats.Connect("nats://"+b.addr, nats.UserInfo("alice", "horse"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	must(t, err)
	defer nc.Close()
	await(t, "what was left out", patience, func() bool {
		must(t, nc.Publish("no", nil))
		must(t, nc.FlushTimeout(patience))
		lines, omitted := 0, 0.0
		for _, l := range b.auditLines(path) {
			if n, _ := l["omitted"].(float64); l["event"] == "permission_denied" {
				lines++
				omitted += n
			}
		}
		return lines >= 3 && float64(lines)+omitted > 2*each
	})
}

// The life of a broker as its audit log has it, through a rotation.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	b, path := audited(t, settings{tls: "sign", users: alice})
	b.told(path, "start", "pid", fmt.Sprint(b.pid), "config", b.config)
	b.told(path, "role_started", "role", "auth", "restarts", "0")
	b.told(path, "certificate", "number", "1")
	must(t, enter("tls://"+b.tls, nats.UserInfo("alice", "horse"), nats.Secure(b.clientTLS())))
	l := b.told(path, "login_accepted", "user", "alice", "kind", "password", "addr", "127.0.0.1")
	if cid, _ := l["cid"].(float64); cid == 0 || l["uid"] != nil {
		t.Errorf("%v", l)
	}
	b.refusedAs("unknown_user", nats.UserInfo("mal\x1b[31mlory\u009b\n", "horse"))
	b.told(path, "login_refused", "reason", "unknown_user", "user", "mal\x1b[31mlory\u009b\n")

	before := path + ".1"
	must(t, os.Rename(path, before))
	must(t, b.cmd.Process.Signal(syscall.SIGUSR1))
	await(t, "a new file", patience, func() bool {
		st, err := os.Stat(path)
		return err == nil && st.Mode().Perm() == 0o600
	})
	b.edit("[limits]\n", "[limits]\nmax_payload = \"none\"\n")
	b.reload("reload failed: everything stays as it is")
	if l := b.told(path, "reload_failed"); !strings.Contains(l["reason"].(string), "max_payload") {
		t.Errorf("%v", l)
	}
	b.edit("max_payload = \"none\"\n", "max_subscriptions = 10\n")
	b.reload("reloaded")
	b.told(path, "reload", "changed", "limits.max_subscriptions")
	b.told(path, "key_used", "key", "tls_server", "role", "cm/0", "signed", "1")
	b.told(path, "certificate", "number", "2")
	b.restart("router")
	b.told(path, "restart", "role", "router", "by", "router")
	b.told(path, "command", "command", "restart", "about", "router", "uid", fmt.Sprint(os.Getuid()))
	b.kill("auth")
	b.told(path, "role_died", "role", "auth", "reason", "signal killed")
	b.told(path, "role_started", "role", "auth", "restarts", "1")
	if st := b.status(); st.Audit == nil || st.Audit.To != path || st.Audit.Written < 10 || st.Audit.Lost != 0 {
		t.Errorf("status: %+v", st.Audit)
	}
	// Without it, and with it again, all while the broker runs.
	b.edit(fmt.Sprintf("audit = %q\n", path), "")
	b.reload("reloaded")
	b.told(path, "reload", "changed", "log.audit")
	n := len(b.auditLines(path))
	must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
	b.edit("[log]\n", fmt.Sprintf("[log]\naudit = %q\n", path))
	b.reload("reloaded")
	b.refusedAs("wrong_password", nats.UserInfo("alice", "battery"))
	b.told(path, "login_refused", "reason", "wrong_password", "user", "alice")
	for _, l := range b.auditLines(path)[n:] {
		if l["event"] == "login_accepted" {
			t.Errorf("while there was to be none: %v", l)
		}
	}
	b.stop(soon)
	b.told(path, "stop")
	lines := b.auditLines(path)
	if last := lines[len(lines)-1]; last["event"] != "stopped" {
		t.Errorf("the last one is %v", last)
	}
	for _, file := range []string{before, path} {
		text, err := os.ReadFile(file)
		must(t, err)
		if strings.Contains(string(text), "horse") || strings.ContainsFunc(string(text), func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
			t.Errorf("%s has a password, or what is no text:\n%s", file, text)
		}
	}
}

// A parent that goes on where another was killed says so, in the same file.
func TestAuditOfAdoption(t *testing.T) {
	t.Parallel()
	b, path := audited(t, settings{})
	first := b.pid
	left := b.orphan()
	b.succeed()
	b.told(path, "start", "pid", fmt.Sprint(first))
	b.told(path, "start", "pid", fmt.Sprint(b.pid))
	b.told(path, "role_adopted", "role", "router", "pid", fmt.Sprint(left["router"]))
	if out, err := b.upgrade(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.told(path, "upgrade_begun")
	b.told(path, "upgrade", "version", b.status().Version)
}

// Among the lines of the log they are marked, and the log's level does not matter.
func TestAuditOnStandardError(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{users: alice})
	b.edit("[log]\n", "[log]\naudit = \"stderr\"\n")
	b.start()
	b.edit("[log]\n", "[log]\nlevel = \"error\"\n")
	must(t, b.cmd.Process.Signal(syscall.SIGHUP))
	find := func(event string) *tree.Line {
		l := b.log.Await(0, patience, func(l *tree.Line) bool { return l.Fields["audit"] == true && l.Fields["event"] == event })
		if l == nil {
			t.Fatalf("no %s", event)
		}
		return l
	}
	find("reload")
	must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
	if l := find("login_accepted"); l.Fields["user"] != "alice" {
		t.Errorf("%s", l.Text)
	}
	if b.log.Find(0, "login", 0, "user", "alice") != nil {
		t.Error("the line of the log is there, too")
	}
}

// A broker that cannot write its audit log where it is told to does not start.
func TestAuditLogThatIsNotOurs(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{})
	path := filepath.Join(b.dir, "audit.log")
	must(t, os.WriteFile(path, nil, 0o666))
	must(t, os.Chmod(path, 0o666))
	b.edit("[log]\n", fmt.Sprintf("[log]\naudit = %q\n", path))
	out, err := exec.Command(gatehouse, "serve", "-c", b.config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "log.audit: "+path+": mode 0666 lets others write") {
		t.Errorf("%v: %s", err, out)
	}
}

// Whoever may read a configuration may check it: that the audit log is root's, and not for
// him, is as it has to be.
func TestCheckAuditOfRoot(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("as root only")
	}
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	config := filepath.Join(dir, "broker.toml")
	check := func(path string, mode os.FileMode, owner int) string {
		t.Helper()
		must(t, os.WriteFile(path, nil, mode))
		must(t, os.Chmod(path, mode))
		must(t, os.Chown(path, owner, owner))
		must(t, os.WriteFile(config, fmt.Appendf(nil, "[log]\naudit = %q\n", path), 0o644))
		cmd := exec.Command(gatehouse, "check", "-c", config)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	shut := filepath.Join(dir, "shut")
	must(t, os.Mkdir(shut, 0o700))
	for _, path := range []string{filepath.Join(dir, "a"), filepath.Join(shut, "a")} {
		if out := check(path, 0o600, 0); !strings.HasPrefix(out, "OK ") {
			t.Errorf("%s: %s", path, out)
		}
	}
	for name, out := range map[string]string{"belongs to uid 7": check(filepath.Join(dir, "b"), 0o600, 7), "lets others write": check(filepath.Join(dir, "c"), 0o666, 0)} {
		if !strings.Contains(out, name) {
			t.Errorf("%s: %s", name, out)
		}
	}
}
