package process

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
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

	"gatehouse.test/interop/certs"
	tlsd "gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
	"gatehouse/testdata/tree"
)

// callEnv has the test binary be a caller of tlsd: socket, address, session and a line
// that the server is to send back.
const callEnv = "GATEHOUSE_TLSD_CALL"

// call is such a process's life.
func call(words []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := tlsd.Options{Socket: words[0], Session: words[2], ServerName: "localhost"}
	if o.Session == "" {
		o.TLS = &tls.Config{InsecureSkipVerify: true} // the server's handshakes are what is counted
	}
	conn, err := tlsd.Dial(ctx, words[1], o)
	if err != nil {
		return err
	}
	if err := echoed(conn, words[3]); err != nil {
		return err
	}
	return conn.Close()
}

func echoed(conn io.ReadWriter, line string) error {
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return err
	}
	b := make([]byte, len(line)+1)
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	if string(b) != line+"\n" {
		return fmt.Errorf("sent %q, got %q", line, b)
	}
	return nil
}

// sharing is a server and a broker whose tlsd reaches it.
type sharing struct {
	*broker
	ca     *certs.Authority
	addr   string
	socket string
	shakes atomic.Int32
	client atomic.Pointer[string] // subject of the certificate that the server was shown last
}

// share starts both; more is for [tlsd], session for its table.
func share(t *testing.T, s settings, more, session string) *sharing {
	t.Helper()
	ca, err := certs.NewAuthority("ca")
	must(t, err)
	pair, err := ca.Server("P-256")
	must(t, err)
	sh := &sharing{ca: ca}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	sh.addr = l.Addr().String()
	t.Cleanup(func() { l.Close() })
	cfg := &tls.Config{Certificates: []tls.Certificate{pair.TLS()}, ClientAuth: tls.RequestClientCert}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go sh.echo(tls.Server(conn, cfg))
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	s.users += fmt.Sprintf("[tlsd]\nsocket = \"SOCKET\"\nports = [%d]\nca = \"ca.pem\"\n%s\n[[tls_session]]\nname = \"*\"\nremote = %q\nopen = [\"*\"]\n%s\n",
		port, more, sh.addr, session)
	sh.broker = newBroker(t, s)
	sh.socket = filepath.Join(sh.dir, "tlsd")
	must(t, ca.Write(filepath.Join(sh.dir, "ca.pem")))
	text, err := os.ReadFile(sh.config)
	must(t, err)
	sh.write(sh.config, strings.Replace(string(text), "SOCKET", sh.socket, 1))
	return sh
}

// turnTo has tlsd's sessions go to another server, at another port. The broker does not run yet.
func (sh *sharing) turnTo(addr string) {
	sh.t.Helper()
	text, err := os.ReadFile(sh.config)
	must(sh.t, err)
	_, old, _ := net.SplitHostPort(sh.addr)
	_, port, _ := net.SplitHostPort(addr)
	sh.write(sh.config, strings.ReplaceAll(string(text), old, port))
	sh.addr = addr
}

func (sh *sharing) echo(conn *tls.Conn) {
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	sh.shakes.Add(1)
	if peers := conn.ConnectionState().PeerCertificates; len(peers) > 0 {
		name := peers[0].Subject.String()
		sh.client.Store(&name)
	}
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

// process runs a caller of its own.
func (sh *sharing) process(session, line string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), callEnv+"="+strings.Join([]string{sh.socket, sh.addr, session, line}, "|"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// here is a caller in this process.
func (sh *sharing) here(session string) (*tlsd.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := tlsd.Dial(ctx, sh.addr, tlsd.Options{Socket: sh.socket, Session: session, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	return conn.(*tlsd.Conn), nil
}

// 50 processes one after the other and 8 at once over one session: one handshake. When
// all have gone it is still there. Unshared there is one handshake each.
func TestSharedByProcesses(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "", "")
	sh.start()
	for i := range 50 {
		must(t, sh.process("s", fmt.Sprintf("request %d", i)))
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := sh.process("s", fmt.Sprintf("together %d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := sh.shakes.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
	out, err := exec.Command(gatehouse, "tls", "list", "--socket", sh.socket, "--json").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"name": "s"`) || !strings.Contains(string(out), `"callers": 0`) {
		t.Errorf("%v: %s", err, out)
	}
	must(t, sh.process("s", "one more"))
	if n := sh.shakes.Load(); n != 1 {
		t.Errorf("%d handshakes with one more", n)
	}
	for range 3 {
		must(t, sh.process("", "unshared"))
	}
	if n := sh.shakes.Load(); n != 4 {
		t.Errorf("%d handshakes with three unshared", n)
	}
}

// A tlsd that is killed ends its sessions, which its callers are told; they open again,
// and no other process notices. Its walls are those of any role, and it has no way but
// to its ports.
func TestTLSDKilled(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "", "")
	sh.start()
	conn, err := sh.here("s")
	must(t, err)
	must(t, echoed(conn, "before"))
	before := sh.processes()
	checkTasks(t, before["tlsd"])
	checkRoot(t, sh.broker, before["tlsd"])
	checkEnviron(t, before["tlsd"])
	if p := sh.status().Role("tlsd"); p.Seccomp != 2 || !p.NoNewPrivs || !p.NoCaps || p.Sessions != 1 {
		t.Errorf("status: %+v", p)
	}
	checkTLSDOpen(t, before["tlsd"])
	sh.kill("tlsd")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the caller hears %v", err)
	}
	conn.Close()
	await(t, "another tlsd", patience, func() bool { return sh.process("s", "after") == nil })
	now := sh.processes()
	delete(now, "tlsd")
	delete(before, "tlsd")
	if !maps.Equal(before, now) {
		t.Errorf("processes are %v, were %v", now, before)
	}
	if n := sh.shakes.Load(); n != 2 {
		t.Errorf("%d handshakes", n)
	}
}

// checkTLSDOpen wants nothing open but what it works with.
func checkTLSDOpen(t *testing.T, pid int) {
	t.Helper()
	got, err := tree.Descriptors(pid, tree.Sockets())
	must(t, err)
	want := maps.Clone(everyChild)
	// A bell, its socket, one caller and one server.
	maps.Copy(want, map[string]int{"unix seqpacket": 1, "unix stream": 3, "unix stream listener": 1, "tcp connection": 1})
	if !maps.Equal(got, want) {
		t.Errorf("has open %v\nwant     %v", got, want)
	}
}

// Sessions live on when the parent dies and another one comes, and when the
// configuration is read again; a restart lets callers finish.
func TestTLSDAdopted(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "", "")
	sh.start()
	must(t, sh.process("s", "before"))
	conn, err := sh.here("held")
	must(t, err)
	left := sh.orphan()
	must(t, echoed(conn, "without a parent"))
	must(t, sh.process("s", "without a parent"))
	sh.succeed()
	sh.adopted(left)
	must(t, echoed(conn, "with another"))
	must(t, sh.process("s", "with another"))
	must(t, syscall.Kill(sh.pid, syscall.SIGHUP))
	if sh.log.Find(0, "reloaded", patience) == nil {
		t.Fatal("not reloaded")
	}
	must(t, echoed(conn, "after SIGHUP"))
	if n := sh.shakes.Load(); n != 2 {
		t.Errorf("%d handshakes", n)
	}
	if got := sh.restart("tlsd"); !strings.Contains(got, "tlsd: replaced in") {
		t.Errorf("restart: %s", got)
	}
	must(t, sh.process("s", "by the new one"))
	must(t, echoed(conn, "by the old one"))
	mark := sh.log.Mark()
	must(t, conn.Close())
	if sh.log.Find(mark, "role ended", patience, "role", "tlsd") == nil {
		t.Error("the old one does not end")
	}
	if n := sh.shakes.Load(); n != 3 {
		t.Errorf("%d handshakes", n)
	}
}

// Without [listen] there is tlsd and nothing else. It shows servers a certificate, whose
// key the parent has.
func TestTLSDAlone(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "cert = \"client.crt\"\nkey = \"client.key.enc\"\nunlock_file = \"unlock\"\n",
		"client_certificate = true\nmin_version = \"1.3\"\n")
	pair, err := sh.ca.Client("this host")
	must(t, err)
	files := certs.In(sh.dir)
	files.Cert, files.Sealed = filepath.Join(sh.dir, "client.crt"), filepath.Join(sh.dir, "client.key.enc")
	must(t, files.Write(pair, gatehouse))
	text, err := os.ReadFile(sh.config)
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "[privsep]")
	sh.write(sh.config, "[privsep]"+rest)
	sh.launch()
	if sh.log.Find(0, "ready", soon) == nil {
		t.Fatalf("not ready:\n%s", sh.log.Text())
	}
	if got := sh.processes(); len(got) != 2 || got["tlsd"] == 0 {
		t.Errorf("processes are %v", got)
	}
	must(t, sh.process("s", "alone"))
	if name := sh.client.Load(); name == nil || *name != "CN=this host" {
		t.Errorf("the server was shown %v", name)
	}
	if p := sh.status().Role("tlsd"); p.Signatures != 1 {
		t.Errorf("%d signatures", p.Signatures)
	}
	sh.write(sh.config, "[listen]\ntcp = [\"127.0.0.1:0\"]\n[privsep]"+rest)
	must(t, syscall.Kill(sh.pid, syscall.SIGHUP))
	if l := sh.log.Find(0, "reload failed: everything stays as it is", patience); l == nil || !strings.Contains(l.Str("error"), "listen.tcp") {
		t.Errorf("a reload with clients: %v", l)
	}
	must(t, sh.process("s", "still alone"))
}

// A program that knows nothing of all this is a server, too: lines to openssl
// s_server, which turns them round.
func TestSharedWithOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIP needs openssl")
	}
	sh := share(t, settings{}, "", "")
	pair, err := sh.ca.Server("P-256")
	must(t, err)
	files := certs.In(sh.dir)
	must(t, files.Write(pair, ""))
	addr := freeAddress(t)
	server := exec.Command("openssl", "s_server", "-accept", addr, "-cert", files.Cert, "-key", files.Key, "-rev", "-quiet")
	must(t, server.Start())
	defer func() { server.Process.Kill(); server.Wait() }()
	sh.turnTo(addr)
	sh.start()
	o := tlsd.Options{Socket: sh.socket, Session: "rev", ServerName: "localhost", Mode: protocol.Framed, Frame: protocol.FrameLine}
	var conn net.Conn
	await(t, "the server", patience, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err = tlsd.Dial(ctx, sh.addr, o)
		return err == nil
	})
	defer conn.Close()
	_, err = io.WriteString(conn, "abc\n")
	must(t, err)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "cba\n" {
		t.Errorf("%q %v", line, err)
	}
}

// A right that names a program is for callers that run it, by their uid or any of their
// groups; without a parent they wait for one.
func TestTLSDExecutable(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "", "")
	pricer, other := sh.programs()
	sh.edit(`open = ["*"]`, fmt.Sprintf("open = [\"62001:%s\", \"%%62103:%[1]s\", \"62004\"]", pricer))
	sh.start()
	if got := sh.status().Role("parent").Capabilities; !slices.Contains(got, "sys_ptrace") {
		t.Errorf("the parent has kept %v", got)
	}
	run := func(path string, uid uint32, groups ...uint32) string {
		c := exec.Command(path)
		c.Env = []string{callEnv + "=" + strings.Join([]string{sh.socket, sh.addr, fmt.Sprint("s", uid), "line"}, "|")}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
		out, err := c.CombinedOutput()
		if err == nil {
			return "ok"
		}
		return string(out)
	}
	for _, tt := range []struct {
		path   string
		uid    uint32
		groups []uint32
		ok     bool
	}{
		{pricer, 62001, nil, true},
		{other, 62001, nil, false}, // though the session is its user's
		{pricer, 62002, nil, false},
		{pricer, 62002, []uint32{62100, 62103}, true},
		{other, 62002, []uint32{62100, 62103}, false},
		{other, 62004, nil, true},
	} {
		mark := sh.log.Mark()
		got := run(tt.path, tt.uid, tt.groups...)
		switch {
		case tt.ok && got != "ok", !tt.ok && !strings.Contains(got, "refused"):
			t.Errorf("%s as %d of %d: %s", tt.path, tt.uid, tt.groups, got)
		case !tt.ok && sh.log.Find(mark, "caller refused", patience, "reason", "policy") == nil:
			t.Errorf("%s as %d of %d: nothing says why", tt.path, tt.uid, tt.groups)
		}
	}
	if l := sh.log.Find(0, "caller refused", 0, "executable", other); l == nil {
		t.Error("the log does not name the program")
	}
	left := sh.orphan()
	answer := make(chan string, 1)
	go func() { answer <- run(pricer, 62001) }()
	sh.succeed()
	sh.adopted(left)
	if got := <-answer; got != "ok" {
		t.Errorf("after another parent has come: %s", got)
	}
}
