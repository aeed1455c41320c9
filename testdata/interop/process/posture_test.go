package process

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatehouse/testdata/tree"
)

// What each role has open beside what every child has, on a broker with two
// cms, one TCP and one Unix listener, and one TCP connection on each cm.
var open = map[string]map[string]int{
	"router":     {"unix seqpacket": 1, "unix stream": 2, "segment": 35},
	"dispatcher": {"unix seqpacket": 3, "tcp listener": 1, "unix stream listener": 1, "segment": 27},
	"cm/0":       {"unix seqpacket": 2, "unix stream": 1, "tcp connection": 1, "socket of its own namespace": 4, "segment": 14},
	"cm/1":       {"unix seqpacket": 2, "unix stream": 1, "tcp connection": 1, "socket of its own namespace": 4, "segment": 14},
}

// everyChild: null device, log, the role's poller, the Go runtime's poller with
// its wake-up, and the socket at which a new parent would ask for it. The segments
// are those that it maps, and of the router more that it only holds.
var everyChild = map[string]int{"unix seqpacket listener": 1, "/dev/null": 2, "pipe": 1, "anon_inode:[eventpoll]": 2, "anon_inode:[eventfd]": 1}

// mapped is who maps which shared memory how: the single-writer rule. Each of two
// cms has two places.
var mapped = map[string]map[string]int{
	"router": {"ring_up_head rw-s": 4, "ring_down_data rw-s": 4, "ring_up_data r--s": 4, "ring_down_head r--s": 4,
		"named rw-s": 4, "returns r--s": 4, "router_state rw-s": 1, "sessions rw-s": 1, "conn_table r--s": 1},
	"dispatcher": {"conn_table rw-s": 1, "conn_columns r--s": 4},
	"cm/0":       cmMaps,
	"cm/1":       cmMaps,
}

var cmMaps = map[string]int{
	"ring_up_data rw-s": 1, "ring_down_head rw-s": 1, "conn_columns rw-s": 1, "arena rw-s": 1, "returns rw-s": 1,
	"ring_up_head r--s": 1, "ring_down_data r--s": 1, "arena r--s": 3, "returns r--s": 3, "named r--s": 1,
}

func TestPosture(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	b.client("")
	b.client("")
	now := b.processes()
	if want := []string{"cm/0", "cm/1", "dispatcher", "parent", "router"}; !slices.Equal(roles(now), want) {
		t.Fatalf("ps shows %v, want %v", roles(now), want)
	}
	if n := len(tree.ChildrenOf(b.pid)); n != 4 {
		t.Errorf("the parent has %d children", n)
	}
	uids := map[string]string{}
	for role, pid := range now {
		checkTimers(t, role, pid)
		if role == "parent" {
			continue
		}
		t.Run(role, func(t *testing.T) {
			uid := checkTasks(t, pid)
			if other, ok := uids[uid]; ok {
				t.Errorf("has uid %s, as has %s", uid, other)
			}
			uids[uid] = role
			checkOpen(t, role, pid)
			checkRoot(t, b, pid)
			checkEnviron(t, pid)
		})
	}
	checkStatus(t, b, now)
	checkRunDir(t, b, now)
}

// checkTimers wants every thread of a process, those of the runtime too, to take it
// easy with timers: in nanoseconds.
func checkTimers(t *testing.T, role string, pid int) {
	for _, task := range tree.Tasks(pid) {
		slack, err := os.ReadFile("/proc/" + task["Pid"] + "/timerslack_ns")
		if text := strings.TrimSpace(string(slack)); err != nil || text != "1000000" {
			t.Errorf("%s, thread %s: timer slack %q, %v", role, task["Pid"], text, err)
		}
	}
}

// checkTasks looks at every thread and returns the uid of them all.
func checkTasks(t testing.TB, pid int) (uid string) {
	t.Helper()
	all := tree.Tasks(pid)
	if len(all) == 0 {
		t.Fatal("no thread")
	}
	uid, _, _ = strings.Cut(all[0]["Uid"], " ")
	if uid == "0" {
		t.Error("runs as root")
	}
	four := strings.Join([]string{uid, uid, uid, uid}, " ")
	want := map[string]string{"Uid": four, "Gid": four, "Groups": "", "NoNewPrivs": "1", "Seccomp": "2", "Name": "gatehouse"}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want[set] = "0000000000000000"
	}
	for _, task := range all {
		for key, value := range want {
			if got, ok := task[key]; !ok || got != value {
				t.Errorf("thread %s: %s is %q, want %q", task["Pid"], key, got, value)
			}
		}
	}
	return uid
}

func checkOpen(t *testing.T, role string, pid int) {
	got, err := tree.Descriptors(pid, tree.Sockets())
	must(t, err)
	want := maps.Clone(everyChild)
	maps.Copy(want, open[role])
	if !maps.Equal(got, want) {
		t.Errorf("has open %v\nwant     %v", got, want)
	}
	shared, err := tree.Mappings(pid)
	must(t, err)
	if !maps.Equal(shared, mapped[role]) {
		t.Errorf("maps %v\nwant %v", shared, mapped[role])
	}
}

// checkRoot wants an empty directory that is not the process's own as root and
// working directory.
func checkRoot(t *testing.T, b *broker, pid int) {
	for _, link := range []string{"root", "cwd"} {
		path := fmt.Sprintf("/proc/%d/%s", pid, link)
		if to, err := os.Readlink(path); err != nil || to != filepath.Join(b.run, "empty") {
			t.Errorf("%s is %s, %v", link, to, err)
		}
	}
	dir := fmt.Sprintf("/proc/%d/root/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("root directory holds %v, %v", entries, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o555 {
		t.Errorf("root directory: %v, %v", st.Mode(), err)
	}
}

// checkEnviron lets nothing of the parent's environment through but what
// steers the Go runtime.
func checkEnviron(t *testing.T, pid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	must(t, err)
	for _, entry := range strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00") {
		key, _, _ := strings.Cut(entry, "=")
		if !slices.Contains([]string{"GODEBUG", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GOTRACEBACK"}, key) {
			t.Errorf("environment has %s", entry)
		}
	}
}

// checkStatus wants the operator to be told the same.
func checkStatus(t *testing.T, b *broker, now map[string]int) {
	st := b.status()
	if !st.Root || len(st.Processes) != len(now) {
		t.Errorf("status: root %v, %d processes", st.Root, len(st.Processes))
	}
	for _, p := range st.Processes {
		child := p.Role != "parent"
		if p.PID != now[p.Role] || p.State != "running" || p.Restarts != 0 || p.Memory == 0 ||
			!p.NoNewPrivs || p.NoCaps != child || (p.UID != 0) != child {
			t.Errorf("status: %+v", p)
		}
	}
}

// checkRunDir wants the files of the runtime directory for root alone, and the
// registry to name every child.
func checkRunDir(t *testing.T, b *broker, now map[string]int) {
	modes := map[string]os.FileMode{"lock": 0o600, "registry": 0o600, "control": os.ModeSocket | 0o600, "empty": os.ModeDir | 0o555, "adopt": os.ModeDir | 0o700}
	entries, err := os.ReadDir(b.run)
	must(t, err)
	for _, e := range entries {
		if st, err := e.Info(); err != nil || st.Mode() != modes[e.Name()] {
			t.Errorf("%s: mode %v, want %v", e.Name(), st.Mode(), modes[e.Name()])
		}
	}
	if len(entries) != len(modes) {
		t.Errorf("%d entries in the runtime directory, want %d", len(entries), len(modes))
	}
	registry, err := os.ReadFile(filepath.Join(b.run, "registry"))
	must(t, err)
	for role, pid := range now {
		if role != "parent" && strings.Count(string(registry), fmt.Sprintf("\n%s pid=%d ", role, pid)) != 1 {
			t.Errorf("registry does not name %s, pid %d:\n%s", role, pid, registry)
		}
	}
}
