package process

import (
	"bufio"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// follower reads what the broker says to somebody who has asked for something that
// takes long.
type follower struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// quietest is how long the broker may say nothing: far less than what the commands
// take for the end of it.
const quietest = 15 * time.Second

func (b *broker) follow(t *testing.T, frame []byte) *follower {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(b.run, "control"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = conn.Write(frame)
	must(t, err)
	return &follower{t, conn, bufio.NewReader(conn)}
}

// said is the next line.
func (f *follower) said() (line struct{ Step, Stage, Done, Error any }) {
	f.t.Helper()
	must(f.t, f.conn.SetReadDeadline(time.Now().Add(quietest)))
	text, err := f.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &line)
	}
	if err == nil && line.Error != nil {
		f.t.Fatalf("told %s", text)
	}
	must(f.t, err)
	return line
}

// An upgrade that waits until a place is vacant says so, again and again, and goes
// on when it is.
func TestUpgradeWaits(t *testing.T) {
	t.Parallel()
	b := startCopy(t, settings{tls: "sign", limits: `drain_timeout = "5m"`})
	secure := b.tlsClient("")
	b.restart("cm/0")
	next := filepath.Join(b.dir, "next")
	build(t, next, "next")
	copyFile(t, next, b.binary)
	f := b.follow(t, request(3, 0))
	waits := 0
	for done := false; !done; {
		line := f.said()
		if step, _ := line.Step.(string); strings.HasPrefix(step, "waiting: ") {
			if waits++; waits == 3 {
				if !strings.Contains(step, "cm/1 cannot be replaced yet: cm/0 keeps 1 connections by TLS") {
					t.Errorf("told %q", step)
				}
				must(t, secure.sync())
				secure.reset()
			}
		}
		done = line.Done != nil
	}
	if waits < 3 {
		t.Errorf("told %d times that it waits", waits)
	}
	if v := b.status().Version; v != "next" {
		t.Errorf("version %s", v)
	}
	b.tree()
}

// A restart says how far it is, also while that does not change.
func TestRestartWaits(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	c := b.client("")
	b.signal("router", syscall.SIGSTOP) // without it nobody moves
	f := b.follow(t, request(2, 3))
	moving := 0
	for done := false; !done; {
		line := f.said()
		if line.Stage == "moving" {
			if moving++; moving == 3 {
				b.signal("router", syscall.SIGCONT)
			}
		}
		done = line.Done == true
	}
	if moving < 3 {
		t.Errorf("told %d times how far it is", moving)
	}
	must(t, c.sync())
	b.checkMoved(1, "cm/1")
}
