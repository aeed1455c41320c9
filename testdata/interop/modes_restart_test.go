package interop

import (
	"errors"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// Every process is replaced, and all connections move, while requests are on their way:
// they are answered as if nothing had been, and what ends them still does.
func TestModesRestarted(t *testing.T) {
	const names = "abcdef"
	b := startModes(t, "")
	nc, all := b.connect(), b.members(names, "work")
	owner := b.member("owner", client.Direct("pricer", "1"), "", client.Name("pricer", "1"))
	s := client.NewSession(nc)
	home := sticks(t, s, "work", 2)
	kept := keep(t, nc, "work")
	busy, request := holder(t, all)
	fanout := make(chan []string, 1)
	go func() {
		got, err := everybody(t, nc, "work", "keep")
		if err != nil {
			t.Error(err)
		}
		slices.Sort(got)
		fanout <- got
	}()
	for _, m := range all {
		asked := within(t, "the fanout", m.kept)
		if m.name == "c" {
			b.restartAll()
		}
		must(t, asked.Respond([]byte(m.name)))
	}
	if got := within(t, "the fanout's end", fanout); len(got) != len(names) || len(slices.Compact(got)) != len(names) {
		t.Errorf("answers %v", got)
	}
	if now := sticks(t, s, "work", 3); now != home {
		t.Errorf("the session went from %s to %s", home, now)
	}
	fair(t, "two are busy", shares(t, nc, "work", 12), without(names, home+busy.name), 3)
	must(t, request.Respond([]byte("late")))
	if got := within(t, "the answer", kept); got != (asked{"late", nil}) {
		t.Errorf("the answer is %+v", got)
	}
	if name, err := ask(t, nc, client.Direct("pricer", "1"), ""); name != owner.name || err != nil {
		t.Errorf("%s, %v", name, err)
	}
	must(t, s.Close(soonEnough(t)))
	fair(t, "all are free", shares(t, nc, "work", 12), names, 2)
	for _, c := range []*nats.Conn{nc, owner.Conn, all["a"].Conn} {
		if c.Stats().Reconnects > 0 {
			t.Error("a connection was lost")
		}
	}
}

// restartAll replaces every process of the broker by a new one.
func (b *broker) restartAll() {
	b.t.Helper()
	if out, err := exec.Command(gatehouse(b.t), "restart", "--runtime-dir", b.runtimeDir(), "all").CombinedOutput(); err != nil {
		b.t.Fatalf("restart: %v\n%s", err, out)
	}
}

// Who was connected to a cm that dies is lost to those of the other one, who are told how
// many they were; who asked by it notices.
func TestModesManagerKilled(t *testing.T) {
	b := startModes(t, "")
	gone := make(chan *nats.Conn, 100)
	lost := nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
		if err != nil {
			gone <- nc
		}
	})
	askers, all := []*nats.Conn{b.connect(lost), b.connect(lost)}, map[*nats.Conn]*member{}
	for _, name := range []string{"a", "b", "c", "d"} {
		m := b.member(name, "work", "members", lost)
		all[m.Conn] = m
	}
	outcomes := make([]chan error, len(askers))
	for i, nc := range askers {
		outcomes[i] = make(chan error, 1)
		go func() {
			_, err := everybody(t, nc, "work", "keep")
			outcomes[i] <- err
		}()
	}
	requests := map[*nats.Conn][]*nats.Msg{}
	for nc, m := range all {
		requests[nc] = []*nats.Msg{within(t, "a fanout", m.kept), within(t, "a fanout", m.kept)}
	}
	cm := b.status().Role("cm/1")
	must(t, syscall.Kill(cm.PID, syscall.SIGKILL))
	dead := map[*nats.Conn]bool{}
	for range cm.Connections {
		nc := within(t, "those who lose their connection", gone)
		dead[nc] = true
		delete(requests, nc)
	}
	for _, r := range requests {
		must(t, r[0].Respond(nil))
		must(t, r[1].Respond(nil))
	}
	for i, nc := range askers {
		var e *client.FanoutError
		err := within(t, "the end", outcomes[i])
		switch {
		case !errors.As(err, &e) || e.Expected != len(all):
			t.Errorf("the end is %v", err)
		case dead[nc] && e.Err != nats.ErrDisconnected:
			t.Errorf("who lost its connection is told %v", err)
		case !dead[nc] && *e != (client.FanoutError{Expected: len(all), Answered: len(requests), Lost: len(all) - len(requests), Err: client.ErrResponderLost}):
			t.Errorf("of %d members %d are left, told is %v", len(all), len(requests), err)
		}
	}
}
