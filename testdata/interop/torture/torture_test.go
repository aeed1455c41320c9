package main

import (
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gatehouse.test/interop/torture/client"
)

const (
	patience = 30 * time.Second
	still    = 2 * time.Second
	life     = 500 * time.Millisecond
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// Some of everything in little time; make torture has more of it.
func TestTorture(t *testing.T) {
	for _, plan := range []string{
		"kill:router=20", "kill:dispatcher=20", "kill:auth=20", "kill:cm=5", "stop=10,hup=5", "kill:parent=5",
		"restart:router=3,restart:dispatcher=3,restart:auth=3,restart:cm=3", "upgrade=3",
	} {
		t.Run(plan, func(t *testing.T) {
			deeds, err := parsePlan(plan)
			must(t, err)
			var log strings.Builder
			r, err := torture(t.Context(), options{
				builds: builds, seed: 1 + rand.Uint64N(1<<32), plan: deeds, actions: actionNames, gap: 100 * time.Millisecond, least: 20 * time.Millisecond,
				absent: time.Second, span: 3 * time.Second, cms: 2, patience: patience, still: 10 * time.Second, log: &log,
				crowd: crowd{cells: 9, idle: 50, opens: 50 * time.Millisecond, life: 2 * time.Second},
			})
			must(t, err)
			var text strings.Builder
			r.write(&text)
			if !r.ok() {
				t.Errorf("the broker has failed\n%s\n%s", text.String(), log.String())
			}
		})
	}
}

// What is left over is found: a connection, a process, a broker that lives on.
func TestLeaksAreFound(t *testing.T) {
	b, err := newBroker(builds, 2, "")
	must(t, err)
	t.Cleanup(b.remove)
	must(t, b.serve(patience))
	l := newLoad(b.listeners, patience, still)
	must(t, l.warm(1))
	before, err := b.baseline(patience)
	must(t, err)
	if found := b.leaks(before, patience); len(found) > 0 {
		t.Fatalf("nothing was done: %q", found)
	}
	k, err := l.open("tcp", "left over", 512)
	must(t, err)
	wantLeak(t, b, before, "counts 1 connections")
	k.close()
	k.end(nil)
	stranger := &exec.Cmd{Path: b.exe, Args: []string{"gatehouse: cm/9", "sub", "-s", "nats://" + client.User + ":" + client.User + "@" + b.listeners["tcp"].Addr, "x"}}
	must(t, stranger.Start())
	wantLeak(t, b, before, "8 processes")
	must(t, stranger.Process.Kill())
	stranger.Wait()
	if found := b.leaks(before, patience); len(found) > 0 {
		t.Fatalf("all is over: %q", found)
	}
	if found := b.remains(0); len(found) < 8 {
		t.Errorf("of a living broker there remains only %q", found)
	}
}

// A message that is lost in the end is found as well, and none is where none is.
func TestSigtermLossIsFound(t *testing.T) {
	for fault, want := range map[string]uint64{"none": 0, "lose": 1} {
		t.Run(fault, func(t *testing.T) {
			b, err := newBroker(builds, 2, "")
			must(t, err)
			t.Cleanup(b.remove)
			must(t, b.serve(patience))
			p := startProxy(t, b.listeners["tcp"], fault, "sigterm.", 500)
			l := newLoad(map[string]client.Address{"tcp": {Network: "tcp", Addr: p.listener.Addr().String()}}, patience, still)
			k := &killer{broker: b, load: l, rand: newRand(1)}
			must(t, k.terminate(1))
			k.judgeLogs()
			if got := l.get(lost); got != want || l.failed() != (want > 0) {
				t.Errorf("%d lost of %d, want %d; %v", got, l.get(published), want, l.offenders)
			}
			if found := b.remains(patience); len(found) > 0 {
				t.Errorf("left: %q", found)
			}
		})
	}
}

// A role that dies by itself is found.
func TestDeathIsFound(t *testing.T) {
	b, err := newBroker(builds, 2, "")
	must(t, err)
	t.Cleanup(b.remove)
	must(t, b.serve(patience))
	k := &killer{broker: b, load: newLoad(b.listeners, patience, still), rand: newRand(1)}
	must(t, k.kill("dispatcher"))
	if k.judgeLogs(); k.load.failed() {
		t.Errorf("a death of ours: %v", k.load.offenders)
	}
	k.deaths = 0
	if k.judgeLogs(); k.load.get(broken) != 1 {
		t.Errorf("another's death: %v", k.load.offenders)
	}
}

func wantLeak(t *testing.T, b *broker, before *inventory, text string) {
	t.Helper()
	err := until(patience, func() error {
		if found := strings.Join(b.compare(before), "\n"); !strings.Contains(found, text) {
			return &missingText{text, found}
		}
		return nil
	})
	must(t, err)
}

type missingText struct{ want, in string }

func (m *missingText) Error() string { return "no " + m.want + " in " + m.in }
