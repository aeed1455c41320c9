package hostile

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/testdata/tree"
)

var long = flag.Bool("long", false, "10,000 handshakes with each key, not 1,000")

// window is how much of a secret counts as found, in bytes.
const window = 16

// needles finds the windows of secrets in memory.
type needles struct {
	first [1 << 16]bool // by the first two bytes
	all   map[[window]byte]string
}

// newNeedles takes every secret as it is, reversed as a whole, and reversed word
// by word: how big numbers lie in memory.
func newNeedles(secrets map[string][]byte) *needles {
	n := &needles{all: map[[window]byte]string{}}
	for name, s := range secrets {
		n.add(name, s)
		whole := slices.Clone(s)
		slices.Reverse(whole)
		n.add(name+", reversed", whole)
		words := slices.Clone(s)
		for i := 0; i+8 <= len(words); i += 8 {
			slices.Reverse(words[i : i+8])
		}
		n.add(name+", words reversed", words)
	}
	return n
}

func (n *needles) add(name string, s []byte) {
	for i := 0; i+window <= len(s); i++ {
		w := [window]byte(s[i:])
		n.all[w] = name
		n.first[binary.LittleEndian.Uint16(w[:])] = true
	}
}

// in gives the names of what is in b, and how often.
func (n *needles) in(b []byte, found map[string]int) {
	for i := 0; i+window <= len(b); i++ {
		if !n.first[uint16(b[i])|uint16(b[i+1])<<8] {
			continue
		}
		if name, ok := n.all[[window]byte(b[i:])]; ok {
			found[name]++
		}
	}
}

// secretsOf are the secret parts of a private key.
func secretsOf(t testing.TB, key any) map[string][]byte {
	t.Helper()
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return map[string][]byte{"d": k.D.Bytes(), "p": k.Primes[0].Bytes(), "q": k.Primes[1].Bytes(),
			"dp": k.Precomputed.Dp.Bytes(), "dq": k.Precomputed.Dq.Bytes(), "qinv": k.Precomputed.Qinv.Bytes()}
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		must(t, err)
		return map[string][]byte{"d": d}
	case ed25519.PrivateKey:
		return map[string][]byte{"seed": k.Seed()}
	}
	t.Fatalf("key of type %T", key)
	return nil
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	from, to uint64
	text     string
}

func mappings(t testing.TB, pid int) (all []mapping) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		m := mapping{text: in.Text()}
		_, err := fmt.Sscanf(m.text, "%x-%x", &m.from, &m.to)
		must(t, err)
		all = append(all, m)
	}
	return all
}

// secretMappings are those of memfd_secret(2).
func secretMappings(t testing.TB, pid int) []mapping {
	t.Helper()
	return slices.DeleteFunc(mappings(t, pid), func(m mapping) bool { return !strings.Contains(m.text, "secretmem") })
}

// scan searches a process's memory, as root: what was found, how many bytes were
// read, and what could not be.
func (n *needles) scan(t testing.TB, pid int) (found map[string]int, size uint64, closed []mapping) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer mem.Close()
	pages, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	must(t, err)
	defer pages.Close()
	found = map[string]int{}
	for _, m := range mappings(t, pid) {
		if strings.HasSuffix(m.text, "[vsyscall]") || strings.Contains(m.text, "[vvar") {
			continue
		}
		for _, r := range present(t, pages, m) {
			got, err := n.scanRange(mem, r, found)
			size += got
			if err != nil {
				closed = append(closed, m)
				break
			}
		}
	}
	return found, size, closed
}

// present are the parts of a mapping that have pages, in memory or in swap: the
// rest has never been written.
func present(t testing.TB, pages *os.File, m mapping) (parts []mapping) {
	t.Helper()
	size := uint64(os.Getpagesize())
	entries := make([]byte, (m.to-m.from)/size*8)
	if _, err := pages.ReadAt(entries, int64(m.from/size*8)); err != nil && err != io.EOF {
		t.Fatalf("pagemap of %s: %v", m.text, err)
	}
	for i := range uint64(len(entries) / 8) {
		if binary.LittleEndian.Uint64(entries[8*i:])>>62 == 0 { // pagemap: bit 63 present, 62 swapped
			continue
		}
		at := m.from + i*size
		if k := len(parts) - 1; k >= 0 && parts[k].to == at {
			parts[k].to += size
		} else {
			parts = append(parts, mapping{at, at + size, m.text})
		}
	}
	return parts
}

// scanRange searches one part, in pieces that overlap.
func (n *needles) scanRange(mem io.ReaderAt, r mapping, found map[string]int) (size uint64, err error) {
	buf := make([]byte, min(r.to-r.from, 1<<20))
	for at := r.from; at < r.to; at += uint64(len(buf) - window + 1) {
		part := buf[:min(uint64(len(buf)), r.to-at)]
		got, err := mem.ReadAt(part, int64(at))
		if got == 0 && err != nil && err != io.EOF {
			return size, err
		}
		size += uint64(got)
		n.in(part[:got], found)
	}
	return size, nil
}

// handshakes makes n of them, a few at a time.
func (b *broker) handshakes(id *identity, n int) {
	b.t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := b.handshake(id, patience); err != nil {
					b.t.Errorf("handshake: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestSecrets: after many handshakes no process of the broker holds a part of
// the key where even root could read it.
func TestSecrets(t *testing.T) {
	for _, c := range []struct{ algorithm, use string }{
		{"RSA", "sign"}, {"P-256", "sign"}, {"Ed25519", "sign"}, {"RSA", "release"}, {"P-256", "release"}, {"Ed25519", "release"},
	} {
		t.Run(c.algorithm+" "+c.use, func(t *testing.T) {
			id := newIdentity(t, c.algorithm, c.use)
			b := startBroker(t, settings{cms: 2, tls: id, program: os.Getenv("GATEHOUSE")})
			n := 1000
			if *long {
				n = 10_000
			} else if testing.Short() {
				n = 100
			}
			began := time.Now()
			b.handshakes(id, n)
			t.Logf("%d handshakes in %v", n, time.Since(began).Round(time.Millisecond))
			st := b.status()
			if st.Key == nil || st.Key.Memory != "memfd_secret" || !st.Key.Erased {
				t.Fatalf("status says of the key: %+v", st.Key)
			}
			if c.use == "sign" && st.Key.Signatures != uint64(n) {
				t.Errorf("%d signatures for %d handshakes", st.Key.Signatures, n)
			}
			b.checkSecrets(id)
		})
	}
}

// checkSecrets searches all that can be read of a broker.
func (b *broker) checkSecrets(id *identity) {
	b.t.Helper()
	secrets := secretsOf(b.t, id.key)
	unlock, err := os.ReadFile(filepath.Join(b.dir, "server.unlock"))
	must(b.t, err)
	secrets["unlocking secret"] = bytes.TrimSpace(unlock)
	n := newNeedles(secrets)
	for role, pid := range b.processes() {
		// What a signature leaves is erased once there is time for it.
		var found map[string]int
		var size uint64
		var closed []mapping
		for end := time.Now().Add(2 * time.Second); ; {
			if found, size, closed = n.scan(b.t, pid); len(found) == 0 || time.Now().After(end) {
				break
			}
		}
		holds := role == "parent" || id.use == "release" && strings.HasPrefix(role, "cm/")
		b.t.Logf("%s: %d KiB read, %d hits, closed to root: %d", role, size>>10, len(found), len(closed))
		if len(found) > 0 {
			b.t.Errorf("%s: in memory: %v", role, found)
		}
		if size == 0 || (len(closed) > 0) != holds {
			b.t.Errorf("%s: %d bytes read, closed: %v", role, size, closed)
		}
		for _, m := range closed {
			if !strings.Contains(m.text, "secretmem") {
				b.t.Errorf("%s: closed to root: %s", role, m.text)
			}
			b.unreadable(pid, m)
		}
		for _, name := range []string{"environ", "cmdline"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			must(b.t, err)
			n.absent(b.t, role+" "+name, text)
		}
	}
	n.absent(b.t, "log", []byte(b.log.Text()))
	files := 0
	must(b.t, filepath.WalkDir(b.run, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		n.absent(b.t, path, text)
		return err
	}))
	if files == 0 {
		b.t.Error("no files in the runtime directory")
	}
	// The control: this process holds the key.
	if found, _, _ := n.scan(b.t, os.Getpid()); len(found) == 0 {
		b.t.Error("the search finds nothing where the key is")
	}
	runtime.KeepAlive(id)
	runtime.KeepAlive(secrets)
}

// unreadable wants the other way to read memory closed too.
func (b *broker) unreadable(pid int, m mapping) {
	b.t.Helper()
	got := make([]byte, window)
	local := []unix.Iovec{{Base: &got[0], Len: window}}
	remote := []unix.RemoteIovec{{Base: uintptr(m.from), Len: window}}
	if _, err := unix.ProcessVMReadv(pid, local, remote, 0); err != unix.EFAULT {
		b.t.Errorf("process_vm_readv of %s: %v", m.text, err)
	}
}

// absent wants no secret in a text, as it is or in hexadecimal.
func (n *needles) absent(t testing.TB, name string, text []byte) {
	t.Helper()
	found := map[string]int{}
	n.in(text, found)
	lower := strings.ToLower(string(text))
	for w, of := range n.all {
		if strings.Contains(lower, hex.EncodeToString(w[:])) {
			found[of]++
		}
	}
	if len(found) > 0 {
		t.Errorf("%s holds %v", name, slices.Collect(maps.Keys(found)))
	}
}

// TestNeedles: the search finds a window wherever it lies, in each order.
func TestNeedles(t *testing.T) {
	secret := []byte("0123456789abcdefghijklmnopqrstuv")
	n := newNeedles(map[string][]byte{"s": secret})
	reversed := slices.Clone(secret)
	slices.Reverse(reversed)
	for _, c := range []struct {
		text string
		want int
	}{
		{"xx" + string(secret[5:5+window]) + "yy", 1},
		{string(reversed[:window]), 1},
		{"76543210fedcba98", 1},
		{string(secret[:window-1]), 0},
		{"", 0},
	} {
		found := map[string]int{}
		n.in([]byte(c.text), found)
		if len(found) != c.want {
			t.Errorf("%q: %v", c.text, found)
		}
	}
}

// peekFlag makes of this program a process that tries to look into another.
const peekFlag = "-peek"

func peek(arg string) int {
	pid, err := strconv.Atoi(arg)
	if err != nil {
		return 1
	}
	runtime.LockOSThread()
	fmt.Println("ptrace", errText(unix.PtraceSeize(pid)))
	_, err = os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	fmt.Println("mem", errText(err))
	_, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	fmt.Println("environ", errText(err))
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(fd, channelFD, 0)
	}
	fmt.Println("getfd", errText(err))
	return 0
}

// TestPeek: neither a stranger nor a process with the very uid of a role sees
// into any process of the broker.
func TestPeek(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	st := b.status()
	for _, p := range st.Processes {
		uids := []int{65534}
		if p.UID != 0 {
			uids = append(uids, p.UID)
		}
		for _, uid := range uids {
			cmd := exec.Command(program, peekFlag, strconv.Itoa(p.PID))
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("peek: %v", err)
			}
			if got, want := string(out), "ptrace EPERM\nmem EACCES\nenviron EACCES\ngetfd EPERM\n"; got != want {
				t.Errorf("uid %d into %s: %q, want %q", uid, p.Role, got, want)
			}
		}
	}
}

// TestNoCore: no process of a broker leaves a core, even where root has raised
// its limit.
func TestNoCore(t *testing.T) {
	t.Parallel()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	must(t, err)
	if strings.HasPrefix(string(pattern), "|") || strings.HasPrefix(string(pattern), "/") {
		t.Skipf("cores go elsewhere here: %s", pattern)
	}
	b := startBroker(t, settings{tls: newIdentity(t, "P-256", "sign"), env: []string{"GOTRACEBACK=crash"}})
	all := b.processes()
	for role, pid := range all {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		must(t, err)
		if !regexp.MustCompile(`Max core file size +0 +0 `).Match(text) {
			t.Errorf("%s: limits are %s", role, text)
		}
		// Not dumpable is what counts then; that takes CAP_SYS_RESOURCE.
		err = unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
		if err != nil && err != unix.EPERM {
			t.Fatal(err)
		}
		t.Logf("%s: core limit raised: %v", role, errText(err))
	}
	must(t, syscall.Kill(all["cm/0"], syscall.SIGABRT))
	if b.log.Await(0, patience, func(l *tree.Line) bool { return l.PID() == all["cm/0"] && l.Str("message") == "role died" }) == nil {
		t.Error("cm/0 lives on")
	}
	must(t, syscall.Kill(b.pid, syscall.SIGABRT))
	b.over = true
	if !happens(b.exited) || !b.log.Ended(patience) {
		t.Error("something of the broker lives on")
	}
	for _, d := range []string{b.dir, b.run, filepath.Join(b.run, "empty"), "/"} {
		if n := cores(t, d); n > 0 {
			t.Errorf("%d cores in %s", n, d)
		}
	}
	os.RemoveAll(b.run)
}

func cores(t testing.TB, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "core") {
			n++
		}
	}
	return n
}
