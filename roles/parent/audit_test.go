package parent

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"gatehouse/privsep"
)

// auditEvents has one of each.
var auditEvents = []auditEvent{
	&auditStart{}, &auditStop{}, &auditStopped{}, &auditRoleStarted{}, &auditRoleAdopted{}, &auditAdoptionRefused{}, &auditRoleDied{},
	&auditRoleAccused{}, &auditImpostor{}, &auditOffence{}, &auditRestart{}, &auditRestartFailed{}, &auditUpgradeBegun{}, &auditUpgrade{},
	&auditUpgradeFailed{}, &auditReload{}, &auditReloadFailed{}, &auditCertificate{}, &auditKeyUsed{}, &auditKeyReleased{},
	&auditTicketIssued{}, &auditTicketRefused{}, &auditTicketUsed{}, &auditLoginAccepted{}, &auditLoginRefused{}, &auditDenied{}, &auditCommand{}, &auditKick{}, &auditLost{},
}

func TestAuditEventsAreAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "audit_events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "event" {
			n++
		}
	}
	if n != len(auditEvents) {
		t.Errorf("there are %d events, and %d in this test", n, len(auditEvents))
	}
}

// auditFields are the fields of an event as gatehouse(8) has them.
func auditFields(of reflect.Type) (fields []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			fields = append(fields, auditFields(f.Type)...)
			continue
		}
		name, optional, _ := strings.Cut(f.Tag.Get("json"), ",")
		if optional != "" {
			name = "[" + name + "]"
		}
		fields = append(fields, name)
	}
	return fields
}

// The manual page has every event, in the order of the code, and its fields.
func TestManualHoldsEveryAuditEvent(t *testing.T) {
	b, err := os.ReadFile("../../packaging/man/gatehouse.8")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(b), "\n.Sh AUDIT LOG\n")
	page, _, _ = strings.Cut(page, "\n.Sh ")
	var got, want []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Li ([a-z_]+)(?: Pq (.+))?$`).FindAllStringSubmatch(page, -1) {
		got = append(got, m[1]+": "+m[2])
	}
	for _, e := range auditEvents {
		want = append(want, e.event()+": "+strings.Join(auditFields(reflect.TypeOf(e).Elem()), ", "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("gatehouse(8) has\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func auditLines(t *testing.T, path string) (events []string, lines []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil || !strings.HasSuffix(line, "\n") {
			t.Errorf("%q: %v", line, err)
			continue
		}
		events, lines = append(events, l["event"].(string)), append(lines, l)
	}
	return events, lines
}

func openTestAudit(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := openAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAuditLogIsAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := newAuditLog(path, "b", openTestAudit(t, path), func() {})
	a.add(&auditKick{CID: 7, Role: "cm/0"})
	a.flush()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	a.reopen(path, openTestAudit(t, path))
	a.add(&auditReload{Changed: "log.audit"})
	a.close()
	if events, lines := auditLines(t, path+".1"); !slices.Equal(events, []string{"kick"}) || lines[0]["cid"] != 7.0 || lines[0]["broker"] != "b" || lines[0]["audit"] != nil {
		t.Errorf("before the rotation: %v", lines)
	}
	if events, _ := auditLines(t, path); !slices.Equal(events, []string{"reload"}) {
		t.Errorf("after it: %v", events)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	// A parent that was killed in the middle of a line.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"time":`)
	f.Close()
	a = newAuditLog(path, "b", openTestAudit(t, path), func() {})
	a.add(&auditStop{})
	a.close()
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, []byte("\n{\"time\":\n{\"time\":")) {
		t.Errorf("%v: a line goes on with another:\n%s", err, b)
	}
}

// A disk that does not take anything is waited for by nobody, and what is lost is counted.
func TestAuditLogWaitsForNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := newAuditLog("/log", "b", w, func() {})
	added := uint64(0)
	for ; a.report().Lost < 100; added++ {
		a.add(&auditReloadFailed{Reason: strings.Repeat("r", 100)})
	}
	lost := a.report().Lost
	read := make(chan []byte)
	go func() {
		var b bytes.Buffer
		b.ReadFrom(r)
		read <- b.Bytes()
	}()
	a.flush()
	a.add(&auditStop{})
	a.close()
	text := <-read
	told := uint64(0)
	for line := range bytes.Lines(text) {
		var l struct {
			Event string
			N     uint64
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		told += l.N
	}
	if n := uint64(bytes.Count(text, []byte("reload_failed"))); n+lost != added || told != lost {
		t.Errorf("%d added, %d written, %d lost, of which the log tells %d", added, n, lost, told)
	}
}

// A full disk costs lines and nothing else; it is said when it begins and when it is over.
func TestAuditLogFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	knocks := make(chan struct{}, 10)
	a := newAuditLog("/log", "b", full, func() { knocks <- struct{}{} })
	a.add(&auditStop{})
	a.add(&auditStop{})
	a.flush()
	if r := a.report(); r.Lost != 2 || !strings.Contains(r.Error, "no space") || len(knocks) != 1 {
		t.Errorf("%+v, said %d times", r, len(knocks))
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	a.reopen(path, openTestAudit(t, path))
	a.add(&auditStopped{})
	a.close()
	events, lines := auditLines(t, path)
	if r := a.report(); !slices.Equal(events, []string{"audit_lost", "stopped"}) || lines[0]["n"] != 2.0 || r.Error != "" || len(knocks) != 2 {
		t.Errorf("%v, %+v, said %d times", lines, r, len(knocks))
	}
}

func TestAuditFileIsOurs(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, make := range map[string]func(string) error{
		"link": func(p string) error { return os.Symlink("/dev/null", p) },
		"fifo": func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"open to all": func(p string) error {
			if err := os.WriteFile(p, nil, 0o600); err != nil {
				return err
			}
			return os.Chmod(p, 0o622)
		},
		"folder":         func(p string) error { return os.Mkdir(p, 0o700) },
		"no/such/folder": func(string) error { return nil },
		"another's": func(p string) error {
			if err := os.WriteFile(p, nil, 0o600); err != nil || os.Geteuid() != 0 {
				return os.Chmod(p, 0o622)
			}
			return os.Chown(p, 65534, 65534)
		},
	} {
		if err := make(file(name)); err != nil {
			t.Fatal(err)
		}
		if f, err := openAudit(file(name)); err == nil {
			f.Close()
			t.Errorf("%s is written to", name)
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a client says, a line is one line of ASCII, and says the same.
func FuzzAuditText(f *testing.F) {
	for _, s := range []string{"alice", "a\nb", "\x1b[2J", "\u009b2J", "\u2028", "\u202e", "\xff\xfe", "\U0001F600", "\"\\\x7f", "</script>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := &auditLoginRefused{Reason: s, auditLogin: auditLogin{User: s}}
		line := auditText(AuditStderr, s, e)
		if bytes.Count(line, []byte("\n")) != 1 || bytes.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q", line)
		}
		var got struct {
			Audit               bool
			Event, Broker, Time string
			User, Reason        string
		}
		want := strings.ToValidUTF8(s, "\ufffd")
		if !utf8.ValidString(s) {
			want = string([]rune(s)) // one for each byte
		}
		if err := json.Unmarshal(line, &got); err != nil || got.User != want || got.Reason != want || got.Broker != want || !got.Audit || got.Event != "login_refused" {
			t.Fatalf("%v: %q is %+v", err, line, got)
		}
		if _, err := time.Parse(auditTime, got.Time); err != nil {
			t.Fatal(err)
		}
	})
}

// What auth says of logins becomes lines; anything else is an offence.
func TestAuditFromAuth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	p := &parent{cfg: Defaults(), audit: newAuditLog(path, "b", openTestAudit(t, path), func() {})}
	c := &child{id: privsep.ID{Role: privsep.RoleAuth}}
	say := func(payload []byte) error { return p.auditFrom(c, &privsep.Message{Payload: payload}) }
	accepted := []byte("\x01\x03\x00\x00\x00\x05login\x04" +
		"\x05\x01\x07\x00\x00\x00\x00\x00\x00\x00" + // cid
		"\x0e\x00\x05alice" + "\x10\x00\x02t1" + "\x07\x00\x04orgb")
	if err := say(accepted); err != nil {
		t.Fatal(err)
	}
	refused := []byte("\x01\x00\x00\x00\x00\x0dlogin refused\x02" + "\x12\x01\x00\x00\x00\x00\x00\x00\x00\x00" + "\x09\x00\x0ewrong_password")
	if err := say(refused); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "\x01\x00\x00\x00\x00\x05logon\x00", "\x01\x00\x00\x00\x00\x05login\x01"} {
		if say([]byte(bad)) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if n := p.audit.report().Lost; n != 3 {
		t.Errorf("%d lost", n)
	}
	p.endAudit()
	events, lines := auditLines(t, path)
	if !slices.Equal(events, []string{"login_accepted", "ticket_used", "login_refused"}) {
		t.Fatalf("%v", events)
	}
	if l := lines[0]; l["cid"] != 7.0 || l["user"] != "alice" || l["ticket"] != "t1" || l["from"] != "orgb" || l["omitted"] != 3.0 || l["uid"] != nil {
		t.Errorf("%v", l)
	}
	if l := lines[2]; l["uid"] != 0.0 || l["reason"] != "wrong_password" || l["omitted"] != nil {
		t.Errorf("%v", l)
	}
	if say(accepted) != nil {
		t.Error("one that comes after the end is an offence")
	}
}

func TestUsesOfKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	p := &parent{cfg: Defaults(), audit: newAuditLog(path, "b", openTestAudit(t, path), func() {})}
	cm := &child{id: privsep.ID{Role: privsep.RoleCM, Index: 1}, proc: &privsep.Child{PID: 5}}
	for i := range 1000 {
		p.usedKey(keyServer, cm, i%10 != 0)
	}
	p.usesByTime(p.usesDue().Add(-time.Millisecond))
	p.audit.flush()
	if events, _ := auditLines(t, path); len(events) != 0 {
		t.Errorf("before its time: %v", events)
	}
	p.usesByTime(p.usesDue())
	if !p.usesDue().IsZero() {
		t.Error("there is still something to be told")
	}
	p.endAudit()
	_, lines := auditLines(t, path)
	if len(lines) != 1 || lines[0]["signed"] != 900.0 || lines[0]["refused"] != 100.0 || lines[0]["role"] != "cm/1" || lines[0]["pid"] != 5.0 || lines[0]["key"] != keyServer {
		t.Errorf("%v", lines)
	}
}
