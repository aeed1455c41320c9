package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/testdata/tree"
)

// edit is a change of a source file of the program.
type edit struct{ file, from, to string }

// build makes another binary, with a version and changed sources, at path.
func build(t testing.TB, path, version string, edits ...edit) {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	must(t, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	dir := t.TempDir()
	for i, e := range edits {
		from := filepath.Join(root, e.file)
		text, err := os.ReadFile(from)
		must(t, err)
		if !bytes.Contains(text, []byte(e.from)) {
			t.Fatalf("%s does not hold %q", e.file, e.from)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		must(t, os.WriteFile(to, bytes.Replace(text, []byte(e.from), []byte(e.to), 1), 0o644))
		overlay.Replace[from] = to
	}
	list, err := json.Marshal(overlay)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o644))
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"),
		"-ldflags", "-X main.version="+version, "-o", path, ".")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
}

// startCopy runs a broker from a binary of its own, which can be replaced.
func startCopy(t testing.TB, s settings) *broker {
	t.Helper()
	b := newBroker(t, s)
	b.binary = filepath.Join(b.dir, "gatehouse")
	copyFile(t, gatehouse, b.binary)
	b.start()
	return b
}

// copyFile replaces to by a copy, as an installer does.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	must(t, err)
	// A child that another test starts in between would have the file open for writing
	// until it executes, and nobody could execute it.
	syscall.ForkLock.RLock()
	err = os.WriteFile(to+".new", text, 0o755)
	syscall.ForkLock.RUnlock()
	must(t, err)
	must(t, os.Rename(to+".new", to))
}

// upgrade asks for it and returns what the operator is told.
func (b *broker) upgrade(args ...string) (text string, err error) {
	b.t.Helper()
	out, err := exec.Command(gatehouse, append([]string{"upgrade", "--runtime-dir", b.run}, args...)...).CombinedOutput()
	b.tree()
	return string(out), err
}

// The broker goes on with another binary, again and again, while clients talk and
// others come: one process, every other a new one, nothing lost, nobody dropped or
// refused.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	b := startCopy(t, settings{cms: 2, tls: "sign"})
	calm := startCalm(t, b.on("cm/0"), b.on("cm/1"), 0)
	idle := b.client("SUB x 1\r\n")
	next := filepath.Join(t.TempDir(), "next")
	build(t, next, "next")
	var stop atomic.Bool
	var comers sync.WaitGroup
	var came atomic.Int64
	comers.Go(func() {
		for !stop.Load() {
			c, err := b.dialTLS(&net.Dialer{Timeout: patience})
			if err == nil {
				err = c.send(quiet)
			}
			if err == nil {
				err = c.sync()
			}
			if err != nil {
				t.Errorf("a new client: %v", err)
				return
			}
			came.Add(1)
			c.reset()
		}
	})
	before := b.tree()
	versions := []string{b.status().Version, "next"}
	open := 0
	var all map[string]int
	defer func() {
		if t.Failed() {
			t.Logf("descriptors of the parent: %v", all)
		}
	}()
	for i, from := range []string{next, gatehouse, next, gatehouse} {
		copyFile(t, from, b.binary)
		n := came.Load()
		text, err := b.upgrade()
		if err != nil || !strings.Contains(text, "upgraded to version ") {
			t.Fatalf("upgrade %d: %v\n%s", i, err, text)
		}
		if want := versions[1-i%2]; b.status().Version != want {
			t.Errorf("version %s, want %s", b.status().Version, want)
		}
		var now map[string]int
		await(t, "the end of the processes that were replaced", patience, func() bool {
			now = b.tree()
			return len(now) == len(before)
		})
		for role, pid := range before {
			if stays := role == "parent"; stays != (now[role] == pid) {
				t.Errorf("%s is pid %d, was %d", role, now[role], pid)
			}
		}
		before = now
		await(t, "new clients", patience, func() bool { return came.Load() > n })
		// A signature that is asked for at this moment holds one for a while.
		sum := 0
		await(t, fmt.Sprintf("%d descriptors of the parent or fewer", open), patience, func() bool {
			all, err = tree.Descriptors(b.pid, nil)
			must(t, err)
			sum = 0
			for _, n := range all {
				sum += n
			}
			return i == 0 || sum <= open
		})
		open = sum
	}
	stop.Store(true)
	comers.Wait()
	calm.end(t)
	must(t, idle.sync())
	for _, role := range []string{"router", "cm/0"} {
		mark := b.log.Mark()
		b.kill(role)
		if b.log.Find(mark, "role ready", patience, "role", role) == nil {
			t.Fatalf("%s did not come back", role)
		}
	}
	t.Logf("%d new clients", came.Load())
}

// refusals are binaries that are not gone on with, and what is said of each.
var refusals = map[string]struct {
	spoil func(*testing.T, *broker, string) // the binary at a path
	says  string
}{
	"not there":   {func(t *testing.T, _ *broker, path string) { must(t, os.Remove(path)) }, "no such file"},
	"a directory": {func(t *testing.T, _ *broker, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o755)) }, "not a regular file"},
	"a fifo": {func(t *testing.T, _ *broker, path string) {
		must(t, os.Remove(path))
		must(t, syscall.Mkfifo(path, 0o755))
	}, "not a regular file"},
	"not executable":  {func(t *testing.T, _ *broker, path string) { must(t, os.Chmod(path, 0o644)) }, "not executable"},
	"group may write": {func(t *testing.T, _ *broker, path string) { must(t, os.Chmod(path, 0o775)) }, "lets others write"},
	"another's":       {func(t *testing.T, _ *broker, path string) { must(t, os.Chown(path, nobody, nobody)) }, "belongs to uid 65534"},
	"a text": {func(t *testing.T, _ *broker, path string) {
		must(t, os.WriteFile(path, []byte("not a program"), 0o755))
	},
		"exec format error"},
	"another program":      {func(t *testing.T, _ *broker, path string) { copyFile(t, "/bin/true", path) }, `it says ""`},
	"a program that fails": {func(t *testing.T, _ *broker, path string) { copyFile(t, "/bin/false", path) }, "exit 1"},
	"another protocol": {func(t *testing.T, _ *broker, path string) {
		build(t, path, "other", edit{"privsep/rules.go", "const Version = ", "const Version = 9"})
	}, "of the role protocol"},
	"another layout": {func(t *testing.T, _ *broker, path string) {
		build(t, path, "other", edit{"store/segment.go", "const layoutVersion = ", "const layoutVersion = 9"})
	}, "of the shared memory"},
	"no configuration": {func(t *testing.T, b *broker, _ string) {
		b.edit("[limits]", "[limits]\nmax_payload = \"1 potato\"")
	}, "potato"},
	"another configuration": {func(t *testing.T, b *broker, _ string) {
		b.edit("[limits]", "[limits]\nmax_connections = 1000")
	}, "needs a restart"},
	// What neither binary could begin with: there would be no way back.
	"no key":       {func(t *testing.T, b *broker, _ string) { b.edit("server.key", "missing.key") }, "missing.key"},
	"no audit log": {func(t *testing.T, b *broker, _ string) { b.edit("[log]\n", "[log]\naudit = \"/nowhere/audit.log\"\n") }, "/nowhere/audit.log"},
	"no transfer key": {func(t *testing.T, b *broker, _ string) {
		b.edit("[log]\n", "[transfer]\nkey = \"/nowhere/transfer.key\"\nunlock_file = \"/nowhere/secret\"\n[log]\n")
	}, "/nowhere/transfer.key"},
	"an address in use": {func(t *testing.T, b *broker, _ string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		b.edit(`tcp = ["127.0.0.1:0"`, fmt.Sprintf(`tcp = ["127.0.0.1:0", %q`, l.Addr()))
	}, "address already in use"},
}

func TestUpgradeRefused(t *testing.T) {
	for name, r := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startCopy(t, settings{tls: "sign"})
			calm := startCalm(t, b.client(""), b.client(""), time.Millisecond)
			before := b.processes()
			path := filepath.Join(b.dir, "next")
			copyFile(t, gatehouse, path)
			r.spoil(t, b, path)
			text, err := b.upgrade("--binary", path)
			last := text[strings.LastIndexByte(strings.TrimSpace(text), '\n')+1:]
			if err == nil || !strings.HasPrefix(last, "gatehouse: upgrade: refused, nothing has changed: ") || !strings.Contains(last, r.says) {
				t.Errorf("%v\n%s", err, text)
			}
			b.unchanged(before)
			calm.end(t)
		})
	}
}

// A binary whose router does not get ready, or whose parent cannot go on, is left
// again: the one before goes on, with the same clients.
func TestUpgradeBack(t *testing.T) {
	for name, c := range map[string]struct {
		edits []edit
		says  string
	}{
		"router": {[]edit{{"roles/router/setup.go", "	runtime.LockOSThread()\n", "	runtime.LockOSThread()\n	if true {\n		return privsep.ErrShape\n	}\n"}},
			"router, the new process, did not get ready: exit 1"},
		"dispatcher": {[]edit{{"roles/dispatcher/setup.go", "	runtime.LockOSThread()\n", "	runtime.LockOSThread()\n	if true {\n		return privsep.ErrShape\n	}\n"}},
			"dispatcher, the new process, did not get ready: exit 1"},
		"parent":        {[]edit{{"roles/parent/serve.go", "	if p.control, err = openControl", "	if h != nil {\n		return os.ErrInvalid\n	}\n	if p.control, err = openControl"}}, "it cannot go on: invalid argument"},
		"configuration": {[]edit{{"roles/cli/serve.go", "			cfg, source, err := parent.Find(c.String(\"config\"))\n", "			cfg, source, err := parent.Find(\"/nonexistent\")\n"}}, "it cannot go on: open /nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startCopy(t, settings{cms: 2, tls: "sign"})
			b.traces = true // what the new roles say at their end
			calm := startCalm(t, b.on("cm/0"), b.on("cm/1"), 0)
			before, version := b.tree(), b.status().Version
			path := filepath.Join(b.dir, "next")
			build(t, path, "bad", c.edits...)
			mark := b.log.Mark()
			text, err := b.upgrade("--binary", path)
			if err == nil || !strings.Contains(text, "gatehouse: upgrade: the new binary failed, and the one before goes on: ") || !strings.Contains(text, c.says) {
				t.Errorf("%v\n%s", err, text)
			}
			if b.log.Find(mark, "upgrade failed: gone on as before", patience) == nil {
				t.Error("the log does not tell of it")
			}
			if st := b.status(); st.Version != version || st.PID != before["parent"] {
				t.Errorf("version %s, pid %d", st.Version, st.PID)
			}
			for role, pid := range b.tree() {
				exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
				if err != nil || exe != b.binary {
					t.Errorf("%s runs %s, %v", role, exe, err)
				}
				if strings.HasPrefix(role, "cm/") && before[role] != pid {
					t.Errorf("%s is pid %d, was %d", role, pid, before[role])
				}
			}
			calm.end(t)
			must(t, b.serves())
			b.servesTLS(4)
			b.deaths = len(b.log.All("role died")) // of the new binary
			if b.deaths > 1 {
				t.Errorf("%d roles died", b.deaths)
			}
			copyFile(t, gatehouse, path) // and it can be tried again
			if text, err := b.upgrade("--binary", path); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}

// One at a time, for the operator alone; who asks and goes away changes nothing.
func TestUpgradeAsked(t *testing.T) {
	t.Parallel()
	b := startCopy(t, settings{})
	calm := startCalm(t, b.client(""), b.client(""), time.Millisecond)
	for range 3 {
		conn, err := net.Dial("unix", filepath.Join(b.run, "control"))
		must(t, err)
		mark := b.log.Mark()
		_, err = conn.Write(request(3, 0))
		must(t, err)
		if b.log.Find(mark, "upgrade asked for", patience) == nil {
			t.Fatal("it is not begun")
		}
		second, err := net.Dial("unix", filepath.Join(b.run, "control"))
		must(t, err)
		_, err = second.Write(request(3, 0))
		must(t, err)
		conn.Close()
		answer, err := io.ReadAll(second)
		if err == nil && !slices.ContainsFunc([]string{"under way", "upgraded"}, func(s string) bool { return strings.Contains(string(answer), s) }) {
			t.Errorf("the second was told %q", answer)
		}
		second.Close()
		await(t, "the end of it", patience, func() bool { return len(b.log.Lines(mark)) > 0 && b.log.Find(mark, "upgraded", 0) != nil })
	}
	calm.end(t)
	must(t, b.serves())
}
