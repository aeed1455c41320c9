package process

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/testdata/tree"
)

// orphan kills the parent and returns the children that it leaves.
func (b *broker) orphan() map[string]int {
	b.t.Helper()
	left := b.tree()
	delete(left, "parent")
	must(b.t, b.cmd.Process.Kill())
	<-b.exited
	return left
}

// succeed runs the same command again, in the same runtime directory.
func (b *broker) succeed() {
	b.t.Helper()
	b.ownRun, b.deaths = true, 0
	b.start()
}

// tree is what status knows of: a parent's adopted children are not its own.
func (b *broker) tree() map[string]int {
	b.t.Helper()
	pids := map[string]int{}
	for _, p := range b.status().Processes {
		pids[p.Role] = p.PID
		b.seen[p.PID] = true
	}
	return pids
}

// adopted wants the children to be those of before, but for some roles.
func (b *broker) adopted(before map[string]int, but ...string) {
	b.t.Helper()
	now := b.tree()
	st := b.status()
	for role, pid := range before {
		anew := false
		for _, other := range but {
			anew = anew || other == role
		}
		switch {
		case anew && (now[role] == pid || st.Role(role).Adopted):
			b.t.Errorf("%s is pid %d as before", role, pid)
		case !anew && (now[role] != pid || !st.Role(role).Adopted):
			b.t.Errorf("%s is pid %d, adopted %v, was pid %d", role, now[role], st.Role(role).Adopted, pid)
		}
		if p := st.Role(role); p.State != "running" || p.Memory == 0 || p.OwnNetwork == strings.HasPrefix(role, "tlsd") { // which has the host's
			b.t.Errorf("%s: %+v", role, p)
		}
	}
}

// on gives a client of that cm.
func (b *broker) on(cm string) *client {
	b.t.Helper()
	for range 64 {
		if c := b.client(""); b.homeOf(c) == cm {
			return c
		}
	}
	b.t.Fatalf("no connection to %s", cm)
	return nil
}

// Traffic between two cms goes on without a parent, new clients are served, and
// the next parent has the same children; as often as one likes.
func TestAdopt(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	calm := startCalm(t, b.on("cm/0"), b.on("cm/1"), 0)
	addr := b.addr
	for range 3 {
		left := b.orphan()
		for range 3 {
			must(t, b.serves())
		}
		b.succeed()
		if b.addr != addr {
			t.Errorf("listens on %s, did on %s", b.addr, addr)
		}
		b.adopted(left)
		must(t, b.serves())
	}
	calm.end(t)
	for _, role := range []string{"dispatcher", "cm/1", "router"} {
		mark := b.log.Mark()
		must(t, syscall.Kill(b.tree()[role], syscall.SIGKILL))
		b.deaths++
		if b.log.Find(mark, "role ready", patience, "role", role) == nil {
			t.Fatalf("%s did not come back", role)
		}
		await(t, "service", patience, func() bool { return b.serves() == nil })
	}
}

// Who has died while there was no parent is started by the next one; the others
// are adopted, and clients of other cms notice nothing.
func TestAdoptAfterDeaths(t *testing.T) {
	for _, role := range []string{"dispatcher", "cm/1", "router"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, settings{cms: 2})
			asks, answers := b.on("cm/0"), b.on("cm/0")
			reader := b.on("cm/1")
			must(t, reader.send("SUB flood 1\r\n"))
			must(t, reader.sync())
			calm := startCalm(t, asks, answers, 0)
			left := b.orphan()
			must(t, syscall.Kill(left[role], syscall.SIGKILL))
			await(t, "its end", patience, func() bool { return tree.Title(left[role]) == "" })
			if role == "cm/1" { // messages for it do not fill the ring
				flood := b.client("")
				for range 64 {
					must(t, flood.send(pub("flood", strings.Repeat("x", 1<<17))))
				}
				must(t, flood.sync())
			}
			b.succeed()
			b.adopted(left, role)
			await(t, "service", patience, func() bool { return b.serves() == nil })
			calm.end(t)
			if st := b.status(); st.Role(role).Restarts != 0 {
				t.Errorf("%+v", st.Role(role))
			}
			await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
		})
	}
}

// A process that only has the pid of a record is left alone; one that is not
// quite what the record says is ended, the others are adopted.
func TestAdoptStrangers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	left := b.orphan()
	must(t, syscall.Kill(left["cm/1"], syscall.SIGKILL))
	await(t, "its end", patience, func() bool { return tree.Title(left["cm/1"]) == "" })
	stranger := exec.Command("sleep", "1000")
	must(t, stranger.Start())
	defer func() {
		stranger.Process.Kill()
		stranger.Wait()
	}()
	b.tamper(fmt.Sprintf(`\ncm/1 pid=%d `, left["cm/1"]), fmt.Sprintf("\ncm/1 pid=%d ", stranger.Process.Pid))
	b.tamper(`(\ndispatcher .* dev=\d+ ino=)\d+`, "${1}1")
	b.succeed()
	b.adopted(left, "cm/1", "dispatcher")
	must(t, b.serves())
	if b.log.Find(0, "not adopted, ended", 0, "role", "dispatcher", "reason", "executable") == nil {
		t.Error("the log does not tell why the dispatcher was ended")
	}
	must(t, stranger.Process.Signal(syscall.Signal(0)))
	if tree.Title(left["dispatcher"]) != "" {
		t.Error("a dispatcher that was not adopted lives on")
	}
}

// tamper changes the registry, or fails.
func (b *broker) tamper(what, to string) {
	b.t.Helper()
	path := filepath.Join(b.run, "registry")
	text, err := os.ReadFile(path)
	must(b.t, err)
	changed := regexp.MustCompile(what).ReplaceAllString(string(text), to)
	if changed == string(text) {
		b.t.Fatalf("no %s in the registry:\n%s", what, text)
	}
	must(b.t, os.WriteFile(path, []byte(changed), 0o600))
}

// What can change while the broker runs can change while it has no parent: the
// adopted are told, and a listener that was removed is closed.
func TestAdoptLiveSettings(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, limits: "max_payload = 100"})
	c := b.client("SUB a 1\r\n")
	left := b.orphan()
	b.edit("max_payload = 100", "max_payload = 1000")
	b.edit(fmt.Sprintf("unix = [%q]", b.unix), "unix = []")
	b.edit(`tcp = ["127.0.0.1:0"]`, `tcp = ["127.0.0.1:0", "127.0.0.2:0"]`)
	old := b.addr
	b.succeed()
	b.adopted(left)
	ls := b.status().Listeners
	if len(ls) != 2 || ls[0] != old || !strings.HasPrefix(ls[1], "127.0.0.2:") {
		t.Fatalf("listeners %q, was %q", ls, old)
	}
	if gone, err := dial(b.unix); err == nil {
		gone.reset()
		t.Errorf("%s is still open", b.unix)
	}
	for _, addr := range ls {
		b.addr = addr
		p := b.client("")
		if !strings.Contains(p.info, `"max_payload":1000,`) {
			t.Errorf("greeted with %s", p.info)
		}
		must(t, p.send(pub("a", strings.Repeat("x", 1000))))
		c.expect(t, "MSG a 1 1000")
	}
	// Numbers go on, and a second parent finds all that the first one had.
	b.edit(`"127.0.0.2:0"`, `"127.0.0.3:0"`)
	b.reload("reloaded")
	left = b.orphan()
	b.succeed()
	b.adopted(left)
	if now := b.status().Listeners; len(now) != 2 || now[0] != old || !strings.HasPrefix(now[1], "127.0.0.3:") {
		t.Fatalf("listeners %q, were %q", now, ls)
	}
	b.addr = old
	must(t, b.serves())
}

// With other settings nobody can be gone on with; the broker starts anew, at once.
func TestAdoptOtherSettings(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	left := b.orphan()
	b.edit("[limits]", "[limits]\nmax_connections = 1000")
	b.succeed()
	b.adopted(left, roles(left)...)
	must(t, b.serves())
	if n := len(b.log.All("not adopted, ended", "reason", "the settings have changed")); n != len(left) {
		t.Errorf("%d lines about it", n)
	}
	for role, pid := range left {
		if tree.Title(pid) != "" {
			t.Errorf("%s lives on", role)
		}
	}
}

// A broker that cannot start leaves the orphans to the next one.
func TestAdoptLater(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, tls: "sign"})
	calm := startCalm(t, b.on("cm/0"), b.on("cm/1"), 0)
	left := b.orphan()
	text, err := os.ReadFile(b.config)
	must(t, err)
	b.edit("server.key", "missing.key")
	b.launch()
	<-b.exited
	if b.code != 1 {
		t.Errorf("exit code %d", b.code)
	}
	b.write(b.config, string(text))
	b.succeed()
	b.adopted(left)
	calm.end(t)
}

// A handshake that needs a signature waits for the next parent.
func TestAdoptHandshakes(t *testing.T) {
	for _, use := range []string{"sign", "release"} {
		t.Run(use, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, settings{cms: 2, tls: use, limits: `auth_timeout = "20s"`})
			b.servesTLS(4)
			left := b.orphan()
			type result struct {
				c   *client
				err error
			}
			const many = 8
			begun := make(chan result, many)
			for range many {
				go func() {
					c, err := b.dialTLS(&net.Dialer{Timeout: patience})
					begun <- result{c, err}
				}()
			}
			await(t, "their connections", patience, func() bool {
				n := 0
				for _, f := range tree.Table("/proc/net/tcp") {
					if len(f) > 3 && f[3] == "01" && strings.HasSuffix(f[1], portOf(b.tls)) {
						n++
					}
				}
				return n >= many || use == "release"
			})
			if use == "sign" && len(begun) > 0 {
				t.Errorf("a handshake was over without a signature: %v", (<-begun).err)
			}
			b.succeed()
			b.adopted(left)
			for range many {
				r := within(t, "a handshake", begun)
				must(t, r.err)
				b.login(r.c, "")
			}
			b.servesTLS(4)
		})
	}
}

// portOf is an address's port as /proc/net/tcp has it.
func portOf(addr string) string {
	tcp, _ := net.ResolveTCPAddr("tcp", addr)
	return fmt.Sprintf(":%04X", tcp.Port)
}

// Without a parent for orphan_grace the roles finish in order, and nothing of
// them is left.
func TestOrphanGrace(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, limits: "orphan_grace = \"1s\"\ndrain_timeout = \"5s\"\n"})
	c := b.client("")
	old := b.log
	left := b.orphan()
	must(t, c.sync())
	if text := c.rest(); text != "" {
		t.Errorf("the client was told %q", text)
	}
	if !old.Ended(patience) {
		t.Errorf("something of %v is left", left)
	}
	if _, err := net.Dial("tcp", b.addr); err == nil {
		t.Error("the port is open still")
	}
	b.succeed()
	b.adopted(left, roles(left)...)
	must(t, b.serves())
}

// Without root the children keep what they have: they are ended and started anew.
func TestAdoptNotRoot(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, uid: nobody})
	left := b.orphan()
	must(t, b.serves())
	b.succeed()
	for role, pid := range left {
		if b.tree()[role] == pid || tree.Title(pid) != "" {
			t.Errorf("%s is pid %d as before", role, pid)
		}
	}
	must(t, b.serves())
}

// A parent that cannot begin, whatever it lacks, leaves the processes to the next one.
func TestAdoptAtLast(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, tls: "sign"})
	c := b.client("SUB a 1\r\n")
	left := b.orphan()
	fails := func(from, to string) {
		t.Helper()
		b.edit(from, to)
		out, err := exec.Command(b.binary, "serve", "-c", b.config).CombinedOutput()
		var e *exec.ExitError
		if !errors.As(err, &e) || e.ExitCode() != 1 || !strings.Contains(string(out), b.config+":") {
			t.Errorf("%q: %v\n%s", to, err, out)
		}
		b.edit(to, from)
	}
	fails("[log]\n", "[log]\naudit = \"/nowhere/audit.log\"\n")
	fails("server.key", "nowhere.key")
	fails("[limits]\n", "[limits]\nmax_payload = \"1 potato\"\n")
	// With other settings it would have to end them, once it could begin.
	b.edit("[limits]\n", "[limits]\nmax_connections = 1000\n")
	fails("server.key", "nowhere.key")
	b.edit("[limits]\nmax_connections = 1000\n", "[limits]\n")
	b.succeed()
	b.adopted(left)
	must(t, c.send("PUB a 5\r\nstill\r\n"))
	c.expect(t, "MSG a 1 5")
}

// Only root may adopt: another user who gets to the socket is refused, and the
// role stays what it is.
func TestAdoptByAnother(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	calm := startCalm(t, b.on("cm/0"), b.on("cm/1"), 0)
	left := b.orphan()
	doors, err := filepath.Glob(filepath.Join(b.run, "adopt", "*"))
	must(t, err)
	if len(doors) != len(left) {
		t.Fatalf("doors %v", doors)
	}
	must(t, os.Chmod(filepath.Join(b.run, "adopt"), 0o755))
	for _, door := range doors {
		must(t, os.Chmod(door, 0o666))
		if err := knock(door, nobody); err != io.EOF {
			t.Errorf("%s: %v", door, err)
		}
		if err := knock(door, 0); err != io.EOF { // which says nonsense
			t.Errorf("%s: %v", door, err)
		}
	}
	b.succeed()
	b.adopted(left)
	calm.end(t)
}

// knock says something at a door under a uid, and reads up to the end.
func knock(door string, uid int) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its uid
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			result <- errno
			return
		}
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET, 0)
		if err == nil {
			err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: door})
		}
		if err == nil {
			f := os.NewFile(uintptr(fd), door)
			defer f.Close()
			f.Write([]byte("not a parent's word"))
			_, err = f.Read(make([]byte, 100))
		}
		if err == syscall.ECONNRESET {
			err = io.EOF
		}
		if pe, ok := err.(*os.PathError); ok && pe.Err == syscall.ECONNRESET {
			err = io.EOF
		}
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		return os.ErrDeadlineExceeded
	}
}

// A renewed certificate is taken over by adopted cms.
func TestAdoptNewCertificate(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, tls: "sign"})
	b.servesTLS(4)
	left := b.orphan()
	before := maps.Clone(left)
	b.renew()
	b.succeed()
	b.adopted(before)
	b.servesTLS(8)
	if n := b.log.Find(0, "role adopted", 0, "role", "cm/0"); n == nil {
		t.Error("cm/0 was not adopted")
	}
}
