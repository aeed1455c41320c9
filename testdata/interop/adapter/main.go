// Command adapter starts gatehouse for a test suite that describes the broker
// it wants as JSON (the keys are those of nats-server's configuration):
//
//	adapter [-gatehouse PATH] SPEC     -> SPEC's dir/broker.toml, exec gatehouse serve -c
//
// A private key is copied, encrypted, into SPEC's dir.
//
// It never starts a broker that differs from what was asked for: a wish without
// a counterpart is named on standard error, exit code 3. The exec keeps pid and
// process group, so that whoever started the adapter can signal the broker.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"gatehouse.test/interop/certs"
)

const exitUnmapped = 3

func main() {
	gatehouse := flag.String("gatehouse", os.Getenv("GATEHOUSE"), "`path` of the binary")
	flag.Parse()
	if flag.NArg() != 1 || *gatehouse == "" {
		fmt.Fprintln(os.Stderr, "usage: adapter -gatehouse PATH SPEC")
		os.Exit(2)
	}
	err := run(*gatehouse, flag.Arg(0))
	fmt.Fprintln(os.Stderr, "adapter:", err)
	var unmapped *unmappedError
	if errors.As(err, &unmapped) {
		os.Exit(exitUnmapped)
	}
	os.Exit(1)
}

// seal makes the encrypted copy of a key that the broker wants.
func seal(c *config, gatehouse string) error {
	f := certs.In(c.dir)
	f.Key = c.key
	return f.Seal(gatehouse)
}

// run returns only if the broker cannot be started.
func run(gatehouse, specFile string) error {
	b, err := os.ReadFile(specFile)
	if err != nil {
		return err
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(b, &spec); err != nil {
		return fmt.Errorf("%s: %w", specFile, err)
	}
	c, err := convert(spec)
	if err != nil {
		return err
	}
	file := filepath.Join(c.dir, "broker.toml")
	if err := os.WriteFile(file, c.toml(), 0o600); err != nil {
		return err
	}
	if c.secure {
		if err := seal(c, gatehouse); err != nil {
			return err
		}
	}
	if c.pidFile != "" {
		if err := os.WriteFile(c.pidFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return err
		}
	}
	err = syscall.Exec(gatehouse, []string{"gatehouse", "serve", "-c", file}, os.Environ())
	return fmt.Errorf("exec %s: %w", gatehouse, err)
}
