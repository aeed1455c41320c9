package custody

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/tickets"
)

// A child of the tests opens a key, signs, tidies up and waits; its memory is
// searched from here, so that the search does not find itself.
const (
	traceEnv = "CUSTODY_TRACE" // key file and secret file
	plantEnv = "CUSTODY_PLANT" // hex of what to keep, for the control
	signs    = 300
	releases = 3000
	window   = 16 // bytes
)

func TestMain(m *testing.M) {
	for env, child := range map[string]func(string) error{traceEnv: traceChild, hardenEnv: hardenChild, adoptEnv: adoptChild} {
		if arg := os.Getenv(env); arg != "" {
			if err := child(arg); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// planted keeps the control's copy.
var planted []byte

func traceChild(arg string) error {
	key, secret, _ := strings.Cut(arg, ":")
	k, err := Open(Options{KeyFile: key, UnlockFile: secret})
	if err != nil {
		return err
	}
	calm := interrupt()
	for range signs {
		for _, scheme := range k.Schemes() {
			if _, err := k.Sign(scheme, input(32)); err != nil {
				return err
			}
		}
	}
	if err := release(k); err != nil {
		return err
	}
	calm()
	if err := signTickets(Options{KeyFile: key, UnlockFile: secret}); err != nil {
		return err
	}
	Tidy()
	if plant := os.Getenv(plantEnv); plant != "" {
		if _, err := fmt.Sscanf(plant, "%x", &planted); err != nil {
			return err
		}
	}
	fmt.Println("ready " + k.Memory())
	io.Copy(io.Discard, os.Stdin)
	fmt.Print(string(planted[:0]))
	return k.Close()
}

// interrupt sends this process the signal by which the runtime takes threads away
// from goroutines, over and over until it is told to be calm: the kernel lays all
// registers down where it is handled.
func interrupt() (calm func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		again := time.NewTicker(50 * time.Microsecond)
		defer again.Stop()
		for {
			select {
			case <-stop:
				return
			case <-again.C:
				_ = syscall.Kill(os.Getpid(), syscall.SIGURG)
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// release gives the key away often enough to be interrupted in it.
func release(k *Key) error {
	for range releases {
		fd, _, err := k.Release()
		if err != nil {
			return err
		}
		syscall.Close(fd)
	}
	return nil
}

// signTickets does what is done with a key for tickets, if it can be one.
func signTickets(o Options) error {
	k, err := OpenTicketKey(o)
	if errors.Is(err, tickets.ErrTransferKey) {
		return nil
	}
	if err != nil {
		return err
	}
	for range signs {
		if _, err := k.Sign(&tickets.Transfer{Issuer: "orga", User: "alice", Audience: "orgb", Expires: 60}); err != nil {
			return err
		}
	}
	return k.Close()
}

func TestTraces(t *testing.T) {
	if !Erases() {
		t.Skip("SKIP needs a build with GOEXPERIMENT=runtimesecret: nothing is erased")
	}
	needsPlainMemory(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			signer, err := kind.make()
			if err != nil {
				t.Fatal(err)
			}
			needles := secretParts(t, signer)
			if hits := searchChild(t, files(t, signer), needles, nil); hits != 0 {
				t.Errorf("%d windows of the key after %d signatures", hits, signs)
			}
		})
	}
}

// needsPlainMemory skips where the race detector's shadow memory, terabytes of
// it, would be searched.
func needsPlainMemory(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("SKIP needs a build without the race detector: its memory is too large to search")
	}
}

// The search finds what is there.
func TestTracesControl(t *testing.T) {
	needsPlainMemory(t)
	signer, err := kinds[1].make()
	if err != nil {
		t.Fatal(err)
	}
	needles := secretParts(t, signer)
	plant := slices.Concat(needles[0][3:3+window], make([]byte, 100))
	if hits := searchChild(t, files(t, signer), needles, plant); hits == 0 {
		t.Error("a planted window was not found")
	}
}

// secretParts lists what nobody may find: d, p, q, the CRT's numbers, or the
// seed and what is derived of it, each from its high end and from its low one,
// as words in memory have it.
func secretParts(t *testing.T, key crypto.Signer) [][]byte {
	t.Helper()
	var parts [][]byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		parts = [][]byte{k.D.Bytes(), k.Primes[0].Bytes(), k.Primes[1].Bytes(),
			k.Precomputed.Dp.Bytes(), k.Precomputed.Dq.Bytes(), k.Precomputed.Qinv.Bytes()}
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		parts = [][]byte{d}
	case ed25519.PrivateKey:
		h := sha512.Sum512(k.Seed())
		parts = [][]byte{k.Seed(), h[1:31], h[32:]}
	}
	for _, p := range slices.Clone(parts) {
		back := slices.Clone(p)
		slices.Reverse(back)
		parts = append(parts, back)
	}
	return parts
}

// searchChild runs a child and counts the windows of needles in its memory.
func searchChild(t *testing.T, o Options, needles [][]byte, plant []byte) int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), traceEnv+"="+o.KeyFile+":"+o.UnlockFile, fmt.Sprintf("%s=%x", plantEnv, plant))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	kind, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("child: %q, %v", line, err)
	}
	return searchMemory(t, cmd.Process.Pid, kind, needles)
}

// searchMemory counts windows in what process pid may write. Secret memory
// cannot be read or, of the other kind, is left out.
func searchMemory(t *testing.T, pid int, kind string, needles [][]byte) (hits int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	index := indexOf(needles)
	searched, secrets := 0, 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(perms, "rw") {
			continue
		}
		secret := strings.Contains(line, "secretmem") || strings.Contains(line, "memfd:secret")
		if secret && kind == KindLocked {
			secrets++
			continue
		}
		b := make([]byte, to-from)
		_, err := mem.ReadAt(b, int64(from))
		switch {
		case secret && err != nil:
			secrets++
		case secret:
			t.Error("secret memory can be read")
		case err != nil:
			t.Errorf("%q: %v", strings.TrimSpace(line), err)
		default:
			searched += len(b)
			hits += index.count(b)
		}
	}
	if secrets == 0 || searched < 1<<20 {
		t.Errorf("%d secret mappings, %d bytes searched", secrets, searched)
	}
	return hits
}

// windows finds every window of the needles by its first two bytes.
type windows map[[2]byte][][]byte

func indexOf(needles [][]byte) windows {
	w := windows{}
	for _, n := range needles {
		for i := 0; i+window <= len(n); i++ {
			first := [2]byte{n[i], n[i+1]}
			w[first] = append(w[first], n[i:i+window])
		}
	}
	return w
}

func (w windows) count(b []byte) (hits int) {
	var first [1 << 16]bool
	for k := range w {
		first[int(k[0])<<8|int(k[1])] = true
	}
	for i := 0; i+window <= len(b); i++ {
		if !first[int(b[i])<<8|int(b[i+1])] {
			continue
		}
		for _, n := range w[[2]byte{b[i], b[i+1]}] {
			if bytes.Equal(b[i:i+window], n) {
				hits++
			}
		}
	}
	return hits
}
