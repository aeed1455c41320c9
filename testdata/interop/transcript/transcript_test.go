package transcript

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root    = "../../.."
	wireDir = root + "/testdata/wire"
)

var (
	update = flag.Bool("update", false, "rewrite rules.ok")
	peer   = flag.Bool("peer", false, "replay against nats-server too, built from testdata/peers")
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // brokers, most of which wait for time to pass
	dir, err := os.MkdirTemp("", "gh")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the roles of the broker execute what is in it
	}
	if err == nil {
		err = find(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// find says what programs to run, and builds those that are not given.
func find(dir string) (err error) {
	programs[ours], programs[theirs] = os.Getenv("GATEHOUSE"), os.Getenv("NATS_SERVER")
	if programs[ours] == "" {
		programs[ours] = filepath.Join(dir, ours)
		err = build(root, programs[ours], ".", "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret")
	}
	if programs[theirs] == "" && *peer && err == nil {
		programs[theirs] = filepath.Join(dir, theirs)
		err = build(root+"/testdata/peers", programs[theirs], "github.com/nats-io/nats-server/v2")
	}
	return err
}

func build(dir, path, what string, env ...string) error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, what)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", what, err, text)
	}
	return nil
}

func TestGatehouse(t *testing.T) { replayAll(t, ours) }

func TestNatsServer(t *testing.T) {
	if programs[theirs] == "" {
		t.Skip("SKIP nats-server beside the transcripts: not asked for by -peer or NATS_SERVER")
	}
	replayAll(t, theirs)
}

// replayAll replays every transcript in both ways. Those that want the same
// configuration share a broker, one after the other; a broker that is told to
// stop has one replay.
func replayAll(t *testing.T, kind string) {
	groups, order := map[string][]*transcript{}, []string{}
	for _, tr := range load(t) {
		key := tr.config
		if tr.leaves {
			key += "\n" + tr.name
		}
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], tr)
	}
	for _, key := range order {
		group := groups[key]
		t.Run(title(group[0]), func(t *testing.T) {
			t.Parallel()
			if group[0].leaves {
				for _, split := range []bool{false, true} {
					replayOne(t, start(t, kind, group[0].config), group[0], split)
				}
				return
			}
			b := start(t, kind, group[0].config)
			for _, tr := range group {
				replayOne(t, b, tr, false)
				replayOne(t, b, tr, true)
			}
		})
	}
}

// title names the broker that a transcript wants.
func title(tr *transcript) string {
	switch {
	case tr.leaves:
		return "leaving"
	case tr.config == "":
		return "default"
	}
	return strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(tr.config, " = ", "=")), "\n", ",")
}

func replayOne(t *testing.T, b *broker, tr *transcript, split bool) {
	way := "whole"
	if split {
		way = "bytes"
	}
	t.Run(tr.name+"/"+way, func(t *testing.T) {
		r := &replay{broker: b, split: split, conns: map[string]*conn{}}
		err := r.run(tr)
		for _, c := range r.conns {
			c.leave()
		}
		if err != nil {
			t.Fatalf("%s.txt, %v", tr.name, err)
		}
		if !tr.leaves {
			must(t, b.settle(2)) // without others there is one on each connection manager
		}
	})
}
