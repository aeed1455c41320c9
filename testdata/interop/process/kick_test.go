package process

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cid is the connection's number, from INFO.
func (c *client) cid(t testing.TB) string {
	t.Helper()
	var info struct {
		CID uint64 `json:"client_id"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(c.info, "INFO ")), &info); err != nil || info.CID == 0 {
		t.Fatalf("%v: %s", err, c.info)
	}
	return fmt.Sprint(info.CID)
}

// kick closes connections as the operator does.
func (b *broker) kick(cids ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	cmd := exec.Command(gatehouse, append([]string{"kick", "--runtime-dir", b.run}, cids...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// A kick closes one connection, by whatever way it has come and whatever it is doing, and
// no other.
func TestKick(t *testing.T) {
	t.Parallel()
	b, path := audited(t, settings{cms: 2, tls: "sign"})
	calm, before := startCalm(t, b.client(""), b.client(""), time.Millisecond), b.processes()
	plain := b.client("SUB a 1\r\n")
	must(t, plain.sync())
	unix, err := dial(b.unix)
	must(t, err)
	defer unix.reset()
	silent, err := dial(b.tls) // in the middle of a handshake, which it never begins
	must(t, err)
	defer silent.reset()
	secure, err := dial(b.tls)
	must(t, err)
	defer secure.reset()
	conn := tls.Client(secure.conn, b.clientTLS())
	must(t, conn.Handshake())
	deaf := b.client("SUB b 1\r\n")
	must(t, deaf.sync())
	sender := b.client("")
	for range 400 { // more than sockets take
		must(t, sender.send(pub("b", strings.Repeat("b", 32<<10))))
	}
	must(t, sender.sync())
	must(t, sender.send(pub("a", "last")+"PING\r\n"))
	if f, err := sender.next(); err != nil || f.line != "PONG" {
		t.Fatalf("%q, %v", f.line, err)
	}
	for name, c := range map[string]*client{"plain": plain, "unix": unix, "silent": silent, "tls": secure, "deaf": deaf} {
		out, errs, code := b.kick(c.cid(t))
		if code != 0 || errs != "" || !strings.HasPrefix(out, "connection "+c.cid(t)+" of cm/") {
			t.Errorf("%s: code %d, %q%q", name, code, out, errs)
		}
		if got := c.rest(); name == "plain" && got != "MSG a 1 4\r\nlast\r\n" {
			t.Errorf("%s: %q", name, got)
		}
		b.told(path, "kick", "cid", c.cid(t))
	}
	if _, errs, code := b.kick(plain.cid(t)); code != 1 || errs != fmt.Sprintf("gatehouse: kick %[1]s: there is no connection %[1]s: conns lists those there are\n", plain.cid(t)) {
		t.Errorf("again: code %d, %q", code, errs)
	}
	more := b.client("")
	if out, errs, code := b.kick("18446744073709551615", more.cid(t), "999999"); code != 1 || strings.Count(errs, "\n") != 2 || strings.Count(out, "\n") != 1 {
		t.Errorf("several: code %d, %q%q", code, out, errs)
	}
	must(t, sender.sync())
	b.unchanged(before)
	calm.end(t)
}

// While connections move from one process to another each can be kicked.
func TestKickWhileMoving(t *testing.T) {
	t.Parallel()
	const n = 100
	b := startBroker(t, settings{cms: 1})
	var conns []*client
	for range n {
		conns = append(conns, b.client(""))
	}
	var all sync.WaitGroup
	all.Go(func() { exec.Command(gatehouse, "restart", "--runtime-dir", b.run, "all").Run() })
	for i, c := range conns {
		if i%10 == 0 {
			if out, errs, code := b.kick(c.cid(t)); code != 0 {
				t.Errorf("%d: code %d, %s%s", i, code, out, errs)
			}
			c.rest()
		}
	}
	all.Wait()
	b.processes()
	for i, c := range conns {
		if err := c.sync(); (err == nil) != (i%10 != 0) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// A cm that stands still is named, and whoever is elsewhere can be kicked.
func TestKickPastAStalledCM(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, limits: `stall_timeout = "1m"`})
	c := b.clientOn("cm/1")
	b.signal("cm/0", syscall.SIGSTOP)
	defer b.signal("cm/0", syscall.SIGCONT)
	if out, errs, code := b.kick(c.cid(t)); code != 0 || !strings.Contains(out, "cm/1") {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	if _, errs, code := b.kick("999999"); code != 1 || !strings.Contains(errs, "no answer from cm/0, and no other has connection 999999: status shows how they are") {
		t.Errorf("code %d, %s", code, errs)
	}
}
