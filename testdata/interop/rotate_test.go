package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"gatehouse.test/interop/certs"
)

// A new certificate, with a key of any kind, is shown to those who come; who is
// there stays, and goes on.
func TestTLSRotation(t *testing.T) {
	for _, use := range []string{"sign", "release"} {
		t.Run(use, func(t *testing.T) {
			b := startBroker(t, settings{cms: 2, tls: &tlsSettings{use: use}})
			x, y := b.connect(), b.connect() // any disconnect is an asynchronous error
			old := b.shown()
			for _, kind := range []string{"RSA-2048", "P-384", "Ed25519", "P-256"} {
				want := b.renew(kind).Leaf.SerialNumber.String()
				if now := b.shown(); now != old {
					t.Fatalf("%s: certificate %s is shown before it was asked for, was %s", kind, now, old)
				}
				b.reload()
				b.await("the new certificate", func() bool { return b.shown() == want })
				// Both connection managers have it.
				for range 4 {
					if now := b.shown(); now != want {
						t.Errorf("%s: certificate %s is still shown, want %s", kind, now, want)
					}
				}
				requests(t, x, y)
				requests(t, b.connect(), x)
				old = want
			}
			if x.Stats().Reconnects+y.Stats().Reconnects > 0 {
				t.Error("connections did not outlive the certificate that they began with")
			}
		})
	}
}

// What cannot be used is not: the old certificate and key stay, and the log has
// an error.
func TestTLSRotationRefused(t *testing.T) {
	b := startBroker(t, settings{cms: 2, tls: &tlsSettings{}})
	x, y := b.connect(), b.connect()
	files, old := certs.In(b.dir), b.shown()
	good, err := b.ca.Server("P-256")
	must(t, err)
	mixed, err := b.ca.Server("P-256")
	must(t, err)
	mixed.Cert = good.Cert
	for what, spoil := range map[string]func(){
		"another certificate's key": func() { must(t, files.Write(mixed, b.sealer())) },
		"no certificate":            func() { b.write(files.Cert, "") },
		"no key":                    func() { must(t, os.Remove(files.Key)); must(t, removeIfThere(files.Sealed)) },
		"another secret": func() {
			if standIn() == "" {
				b.write(files.Unlock, "not the secret\n")
			} else {
				b.write(files.Key, "no key")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			must(t, files.Write(good, b.sealer()))
			spoil()
			before := b.errors()
			b.reload()
			b.await("an error in the log", func() bool { return b.errors() > before })
			for range 4 {
				if now := b.shown(); now != old {
					t.Fatalf("certificate %s is shown, was %s", now, old)
				}
			}
			requests(t, x, y)
		})
	}
	// And after all that a good one is taken.
	must(t, files.Write(good, b.sealer()))
	b.reload()
	b.await("the new certificate", func() bool { return b.shown() == good.Leaf.SerialNumber.String() })
	requests(t, x, y)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// reload tells the broker to read certificate and key again.
func (b *broker) reload() {
	b.t.Helper()
	must(b.t, b.cmd.Process.Signal(syscall.SIGHUP))
}

var errorLine = regexp.MustCompile(`(?m)"level":"error"|\[ERR\]`)

// errors is how many the broker has logged.
func (b *broker) errors() int {
	log, err := os.ReadFile(filepath.Join(b.dir, "log"))
	must(b.t, err)
	return len(errorLine.FindAll(bytes.TrimSpace(log), -1))
}
