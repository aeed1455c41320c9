package tlsd

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// as runs f on a thread of another user, which ends with it.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP needs root: callers of other users")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		for _, call := range []uintptr{syscall.SYS_SETRESGID, syscall.SYS_SETRESUID} {
			if _, _, errno := syscall.RawSyscall(call, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				t.Error(errno)
				return
			}
		}
		f()
	}()
	<-done
}

// open makes the rig's socket one that everybody reaches.
func (r *rig) open() {
	must(r.t, os.Chmod(strings.TrimSuffix(r.socket, "/tlsd"), 0o755))
}

// asks sends a head as whoever the thread is, and gives the answer's status.
func (r *rig) asks(head string) protocol.Code {
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Error(err)
		return 0
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, head)
	b := make([]byte, 1<<10)
	n, _ := io.ReadAtLeast(c, b, len(protocol.Name)+4)
	text := string(b[:n])
	a, err := protocol.ParseAnswer(b[:protocol.AnswerEnd(b[:n])])
	if err != nil {
		r.t.Errorf("%q", text)
		return 0
	}
	return a.Code
}

// Who may do what, and what each is told.
func TestRights(t *testing.T) {
	const owner, friend, member, stranger = 2001, 2002, 2003, 2004
	r := newRig(t)
	r.open()
	to := r.serve(echoLines)
	grant := func(g ...privsep.TLSGrant) []privsep.TLSGrant { return g }
	uid := func(id uint32) privsep.TLSGrant { return privsep.TLSGrant{To: privsep.GrantUID, ID: id} }
	r.policy("own*", to, func(p *privsep.TLSPolicyText) { p.Open = grant(uid(owner), uid(friend)) })
	r.policy("shared", to, func(p *privsep.TLSPolicyText) {
		p.Open, p.Read, p.Write = grant(uid(owner)), grant(uid(friend), privsep.TLSGrant{To: privsep.GrantGID, ID: member}), grant(uid(friend))
	})
	connect := func(name string, more ...string) string {
		return "CONNECT " + to.addr + " GATEHOUSE-TLS/1\nSession: " + name + "\n" + strings.Join(more, "") + "\n"
	}
	for _, step := range []struct {
		uid  int
		head string
		want protocol.Code
	}{
		{stranger, connect("own"), protocol.Refused},
		{stranger, connect("nobody's"), protocol.Refused},
		{owner, connect("other"), protocol.Refused},
		{owner, strings.Replace(connect("own"), "127.0.0.1", "127.0.0.2", 1), protocol.Refused},
		{owner, connect("own"), protocol.OK},
		{friend, connect("own"), protocol.Refused}, // may open one, and not use another's
		{friend, connect("own2"), protocol.OK},
		{friend, connect("shared"), protocol.Refused},
		{owner, connect("shared", "Mode: framed\nFrame: line\nRead: none\n"), protocol.OK},
		{friend, connect("shared", "Mode: framed\nFrame: line\nRead: none\n"), protocol.OK},
		{friend, connect("shared"), protocol.Conflict},
		{friend, connect("shared", "Mode: framed\nFrame: line\nRead: none\nSNI: server.example\n"), protocol.Conflict},
		{member, connect("shared", "Mode: framed\nFrame: line\nRead: none\n"), protocol.Refused},
		{member, connect("shared", "Mode: framed\nFrame: line\nRead: all\n"), protocol.OK},
		{stranger, "ATTACH shared GATEHOUSE-TLS/1\nRead: all\n\n", protocol.NoSession},
		{stranger, "CLOSE shared GATEHOUSE-TLS/1\n\n", protocol.NoSession},
		{friend, "CLOSE shared GATEHOUSE-TLS/1\n\n", protocol.NoSession},
		{stranger, "LIST GATEHOUSE-TLS/1\n\n", protocol.OK},
		{owner, "CLOSE shared GATEHOUSE-TLS/1\n\n", protocol.OK},
		{0, "CLOSE own GATEHOUSE-TLS/1\n\n", protocol.OK},
		{owner, "ATTACH own GATEHOUSE-TLS/1\n\n", protocol.NoSession},
	} {
		as(t, step.uid, func() {
			if got := r.asks(step.head); got != step.want {
				t.Errorf("%d: %q: %d, want %d", step.uid, step.head, got, step.want)
			}
		})
	}
}

// Others see nothing in the list.
func TestListIsPrivate(t *testing.T) {
	r := newRig(t)
	r.open()
	to := r.serve(echo)
	r.policy("secret", to, nil)
	c := r.mustDial(to, client.Options{Session: "secret"})
	defer c.Close()
	list := func() string {
		conn := r.raw("LIST GATEHOUSE-TLS/1\n\n")
		b, _ := io.ReadAll(conn)
		return string(b)
	}
	if got := list(); !strings.Contains(got, `"name":"secret"`) || !strings.Contains(got, `"callers":1`) || !strings.Contains(got, `"state":"open"`) {
		t.Errorf("%s", got)
	}
	as(t, 2001, func() {
		if got := list(); strings.Contains(got, "secret") {
			t.Errorf("%s", got)
		}
	})
}

// Who has got hold of another's connection is not that other.
func TestForeignSender(t *testing.T) {
	r := newRig(t)
	r.open()
	to := r.serve(echo)
	r.policy("s", to, nil)
	c, err := net.Dial("unix", r.socket)
	must(t, err)
	defer c.Close()
	as(t, 2001, func() {
		io.WriteString(c, "CONNECT "+to.addr+" GATEHOUSE-TLS/1\nSession: s\n\n")
	})
	if a := r.answer(c); a.Code != protocol.Refused {
		t.Errorf("%+v", a)
	}
}

// A server whose certificate is not good gets no session, and the caller is told why.
func TestVerify(t *testing.T) {
	r := newRig(t)
	past := r.ca.server(t)
	cert, key := sign(t, expired(), r.ca)
	past.Certificate, past.PrivateKey = [][]byte{cert.Raw}, key
	for name, tt := range map[string]struct {
		cfg    *tls.Config
		sni    string
		verify string
	}{
		"another authority's": {&tls.Config{Certificates: []tls.Certificate{newAuthority(t).server(t)}}, "", "unknown_authority"},
		"another host's":      {&tls.Config{Certificates: []tls.Certificate{r.server}}, "other.example", "hostname"},
		"past":                {&tls.Config{Certificates: []tls.Certificate{past}}, "", "expired"},
	} {
		to := serveTLS(t, tt.cfg, echo)
		r.policy("*", to, nil)
		for range 2 { // the second time it is remembered
			_, err := r.dial(to, client.Options{Session: name[:3], ServerName: tt.sni})
			if e, ok := err.(*client.Error); !ok || e.Code != protocol.NotConnected || e.Verify != tt.verify {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := r.hub.failed.Load(); n != 1 {
			t.Errorf("%s: %d tries", name, n)
		}
		r.hub.failed.Store(0)
	}
	to := r.serve(echo)
	r.policy("*", to, nil)
	c := r.mustDial(to, client.Options{Session: "good", ServerName: "server.example"})
	if s := c.ConnectionState(); s.PeerCertificates[0].Subject.CommonName != "server" || s.Version != tls.VersionTLS13 {
		t.Errorf("%+v", s)
	}
	must(t, c.Close())
}

// A policy that has changed ends its sessions and no others.
func TestPolicyChanges(t *testing.T) {
	r := newRig(t)
	to := r.serve(echoLines)
	r.policy("a", to, nil)
	r.policy("b", to, nil)
	a := r.mustDial(to, client.Options{Session: "a"})
	b := r.mustDial(to, client.Options{Session: "b"})
	must(t, ask(a, "x"))
	must(t, ask(b, "x"))
	r.hub.setPolicies(r.set) // the same
	must(t, ask(a, "y"))
	r.set[0].IdleTimeout++
	r.hub.setPolicies(r.set)
	if _, err := a.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	must(t, ask(b, "y"))
	r.hub.setPolicies(nil)
	if _, err := b.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	if _, err := r.dial(to, client.Options{Session: "b"}); code(err) != protocol.Refused {
		t.Errorf("%v", err)
	}
	a.Close()
	b.Close()
}

// A session that nobody uses ends, and one whose certificate is not good any more.
func TestIdleAndRevalidate(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("idle", to, func(p *privsep.TLSPolicyText) { p.IdleTimeout = 10 * time.Millisecond })
	r.policy("check", to, func(p *privsep.TLSPolicyText) { p.Revalidate = 10 * time.Millisecond })
	c := r.mustDial(to, client.Options{Session: "check"})
	must(t, ask(c, "x"))
	s := r.sessions()[0]
	must(t, ask(c, "y"))
	s.mu.Lock()
	s.again.Stop()
	s.mu.Unlock()
	s.sni = "other.example" // as if the clock or the roots had changed
	s.revalidate()
	if _, err := c.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	c.Close()
	must(t, r.mustDial(to, client.Options{Session: "idle"}).Close())
	r.await("no session", func() bool { return len(r.sessions()) == 0 })
}

// Whoever asks for a session that is there and another one is told in what it differs.
func TestConflict(t *testing.T) {
	r := newRig(t)
	to := r.serve(echoLines)
	r.policy("*", to, nil)
	frames := client.Options{Session: "frames", Mode: protocol.Framed}
	must(t, r.mustDial(to, client.Options{Session: "s"}).Close())
	must(t, r.mustDial(to, frames).Close())
	all := frames
	all.Read = protocol.ReadAll
	other := r.serve(echoLines)
	r.policy("s", other, nil)
	for _, tt := range []struct {
		to   *remote
		o    client.Options
		want string
	}{
		{to, client.Options{Session: "s", ServerName: "server.example"}, "another SNI, 127.0.0.1"},
		{to, client.Options{Session: "s", ALPN: []string{"h2"}}, "another ALPN, none"},
		{to, client.Options{Session: "s", Mode: protocol.Raw}, "another Mode, exclusive"},
		{to, client.Options{Session: "frames", Mode: protocol.Framed, Frame: protocol.FrameLine}, "another Frame, u32"},
		{to, all, "Read must be order"},
		{other, client.Options{Session: "s"}, "is with " + to.addr},
	} {
		_, err := r.dial(tt.to, tt.o)
		e, ok := err.(*client.Error)
		if !ok || e.Code != protocol.Conflict || !strings.Contains(e.Error(), "tlsd: conflict: ") || !strings.HasSuffix(e.Reason, tt.want) {
			t.Errorf("%+v: %v, want %q", tt.o, err, tt.want)
		}
	}
}
