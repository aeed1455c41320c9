package custody

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func made(t *testing.T, dir string) (cert, key, unlock string) {
	t.Helper()
	cert, key, unlock, err := Development(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, unlock
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// needsFastDerivation skips where 600,000 iterations take half a minute.
func needsFastDerivation(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("SKIP needs a build without the race detector: the derivation takes too long")
	}
}

func TestDevelopment(t *testing.T) {
	needsFastDerivation(t)
	dir := t.TempDir()
	cert, key, unlock := made(t, dir)
	k, err := Open(Options{KeyFile: key, UnlockFile: unlock})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	leaf := readCert(t, cert)
	if err := k.Match(leaf); err != nil {
		t.Error(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	host, _ := os.Hostname()
	for _, name := range []string{"localhost", "127.0.0.1", "::1", host} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Error(err)
		}
	}
	if leaf.NotAfter.Before(time.Now().AddDate(developmentYears, 0, -1)) {
		t.Errorf("valid until %v", leaf.NotAfter)
	}
	for name, mode := range map[string]os.FileMode{cert: 0o644, key: 0o600, unlock: 0o400} {
		st, err := os.Stat(name)
		if err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, mode %v", name, err, st.Mode())
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 3 {
		t.Errorf("left in the directory: %v", entries)
	}
}

// The second call, and those at the same time, find what the first has made.
func TestDevelopmentOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, _, _, err := Development(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cert, key, unlock := made(t, dir)
	first := readCert(t, cert)
	made(t, dir)
	if !first.Equal(readCert(t, cert)) {
		t.Error("made again")
	}
	k, err := Open(Options{KeyFile: key, UnlockFile: unlock})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Match(first); err != nil {
		t.Error(err)
	}
}

// What an interrupted first start left is made anew; a certificate without its
// key is not.
func TestDevelopmentIncomplete(t *testing.T) {
	needsFastDerivation(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, developmentKey), "half", 0o600)
	_, key, unlock := made(t, dir)
	if k, err := Open(Options{KeyFile: key, UnlockFile: unlock}); err != nil {
		t.Error(err)
	} else {
		k.Close()
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Development(dir); err == nil || !strings.Contains(err.Error(), developmentKey) {
		t.Errorf("without the key: %v", err)
	}
}

func TestDevelopmentRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o770, 0o702} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := Development(dir); err == nil || !strings.Contains(err.Error(), "may write the directory") {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if _, _, _, err := Development(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there")
	}
	if os.Getuid() == 0 {
		theirs := t.TempDir()
		if err := os.Chown(theirs, 61999, 61999); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := Development(theirs); err == nil || !strings.Contains(err.Error(), "owned by uid 61999") {
			t.Errorf("another's directory: %v", err)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 0 {
		t.Errorf("left in the directory: %v", entries)
	}
}

// Other clients verify as strictly as they can.
func TestDevelopmentOpenSSL(t *testing.T) {
	needsFastDerivation(t)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("SKIP needs openssl: ", err)
	}
	cert, _, _ := made(t, t.TempDir())
	for _, args := range [][]string{
		{"-verify_hostname", "localhost"},
		{"-verify_ip", "127.0.0.1", "-x509_strict"},
		{"-verify_ip", "::1", "-purpose", "sslserver"},
	} {
		args = append([]string{"verify", "-CAfile", cert}, append(args, cert)...)
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
