package process

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// This binary is also the program that logs in by what it is, where this says what it
// does, step by step:
//
//	login      connects, says CONNECT without a credential and PING, prints the answer
//	wait       reads a line first
//	exec PATH  connects, and executes PATH, which says the rest
//	pass       connects, and ends; a child says the rest
//	cover FROM TO UID  in a mount namespace of its own, puts a file over another, and
//	           executes that as UID
const programSteps = "GATEHOUSE_TEST_PROGRAM"

const (
	programSocket = "GATEHOUSE_TEST_SOCKET"
	heldFD        = 3 // a connection that was made before
	aliveFD       = 4 // at its end when the one who made it has ended
)

// program is such a program; it does not return.
func program(steps string) {
	if err := perform(strings.Fields(steps)); err != nil {
		fmt.Println(err)
	}
	os.Exit(0)
}

func perform(step []string) error {
	switch step[0] {
	case "wait":
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		return sayLogin(reachBroker)
	case "held":
		return sayLogin(held)
	case "bequeathed":
		// A pidfd is readable when its process has ended; a pipe would end a little before.
		for _, err := unix.Poll([]unix.PollFd{{Fd: aliveFD, Events: unix.POLLIN}}, -1); err == unix.EINTR; {
			_, err = unix.Poll([]unix.PollFd{{Fd: aliveFD, Events: unix.POLLIN}}, -1)
		}
		return sayLogin(held)
	case "exec":
		f, err := reachBroker()
		if err != nil {
			return err
		}
		if err := unix.Dup2(int(f.Fd()), heldFD); err != nil { // without CLOEXEC
			return err
		}
		return syscall.Exec(step[1], step[1:], []string{programSteps + "=held"})
	case "pass":
		return pass()
	case "cover":
		return cover(step[1], step[2], step[3])
	}
	return sayLogin(reachBroker)
}

func reachBroker() (*os.File, error) {
	c, err := net.Dial("unix", os.Getenv(programSocket))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*net.UnixConn).File()
}

func held() (*os.File, error) { return os.NewFile(heldFD, "held"), nil }

// sayLogin prints what the broker says to a client that shows nothing.
func sayLogin(get func() (*os.File, error)) error {
	f, err := get()
	if err != nil {
		return err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		return err
	}
	line, err := r.ReadString('\n')
	fmt.Println(strings.TrimSpace(line))
	return err
}

func pass() error {
	f, err := reachBroker()
	if err != nil {
		return err
	}
	own, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	alive := os.NewFile(uintptr(own), "alive")
	child := exec.Command("/proc/self/exe")
	child.Env, child.Stdout, child.ExtraFiles = []string{programSteps + "=bequeathed"}, os.Stdout, []*os.File{f, alive}
	return child.Start()
}

func cover(from, to, uid string) error {
	if err := errorsOf(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(from, to, "", unix.MS_BIND, "")); err != nil {
		return err
	}
	var n int
	fmt.Sscan(uid, &n)
	if err := errorsOf(syscall.Setgroups(nil), syscall.Setgid(n), syscall.Setuid(n)); err != nil {
		return err
	}
	return syscall.Exec(to, []string{to}, []string{programSteps + "=login", programSocket + "=" + os.Getenv(programSocket)})
}

// programs are two of them with different content, in a directory of the broker's.
func (b *broker) programs() (a, other string) {
	b.t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	must(b.t, err)
	a, other = filepath.Join(b.dir, "pricer"), filepath.Join(b.dir, "other")
	must(b.t, os.WriteFile(a, text, 0o755))
	must(b.t, os.WriteFile(other, append(text, 0), 0o755))
	return a, other
}

// command is a program that is about to do its steps under ids of its own.
func (b *broker) command(path string, uid, gid uint32, steps string) *exec.Cmd {
	c := exec.Command(path)
	c.Env = []string{programSteps + "=" + steps, programSocket + "=" + b.unix}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	return c
}

const violation = "-ERR 'Authorization Violation'"

// tells wants the answer that a program prints.
func (b *broker) tells(c *exec.Cmd, want string) {
	b.t.Helper()
	out, err := c.CombinedOutput()
	if line, _, _ := strings.Cut(string(out), "\n"); err != nil || line != want {
		b.t.Errorf("%s as %v: %q, %v, want %q", c.Env[0], c.SysProcAttr.Credential, out, err, want)
	}
}

// refuses wants a program to be refused for a reason.
func (b *broker) refuses(c *exec.Cmd, reason string) {
	b.t.Helper()
	mark := b.log.Mark()
	b.tells(c, violation)
	if b.log.Find(mark, "login refused", patience, "kind", "process", "reason", reason) == nil {
		b.t.Errorf("%s as %v: no line says %s", c.Env[0], c.SysProcAttr.Credential, reason)
	}
}

// insideOut is a broker whose users are programs: by uid and more.
func insideOut(t *testing.T, limits string) (b *broker, pricer, other string) {
	t.Helper()
	b = newBroker(t, settings{cms: 2, limits: limits, users: "failure_burst = 1000\n@\n"})
	pricer, other = b.programs()
	text, err := os.ReadFile(pricer)
	must(t, err)
	path, sum := fmt.Sprintf("executable = %q", pricer), fmt.Sprintf("sha256 = \"%x\"", sha256.Sum256(text))
	uid := func(n int) string { return fmt.Sprintf("uid = %d", n) }
	b.edit("@\n", userTable("byuid", uid(62001))+userTable("bygid", "gid = 62102")+userTable("whole", uid(62003), path, sum)+
		userTable("bypath", uid(62004), path)+userTable("bysum", uid(62005), sum)+userTable("both", uid(62006), "gid = 62106"))
	b.start()
	return b, pricer, other
}

func TestProcess(t *testing.T) {
	t.Parallel()
	b, pricer, other := insideOut(t, `auth_timeout = "20s"`)
	for _, tt := range []struct {
		path     string
		uid, gid uint32
		want     string // name, or reason
	}{
		{other, 62001, 62001, "byuid"},
		{other, 62001, 7, "byuid"},
		{other, 62002, 62102, "bygid"},
		{pricer, 62003, 62003, "whole"},
		{pricer, 62004, 62004, "bypath"},
		{pricer, 62005, 62005, "bysum"},
		{other, 62006, 62106, "both"},
		{other, 62009, 62009, "process_nobody"},
		{pricer, 0, 0, "process_nobody"},
		{other, 62002, 62002, "process_nobody"},
		{other, 62003, 62003, "process_nobody"},
		{other, 62004, 62004, "process_nobody"},
		{other, 62005, 62005, "process_digest"},
		{other, 62006, 62006, "process_nobody"},
	} {
		c := b.command(tt.path, tt.uid, tt.gid, "login")
		if strings.HasPrefix(tt.want, "process_") {
			b.refuses(c, tt.want)
			continue
		}
		mark := b.log.Mark()
		b.tells(c, "PONG")
		if b.log.Find(mark, "login", patience, "kind", "process", "user", tt.want) == nil {
			t.Errorf("nobody logged in as %s", tt.want)
		}
	}

	// The program that says CONNECT is another one than has connected, or its child.
	b.refuses(b.command(pricer, 62004, 62004, "exec "+other), "process_nobody")
	b.refuses(b.command(pricer, 62001, 62001, "pass"), "process_gone")

	// A program with the uid of its file, run by somebody else.
	setuid := filepath.Join(b.dir, "setuid")
	text, err := os.ReadFile(pricer)
	must(t, err)
	must(t, errorsOf(os.WriteFile(setuid, text, 0o755), os.Chown(setuid, 62001, 62001), os.Chmod(setuid, os.ModeSetuid|0o755)))
	b.refuses(b.command(setuid, 62009, 62009, "login"), "process_changed")

	// Another file where the rule's is, as the program sees it.
	covered := b.command(pricer, 0, 0, fmt.Sprintf("cover %s %s 62004", other, pricer))
	covered.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	b.refuses(covered, "process_nobody")

	// Neither by TCP, nor when another credential is shown.
	b.refusedAs("no_credential")
	c, err := dial(b.addr)
	must(t, err)
	local, err := dial(b.unix)
	must(t, err)
	if !strings.Contains(c.info, `"credentials":[]`) || !strings.Contains(local.info, `"credentials":["process"]`) {
		t.Errorf("greeted with %q and %q", c.info, local.info)
	}
	c.reset()
	local.reset()
}

// A program whose file is replaced while it runs is another one from then on.
func TestProcessReplaced(t *testing.T) {
	t.Parallel()
	b, pricer, other := insideOut(t, "")
	c := b.command(pricer, 62004, 62004, "wait")
	stdin, err := c.StdinPipe()
	must(t, err)
	var out bytes.Buffer
	c.Stdout = &out
	must(t, c.Start())
	must(t, os.Rename(other, pricer))
	mark := b.log.Mark()
	_, err = io.WriteString(stdin, "\n")
	must(t, errors.Join(err, c.Wait()))
	if got := strings.TrimSpace(out.String()); got != violation {
		t.Errorf("told %q", got)
	}
	if b.log.Find(mark, "login refused", patience, "reason", "process_nobody") == nil {
		t.Error("no line says why")
	}
	b.tells(b.command(pricer, 62004, 62004, "login"), "PONG")
	b.refuses(b.command(pricer, 62003, 62003, "login"), "process_digest")
}

// Who logs in while auth, the router or the parent ends waits, and is let in.
func TestProcessAmidDeaths(t *testing.T) {
	t.Parallel()
	b, pricer, _ := insideOut(t, `auth_timeout = "20s"`)
	crowd := func() *sync.WaitGroup {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() { b.tells(b.command(pricer, 62003+uint32(i%3), 62003, "login"), "PONG") })
		}
		return &all
	}
	for _, role := range []string{"auth", "router", "auth"} {
		all, pid := crowd(), b.kill(role)
		await(t, "another "+role, patience, func() bool { now := b.processes()[role]; return now != 0 && now != pid })
		all.Wait()
	}
	left := b.orphan()
	all := crowd()
	b.succeed()
	all.Wait()
	b.adopted(left)
}

// The parent has given up what it takes to see what processes of others execute, unless
// a rule at its start asked for it: that is said, and mended by another parent.
func TestProcessReload(t *testing.T) {
	t.Parallel()
	byUID := userTable("byuid", "uid = 62001")
	b := startBroker(t, settings{users: "failure_burst = 1000\n" + byUID + userTable("tests", `uid = "root"`)})
	pricer, other := b.programs()
	must(t, enter("nats://"+b.addr, nats.SetCustomDialer(unixDialer{b.unix})))
	b.tells(b.command(pricer, 62001, 62001, "login"), "PONG")
	if got := b.status().Role("parent").Capabilities; slices.Contains(got, "sys_ptrace") {
		t.Errorf("the parent has kept %v", got)
	}
	b.edit(byUID, byUID+userTable("bypath", "uid = 62004", fmt.Sprintf("executable = %q", pricer)))
	b.reload("reloaded")
	b.tells(b.command(pricer, 62001, 62001, "login"), "PONG")
	b.refuses(b.command(pricer, 62004, 62004, "login"), "process_unreadable")
	const warning = "no process can log in by executable or sha256: the parent lacks CAP_SYS_PTRACE, which it keeps if there is such a rule when it starts"
	if !slices.Contains(b.status().Warnings, warning) || b.log.Find(0, warning, 0) == nil {
		t.Errorf("warned of %q", b.status().Warnings)
	}
	left := b.orphan()
	b.succeed()
	b.adopted(left)
	if slices.Contains(b.status().Warnings, warning) {
		t.Error("warned still")
	}
	b.tells(b.command(pricer, 62004, 62004, "login"), "PONG")
	b.refuses(b.command(other, 62004, 62004, "login"), "process_nobody")
}

// A broker without root knows every uid, and what processes of its own execute.
func TestProcessWithoutRoot(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{uid: 62010, users: "failure_burst = 1000\n@\n"})
	pricer, other := b.programs()
	path := fmt.Sprintf("executable = %q", pricer)
	b.edit("@\n", userTable("own", "uid = 62010", path)+userTable("foreign", "uid = 62011")+userTable("unseen", "uid = 62012", path))
	b.start()
	b.tells(b.command(pricer, 62010, 62010, "login"), "PONG")
	b.refuses(b.command(other, 62010, 62010, "login"), "process_nobody")
	b.tells(b.command(pricer, 62011, 62011, "login"), "PONG")
	b.refuses(b.command(pricer, 62012, 62012, "login"), "process_unreadable")
	if warnings := b.status().Warnings; !slices.Contains(warnings, "not root: only processes of this uid can log in by executable or sha256") {
		t.Errorf("warned of %q", warnings)
	}
}
