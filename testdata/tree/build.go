package tree

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Install puts the binary at path, where every uid may execute it: that of
// $GATEHOUSE, or one that is built from the checkout.
func Install(path string) error {
	given := os.Getenv("GATEHOUSE")
	if given == "" {
		return Build(path)
	}
	from, err := os.Open(given)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return cmp.Or(err, to.Close())
}

// Build makes the binary from the checkout, with further arguments of go build.
func Build(path string, args ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false"}, args...), "-o", path, ".")...)
	_, here, _, _ := runtime.Caller(0)
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build gatehouse: %w\n%s", err, text)
	}
	return nil
}

// RaiseFileLimit lets this process have as many files as it may.
func RaiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
