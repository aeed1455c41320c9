package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	tlsd "gatehouse/roles/tlsd/client"
	"gatehouse/testdata/tree"
)

// Three tlsds have the sessions among themselves: a name is one session, whichever of
// them a caller has come to; the list has those of all. The end of one is the end of its
// own, and who holds another one notices nothing. Callers find their way also after a new
// parent has come, and after each of them has been replaced.
func TestShards(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "shards = 3\n", "")
	sh.start()
	all := []string{"tlsd", "tlsd/1", "tlsd/2"}
	for _, role := range all {
		pid := sh.processes()[role]
		if pid == 0 {
			t.Fatalf("processes are %v", sh.processes())
		}
		checkTasks(t, pid)
		checkRoot(t, sh.broker, pid)
	}
	const sessions = 24
	name := func(i int) string { return fmt.Sprintf("session-%d", i) }
	hold := func(i int) *tlsd.Conn {
		conn, err := sh.here(name(i))
		must(t, err)
		return conn
	}
	for round := range 3 {
		for i := range sessions {
			conn := hold(i)
			must(t, echoed(conn, fmt.Sprintf("round %d", round)))
			must(t, conn.Close())
		}
	}
	if n := sh.shakes.Load(); n != sessions {
		t.Errorf("%d handshakes", n)
	}
	list := func() string {
		out, err := exec.Command(gatehouse, "tls", "list", "--socket", sh.socket, "--json").CombinedOutput()
		if err != nil {
			t.Errorf("list: %v: %s", err, out)
		}
		return string(out)
	}
	got := list()
	var names []string
	for line := range strings.Lines(got) {
		if _, rest, ok := strings.Cut(line, `"name": "`); ok {
			names = append(names, strings.TrimSuffix(strings.TrimSpace(rest), `",`))
		}
	}
	if len(names) != sessions || !slices.IsSorted(names) {
		t.Errorf("the list has %q", names)
	}
	// By its id as well: the first of the list is session-0.
	_, id, _ := strings.Cut(got, `"id": "`)
	id, _, _ = strings.Cut(id, `"`)
	for _, target := range []string{id, name(1)} {
		if out, err := exec.Command(gatehouse, "tls", "close", "--socket", sh.socket, target).CombinedOutput(); err != nil {
			t.Errorf("close %s: %v: %s", target, err, out)
		}
	}
	if got := list(); strings.Count(got, `"name"`) != sessions-2 || strings.Contains(got, `"session-0"`) || strings.Contains(got, `"session-1"`) {
		t.Errorf("closed, and the list has %s", got)
	}

	var held []*tlsd.Conn
	for i := range sessions {
		held = append(held, hold(i))
	}
	sh.kill("tlsd/1")
	gone := 0
	for i, conn := range held {
		err := echoed(conn, "others go on")
		if err != nil {
			gone++
			conn.Close()
			held[i] = nil
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v", name(i), err)
			}
		}
	}
	if gone == 0 || gone > sessions*2/3 {
		t.Errorf("%d of %d sessions have ended with one of three", gone, sessions)
	}
	shakes := sh.shakes.Load()
	for i := range held {
		if held[i] == nil {
			held[i] = hold(i) // waits for who is to come
			must(t, echoed(held[i], "again"))
		}
	}
	if n := int(sh.shakes.Load() - shakes); n != gone {
		t.Errorf("%d handshakes for %d sessions", n, gone)
	}

	left := sh.orphan()
	use := func(when string) {
		for i, conn := range held {
			must(t, echoed(conn, when))
			must(t, conn.Close())
			held[i] = hold(i)
		}
	}
	use("without a parent")
	sh.succeed()
	sh.adopted(left)
	shakes = sh.shakes.Load()
	use("with another")
	if n := sh.shakes.Load(); n != shakes {
		t.Errorf("%d handshakes by adoption", n-shakes)
	}
	for _, role := range all {
		if got := sh.restart(role); !strings.Contains(got, role+": replaced in") {
			t.Errorf("restart %s: %s", role, got)
		}
	}
	for i, conn := range held {
		must(t, echoed(conn, "by the old ones"))
		must(t, conn.Close())
		must(t, sh.process(name(i), "by the new ones"))
	}
	if n := sh.shakes.Load(); n != shakes+sessions {
		t.Errorf("%d handshakes by new ones", n-shakes)
	}
	if got := list(); strings.Count(got, `"name"`) != sessions {
		t.Errorf("in the end the list has %s", got)
	}
}

// What a tlsd has done to its ways ends with it: the one that comes after has others, and
// none of the callers of all is lost. So it is where it was replaced, and has ended then.
func TestShardsSpoiled(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "shards = 2\n", "")
	sh.start()
	serves := func(when string) {
		t.Helper()
		for i := range 16 { // by either of them, for either
			conn, err := sh.here(fmt.Sprintf("session-%d", i))
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			must(t, echoed(conn, when))
			must(t, conn.Close())
		}
	}
	serves("at first")
	open := func() (n int) {
		for _, role := range []string{"parent", "tlsd", "tlsd/1"} {
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", sh.processes()[role]))
			must(t, err)
			n += len(fds)
		}
		return n
	}
	before := open()
	for range 2 {
		spoil(t, sh.processes()["tlsd/1"])
		sh.kill("tlsd/1")
		await(t, "another one", patience, func() bool { return sh.status().Role("tlsd/1").State == "running" })
		serves("after a death")
	}
	old := sh.processes()["tlsd"]
	spoil(t, old)
	sh.restart("tlsd")
	await(t, "the old one's end", patience, func() bool { return tree.Title(old) == "" })
	await(t, "its place to be free", patience, func() bool { return len(sh.log.All("role ended")) > 0 })
	serves("after a replacement")
	await(t, "the descriptors of before", patience, func() bool { return open() <= before })
}

// spoil shuts the sending side of whatever a process has that is like a way.
func spoil(t *testing.T, pid int) {
	t.Helper()
	p, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	defer unix.Close(p)
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	n := 0
	for _, e := range fds {
		i, err := strconv.Atoi(e.Name())
		must(t, err)
		fd, err := unix.PidfdGetfd(p, i, 0)
		if err != nil {
			continue
		}
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if asks, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED); err == nil && typ == unix.SOCK_SEQPACKET && asks == 0 && i > 4 { // the channel and the door
			n++
			must(t, unix.Shutdown(fd, unix.SHUT_WR))
		}
		unix.Close(fd)
	}
	if n == 0 {
		t.Fatal("no ways")
	}
}
