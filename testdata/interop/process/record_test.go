package process

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// status says of each process what it is known by, as the kernel does.
func TestRecords(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2})
	text, err := os.ReadFile(b.binary)
	must(t, err)
	file, err := os.Stat(b.binary)
	must(t, err)
	inode := file.Sys().(*syscall.Stat_t).Ino
	sum := fmt.Sprintf("%x", sha256.Sum256(text))
	for _, p := range b.status().Processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		must(t, err)
		start := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19]
		if r := p.Record; r == nil || r.SHA256 != sum || r.Inode != inode || fmt.Sprint(r.StartTime) != start || p.Role != "parent" && r.PidInode == 0 {
			t.Errorf("%s, started at %s: %+v", p.Role, start, r)
		}
	}
	out, err := exec.Command(b.binary, "status", "-c", b.config).Output()
	if err != nil || strings.Count(string(out), "\nbinary sha256 ") != 1 || !strings.Contains(string(out), "\nbinary sha256 "+sum+"\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
