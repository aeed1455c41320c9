package privsep

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func someRegistry() *Registry {
	return &Registry{
		ServerID: "NABC", Settings: [32]byte{7}, Certificate: 3, Chain: [32]byte{8}, Numbered: 6,
		Listeners: []ListenerRecord{{0, NetTCP, FileID{9, 10}, "127.0.0.1:0", "127.0.0.1:4222"}, {5, NetUnix, FileID{9, 11}, "/run/a b\"\n", "/run/a b\"\n"}},
		Segments:  []SegmentRecord{{SegConnTable, 0, 4096, FileID{1, 20}}, {SegArena, 1023, 1 << 30, FileID{1, 21}}},
		Components: []Record{
			{ID: ID{RoleDispatcher, 0}, PID: 815, StartTime: 1 << 60, UID: 61100, PidIno: 77, Dev: 1, Ino: 2, SHA256: [32]byte{0xab}, Generation: 4, Restarts: 3},
			{ID: ID{RoleCM, 1}, PID: 816, StartTime: 5, UID: 0, PidIno: 1<<64 - 1, Dev: 1, Ino: 2, SHA256: [32]byte{31: 1}, Generation: 1},
			{ID: ID{RoleCM, 1}, Generation: 2},
		},
	}
}

func TestRegistryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	for _, g := range []*Registry{someRegistry(), {}, {Components: someRegistry().Components[1:]}} {
		if err := WriteRegistry(path, g); err != nil {
			t.Fatal(err)
		}
		got, err := ReadRegistry(path)
		if err != nil || !reflect.DeepEqual(got, g) {
			t.Fatalf("wrote %+v, read %+v, %v", g, got, err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v", st.Mode(), err)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestRegistryRefuses(t *testing.T) {
	dir := t.TempDir()
	good := string(someRegistry().format())
	_, fromBroker, _ := strings.Cut(good, "\n")
	_, fromListener, _ := strings.Cut(fromBroker, "\n")
	at := strings.Index(good, "segment ")
	for name, text := range map[string]string{
		"empty":        "",
		"other header": strings.Replace(good, "registry 3", "registry 2", 1),
		"cut":          good[:len(good)-1],
		"trailing":     good + "x\n",
		"blank line":   good + "\n",
		"twice":        good + good[strings.Index(good, "dispatcher"):],
		"no broker":    registryHeader + fromListener,
		"two brokers":  registryHeader + good[len(registryHeader):] + fromBroker,
		"header alone": registryHeader,
		"order":        good[:at] + good[strings.Index(good, "dispatcher"):] + good[at:strings.Index(good, "dispatcher")],
		"no network":   strings.Replace(good, "listener tcp", "listener none", 1),
		"high number":  strings.Replace(good, "number=5", "number=65536", 1),
		"too many":     strings.Replace(good, "numbered=6", "numbered=65536", 1),
		"less than 0":  strings.Replace(good, "numbered=6", "numbered=-1", 1),
		"no segment":   strings.Replace(good, "segment arena", "segment none", 1),
		"size 0":       strings.Replace(good, "size=4096", "size=0", 1),
		"high index":   strings.Replace(good, "index=1023", "index=1024", 1),
		"bare address": strings.Replace(good, `"127.0.0.1:4222"`, "127.0.0.1:4222", 1),
		"bad role":     strings.Replace(good, "cm/1", "cm/01", 1),
		"negative pid": strings.Replace(good, "pid=815", "pid=-815", 1),
		"plus sign":    strings.Replace(good, "pid=815", "pid=+815", 1),
		"short digest": strings.Replace(good, "sha256=ab00", "sha256=ab", 1),
		"long digest":  strings.Replace(good, "sha256=ab00", "sha256=ab0000", 1),
		"overflow":     strings.Replace(good, "ino=2 ", "ino=99999999999999999999 ", 1),
	} {
		path := filepath.Join(dir, "registry")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if g, err := ReadRegistry(path); err == nil || g != nil {
			t.Errorf("%s: taken: %+v", name, g)
		}
	}
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRegistry(open); err == nil {
		t.Error("a file that others may read was believed")
	}
	if err := WriteRegistry(filepath.Join(dir, "none", "registry"), &Registry{}); err == nil {
		t.Error("wrote into a directory that is not there")
	}
}

// Law: what parse accepts, format gives back byte for byte; on error nothing is
// left.
func FuzzRegistry(f *testing.F) {
	mustCorpus(f, 1)
	f.Add(someRegistry().format())
	f.Add([]byte(registryHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g Registry
		if err := g.parse(b); err != nil {
			if !reflect.DeepEqual(g, Registry{}) {
				t.Fatalf("%v left %+v", err, g)
			}
			return
		}
		if again := g.format(); !bytes.Equal(again, b) {
			t.Fatalf("parsed %q, formatted %q", b, again)
		}
	})
}
