package process

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gatehouse/testdata/tree"
)

// Offsets of words in the segments of a cm and of the router, as package store lays
// them out.
const (
	ringTail   = 128 // ring_up_data
	ringFrames = 512
	ringHead   = 128 // ring_down_head
	doneWords  = 64  // returns

	stateCommit = 128 // router_state
)

// memory is the shared memory that one process may write, as that process
// itself could write it.
type memory struct {
	t     testing.TB
	file  *os.File
	areas map[string][2]int64 // address and size, by the segment's name
}

func (b *broker) memoryOf(role string) *memory {
	b.t.Helper()
	pid := b.processes()[role]
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	must(b.t, err)
	b.t.Cleanup(func() { f.Close() })
	m := &memory{b.t, f, map[string][2]int64{}}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	must(b.t, err)
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "rw-s" || !strings.HasPrefix(f[5], "/memfd:gatehouse-") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		lo, err := strconv.ParseInt(from, 16, 64)
		must(b.t, err)
		hi, err := strconv.ParseInt(to, 16, 64)
		must(b.t, err)
		m.areas[strings.TrimPrefix(f[5], "/memfd:gatehouse-")] = [2]int64{lo, hi - lo}
	}
	return m
}

func (m *memory) write(segment string, off int64, b []byte) {
	m.t.Helper()
	area, ok := m.areas[segment]
	if !ok || off+int64(len(b)) > area[1] {
		m.t.Fatalf("no %d bytes at %d of %s: %v", len(b), off, segment, m.areas)
	}
	_, err := m.file.WriteAt(b, area[0]+off)
	must(m.t, err)
}

func (m *memory) word(segment string, off int64) uint64 {
	m.t.Helper()
	var b [8]byte
	_, err := m.file.ReadAt(b[:], m.areas[segment][0]+off)
	must(m.t, err)
	return binary.LittleEndian.Uint64(b[:])
}

func (m *memory) setWord(segment string, off int64, v uint64) {
	m.t.Helper()
	m.write(segment, off, binary.LittleEndian.AppendUint64(nil, v))
}

// noise overwrites segments from an offset on.
func (m *memory) noise(rnd *rand.Rand, off int64, segments ...string) {
	m.t.Helper()
	for _, s := range segments {
		b := make([]byte, min(m.areas[s][1]-off, 1<<20))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		m.write(s, off, b)
	}
}

// A cm that writes nonsense where it may: it is replaced by one that works, all
// others stay, clients on the other cm lose nothing, and no body stays for ever.
func TestScribblingCM(t *testing.T) {
	const ring, slots = 512 << 10, 8192
	// clients that must be left at the end: calm's two, and beside
	const left = 3
	b := startBroker(t, settings{cms: 2, store: "ring = \"512KiB\"\narena = \"8MiB\"", limits: "max_payload = \"64KiB\""})
	b.attacked = true
	calm := startCalm(t, b.clientOn("cm/1"), b.clientOn("cm/1"), 0)
	beside := b.clientOn("cm/1")
	others := b.processes()
	rnd := rand.New(rand.NewPCG(seed(t), 1))
	for _, c := range []struct {
		name     string
		scribble func(*memory)
		plain    bool // nobody can have noticed when it dies
	}{
		{"tail far ahead", func(m *memory) { m.setWord("ring_up_data", ringTail, 1<<40) }, false},
		{"tail back", func(m *memory) { m.setWord("ring_up_data", ringTail, 0) }, false},
		{"tail at the end of numbers", func(m *memory) { m.setWord("ring_up_data", ringTail, ^uint64(7)) }, false},
		{"frames", func(m *memory) {
			m.noise(rnd, ringFrames, "ring_up_data")
			m.setWord("ring_up_data", ringTail, m.word("ring_up_data", ringTail)+64)
		}, false},
		{"head", func(m *memory) {
			m.setWord("ring_down_head", ringHead, rnd.Uint64())
			must(t, beside.send(strings.Repeat(pub("scribble", "x"), ring/16)))
			must(t, beside.sync())
		}, false},
		{"everything", func(m *memory) {
			m.noise(rnd, 0, "ring_down_head", "arena", "returns", "conn_columns")
			m.noise(rnd, ringFrames, "ring_up_data")
			m.setWord("ring_up_data", ringTail, rnd.Uint64()) // last: it is noticed at once
		}, false},
		{"words for bodies to come, then a plain death", func(m *memory) {
			words := make([]byte, 2*slots*8)
			for lap := range uint64(40) {
				for i := range uint64(2 * slots) {
					binary.LittleEndian.PutUint64(words[8*i:], i%slots+lap*slots)
				}
				m.write("returns", doneWords, words)
				must(t, beside.sync()) // calm goes on meanwhile
			}
		}, true},
		{"arena, words, columns, headers, then a plain death", func(m *memory) {
			m.noise(rnd, 0, "arena", "returns", "conn_columns")
			m.write("ring_up_data", 0, make([]byte, 64))
			m.write("ring_down_head", 0, []byte(strings.Repeat("x", 64)))
		}, true},
	} {
		mark := b.log.Mark()
		here := b.clientOn("cm/0")
		must(t, here.send("SUB scribble 1\r\n"+pub("scribble", "y")+pub("nobody", "y")))
		must(t, here.sync())
		pid := b.processes()["cm/0"]
		m := b.memoryOf("cm/0")
		b.signal("cm/0", syscall.SIGSTOP)
		c.scribble(m)
		if c.plain {
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		} else if b.log.Find(mark, "role killed at another's word", patience, "role", "cm/0") == nil {
			t.Fatalf("%s: the router has not noticed", c.name)
		}
		b.deaths++
		if b.log.Find(mark, "role ready", patience, "role", "cm/0") == nil {
			t.Fatalf("%s: cm/0 did not come back", c.name)
		}
		if err := b.serves(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		others["cm/0"] = b.processes()["cm/0"]
		b.unchanged(others)
		if n := len(b.log.All("role died")); n != b.deaths || others["cm/0"] == pid {
			t.Fatalf("%s: %d deaths, want %d", c.name, n, b.deaths)
		}
		here.reset()
	}
	calm.end(t)
	var st *tree.Status
	defer func() {
		if t.Failed() {
			t.Logf("%+v", st)
		}
	}()
	await(t, "empty arenas and connections that all agree on", patience, func() bool {
		st = b.status()
		conns := func(p tree.Process) uint64 { return p.Connections }
		n := st.Sum(conns)
		return st.Empty() && n >= left && st.Role("router").Connections == n && st.Role("dispatcher").Connections == n
	})
}
