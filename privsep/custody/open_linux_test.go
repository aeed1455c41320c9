package custody

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/privsep/keyfile"
)

// newFiles writes a new key of a kind and its secret.
func newFiles(t testing.TB, kind int) Options {
	t.Helper()
	signer, err := kinds[kind].make()
	if err != nil {
		t.Fatal(err)
	}
	return files(t, signer)
}

// Each error is one line with the file and the reason.
func TestOpenRefuses(t *testing.T) {
	good := newFiles(t, 3)
	for _, c := range []struct {
		name    string
		spoil   func(o *Options)
		of, why string // file and reason
	}{
		{"wrong secret", secretText("wrong"), "key", "wrong secret"},
		{"empty secret", secretText(""), "secret", "first line is empty"},
		{"empty first line", secretText("\nopen sesame\n"), "secret", "first line is empty"},
		{"long secret", secretText(strings.Repeat("x", 1024)), "secret", "longer than 1023"},
		{"zero byte", secretText("open\x00sesame"), "secret", "zero byte"},
		{"large file", secretText("open sesame\n" + strings.Repeat("x", 4096)), "secret", "larger than 4096"},
		{"group may read", secretMode(0o440), "secret", "mode 0440"},
		{"others may write", secretMode(0o402), "secret", "mode 0402"},
		{"directory", func(o *Options) { o.UnlockFile = filepath.Dir(o.KeyFile) }, "", "not a regular file"},
		{"pipe", pipe, "pipe", "not a regular file"},
		{"no secret file", func(o *Options) { o.UnlockFile += ".gone" }, "secret.gone", "no such file"},
		{"no key file", func(o *Options) { o.KeyFile += ".gone" }, "key.gone", "no such file"},
		{"no key", func(o *Options) { o.KeyFile = o.UnlockFile }, "secret", "no PEM block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := copied(t, good)
			c.spoil(&o)
			k, err := Open(o)
			if err == nil || k != nil {
				t.Fatalf("%v, %v", k, err)
			}
			if text := err.Error(); !strings.Contains(text, c.of+": ") || !strings.Contains(text, c.why) || strings.Contains(text, "\n") {
				t.Errorf("%q has not %q and %q on one line", text, c.of, c.why)
			}
		})
	}
}

// copied gives a test files of its own to spoil.
func copied(t *testing.T, from Options) Options {
	t.Helper()
	dir := t.TempDir()
	to := Options{KeyFile: filepath.Join(dir, "key"), UnlockFile: filepath.Join(dir, "secret")}
	for src, dst := range map[string]string{from.KeyFile: to.KeyFile, from.UnlockFile: to.UnlockFile} {
		text, err := os.ReadFile(src)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dst, string(text), 0o600)
	}
	return to
}

func secretText(text string) func(*Options) {
	return func(o *Options) {
		if err := os.WriteFile(o.UnlockFile, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
}

func secretMode(mode os.FileMode) func(*Options) {
	return func(o *Options) {
		if err := os.Chmod(o.UnlockFile, mode); err != nil {
			panic(err)
		}
	}
}

func pipe(o *Options) {
	o.UnlockFile = filepath.Join(filepath.Dir(o.KeyFile), "pipe")
	if err := unix.Mkfifo(o.UnlockFile, 0o400); err != nil {
		panic(err)
	}
}

// What ends the first line is no part of the secret; what OpenSSL takes for
// one is.
func TestOpenFirstLine(t *testing.T) {
	good := newFiles(t, 3)
	for text, want := range map[string]bool{
		"open sesame": true, "open sesame\n": true, "open sesame\nmore\n": true,
		"open sesame\r\n": false, " open sesame\n": false, "open sesame \n": false,
	} {
		o := copied(t, good)
		secretText(text)(&o)
		k, err := Open(o)
		if (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
		if k != nil {
			k.Close()
		}
	}
}

// Keys that open, but that no signature will come of.
func TestOpenWeakKeys(t *testing.T) {
	for why, make := range map[string]func() (crypto.PrivateKey, error){
		"1024 bits": func() (crypto.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) },
		"P-521":     func() (crypto.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"P-224":     func() (crypto.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P224(), rand.Reader) },
	} {
		key, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(files(t, key)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// userFiles are files in a directory that every user may enter.
func userFiles(t *testing.T) Options {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP needs root: becomes another user")
	}
	dir, err := os.MkdirTemp("", "custody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	o := newFiles(t, 3)
	path := filepath.Join(dir, "secret")
	text, err := os.ReadFile(o.UnlockFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(text), 0o400)
	o.UnlockFile = path
	return o
}

const keyUser = 61999

func chown(t *testing.T, path string, uid, gid int) {
	t.Helper()
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// The secret is read as the key-access user: whose it is opens, what root
// alone may read does not, although we are root.
func TestOpenAsUser(t *testing.T) {
	o := userFiles(t)
	o.UnlockUser = "61999"
	if k, err := Open(o); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("root's secret: %v, %v", k, err)
	}
	chown(t, o.UnlockFile, keyUser, keyUser)
	before := posture(t)
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	chown(t, o.UnlockFile, keyUser+1, keyUser)
	if k, err := Open(o); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("another's secret: %v, %v", k, err)
	}
	after := posture(t)
	after.Threads = before.Threads
	if !reflect.DeepEqual(before, after) {
		t.Errorf("posture %+v, before %+v", after, before)
	}
}

// A secret on a mount that only the user enters is read; one of a third
// user's is refused although we could.
func TestOpenAsUserPrivate(t *testing.T) {
	o := userFiles(t)
	dir := filepath.Dir(o.UnlockFile)
	chown(t, dir, keyUser, keyUser)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chown(t, o.UnlockFile, keyUser, keyUser)
	o.UnlockUser = "61999"
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	o.UnlockUser = ""
	if k, err := Open(o); err == nil || !strings.Contains(err.Error(), "owned by uid 61999") {
		t.Errorf("another's secret as root: %v, %v", k, err)
	}
	o.UnlockUser = "no-such-user"
	if k, err := Open(o); err == nil || !strings.Contains(err.Error(), "no such user") {
		t.Errorf("no such user: %v, %v", k, err)
	}
}

func posture(t *testing.T) privsep.Posture {
	t.Helper()
	p, err := privsep.ReadPosture(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !p.Uniform {
		t.Fatalf("threads differ: %+v", p)
	}
	return p
}

// While one thread is the user, the others are root; that shows in the
// posture, so that a thread that stayed would.
func TestAs(t *testing.T) {
	private := userFiles(t).UnlockFile // root's alone
	before := posture(t)
	id := &identity{uid: keyUser, gid: keyUser, groups: []int{keyUser + 1}}
	failed := errors.New("f's own")
	err := id.as(func() error {
		during, err := privsep.ReadPosture(os.Getpid())
		if err != nil {
			return err
		}
		if during.Uniform {
			t.Errorf("every thread is the user: %+v", during)
		}
		if proveBack(&before) == nil {
			t.Error("proved to be back while it is not")
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := os.ReadFile(private); err != nil {
				t.Errorf("root on another thread: %v", err)
			}
		})
		wg.Wait()
		if fd, err := unix.Open(private, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != unix.EACCES {
			unix.Close(fd)
			t.Errorf("the user opens root's file: %v", err)
		}
		return failed
	})
	if err != failed {
		t.Errorf("%v is not f's error", err)
	}
	if p := posture(t); p.UID != 0 {
		t.Errorf("posture %+v", p)
	}
}

// Not being dumpable is not lost to the change of identity.
func TestAsKeepsDumpable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP needs root: becomes another user")
	}
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0)
	for _, want := range []int{0, 1} {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(want), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		id := &identity{uid: keyUser, gid: keyUser}
		if err := id.as(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if n, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); n != want {
			t.Errorf("dumpable is %d, it was %d", n, want)
		}
	}
}

func TestLookup(t *testing.T) {
	u, err := user.Current()
	if err != nil {
		t.Skip("SKIP needs an entry for the present user: ", err)
	}
	for _, name := range []string{u.Username, u.Uid} {
		id, err := lookup(name)
		if err != nil || id.uid != os.Getuid() || id.gid != os.Getgid() {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	id, err := lookup("61999")
	if err != nil || id.uid != 61999 || id.gid != 61999 || len(id.groups) != 0 {
		t.Errorf("61999: %+v, %v", id, err)
	}
	for _, name := range []string{"no-such-user", "-1", "4294967295", "1.5", ""} {
		if id, err := lookup(name); err == nil {
			t.Errorf("%q is %+v", name, id)
		}
	}
}

// A wrong secret takes no more than one error, whichever it is.
func TestOpenWrongSecret(t *testing.T) {
	o := copied(t, newFiles(t, 1))
	for i := range 600 { // one in 256 has padding that looks right
		secretText("wrong" + strings.Repeat("x", i))(&o)
		if _, err := Open(o); !errors.Is(err, keyfile.ErrSecret) {
			t.Fatalf("secret %d: %v", i, err)
		}
	}
}
