package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// killer does what the plan says, at moments that nobody can foresee, each time
// to a broker that is whole.
type killer struct {
	*broker
	load   *load
	rand   *rand.Rand
	gap    time.Duration // from one deed's end to the next one's begin, on average
	least  time.Duration // the same, at least
	absent time.Duration // how long the broker is without a parent, at most

	deaths int // of roles, that we caused
}

// run does all deeds in turn, or stops at the first that the broker does not
// come back from.
func (k *killer) run(deeds []deed, stop <-chan struct{}) {
	for _, d := range deeds {
		select {
		case <-stop:
			return
		case <-time.After(k.least + time.Duration(k.rand.ExpFloat64()*float64(k.gap))):
		}
		if err := k.do(d); err != nil {
			k.load.blame(broken, 1, "%v", err)
			return
		}
	}
}

func (k *killer) do(d deed) error {
	switch d.action {
	case "kill":
		if d.role == "parent" {
			return k.killParent()
		}
		return k.kill(d.role)
	case "stop":
		return k.stop()
	case "hup":
		return k.hup()
	case "restart":
		return k.restart(d.role)
	default:
		return k.upgrade()
	}
}

// victim is one of the processes of a role, now.
func (k *killer) victim(role string) (pid int, name string, err error) {
	for name == "" { // it may end before it is named
		pids := k.roles(role)
		if len(pids) == 0 {
			return 0, "", fmt.Errorf("no %s is there", role)
		}
		pid = pids[k.rand.IntN(len(pids))]
		name = k.pids()[pid]
	}
	return pid, name, nil
}

func (k *killer) kill(role string) error {
	pid, name, err := k.victim(role)
	if err != nil {
		return err
	}
	isCM := strings.HasPrefix(name, "cm/")
	if isCM {
		// Who is on the way to a cm until it is seen to be gone may go with it.
		k.load.cmDown.Store(math.MaxInt64)
		if err := k.doom(pid); err != nil {
			return err
		}
	}
	over := k.load.begin("SIGKILL %s (pid %d)", name, pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	if err := until(k.load.patience, func() error { return k.dead(pid) }); err != nil {
		return err
	}
	if isCM {
		k.load.cmDown.Store(time.Now().UnixNano())
	}
	k.deaths++
	err = until(k.load.patience, func() error {
		if len(k.roles(role)) == 0 {
			return k.load.lacks(fmt.Errorf("%s (pid %d) was killed and has no successor", name, pid))
		}
		return k.load.lacks(k.whole())
	})
	over()
	return err
}

// dead tells of a process that all of its threads have ended, reaped or not.
// Until then its sockets are open, and what is sent to it goes down with it.
func (k *killer) dead(pid int) error {
	for _, task := range glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) {
		if stat, err := os.ReadFile(task); err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("pid %d lives on", pid)
		}
	}
	return nil
}

// doom stops a cm, and notes which connections it takes with it when it is now
// killed: no other one may end.
func (k *killer) doom(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	err := until(k.load.patience, func() error {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || !strings.Contains(string(stat), ") T ") {
			return fmt.Errorf("pid %d does not stop: %v", pid, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	held, err := k.load.heldBy(pid)
	for _, l := range held {
		l.doomed.Store(true)
	}
	return err
}

// killParent leaves the broker without a parent for a while, then starts another
// one with the same configuration.
func (k *killer) killParent() error {
	over := k.load.begin("SIGKILL parent (pid %d)", k.parent.Process.Pid)
	defer over()
	if err := k.parent.Process.Kill(); err != nil {
		return err
	}
	<-k.exited
	<-time.After(time.Duration(k.rand.Int64N(1 + int64(k.absent))))
	if err := k.serve(k.load.patience); err != nil {
		return err
	}
	return k.awaitWhole()
}

// stop halts any of the processes for up to 300 ms.
func (k *killer) stop() error {
	pid, name, err := k.victim([]string{"router", "dispatcher", "auth", "cm", "parent"}[k.rand.IntN(5)])
	if err != nil {
		return err
	}
	d := time.Duration(k.rand.Int64N(int64(300 * time.Millisecond)))
	over := k.load.begin("SIGSTOP %s (pid %d) for %v", name, pid, d.Round(time.Millisecond))
	defer over()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	<-time.After(d)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("continue %s: %w", name, err)
	}
	return k.awaitWhole()
}

func (k *killer) hup() error {
	over := k.load.begin("SIGHUP")
	defer over()
	if err := k.parent.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return k.awaitWhole()
}

// untimely are the answers to who asks for a restart of a cm that was replaced: it
// keeps its place, and another one from it, while it has connections by TLS, and ends.
var untimely = []string{"cannot be replaced yet", "has been replaced by", "there is no cm/"}

// restart replaces one process.
func (k *killer) restart(role string) error {
	var other error
	err := until(drain+k.load.patience, func() error {
		_, name, err := k.victim(role)
		if err != nil {
			return err
		}
		over := k.load.begin("gatehouse restart %s", name)
		defer over()
		if strings.HasPrefix(name, "cm/") {
			k.spare()
			defer k.spare() // those that came meanwhile
		}
		err = k.command("restart", "-c", k.config, name)
		if err != nil && !slices.ContainsFunc(untimely, func(text string) bool { return strings.Contains(err.Error(), text) }) {
			other, err = err, nil
		}
		return err
	})
	return cmp.Or(other, err)
}

func (k *killer) upgrade() error {
	over := k.load.begin("gatehouse upgrade")
	defer over()
	k.spare()
	defer k.spare() // those that came meanwhile
	if err := k.next(); err != nil {
		return err
	}
	return k.command("upgrade", "-c", k.config)
}

// awaitWhole is the end of each deed.
func (k *killer) awaitWhole() error {
	return until(k.load.patience, func() error { return k.load.lacks(k.whole()) })
}

// spare notes the connections in TLS, which stay on a cm that is replaced until
// they end or it does.
func (k *killer) spare() {
	k.load.mu.Lock()
	defer k.load.mu.Unlock()
	for l := range k.load.links {
		if l.kind == "tls" {
			l.doomed.Store(true)
		}
	}
}

func (k *killer) command(args ...string) error {
	if out, err := exec.Command(k.exe, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("gatehouse %s: %w: %s", strings.Join(args, " "), err, tail(string(out), 5))
	}
	return k.awaitWhole()
}
