package sandbox

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

var update = flag.Bool("update", false, "rewrite goldens")

const testPID = 4711

// others is what the goldens call a system call that has no line.
const others = "kill"

// golden renders a role's table, one line a row, by number.
func golden(role privsep.Role) string {
	var lines []string
	add := func(verdict string, cs []call) {
		for _, c := range cs {
			line := fmt.Sprintf("%3d %s %s", c.nr, verdict, strings.Fields(c.name)[0])
			for _, w := range c.when {
				want := fmt.Sprintf("%#x", w.want)
				if w.want == ownPID {
					want = "pid"
				}
				line += fmt.Sprintf(" %d:%#x=%s", w.arg, w.mask, want)
			}
			lines = append(lines, line)
		}
	}
	add("allow", allowed(role))
	add("eperm", denied)
	add("eperm", archDenied)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func roles() []privsep.Role {
	var rs []privsep.Role
	for r := range profiles {
		rs = append(rs, r)
	}
	slices.Sort(rs)
	return rs
}

// What a role may call is a file that a reviewer reads, and that changes with
// every change of the tables.
func TestGolden(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIP the goldens are amd64's")
	}
	for _, role := range roles() {
		path := filepath.Join("testdata", role.String()+".ok")
		got := golden(role)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%v's system calls changed (-update)\ngot:\n%s\nwant:\n%s", role, got, want)
		}
	}
}

// line is one line of a golden.
type line struct {
	nr      uint32
	verdict string
	args    []is
}

func readGolden(t *testing.T, role privsep.Role) (lines []line) {
	text := golden(role)
	if runtime.GOARCH == "amd64" { // the file, not what it was made of
		b, err := os.ReadFile(filepath.Join("testdata", role.String()+".ok"))
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	for row := range strings.Lines(text) {
		var l line
		words := strings.Fields(row)
		fmt.Sscan(words[0], &l.nr)
		l.verdict = words[1]
		for _, w := range words[3:] {
			var one is
			w = strings.Replace(w, "=pid", fmt.Sprintf("=%d", testPID), 1)
			if _, err := fmt.Sscanf(w, "%d:%v=%v", &one.arg, &one.mask, &one.want); err != nil {
				t.Fatalf("%s: %v", row, err)
			}
			l.args = append(l.args, one)
		}
		lines = append(lines, l)
	}
	return lines
}

// expect is what the golden says of one call.
func expect(lines []line, nr uint32, args [6]uint32) string {
	for _, l := range lines {
		ok := l.nr == nr
		for _, w := range l.args {
			ok = ok && args[w.arg]&w.mask == w.want
		}
		if ok {
			return l.verdict
		}
	}
	return others
}

// machine runs a role's program on a virtual machine that is not ours.
type machine struct {
	t  *testing.T
	vm *bpf.VM
}

func newMachine(t *testing.T, role privsep.Role, trap bool) *machine {
	var raw []bpf.RawInstruction
	for _, f := range program(role, testPID, trap) {
		raw = append(raw, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("%v: an instruction is unknown", role)
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatalf("%v: %v", role, err)
	}
	return &machine{t, vm}
}

// run gives the verdict on one call. The machine loads words big endian, as
// from a packet; the layout is the kernel's.
func (m *machine) run(arch, nr uint32, args [6]uint32) string {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[0:], nr)
	binary.BigEndian.PutUint32(b[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[16+8*i:], a)
	}
	n, err := m.vm.Run(b)
	if err != nil {
		m.t.Fatal(err)
	}
	switch uint32(n) {
	case unix.SECCOMP_RET_ALLOW:
		return "allow"
	case unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM):
		return "eperm"
	case unix.SECCOMP_RET_KILL_PROCESS:
		return "kill"
	case unix.SECCOMP_RET_TRAP:
		return "trap"
	}
	return fmt.Sprintf("%#x", n)
}

// arguments are those that meet a line's conditions, and for each condition
// some that miss it by one bit.
func arguments(lines []line, nr uint32) (all [][6]uint32) {
	all = append(all, [6]uint32{}, [6]uint32{whole, whole, whole, whole, whole, whole})
	for _, l := range lines {
		if l.nr != nr {
			continue
		}
		var args [6]uint32
		for _, w := range l.args {
			args[w.arg] = w.want
		}
		all = append(all, args)
		for _, w := range l.args {
			for bit := range 32 {
				miss := args
				miss[w.arg] ^= 1 << bit
				all = append(all, miss)
			}
		}
	}
	return all
}

// Law: for every number and every role, the program says what the golden says,
// whatever the arguments.
func TestVerdicts(t *testing.T) {
	for _, role := range roles() {
		lines := readGolden(t, role)
		m, trap := newMachine(t, role, false), newMachine(t, role, true)
		allowed := 0
		for nr := range uint32(1000) {
			for _, args := range arguments(lines, nr) {
				want := expect(lines, nr, args)
				if got := m.run(auditArch, nr, args); got != want {
					t.Fatalf("%v: call %d %x: %s, want %s", role, nr, args, got, want)
				}
				if want == others {
					want = "trap"
				}
				if got := trap.run(auditArch, nr, args); got != want {
					t.Fatalf("%v, trap: call %d %x: %s, want %s", role, nr, args, got, want)
				}
				if want == "allow" {
					allowed++
				}
			}
		}
		if allowed < len(hot) {
			t.Errorf("%v may make %d calls", role, allowed)
		}
	}
}

// What another ABI would number differently is never looked up.
func TestForeignABI(t *testing.T) {
	for _, role := range roles() {
		m := newMachine(t, role, true)
		for nr := range uint32(1000) {
			for _, arch := range []uint32{0, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, auditArch ^ 1, whole} {
				if got := m.run(arch, nr, [6]uint32{}); got != "kill" {
					t.Fatalf("%v: arch %#x, call %d: %s", role, arch, nr, got)
				}
			}
			for _, bit := range []uint32{1 << 30, 1 << 31} { // x32; a negative number
				if got := m.run(auditArch, nr|bit, [6]uint32{}); got != "kill" {
					t.Fatalf("%v: call %#x: %s", role, nr|bit, got)
				}
			}
		}
	}
}

// A profile must not repeat, loosen or contradict what all have.
func TestTables(t *testing.T) {
	for _, role := range roles() {
		seen := map[uint32]call{}
		for i, c := range slices.Concat(allowed(role), refused(role)) {
			before, ok := seen[c.nr]
			rest := i >= len(allowed(role)) // of a call that has conditions
			if ok && (len(before.when) == 0 || len(c.when) == 0 && !rest) {
				t.Errorf("%v: %s and %s are one call", role, before.name, c.name)
			}
			seen[c.nr] = c
			if len(c.block(0, 0)) > 200 {
				t.Errorf("%s: a jump is too long", c.name)
			}
		}
		if n := len(program(role, 1, false)); n > 1000 {
			t.Errorf("%v: %d instructions", role, n)
		}
	}
}
