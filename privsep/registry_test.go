package privsep

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func someRecords() []Record {
	return []Record{
		{ID: ID{RoleDispatcher, 0}, PID: 815, StartTime: 1 << 60, UID: 61100, PidIno: 77, Dev: 1, Ino: 2, SHA256: [32]byte{0xab}},
		{ID: ID{RoleCM, 1}, PID: 816, StartTime: 5, UID: 0, PidIno: 1<<64 - 1, Dev: 1, Ino: 2, SHA256: [32]byte{31: 1}},
	}
}

func TestRegistryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry")
	for _, rs := range [][]Record{someRecords(), nil, someRecords()[1:]} {
		if err := WriteRegistry(path, rs); err != nil {
			t.Fatal(err)
		}
		got, err := ReadRegistry(path)
		if err != nil || !reflect.DeepEqual(got, rs) {
			t.Fatalf("wrote %+v, read %+v, %v", rs, got, err)
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
	good := string(formatRegistry(someRecords()))
	for name, text := range map[string]string{
		"empty":        "",
		"other header": strings.Replace(good, "registry 1", "registry 2", 1),
		"cut":          good[:len(good)-1],
		"trailing":     good + "x\n",
		"blank line":   good + "\n",
		"twice":        good + string(formatRegistry(someRecords())[len(registryHeader):]),
		"bad role":     strings.Replace(good, "cm/1", "cm/01", 1),
		"pid 0":        strings.Replace(good, "pid=815", "pid=0", 1),
		"negative pid": strings.Replace(good, "pid=815", "pid=-815", 1),
		"plus sign":    strings.Replace(good, "pid=815", "pid=+815", 1),
		"short digest": strings.Replace(good, "sha256=ab00", "sha256=ab", 1),
		"long digest":  strings.Replace(good, "sha256=ab00", "sha256=ab0000", 1),
		"overflow":     strings.Replace(good, "ino=2", "ino=99999999999999999999", 1),
	} {
		path := filepath.Join(dir, "registry")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if rs, err := ReadRegistry(path); err == nil || rs != nil {
			t.Errorf("%s: taken: %+v", name, rs)
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
	if err := WriteRegistry(filepath.Join(dir, "none", "registry"), nil); err == nil {
		t.Error("wrote into a directory that is not there")
	}
}

// Law: what parseRegistry accepts, formatRegistry gives back byte for byte.
func FuzzRegistry(f *testing.F) {
	mustCorpus(f, 1)
	f.Add(formatRegistry(someRecords()))
	f.Add([]byte(registryHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := parseRegistry(b)
		if err != nil {
			if rs != nil {
				t.Fatalf("%v left %+v", err, rs)
			}
			return
		}
		if again := formatRegistry(rs); !bytes.Equal(again, b) {
			t.Fatalf("parsed %q, formatted %q", b, again)
		}
	})
}
