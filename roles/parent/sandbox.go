package parent

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// Values of privsep.seccomp: what becomes of a role that makes a system call
// outside its table.
const (
	SeccompKill = "kill"
	SeccompTrap = "trap"
)

// confine gives up what the parent itself needs no more, before the first
// child: if one could not be started with what is left, that shows now and not
// at a restart.
func (p *parent) confine() error {
	if !p.root {
		return privsep.NoNewPrivs()
	}
	kept, err := privsep.Keep(
		privsep.Need{Cap: unix.CAP_SYS_PTRACE, Works: func() bool { return seesProcesses() && !p.cfg.looksAtProcesses() }},
		privsep.Need{Cap: unix.CAP_DAC_READ_SEARCH, Works: p.reachesRunDir},
	)
	if err != nil {
		return err
	}
	before := p.inspections.hinders(p.cfg)
	p.inspections.blind = kept&(1<<unix.CAP_SYS_PTRACE) == 0
	p.hinderedInstead(before)
	return nil
}

// seesProcesses: with the mount option hidepid even /proc/PID/status of another
// user's process is for its tracers alone.
func seesProcesses() bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(b) {
		_, fs, ok := bytes.Cut(line, []byte(" - proc "))
		if ok && bytes.Contains(fs, []byte("hidepid=")) && !bytes.Contains(fs, []byte("hidepid=0")) && !bytes.Contains(fs, []byte("hidepid=off")) {
			return false
		}
	}
	return true
}

// reachesRunDir is false where the runtime directory lies in one that is closed
// to others, such as another user's home.
func (p *parent) reachesRunDir() bool {
	_, err := os.Stat(p.dir.file("empty"))
	return err == nil
}

// unconfined names what of its promises the kernel does not confirm for a child
// that says it is ready, "" if it confirms all.
func (p *parent) unconfined(c *child) string {
	o, err := privsep.ReadPosture(c.proc.PID)
	for range 20 {
		if err != nil || o.Uniform {
			break
		}
		o, err = privsep.ReadPosture(c.proc.PID) // a thread was just ending, unless it stays
	}
	if err != nil {
		return err.Error()
	}
	var differs []string
	want := func(ok bool, format string, args ...any) {
		if !ok {
			differs = append(differs, fmt.Sprintf(format, args...))
		}
	}
	if p.root {
		uid, gid := p.ids(c)
		want(int(o.UID) == uid, "uid %d, not %d", o.UID, uid)
		want(int(o.GID) == gid, "gid %d, not %d", o.GID, gid)
		want(len(o.Groups) == 0, "groups %v", o.Groups)
		want(o.NoCaps(), "capabilities")
	}
	want(o.NoNewPrivs, "new privileges")
	want(o.Seccomp == 2, "seccomp mode %d", o.Seccomp)
	want(o.Uniform, "threads that differ")
	return strings.Join(differs, ", ")
}

// refuse ends a child that is not confined. It has been given nothing but its
// setup.
func (p *parent) refuse(c *child, differs string) {
	p.charge(c, offence{privsep.KindSetupDone.String(), "unconfined"}).Str("error", differs).Msg("role is not confined")
	p.dropChannel(c)
	p.kill(c)
}

// noteMissing remembers what a role has to do without. It is told once: at the
// start for all roles together, later at once.
func (p *parent) noteMissing(c *child) {
	names := c.missing(p.root)
	for _, name := range names {
		if slices.Contains(p.missing, name) {
			continue
		}
		p.missing = append(p.missing, name)
		if p.told {
			p.log.Warn().Str("role", c.id.String()).Msg(missingLine([]string{name}))
		}
	}
}

// missing lists what the sandbox of a child lacks.
func (c *child) missing(root bool) []string {
	names := c.walls.Missing.Names()
	if root && c.id.Role.Isolated() && c.proc != nil && !c.proc.OwnNetwork {
		names = append(names, "network namespace")
	}
	return names
}

// tellMissing is the one line at the start.
func (p *parent) tellMissing() {
	p.told = true
	if len(p.missing) > 0 {
		p.log.Warn().Msg(missingLine(p.missing))
	}
}

func missingLine(names []string) string {
	return "this kernel does not give the roles: " + strings.Join(names, ", ")
}

// filterEnded is how Wait says that a system call outside the table was made.
var filterEnded = "signal " + syscall.SIGSYS.String()

// explain adds to how a child ended what an operator cannot know.
func (c *child) explain(status string) string {
	if status != filterEnded {
		return status
	}
	return fmt.Sprintf("its sandbox ended it: a system call that role %v may not make; privsep.seccomp = %q shows which", c.id.Role, SeccompTrap)
}
