package roles

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a package may import is policy: a reviewer reads here what a role cannot
// do by itself. Only direct imports count; a linked-in package is no wall, the
// sandbox is.
var policy = []struct {
	folder string
	except string // the file that may
	banned []string
}{
	{"wire", "", []string{"net", "os", "os/exec", "time", "log", "log/slog", "syscall", "unsafe", "github.com/rs/zerolog"}},
	{"tickets", "", []string{"net", "os", "os/exec", "syscall", "unsafe"}},
	// Applications have it: nothing of the broker comes with it.
	{"tickets/client", "", []string{"net", "os", "os/exec", "syscall", "unsafe", "gatehouse/wire", "gatehouse/store", "gatehouse/privsep", "gatehouse/roles"}},
	{"roles/router", "", []string{"net", "net/http", "os/exec", "syscall", "unsafe", "golang.org/x/sys/unix"}},
	{"roles/auth", "", []string{"net", "os", "os/exec", "syscall", "unsafe", "golang.org/x/sys/unix", "gatehouse/store"}},
	{"roles/auth/cms", "", []string{"net", "os", "os/exec", "log", "syscall", "unsafe", "gatehouse/privsep", "gatehouse/wire"}},
	{"roles/auth/chain", "", []string{"net", "os", "os/exec", "log", "syscall", "unsafe", "gatehouse/privsep", "gatehouse/wire"}},
	// It makes connections of sockets that it is given: the types of net, no calls.
	{"roles/auth/directory", "", []string{"os", "os/exec", "syscall", "unsafe", "golang.org/x/sys/unix", "gatehouse/store", "gatehouse/wire"}},
	{"roles/tlsd", "transport.go", []string{"net"}}, // as in roles/cm
	{"roles/tlsd", "", []string{"os/exec", "unsafe", "golang.org/x/sys/unix", "gatehouse/store", "gatehouse/wire"}},
	{"roles/console", "transport.go", []string{"os"}}, // files of sockets that it is given
	{"roles/console", "", []string{"os/exec", "unsafe", "golang.org/x/sys/unix", "gatehouse/roles/parent"}},
	{"roles/tlsd/protocol", "", []string{"os", "os/exec", "log", "syscall", "unsafe", "crypto/tls", "gatehouse/privsep"}},
	// Applications have it: nothing of the broker comes with it.
	{"roles/tlsd/client", "", []string{"os", "os/exec", "syscall", "unsafe", "gatehouse/wire", "gatehouse/store", "gatehouse/privsep", "gatehouse/roles"}},
	{"roles/dispatcher", "", []string{"net", "os", "os/exec", "unsafe", "golang.org/x/sys/unix"}},
	{"roles/cm", "transport.go", []string{"net"}}, // crypto/tls wants a net.Conn: the type, not sockets
	{"roles/cm", "", []string{"os", "os/exec", "unsafe", "golang.org/x/sys/unix"}},
	{"roles/parent", "", []string{"os/exec", "unsafe", "gatehouse/wire"}},
	{"privsep/sandbox", "", []string{"net", "os/exec", "unsafe", "github.com/rs/zerolog", "gatehouse/store", "gatehouse/wire"}},
	{"privsep", "raw_linux.go", []string{"unsafe"}},
	{"privsep/certname", "", []string{"net", "os", "os/exec", "time", "log", "syscall", "unsafe"}},
	{"privsep/passhash", "", []string{"net", "os", "os/exec", "time", "log", "syscall", "unsafe"}},
	{"privsep/keyfile", "", []string{"net", "os", "os/exec", "time", "log", "syscall", "unsafe"}},
	{"privsep/custody", "", []string{"net/http", "os/exec", "log", "unsafe", "github.com/rs/zerolog", "gatehouse/store", "gatehouse/wire"}},
	{"privsep", "", []string{"net", "os/exec", "github.com/rs/zerolog", "gatehouse/store", "gatehouse/wire"}},
}

func TestImports(t *testing.T) {
	for _, p := range policy {
		files := sources(t, filepath.Join("..", p.folder))
		if len(files) == 0 {
			t.Errorf("%s: no source files", p.folder)
		}
		for _, file := range files {
			if filepath.Base(file) == p.except {
				continue
			}
			for _, name := range imports(t, file) {
				if slices.Contains(p.banned, name) {
					t.Errorf("%s imports %s", file, name)
				}
			}
		}
	}
}

// Unsafe is in store, where shared memory becomes typed words, and in the one
// file of privsep that makes raw system calls.
func TestUnsafe(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, _ := filepath.Rel("..", path)
		if slices.Contains(imports(t, path), "unsafe") && !strings.HasPrefix(rel, "store/") && rel != "privsep/raw_linux.go" {
			t.Errorf("%s imports unsafe", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sources(t *testing.T, folder string) []string {
	all, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
}

func imports(t *testing.T, file string) []string {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range f.Imports {
		name, _ := strconv.Unquote(s.Path.Value)
		names = append(names, name)
	}
	return names
}
