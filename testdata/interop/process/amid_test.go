package process

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/testdata/tree"
)

// amid kills in the middle of a retirement: a cm is being replaced, and a number of
// its connections have moved.

// successor is the place that a cm moves to, of one cm.
func successor(cm string) string {
	return map[string]string{"cm/0": "cm/1", "cm/1": "cm/0"}[cm]
}

// retirement is a restart of a cm that has begun.
type retirement struct {
	b          *broker
	old, fresh string
	pids       [2]int           // of both
	files      int              // that the new process had open without connections
	answer     chan retireWords // to who has asked for it
}

type retireWords struct {
	text string
	err  error
}

// retire begins to replace the only cm.
func (b *broker) retire() *retirement {
	b.t.Helper()
	r := &retirement{b: b, old: b.cms()[0], answer: make(chan retireWords, 1)}
	r.fresh = successor(r.old)
	r.pids[0] = b.tree()[r.old]
	mark := b.log.Mark()
	go func() {
		text, err := exec.Command(gatehouse, "restart", "--runtime-dir", b.run, r.old).CombinedOutput()
		r.answer <- retireWords{string(text), err}
	}()
	ready := b.log.Find(mark, "role ready", patience, "role", r.fresh)
	if ready == nil {
		b.t.Fatal("no new process")
	}
	pid, _ := ready.Fields["pid"].(float64)
	r.pids[1] = int(pid)
	b.seen[r.pids[1]] = true
	r.files = min(filesOf(r.pids[1]), 40)
	return r
}

// filesOf is how many files a process has open.
func filesOf(pid int) int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files)
}

// await waits until so many connections have arrived.
func (r *retirement) await(n int) {
	r.b.t.Helper()
	await(r.b.t, fmt.Sprintf("%d connections to move", n), patience, func() bool { return filesOf(r.pids[1]) >= r.files+n })
}

// left is how many have not left yet, about.
func (r *retirement) left() int { return max(filesOf(r.pids[0])-r.files, 0) }

// The router is killed in the middle of moves: the next one goes on with them, and
// for the clients nothing has happened.
func TestKillRouterAmidMoves(t *testing.T) {
	b := startBroker(t, settings{cms: 1})
	g := b.gather()
	amid := 0
	for _, moved := range []int{0, 100, 500, 1000, 2000, 4000} {
		r := b.retire()
		r.await(moved)
		b.kill("router")
		if left := r.left(); left > 0 {
			t.Logf("killed after %d had moved, about %d had not", moved, left)
			amid++
		}
		answer := within(t, "the end of the move", r.answer)
		if answer.err != nil || !strings.Contains(answer.text, fmt.Sprintf(" %d connections moved\n", idle+many)) {
			t.Errorf("told %q, %v", answer.text, answer.err)
		}
		b.awaitAlone()
	}
	if amid == 0 {
		t.Error("no router was killed in the middle")
	}
	if late := g.disperse(5 * time.Second); late > 0 {
		t.Errorf("somebody waited for %v", late)
	}
	b.checkMoved(idle+many+1, b.cms()[0])
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
}

// The parent is killed in the middle of a retirement, and the next one as well: it is
// finished all the same, those who stay by TLS are served in the meantime, and
// nothing is lost between them and those who have moved.
func TestKillParentAmidRetirement(t *testing.T) {
	t.Parallel()
	const all = idle + many
	b := startBroker(t, settings{cms: 1, tls: "sign", limits: `drain_timeout = "10m"`})
	g := b.gather()
	amid := 0
	for _, moved := range []int{0, 100, 1000, all} {
		pairs := []*calm{
			startCalm(t, b.tlsClient(""), b.tlsClient(""), time.Millisecond),
			startCalm(t, b.tlsClient(""), b.client(""), time.Millisecond),
			startCalm(t, b.client(""), b.tlsClient(""), time.Millisecond),
		}
		const stay = 4
		r := b.retire()
		if moved != all {
			r.await(moved)
		} else if answer := within(t, "the end of the move", r.answer); answer.err != nil {
			t.Errorf("told %q, %v", answer.text, answer.err)
		}
		must(t, b.cmd.Process.Kill())
		<-b.exited
		if left := r.left(); left > stay {
			t.Logf("killed after %d had moved, about %d had not", moved, left)
			amid++
		}
		b.succeed()
		b.checkRetiring(r, stay)
		b.orphan()
		b.succeed()
		b.checkRetiring(r, stay)
		must(t, b.serves())
		for _, c := range pairs {
			c.end(t)
			c.asks.reset()
			c.answers.reset()
		}
		b.checkMoved(all, r.fresh)
	}
	if amid == 0 {
		t.Error("no parent was killed in the middle")
	}
	if late := g.disperse(5 * time.Second); late > 0 {
		t.Errorf("somebody waited for %v", late)
	}
	must(t, b.serves())
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
}

// checkRetiring wants the old process, which the parent has adopted, to keep those
// alone that stay.
func (b *broker) checkRetiring(r *retirement, stay uint64) {
	b.t.Helper()
	var st *tree.Status
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%+v", st.Processes)
		}
	}()
	await(b.t, "all but those that stay to move", patience, func() bool {
		st = b.status()
		return st.Role(r.old).Connections == stay && st.Role(r.old).Stay == stay
	})
	for i, role := range []string{r.old, r.fresh} {
		if p := st.Role(role); p.PID != r.pids[i] || !p.Adopted {
			b.t.Errorf("%s is pid %d, adopted %v, was pid %d", role, p.PID, p.Adopted, r.pids[i])
		}
	}
	if p := st.Role(r.old); p.State != "retiring" || p.Successor != r.fresh {
		b.t.Errorf("%+v", p)
	}
	if slices.ContainsFunc(st.Processes, func(p tree.Process) bool { return p.State != "running" && p.Role != r.old }) {
		b.t.Errorf("not all are there")
	}
}
