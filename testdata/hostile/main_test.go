package hostile

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles"
	"gatehouse/roles/cli"
	"gatehouse/roles/parent"
)

// base is the folder of all brokers; program the test binary in it, of which
// each broker has a link of its own.
var base, program string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case privsep.ChildFlag:
			os.Exit(child(os.Args[2]))
		case accompliceFlag:
			os.Exit(accomplice())
		case peekFlag:
			os.Exit(peek(os.Args[2]))
		case "serve", "status":
			serve := func(cfg *parent.Config, source string) error { return parent.Serve(cfg, source, "hostile") }
			os.Exit(cli.Main(os.Args, cli.Env{Version: "hostile", Serve: serve, Debug: roles.Debug}))
		}
	}
	os.Exit(tests(m))
}

func tests(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIP needs root: roles taken over, under uids of their own")
		return 0
	}
	if err := privsep.CheckBuild(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if base, err = os.MkdirTemp("", "ghh"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(base)
	program = filepath.Join(base, "program")
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	flag.Parse()
	// Brokers mostly wait: for the delays that follow deaths.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// prepare copies this binary to where every uid may execute it.
func prepare() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if err := os.Chmod(base, 0o755); err != nil {
		return err
	}
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close()
}

// child is a role, or the villain that a plan puts in its place.
func child(name string) int {
	v, err := planned(name)
	if err != nil {
		fmt.Fprintf(os.Stderr, "villain %s: %v\n", name, err)
		return 1
	}
	if v == nil {
		return roles.Main(name)
	}
	if err := v.live(); err != nil {
		fmt.Fprintf(os.Stderr, "villain %s %+v: %v\n", name, v.plan, err)
	}
	return 1
}
