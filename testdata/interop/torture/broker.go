package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatehouse.test/interop/certs"
	"gatehouse.test/interop/torture/client"
	"gatehouse/testdata/tree"
)

// broker is a tree of real processes, whose parent may be another one each time.
type broker struct {
	dir, run, config string
	exe              string   // what runs
	builds           []string // of it, the first one runs at the start
	upgrades         int
	listeners        map[string]client.Address
	cms              int

	logs   []*tree.Log
	parent *exec.Cmd
	exited chan struct{}
}

// newBroker writes a configuration with ports that are free now: the same ones
// are bound again by each parent.
func newBroker(builds []string, cms int, limits string) (*broker, error) {
	// A short path, for the sake of the Unix socket in it.
	dir, err := os.MkdirTemp("", "ght")
	if err != nil {
		return nil, err
	}
	b := &broker{dir: dir, run: filepath.Join(dir, "run"), config: filepath.Join(dir, "broker.toml"),
		exe: filepath.Join(dir, "gatehouse"), builds: builds, listeners: map[string]client.Address{}, cms: cms}
	err = errors.Join(os.Chmod(dir, 0o755), copyFile(builds[0], b.exe))
	if err == nil {
		err = b.configure(limits)
	}
	if err != nil {
		b.remove()
		return nil, err
	}
	return b, nil
}

// build makes two binaries in a folder, so that there is something to upgrade to. A
// binary that was given is taken as it is.
func build(dir string) (builds []string, err error) {
	if given := os.Getenv("GATEHOUSE_TORTURE"); given != "" {
		return []string{given}, nil
	}
	for i := range 2 {
		path := filepath.Join(dir, fmt.Sprint("build", i))
		builds = append(builds, path)
		err := tree.Build(path, "-trimpath", "-ldflags", fmt.Sprintf("-s -w -X main.version=torture-%d", i))
		if err != nil {
			return nil, err
		}
	}
	return builds, nil
}

// copyFile replaces a file in one step, also one that is being executed.
func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", content, 0o755); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

// next puts the other build in the place of the one that runs.
func (b *broker) next() error {
	b.upgrades++
	return copyFile(b.builds[b.upgrades%len(b.builds)], b.exe)
}

func (b *broker) configure(limits string) error {
	ca, err := certs.NewAuthority("authority")
	if err != nil {
		return err
	}
	pair, err := ca.Server("P-256")
	if err != nil {
		return err
	}
	f := certs.In(b.dir)
	if err := f.Write(pair, b.exe); err != nil {
		return err
	}
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	b.listeners["tcp"] = client.Address{Network: "tcp", Addr: ports[0]}
	b.listeners["tls"] = client.Address{Network: "tcp", Addr: ports[1], TLS: &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}}
	b.listeners["unix"] = client.Address{Network: "unix", Addr: filepath.Join(b.dir, "client")}
	return os.WriteFile(b.config, fmt.Appendf(nil, "[listen]\ntcp = [%q]\ntls = [%q]\nunix = [%q]\n"+
		"[tls]\ncert = %q\nkey = %q\nunlock_file = %q\n[privsep]\nruntime_dir = %q\nuid_base = %d\n[cm]\ncount = %d\n"+
		"[log]\nformat = \"json\"\n[[user]]\nname = %q\npassword = %q\n[limits]\n%s\n",
		ports[0], ports[1], b.listeners["unix"].Addr, f.Cert, f.Sealed, f.Unlock, b.run, 67000, b.cms, client.User, client.Hash, limits), 0o644)
}

// freePorts are loopback addresses that nobody has.
func freePorts(n int) (all []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all, nil
}

// serve starts a parent and waits until it says that it is ready.
func (b *broker) serve(patience time.Duration) error {
	cmd := exec.Command(b.exe, "serve", "-c", b.config)
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stderr = w
	log := tree.Follow(r)
	b.logs = append(b.logs, log)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	exited := make(chan struct{})
	b.parent, b.exited = cmd, exited
	go func() { cmd.Wait(); close(exited) }()
	if log.Find(0, "ready", patience) == nil {
		return fmt.Errorf("serve is not ready after %v:\n%s", patience, tail(log.Text(), 20))
	}
	return nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// pids are the living processes of this broker, whoever is their parent: those
// that run a file in its folder.
func (b *broker) pids() map[int]string {
	entries, _ := os.ReadDir("/proc")
	all := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if exe, _ := os.Readlink("/proc/" + e.Name() + "/exe"); strings.HasPrefix(exe, b.exe) {
			all[pid] = tree.Title(pid)
		}
	}
	return all
}

// roles are the living processes of a role; "cm" stands for all of its kind.
func (b *broker) roles(name string) (pids []int) {
	for pid, role := range b.pids() {
		if role == name || name == "cm" && strings.HasPrefix(role, "cm/") {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (b *broker) status() (*tree.Status, error) { return tree.AskStatus(b.exe, b.run) }

// whole is nil when every role runs, as many of each as there should be.
func (b *broker) whole() error {
	st, err := b.status()
	if err != nil {
		return err
	}
	running := map[string]int{}
	for _, p := range st.Processes {
		if kind, _, _ := strings.Cut(p.Role, "/"); p.State == "running" {
			running[kind]++
		}
	}
	for kind, n := range map[string]int{"parent": 1, "dispatcher": 1, "router": 1, "cm": b.cms} {
		if running[kind] < n {
			return fmt.Errorf("%d of %d running: %s", running[kind], n, kind)
		}
	}
	return nil
}

// until polls for a state of other processes, which send no event.
func until(patience time.Duration, ok func() error) error {
	end := time.Now().Add(patience)
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := ok()
		if err == nil || time.Now().After(end) {
			return err
		}
		<-time.After(wait)
	}
}

// remove ends what is left of the broker and its folder.
func (b *broker) remove() {
	for pid := range b.pids() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if b.exited != nil {
		<-b.exited
	}
	os.RemoveAll(b.dir)
}
