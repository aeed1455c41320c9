package process

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"gatehouse/testdata/tree"
)

// policies counts a process's threads by scheduling policy: the 41st field of proc_pid_stat(5).
func policies(t *testing.T, pid int) map[int]int {
	t.Helper()
	of := map[int]int{}
	for _, task := range tree.Tasks(pid) {
		stat, err := os.ReadFile("/proc/" + task["Pid"] + "/stat")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		must(t, err)
		_, rest, _ := strings.Cut(string(stat), ") ") // two fields, the name the second
		policy, err := strconv.Atoi(strings.Fields(rest)[41-3])
		must(t, err)
		of[policy]++
	}
	return of
}

// Messages go first: who takes connections, makes handshakes or shares sessions preempts
// nobody when it wakes. The thread of a cm that messages pass does.
func TestGivesWay(t *testing.T) {
	t.Parallel()
	b := share(t, settings{cms: 2, tls: "sign"}, "", "")
	b.start()
	for range 4 { // cms make threads when there is something to do
		b.natsClientAt("tls://"+b.tls, nats.Secure(b.clientTLS()))
	}
	for role, pid := range b.processes() {
		got := policies(t, pid)
		prompt, patient := got[unix.SCHED_NORMAL], got[unix.SCHED_BATCH]
		good := len(got) == 1 && prompt > 0
		switch role {
		case "cm/0", "cm/1":
			good = len(got) == 2 && prompt == 1 && patient > 0
		case "dispatcher", "tlsd":
			good = len(got) == 1 && patient > 0
		}
		if !good {
			t.Errorf("%s: threads by policy: %v", role, got)
		}
	}
}

// What somebody has chosen for the broker stays, for each of its threads.
func TestChosenPolicyStays(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{tls: "sign"})
	done := make(chan struct{})
	go func() { // on a thread that ends with it: a child takes the policy from the thread that makes it
		defer close(done)
		runtime.LockOSThread()
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_BATCH}, 0); err != nil {
			t.Error(err)
			return
		}
		b.launch()
	}()
	<-done
	if t.Failed() {
		return
	}
	b.ready()
	b.natsClientAt("tls://"+b.tls, nats.Secure(b.clientTLS()))
	for role, pid := range b.processes() {
		if got := policies(t, pid); len(got) != 1 || got[unix.SCHED_BATCH] == 0 {
			t.Errorf("%s: threads by policy: %v", role, got)
		}
	}
}
