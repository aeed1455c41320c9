package auth

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// client is the process of most tests.
var client = privsep.Process{PID: 4711, UID: 1000, GID: 100, PidIno: 99}

func byUID(uid uint32) privsep.ProcessRule { return privsep.ProcessRule{ByUID: true, UID: uid} }

func sumOfText(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// programs are users who are processes.
func programs() []privsep.User {
	pricer := byUID(1000)
	pricer.Executable = "/usr/bin/pricer"
	sealed := pricer
	sealed.BySum, sealed.SHA256 = true, sumOfText("pricer 2")
	group := privsep.ProcessRule{ByGID: true, GID: 200}
	both := byUID(3000)
	both.ByGID, both.GID = true, 200
	reader := byUID(4000)
	reader.BySum, reader.SHA256 = true, sumOfText("reader")
	other := byUID(5000)
	grouped := privsep.ProcessRule{ByGID: true, GID: 500}
	return []privsep.User{
		{Mark: 1, Name: "shell", Process: byUID(1000), Profile: "small"},
		{Mark: 2, Name: "pricer", Process: pricer, Organisation: "ORGA"},
		{Mark: 3, Name: "sealed", Process: sealed},
		{Mark: 4, Name: "group", Process: group},
		{Mark: 5, Name: "both", Process: both},
		{Mark: 6, Name: "reader", Process: reader},
		{Mark: 7, Name: "other", Process: other},
		{Mark: 8, Name: "grouped", Process: grouped},
		{Mark: 9, Name: "alice", Password: horse},
	}
}

func TestRunBy(t *testing.T) {
	users, err := newUsers(programs(), nil, approval{})
	must(t, err)
	const path = "/usr/bin/pricer"
	sum := func(s string) *[32]byte { b := sumOfText(s); return &b }
	for _, tt := range []struct {
		name     string
		uid, gid uint32
		paths    []string
		sum      *[32]byte
		want     string
	}{
		{"uid alone", 1000, 100, nil, nil, "shell"},
		{"another path", 1000, 100, []string{"/usr/bin/other"}, nil, "shell"},
		{"the path", 1000, 100, []string{path}, sum("pricer 1"), "pricer"},
		{"one of its names", 1000, 100, []string{"/a", path}, sum("pricer 1"), "pricer"},
		{"path and sum", 1000, 100, []string{path}, sum("pricer 2"), "sealed"},
		{"the sum at another path", 1000, 100, nil, sum("pricer 2"), "shell"},
		{"gid alone", 2000, 200, nil, nil, "group"},
		{"uid and gid", 3000, 200, nil, nil, "both"},
		{"uid without gid", 3000, 100, nil, nil, "process_nobody"},
		{"the sum", 4000, 100, nil, sum("reader"), "reader"},
		{"another sum", 4000, 100, nil, sum("writer"), "process_digest"},
		{"no sum", 4000, 100, nil, nil, "process_digest"},
		{"another uid", 1001, 100, []string{path}, sum("pricer 2"), "process_nobody"},
		{"uid of one, gid of another", 5000, 500, nil, nil, "process_ambiguous"},
	} {
		who := privsep.Process{PID: 1, UID: tt.uid, GID: tt.gid, PidIno: 1}
		u, reason := users.runBy(&who, &privsep.Sight{Start: 1, Executables: tt.paths}, tt.sum)
		got := reason.String()
		if u != nil {
			got = u.name
		}
		if got != tt.want || (u == nil) != (reason != privsep.ReasonNone) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// processRig is auth whose parent says what the test has it say.
func processRig(t *testing.T) *rig {
	return newRig(t, programs(), func(set *privsep.Setup) {
		set.Settings.Login.Kinds = set.Settings.Login.Kinds.With(privsep.CredentialProcess).With(privsep.CredentialPassword)
	})
}

// comes asks as a process at a Unix socket.
func (g *rig) comes(who privsep.Process, json string) (try uint32) {
	g.t.Helper()
	g.tries++
	l := privsep.Login{ID: uint64(g.tries) << 10, Try: g.tries, Unix: true, Challenge: challenge, Process: who, JSON: []byte(json)}
	must(g.t, g.router.SendWait(patience, privsep.KindLogin, l.Append(nil)))
	return g.tries
}

// question is what auth asks its parent.
func (g *rig) question() (q privsep.Inspect) {
	g.t.Helper()
	for {
		must(g.t, g.parent.RecvWait(&g.msg, patience))
		if g.msg.Kind == privsep.KindInspect {
			must(g.t, q.Parse(g.msg.Payload))
			return q
		}
		l, err := privsep.DecodeLog(g.msg.Payload)
		must(g.t, err)
		g.lines = append(g.lines, l)
	}
}

// answer is the parent's, with a file of that content if there is a path.
func (g *rig) answer(a privsep.Inspected, path string) {
	g.t.Helper()
	if path == "" {
		must(g.t, g.parent.SendWait(patience, privsep.KindInspected, a.Append(nil)))
		return
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(g.t, err)
	defer unix.Close(fd)
	must(g.t, g.parent.SendWait(patience, privsep.KindInspectedFile, a.Append(nil), fd))
}

func (g *rig) wants(what, user string, reason privsep.Reason) {
	g.t.Helper()
	if v := g.next(); v.User != user || v.Reason != reason || v.Credential != privsep.CredentialProcess {
		g.t.Errorf("%s: %+v", what, v)
	}
}

func executable(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	must(t, os.WriteFile(path, []byte(content), 0o755))
	return path
}

func TestProcessVerdicts(t *testing.T) {
	g := processRig(t)
	seen := privsep.Sight{Start: 7, Dev: 1, Ino: 2, Link: "/usr/bin/pricer", Executables: []string{"/usr/bin/pricer"}}

	g.comes(client, `{}`)
	q := g.question()
	if q.Process != client || !q.File {
		t.Errorf("asked %+v", q)
	}
	g.answer(privsep.Inspected{ID: q.ID, Sight: seen}, "")
	g.wants("without a file", "pricer", privsep.ReasonNone)

	// One program that is refused again and again keeps no other of its uid out.
	for _, reason := range []privsep.Reason{privsep.ReasonProcessUnknown, privsep.ReasonProcessGone, privsep.ReasonProcessChanged,
		privsep.ReasonProcessUnreadable, privsep.ReasonCrowded} {
		g.comes(client, `{}`)
		g.answer(privsep.Inspected{ID: g.question().ID, Reason: reason}, "")
		g.wants("the parent's word", "", reason)
	}

	two := executable(t, "pricer 2")
	g.comes(client, `{}`)
	g.answer(privsep.Inspected{ID: g.question().ID, Sight: seen}, two)
	if q = g.question(); q.Process != client || q.File {
		t.Errorf("asked again %+v", q)
	}
	g.answer(privsep.Inspected{ID: q.ID, Sight: seen}, "")
	g.wants("with the right content", "sealed", privsep.ReasonNone)

	g.comes(client, `{}`)
	g.answer(privsep.Inspected{ID: g.question().ID, Sight: seen}, executable(t, "pricer 3"))
	g.answer(privsep.Inspected{ID: g.question().ID, Sight: seen}, "")
	g.wants("with another content", "pricer", privsep.ReasonNone)

	for name, change := range map[string]func(*privsep.Inspected){
		"another file":  func(a *privsep.Inspected) { a.Ino++ },
		"another start": func(a *privsep.Inspected) { a.Start++ },
		"another name":  func(a *privsep.Inspected) { a.Executables = nil },
	} {
		g.comes(client, `{}`)
		g.answer(privsep.Inspected{ID: g.question().ID, Sight: seen}, two)
		again := privsep.Inspected{ID: g.question().ID, Sight: seen}
		change(&again)
		g.answer(again, "")
		g.wants(name, "", privsep.ReasonProcessChanged)
	}
	g.comes(client, `{}`)
	g.answer(privsep.Inspected{ID: g.question().ID, Sight: seen}, two)
	g.answer(privsep.Inspected{ID: g.question().ID, Reason: privsep.ReasonProcessGone}, "")
	g.wants("gone meanwhile", "", privsep.ReasonProcessGone)

	g.comes(privsep.Process{}, `{}`)
	g.wants("of whom nothing is known", "", privsep.ReasonProcessUnknown)

	// What a client shows is what counts.
	g.comes(privsep.Process{PID: 1, UID: 6000, PidIno: 1}, `{"user":"alice","pass":"horse"}`)
	if v := g.next(); !v.OK || v.User != "alice" {
		t.Errorf("by password: %+v", v)
	}
	g.comes(client, `{"user":"alice","pass":"mule"}`)
	if v := g.next(); v.OK || v.Reason != privsep.ReasonWrongPassword {
		t.Errorf("by a wrong password: %+v", v)
	}
	if v := g.login(9, `{}`); v.Reason != privsep.ReasonNoCredential {
		t.Errorf("by TCP: %+v", v)
	}
	g.stats()
	for _, l := range g.lines {
		for _, f := range l.Fields {
			if f.Key == privsep.KeyExecutable && f.Text == "/usr/bin/pricer" {
				return
			}
		}
	}
	t.Error("no line names an executable")
}

// A parent that says nothing is waited for as long as a client may take.
func TestProcessLate(t *testing.T) {
	g := newRig(t, programs(), func(set *privsep.Setup) {
		set.Settings.Login.Kinds = set.Settings.Login.Kinds.With(privsep.CredentialProcess)
		set.Settings.AuthTimeout = 50 * time.Millisecond
	})
	g.comes(client, `{}`)
	q := g.question()
	g.wants("without an answer", "", privsep.ReasonLate)
	g.answer(privsep.Inspected{ID: q.ID, Sight: privsep.Sight{Start: 1}}, executable(t, "late")) // is nothing any more
	g.comes(client, `{}`)
	g.answer(privsep.Inspected{ID: g.question().ID, Sight: privsep.Sight{Start: 1}}, "")
	g.wants("after that", "shell", privsep.ReasonNone)
}

func contentAt(t *testing.T, path string) *privsep.Content {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	c, err := privsep.TakeContent(fd)
	must(t, err)
	return c
}

// An executable is read once, however many ask, unless it may have changed unseen.
func TestDigests(t *testing.T) {
	var d digests
	written := time.Now()
	path := executable(t, "some text")
	var all sync.WaitGroup
	for range 20 {
		c := contentAt(t, path)
		all.Go(func() {
			if sum, _, err := d.of(c, time.Now().Add(patience)); err != nil || sum != sumOfText("some text") {
				t.Errorf("%x, %v", sum, err)
			}
		})
	}
	all.Wait()
	if len(d.known) != 0 && time.Since(written) < youngContent {
		t.Errorf("%d that are young are remembered", len(d.known))
	}
	c := contentAt(t, "../../go.mod") // older than this test
	known := &digest{done: make(chan struct{}), sum: sumOfText("known")}
	close(known.done)
	d.known[c.State()] = known
	if sum, waited, err := d.of(c, time.Now()); err != nil || waited || sum != known.sum {
		t.Errorf("what is known: %x, %v, %v", sum, waited, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running != 0 {
		t.Errorf("%d are being read", d.running)
	}
}

// Only so many are read at a time, and who waits too long goes.
func TestDigestsBounds(t *testing.T) {
	var d digests
	d.running = mostReaders
	if _, _, err := d.of(contentAt(t, executable(t, "a")), time.Now().Add(patience)); err != errReaders {
		t.Errorf("%v", err)
	}
	d.running = 0
	c := contentAt(t, executable(t, "a"))
	d.known = map[privsep.ContentState]*digest{c.State(): {done: make(chan struct{})}}
	if _, _, err := d.of(c, time.Now()); err != errLate {
		t.Errorf("%v", err)
	}
}
