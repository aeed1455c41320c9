package parent

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gatehouse/privsep"
)

// The packages give a name to each uid that a process can have, and to no other.
func TestSysusers(t *testing.T) {
	p := &parent{root: true, cfg: builtIn()}
	want := map[string]string{}
	add := func(c *child, name, text string) {
		uid, _ := p.ids(c)
		want[fmt.Sprint(uid)] = fmt.Sprintf("u %-24s %d \"Gatehouse %s\"", "gatehouse-"+name, uid, text)
	}
	for r := privsep.RoleDispatcher; r <= privsep.RoleConsole; r++ {
		if r != privsep.RoleCM {
			add(&child{id: privsep.ID{Role: r}}, r.String(), r.String())
			add(&child{id: privsep.ID{Role: r}, second: true}, r.String()+"-2", r.String()+", second place")
		}
	}
	for i := 1; i < privsep.MaxTLSShards; i++ {
		id, name := privsep.ID{Role: privsep.RoleTLSD, Index: i}, fmt.Sprintf("tlsd-%d", i)
		add(&child{id: id}, name+"-1", "tlsd")
		add(&child{id: id, second: true}, name+"-2", "tlsd, second place")
	}
	for i := range 2 * MaxCMs {
		add(&child{id: privsep.ID{Role: privsep.RoleCM, Index: i}}, fmt.Sprintf("cm-%d", i), "connection manager")
	}
	b, err := os.ReadFile("../../packaging/sysusers.conf")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] == "#" {
			continue
		}
		if line = strings.TrimSuffix(line, "\n"); want[f[2]] != line {
			t.Errorf("sysusers.conf has\n%s\nand not\n%s", line, want[f[2]])
		}
		delete(want, f[2])
	}
	for _, line := range want {
		t.Errorf("sysusers.conf lacks\n%s", line)
	}
}

// The configuration in the packages is what a broker without one has, but for the files
// of [tls], the console's port, and the audit log, which the unit may write and logrotate
// knows.
func TestPackagedConfiguration(t *testing.T) {
	got, err := Load("../../packaging/broker.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := builtIn()
	want.Console.TCP = []string{} // for a browser of somebody who tries it out
	want.Log.Audit = got.Log.Audit
	folder := filepath.Dir(got.Log.Audit)
	for file, what := range map[string]string{"logrotate.conf": "\n" + got.Log.Audit + " {", "nfpm.yaml": "{dst: " + folder + ", type: dir",
		"gatehouse.service": "\nLogsDirectory=" + strings.TrimPrefix(folder, "/var/log/") + "\n"} {
		if text, err := os.ReadFile("../../packaging/" + file); err != nil || !strings.Contains(string(text), what) {
			t.Errorf("%s has no %q: %v", file, what, err)
		}
	}
	want.TLS.Cert, want.TLS.Key, want.TLS.UnlockFile = got.TLS.Cert, got.TLS.Key, got.TLS.UnlockFile
	if got, want := got.Effective(), want.Effective(); !reflect.DeepEqual(got, want) {
		t.Errorf("the packages have\n%+v\nand not\n%+v", got, want)
	}
}
