package process

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"gatehouse/testdata/tree"
)

// Hashes of "horse" and "battery" that cost little.
const (
	horse   = "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHQ$+ZBx63iOJQl7cGEIS28lPx+fVIZl9idUMRS0/n+XnWI"
	battery = "$2b$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO"
)

// userTable is one who can log in.
func userTable(name string, lines ...string) string {
	return fmt.Sprintf("[[user]]\nname = %q\n%s\n", name, strings.Join(lines, "\n"))
}

func password(hash string) string { return fmt.Sprintf("password = %q", hash) }

var alice = userTable("alice", password(horse))

// nkey makes a pair: the public key, and the way in by it.
func nkey(t testing.TB) (string, nats.Option) {
	t.Helper()
	public, k := newNKey(t)
	return public, nats.Nkey(public, k.Sign)
}

func newNKey(t testing.TB) (public string, key nkeys.KeyPair) {
	t.Helper()
	key, err := nkeys.CreateUser()
	must(t, err)
	public, err = key.PublicKey()
	must(t, err)
	return public, key
}

// enter connects once, and wants an answer over that connection.
func enter(url string, opts ...nats.Option) error {
	nc, err := nats.Connect(url, append(opts, nats.NoReconnect(), nats.Timeout(patience))...)
	if err != nil {
		return err
	}
	defer nc.Close()
	return useNATS(nc)
}

func useNATS(nc *nats.Conn) error {
	own := nats.NewInbox()
	sub, err := nc.SubscribeSync(own)
	if err != nil {
		return err
	}
	if err := nc.Publish(own, []byte("hi")); err != nil {
		return err
	}
	_, err = sub.NextMsg(patience)
	return err
}

// unixDialer connects to one Unix socket, whatever is dialled.
type unixDialer struct{ path string }

func (d unixDialer) Dial(string, string) (net.Conn, error) { return net.Dial("unix", d.path) }

// refusedAs tries to get in, and wants to be refused for a reason that the log has and
// the client has not.
func (b *broker) refusedAs(reason string, opts ...nats.Option) {
	b.t.Helper()
	mark := b.log.Mark()
	if err := enter("nats://"+b.addr, opts...); !errors.Is(err, nats.ErrAuthorization) {
		b.t.Errorf("%s: %v", reason, err)
	}
	if b.log.Find(mark, "login refused", patience, "reason", reason, "role", "auth") == nil {
		b.t.Errorf("no line says %s", reason)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	public, carol := nkey(t)
	_, mallory := nkey(t)
	b := startBroker(t, settings{cms: 2, tls: "sign", users: fmt.Sprintf("token = %q\n", battery) +
		alice + userTable("bob", password(battery)) + userTable("carol", fmt.Sprintf("nkey = %q", public))})
	ways := map[string]nats.Option{"password": nats.UserInfo("alice", "horse"), "bcrypt": nats.UserInfo("bob", "battery"),
		"token": nats.Token("battery"), "nkey": carol}
	for name, way := range ways {
		if err := enter("nats://"+b.addr, way); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := enter("tls://"+b.tls, way, nats.Secure(b.clientTLS())); err != nil {
			t.Errorf("%s by TLS: %v", name, err)
		}
		if err := enter("nats://"+b.addr, way, nats.SetCustomDialer(unixDialer{b.unix})); err != nil {
			t.Errorf("%s by a Unix socket: %v", name, err)
		}
	}
	b.refusedAs("no_credential")
	b.refusedAs("wrong_password", nats.UserInfo("alice", "battery"))
	b.refusedAs("unknown_user", nats.UserInfo("mallory", "horse"))
	b.refusedAs("no_password", nats.UserInfo("carol", "horse"))
	b.refusedAs("wrong_token", nats.Token("horse"))
	b.refusedAs("unknown_nkey", mallory)
	b.refusedAs("bad_signature", nats.Nkey(public, func([]byte) ([]byte, error) { return make([]byte, 64), nil }))
	for _, op := range []string{"PING\r\n", "SUB a 1\r\n", pub("a", "x")} {
		c, err := dial(b.addr)
		must(t, err)
		must(t, c.send(op))
		if got := c.rest(); got != "-ERR 'Authorization Violation'\r\n" {
			t.Errorf("%q without a CONNECT: %q", op, got)
		}
		c.reset()
	}
	if c, err := dial(b.addr); err != nil || !strings.Contains(c.info, `"auth_required":true`) || !strings.Contains(c.info, `"credentials":["password","token","nkey"]`) {
		t.Errorf("greeted with %q, %v", c.info, err)
	} else {
		c.reset()
	}
	if p := b.status().Role("auth"); p.Logins < 12 || p.NoLogins < 7 {
		t.Errorf("counted %+v", p)
	}
	for _, secret := range []string{"horse", "battery", "$argon2id", "$2b$"} {
		if strings.Contains(b.log.Text(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// A connection whose client says CONNECT and more in one go is served in order.
func TestLoginPipelined(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, users: alice})
	const connect = `CONNECT {"verbose":false,"user":"alice","pass":%q}` + "\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n"
	for range 20 {
		c, err := dial(b.addr)
		must(t, err)
		must(t, c.send(fmt.Sprintf(connect, "horse")))
		c.expect(t, "MSG a 1 2")
		c.expect(t, "PONG")
		c.reset()
	}
	c, err := dial(b.addr)
	must(t, err)
	must(t, c.send(strings.Repeat(fmt.Sprintf(connect, "horse"), 5))) // each CONNECT is a login
	for range 5 {
		c.expect(t, "MSG a 1 2")
		c.expect(t, "PONG")
	}
	must(t, c.send(fmt.Sprintf(connect, "mule")))
	if got := c.rest(); got != "-ERR 'Authorization Violation'\r\n" {
		t.Errorf("told %q", got)
	}
	c, err = dial(b.addr)
	must(t, err)
	must(t, c.send(fmt.Sprintf(connect, "mule")))
	if got := c.rest(); got != "-ERR 'Authorization Violation'\r\n" {
		t.Errorf("told %q", got)
	}
	c.reset()
}

// watched is a client that tells of its end.
func (b *broker) watched(opts ...nats.Option) (nc *nats.Conn, closed chan *nats.Conn) {
	b.t.Helper()
	closed = make(chan *nats.Conn, 1)
	nc, err := nats.Connect("nats://"+b.addr, append(opts, nats.NoReconnect(), nats.Timeout(patience),
		nats.ClosedHandler(func(nc *nats.Conn) { closed <- nc }))...)
	must(b.t, err)
	b.t.Cleanup(nc.Close)
	return nc, closed
}

// Users come, go and change while others stay.
func TestLoginReload(t *testing.T) {
	t.Parallel()
	bob := userTable("bob", password(battery))
	b := startBroker(t, settings{cms: 2, users: alice + bob})
	before := b.processes()
	stays, _ := b.watched(nats.UserInfo("alice", "horse"))
	_, gone := b.watched(nats.UserInfo("bob", "battery"))
	b.edit(bob, userTable("bob", password(horse))+userTable("dora", password(battery)))
	if got := b.reload("reloaded").Fields["changed"]; got != "user.bob,user.dora" {
		t.Errorf("changed: %v", got)
	}
	within(t, "the end of whose password has changed", gone)
	must(t, useNATS(stays))
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "battery")))
	must(t, enter("nats://"+b.addr, nats.UserInfo("bob", "horse")))
	b.refusedAs("wrong_password", nats.UserInfo("bob", "battery"))
	_, gone = b.watched(nats.UserInfo("dora", "battery"))
	b.edit(userTable("dora", password(battery)), "")
	b.reload("reloaded")
	within(t, "the end of who was removed", gone)
	b.refusedAs("unknown_user", nats.UserInfo("dora", "battery"))
	b.kill("router") // and what is known of a session outlives it
	await(t, "another router", patience, func() bool { return b.processes()["router"] != before["router"] })
	must(t, useNATS(stays))
	b.edit(password(horse), password(battery))
	b.reload("reloaded")
	await(t, "the end of the last", patience, stays.IsClosed)
	before["router"] = b.processes()["router"]
	b.unchanged(before)
}

// Auth is there as long as there is somebody to log in.
func TestLoginOnAndOff(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	without := b.processes()
	if without["auth"] != 0 || len(b.status().Warnings) == 0 {
		t.Fatalf("runs %v, warned of %q", without, b.status().Warnings)
	}
	for range 2 {
		_, gone := b.watched()
		b.edit("[auth]\n", "[auth]\n"+alice)
		b.reload("reloaded")
		within(t, "the end of who has not logged in", gone)
		must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
		b.refusedAs("no_credential")
		if n := len(b.status().Warnings); n != 0 {
			t.Errorf("warned of %q", b.status().Warnings)
		}
		b.seen[b.processes()["auth"]] = true
		_, gone = b.watched(nats.UserInfo("alice", "horse"))
		b.edit(alice, "")
		b.reload("reloaded")
		within(t, "the end of who was removed", gone)
		must(t, enter("nats://"+b.addr))
		await(t, "the end of auth", patience, func() bool { return maps.Equal(b.processes(), without) })
	}
	if out, err := exec.Command(gatehouse, "restart", "--runtime-dir", b.run, "auth").CombinedOutput(); err == nil || !strings.Contains(string(out), "there is no auth now") {
		t.Errorf("restart: %v, %s", err, out)
	}
}

// logins are clients that log in again and again.
type logins struct {
	stop atomic.Bool
	done sync.WaitGroup
	n    atomic.Int64
	errs chan error
}

func (b *broker) logIn(clients int) *logins {
	l := &logins{errs: make(chan error, 100)}
	for range clients {
		l.done.Go(func() {
			for !l.stop.Load() {
				if err := enter("nats://"+b.addr, nats.UserInfo("alice", "horse")); err != nil {
					select {
					case l.errs <- err:
					default:
					}
				}
				l.n.Add(1)
			}
		})
	}
	return l
}

// more waits for further logins.
func (l *logins) more(t testing.TB, n int64) {
	t.Helper()
	from := l.n.Load()
	await(t, "further logins", patience, func() bool { return l.n.Load() >= from+n })
}

func (l *logins) end(t testing.TB) {
	t.Helper()
	l.stop.Store(true)
	l.done.Wait()
	close(l.errs)
	for err := range l.errs {
		t.Errorf("login: %v", err)
	}
	t.Logf("%d logins", l.n.Load())
}

// Auth dies in the middle of logins, and none of them is refused; neither is one while
// the router, the parent or all of them change.
func TestKillAuth(t *testing.T) {
	const kills = 20
	b := startBroker(t, settings{cms: 2, limits: `auth_timeout = "20s"`, users: alice})
	calmNC, _ := b.watched(nats.UserInfo("alice", "horse"))
	l := b.logIn(8)
	for range kills {
		l.more(t, 8)
		pid := b.kill("auth")
		await(t, "another auth", patience, func() bool { now := b.processes()["auth"]; return now != 0 && now != pid })
	}
	for range 3 {
		l.more(t, 8)
		for _, role := range []string{"auth", "router"} {
			if got := b.restart(role); !strings.Contains(got, role+": replaced in") {
				t.Errorf("said %s", got)
			}
		}
		l.more(t, 8)
		pid := b.kill("router")
		await(t, "another router", patience, func() bool { now := b.processes()["router"]; return now != 0 && now != pid })
	}
	l.more(t, 8)
	l.end(t)
	must(t, useNATS(calmNC))
}

// One that is there and does nothing is ended after stall_timeout.
func TestStalledAuth(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{limits: "auth_timeout = \"20s\"\nstall_timeout = \"1s\"", users: alice})
	mark, pid := b.log.Mark(), b.processes()["auth"]
	b.signal("auth", syscall.SIGSTOP)
	must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
	b.deaths++
	b.attacked = true // a line says that it was no attack
	if b.log.Find(mark, "role killed at another's word", patience, "role", "auth", "reason", "stalled") == nil {
		t.Error("not said")
	}
	if now := b.processes()["auth"]; now == pid {
		t.Error("it is there still")
	}
}

// Clients log in while there is no parent. The next one adopts auth, and brings it
// what has changed.
func TestAdoptAuth(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, limits: `auth_timeout = "20s"`, users: alice + userTable("bob", password(battery))})
	bob, gone := b.watched(nats.UserInfo("bob", "battery"))
	l := b.logIn(4)
	l.more(t, 10)
	left := b.orphan()
	l.more(t, 20)
	must(t, useNATS(bob))
	b.edit(userTable("bob", password(battery)), userTable("dora", password(battery)))
	b.succeed()
	b.adopted(left)
	l.more(t, 10)
	l.end(t)
	within(t, "the end of who was removed", gone)
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "battery")))
	b.refusedAs("unknown_user", nats.UserInfo("bob", "battery"))
	if got := b.restart("auth"); !strings.Contains(got, "auth: replaced in") || len(b.log.All("role died")) > 0 {
		t.Errorf("said %s, and died %v", got, b.log.All("role died"))
	}
	left = b.orphan()
	must(t, syscall.Kill(left["auth"], syscall.SIGKILL))
	b.succeed()
	b.adopted(left, "auth")
	must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
}

// Nothing is left of what was never to be shown: not in a process's environment, not
// in its arguments. What auth has open is two ways to talk, and the bell of its checks.
func TestAuthPosture(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{users: alice})
	must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
	now := b.processes()
	if want := []string{"auth", "cm/0", "dispatcher", "parent", "router"}; !slices.Equal(roles(now), want) {
		t.Fatalf("ps shows %v, want %v", roles(now), want)
	}
	pid := now["auth"]
	checkTasks(t, pid)
	checkRoot(t, b, pid)
	checkEnviron(t, pid)
	checkStatus(t, b, now)
	got, err := tree.Descriptors(pid, tree.Sockets())
	must(t, err)
	want := maps.Clone(everyChild)
	maps.Copy(want, map[string]int{"unix seqpacket": 2, "socket of its own namespace": 2})
	if !maps.Equal(got, want) {
		t.Errorf("has open %v\nwant     %v", got, want)
	}
	if shared, err := tree.Mappings(pid); err != nil || len(shared) != 0 {
		t.Errorf("maps %v, %v", shared, err)
	}
	for role, pid := range now {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil || strings.Contains(string(text), "argon2") {
				t.Errorf("%s of %s: %q, %v", file, role, text, err)
			}
		}
	}
}

// Whoever fails again and again at one address keeps nobody out at another, and the
// same one only for a while.
func TestLoginFailures(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{users: "backoff = \"1s\"\n" + alice})
	at := func(i int, pass string) error {
		return enter("nats://"+b.addr, nats.UserInfo("alice", pass), nats.Dialer(from(i)))
	}
	await(t, "a back-off", patience, func() bool {
		at(1, "mule")
		return len(b.log.All("login refused", "reason", "backoff")) > 0
	})
	if err := at(1, "horse"); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("at the same address: %v", err)
	}
	must(t, at(2, "horse"))
	await(t, "the end of the back-off", patience, func() bool { return at(1, "horse") == nil })
}
