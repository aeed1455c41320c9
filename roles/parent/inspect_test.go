package parent

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// self is this process as the kernel names who has connected.
func self(t *testing.T) privsep.Process {
	t.Helper()
	if lacks := privsep.CheckPeerProcess(); lacks != "" {
		t.Skip("SKIP needs " + lacks)
	}
	a, b, err := privsep.Doorbell()
	must(t, err)
	defer privsep.CloseFD(a)
	defer privsep.CloseFD(b)
	p := privsep.PeerProcess(a, true)
	if int(p.PID) != os.Getpid() || int(p.UID) != os.Geteuid() || p.PidIno == 0 {
		t.Fatalf("connected is %+v", p)
	}
	return p
}

func TestLook(t *testing.T) {
	me := self(t)
	exe, err := os.Executable()
	must(t, err)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(exe, link))
	own := privsep.ProcessRule{ByUID: true, UID: me.UID}
	rule := func(path string, sum bool) privsep.ProcessRule {
		r := own
		r.Executable, r.BySum = path, sum
		return r
	}
	other := rule(exe, true)
	other.UID++
	for _, tt := range []struct {
		name  string
		rules []privsep.ProcessRule
		paths []string
		seen  bool // the executable, and
		file  bool // it is handed over
	}{
		{"no rule", nil, nil, false, false},
		{"uid alone", []privsep.ProcessRule{own}, nil, false, false},
		{"of others", []privsep.ProcessRule{other}, nil, false, false},
		{"path", []privsep.ProcessRule{rule(exe, false)}, []string{exe}, true, false},
		{"two names", []privsep.ProcessRule{rule(exe, false), rule(link, false), rule(exe, false)}, []string{exe, link}, true, false},
		{"another path", []privsep.ProcessRule{rule("/bin/true", true)}, nil, true, false},
		{"no path", []privsep.ProcessRule{rule("/no/such/file", true)}, nil, true, false},
		{"a folder", []privsep.ProcessRule{rule("/", true)}, nil, true, false},
		{"path and sum", []privsep.ProcessRule{rule(exe, true)}, []string{exe}, true, true},
		{"sum alone", []privsep.ProcessRule{rule("", true)}, nil, true, true},
	} {
		for _, wants := range []bool{false, true} {
			i := look(&privsep.Inspect{ID: 7, File: wants, Process: me}, tt.rules, false)
			a := i.answer
			slices.Sort(tt.paths)
			if a.ID != 7 || a.Reason != privsep.ReasonNone || i.err != nil || a.Start == 0 || (a.Ino != 0) != tt.seen || (a.Link == exe) != tt.seen ||
				!slices.Equal(a.Executables, tt.paths) {
				t.Errorf("%s: %+v, %v", tt.name, a, i.err)
			}
			if (i.file >= 0) != (tt.file && wants) {
				t.Errorf("%s: handed over %d, asked %v", tt.name, i.file, wants)
			}
			if i.file >= 0 {
				privsep.CloseFD(i.file)
			}
		}
	}
}

// A caller of tlsd may be of a rule's group by any of its groups; who logs in, by its own
// alone.
func TestLookByGroup(t *testing.T) {
	me := self(t)
	exe, err := os.Executable()
	must(t, err)
	groups, err := os.Getgroups()
	must(t, err)
	groups = slices.DeleteFunc(groups, func(g int) bool { return g == int(me.GID) })
	if len(groups) == 0 {
		t.Skip("SKIP needs a second group")
	}
	rules := []privsep.ProcessRule{{ByGID: true, GID: uint32(groups[0]), Executable: exe}}
	for _, any := range []bool{true, false} {
		i := look(&privsep.Inspect{ID: 7, Process: me}, rules, any)
		if a := i.answer; a.Reason != privsep.ReasonNone || slices.Contains(a.Executables, exe) != any || (a.Ino != 0) != any {
			t.Errorf("any group %v: %+v, %v", any, a, i.err)
		}
	}
	mine := tlsPolicy{TLSPolicy: privsep.TLSPolicy{Open: []privsep.TLSGrant{{To: privsep.GrantAll}, {To: privsep.GrantUID, ID: 1, Executable: "/a"}},
		Read: []privsep.TLSGrant{{To: privsep.GrantUID, ID: 2}}, Admin: []privsep.TLSGrant{{To: privsep.GrantGID, ID: 3, Executable: "/b"}}}}
	want := []privsep.ProcessRule{{ByUID: true, UID: 1, Executable: "/a"}, {ByGID: true, GID: 3, Executable: "/b"}}
	if got := mine.callerRules(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// Of another process than the one that has connected nothing is told.
func TestLookAtOthers(t *testing.T) {
	me := self(t)
	all := []privsep.ProcessRule{{ByUID: true, UID: me.UID, BySum: true, SHA256: sha256.Sum256(nil)}}
	c := exec.Command("/bin/cat")
	in, err := c.StdinPipe()
	must(t, err)
	must(t, c.Start())
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	unix.Close(fd)
	cat := privsep.Process{PID: uint32(c.Process.Pid), UID: me.UID, GID: me.GID, PidIno: st.Ino}
	for _, tt := range []struct {
		name   string
		change func(*privsep.Process)
		want   privsep.Reason
	}{
		{"as it is", func(*privsep.Process) {}, privsep.ReasonNone},
		{"without a pid", func(p *privsep.Process) { p.PID = 0 }, privsep.ReasonProcessUnknown},
		{"without an inode", func(p *privsep.Process) { p.PidIno = 0 }, privsep.ReasonProcessUnknown},
		{"of another inode", func(p *privsep.Process) { p.PidIno = me.PidIno }, privsep.ReasonProcessGone},
		{"another pid", func(p *privsep.Process) { p.PID = me.PID }, privsep.ReasonProcessGone},
		{"no pid", func(p *privsep.Process) { p.PID = 1 << 31 }, privsep.ReasonProcessGone},
		{"another uid", func(p *privsep.Process) { p.UID++ }, privsep.ReasonProcessChanged},
		{"another gid", func(p *privsep.Process) { p.GID++ }, privsep.ReasonProcessChanged},
		{"at its end", func(*privsep.Process) { in.Close(); waitZombie(t, cat.PID) }, privsep.ReasonProcessGone},
		{"after it", func(*privsep.Process) { c.Wait() }, privsep.ReasonProcessGone},
	} {
		p := cat
		tt.change(&p)
		i := look(&privsep.Inspect{ID: 7, File: true, Process: p}, all, false)
		if i.answer.Reason != tt.want || (i.file >= 0) != (tt.want == privsep.ReasonNone) {
			t.Errorf("%s: %v, file %d, %v", tt.name, i.answer.Reason, i.file, i.err)
		}
		if i.file >= 0 {
			privsep.CloseFD(i.file)
		}
	}
}

// waitZombie waits for the end of a child, which it leaves to be waited for.
func waitZombie(t *testing.T, pid uint32) {
	t.Helper()
	must(t, unix.Waitid(unix.P_PID, int(pid), nil, unix.WEXITED|unix.WNOWAIT, nil))
}

// What hinders callers of tlsd is said where a right is a program's, and of logins
// nothing then.
func TestHindersCallers(t *testing.T) {
	c := &Config{TLSD: TLSDConfig{Socket: "s"}, TLSSessions: []TLSSessionConfig{{Open: []string{"*"}, Admin: []string{"0", "%0:/bin/x"}}}}
	if !c.looksAtProcesses() || c.looksAtUsers() {
		t.Error("nobody is to be looked at")
	}
	for want, w := range map[string]inspections{
		"no caller of tlsd is known by its executable: this kernel has no x":                      {lacks: "x", blind: true},
		"no caller of tlsd is known by its executable: the parent lacks CAP_SYS_PTRACE, which it": {blind: true},
	} {
		if h := w.hinders(c); h[0] != "" || !strings.HasPrefix(h[1], want) {
			t.Errorf("%q, want %q", h, want)
		}
	}
	blind := inspections{lacks: "x", blind: true}
	for _, change := range []func(){func() { c.TLSD.Socket = "" }, func() { c.TLSD.Socket, c.TLSSessions[0].Admin = "s", nil }} {
		if change(); c.looksAtProcesses() || blind.hinders(c) != (hindrances{}) {
			t.Errorf("hindered: %q", blind.hinders(c))
		}
	}
}
