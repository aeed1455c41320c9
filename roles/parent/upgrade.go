package parent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/store"
)

// This file goes on with another binary, without loss:
//
//	asked --> its file, a trial --> executed in place: adopts the children
//	              |                     |               |
//	           refused              it cannot       replaces them one by one
//	       nothing changed       adopt: back to       |              |
//	                             this binary      all are new    one does not get ready:
//	                                                          back to this binary, which
//	                                                          does the same the other way
//
// Who asked keeps the connection all the way and hears of each step.

// upgrade is one such attempt, on either side of the exec.
type upgrade struct {
	client int      // of who asked, -1: nobody is left
	exe    *os.File // before the exec: the binary to go on with
	path   string
	trials chan trial

	old  *os.File // after it: the binary to go back to, nil: there is none
	back string   // not "": we are that, and why
	at   *change  // that is under way

	said time.Time // when client last heard of it
}

// trial is what a binary says when it is tried.
type trial struct {
	stdout, stderr string
	err            error
}

// UpgradeStep is one line of the answer to a request for an upgrade.
type UpgradeStep struct {
	Step  string `json:"step,omitempty"`
	Done  string `json:"done,omitempty"`  // the last one
	Error string `json:"error,omitempty"` // or this
}

const (
	trialTime = 20 * time.Second
	sayTime   = 100 * time.Millisecond // for who asked to take a line
	maxPath   = 4096
	maxSaid   = 512 // bytes of what a binary says that are passed on
)

// tell says something to who asked.
func (u *upgrade) tell(s UpgradeStep) {
	if u.client < 0 {
		return
	}
	u.said = time.Now()
	b, err := json.Marshal(s)
	if err == nil {
		err = privsep.WriteAll(u.client, append(b, '\n'), sayTime)
	}
	if err != nil || s.Done != "" || s.Error != "" {
		privsep.CloseFD(u.client)
		u.client = -1
	}
}

// next is when something is due to who asked, zero: never.
func (u *upgrade) next() time.Time {
	if u == nil || u.client < 0 {
		return time.Time{}
	}
	return u.said.Add(stillTime)
}

// upgradeByTime says to who asked that it is waited, and what for.
func (p *parent) upgradeByTime(now time.Time) {
	if due := p.upgrade.next(); !due.IsZero() && !now.Before(due) {
		p.upgrade.tell(UpgradeStep{Step: p.upgradeStage()})
	}
}

// upgradeStage is what an upgrade is at.
func (p *parent) upgradeStage() string {
	u := p.upgrade
	switch {
	case u.exe != nil:
		return "checking " + u.path
	case u.at != nil:
		return u.at.stage()
	}
	for _, c := range p.children {
		if p.outdated(c) {
			if err := p.replaceable(c); err != nil {
				return "waiting: " + err.Error()
			}
		}
	}
	return "waiting"
}

// beginUpgrade is asked for by the operator; client is ours from now on.
func (p *parent) beginUpgrade(client int, path string) {
	u := &upgrade{client: client, path: path, trials: make(chan trial, 1)}
	reason := ""
	switch {
	case p.stopping:
		reason = "the broker is stopping"
	case p.upgrade != nil:
		reason = "an upgrade is under way"
	case u.path == "":
		u.path, reason = ownPath()
	}
	if reason == "" {
		u.exe, reason = openProgram(u.path)
	}
	if reason == "" {
		reason = p.spoiled()
	}
	if reason != "" {
		p.refuseUpgrade(u, reason)
		return
	}
	p.upgrade = u
	p.log.Info().Str("path", u.path).Msg("upgrade asked for")
	p.record(&auditUpgradeBegun{Path: u.path})
	u.tell(UpgradeStep{Step: "checking " + u.path})
	args := []string{"gatehouse: " + CheckName, privsep.ChildFlag, CheckName, p.source}
	go func() {
		var t trial
		t.stdout, t.stderr, t.err = privsep.Trial(u.exe, args, trialTime)
		u.trials <- t
		privsep.RawWrite(p.knock, []byte{trialKnock})
	}()
}

// trialKnock is no signal and no digest.
const trialKnock = 255

// ownPath is where the binary lies that this one was started from; another one may
// lie there by now.
func ownPath() (path, reason string) {
	path, err := os.Executable()
	if err != nil {
		return "", err.Error()
	}
	return strings.TrimSuffix(path, " (deleted)"), ""
}

// spoiled says what is wrong with the configuration and its files by now, "" if nothing
// is: neither binary could begin with it.
func (p *parent) spoiled() string {
	r, err := p.revise()
	if errors.Is(err, custody.ErrIdentity) {
		p.fatal = err
	}
	if err != nil {
		return err.Error()
	}
	p.discard(r)
	return ""
}

// openProgram opens a binary that nobody but us and root can change.
func openProgram(path string) (exe *os.File, reason string) {
	exe, err := privsep.OpenProgram(path)
	if err != nil {
		return nil, err.Error()
	}
	fault, err := privsep.ProgramFault(exe)
	if err != nil {
		fault = err.Error()
	}
	if fault != "" {
		exe.Close()
		return nil, path + ": " + fault
	}
	return exe, ""
}

// refuseUpgrade ends an attempt before anything has changed.
func (p *parent) refuseUpgrade(u *upgrade, reason string) {
	p.log.Error().Str("path", u.path).Str("reason", reason).Msg("upgrade refused")
	p.record(&auditUpgradeFailed{Path: u.path, Reason: reason})
	u.tell(UpgradeStep{Error: "refused, nothing has changed: " + reason})
	if u.exe != nil {
		u.exe.Close()
	}
	if p.upgrade == u {
		p.upgrade = nil
	}
}

// tried goes on when the trial is over.
func (p *parent) tried() {
	u := p.upgrade
	t := <-u.trials
	reason := p.unfit(&t)
	if reason == "" && p.stopping {
		reason = "the broker is stopping"
	}
	if reason == "" && !p.allRunning() {
		reason = "not all roles are running"
	}
	if reason != "" {
		p.refuseUpgrade(u, reason)
		return
	}
	u.tell(UpgradeStep{Step: "going on with it as the parent"})
	p.log.Info().Str("path", u.path).Msg("upgrade: executing the new binary")
	err := p.execute(u.exe, p.handOver(int(p.exe.Fd()), u.client, ""))
	p.refuseUpgrade(u, err.Error())
}

// CheckName is what a binary is asked to be in its trial.
const CheckName = "upgrade-check"

// checkLine is what it says then: what must be the same for one parent to go on
// where another was.
func (p *parent) checkLine() string {
	return fmt.Sprintf("gatehouse %s protocol=%d layout=%d handover=%d settings=%x\n",
		CheckName, privsep.Version, store.LayoutVersion, handoverVersion, p.settingsDigest())
}

// unfit names what speaks against a binary, "" if nothing does.
func (p *parent) unfit(t *trial) string {
	if t.err != nil {
		reason := t.err.Error()
		if errors.Is(t.err, os.ErrDeadlineExceeded) {
			reason = fmt.Sprintf("it does not answer in %v", trialTime)
		}
		if line, _, _ := strings.Cut(strings.TrimSpace(t.stderr), "\n"); line != "" {
			reason += ": " + strings.Map(printable, line[:min(len(line), maxSaid)])
		}
		return reason
	}
	var protocol, layout, handover int
	var settings string
	n, err := fmt.Sscanf(t.stdout, "gatehouse "+CheckName+" protocol=%d layout=%d handover=%d settings=%s\n", &protocol, &layout, &handover, &settings)
	switch {
	case err != nil || n != 4:
		return "it says " + show(t.stdout)
	case protocol != privsep.Version:
		return fmt.Sprintf("it speaks version %d of the role protocol, the running one %d", protocol, privsep.Version)
	case layout != store.LayoutVersion:
		return fmt.Sprintf("it has version %d of the shared memory, the running one %d", layout, store.LayoutVersion)
	case handover != handoverVersion:
		return fmt.Sprintf("it takes over by version %d, the running one hands over by %d", handover, handoverVersion)
	case t.stdout != p.checkLine():
		return "the configuration has changed in what needs a restart"
	}
	return ""
}

// UpgradeCheck is the trial of this binary: could it go on for a broker with this
// configuration? source is a path or BuiltIn.
func UpgradeCheck(source string) error {
	if err := privsep.CheckBuild(); err != nil {
		return err
	}
	if _, err := custody.Harden(); err != nil {
		return err
	}
	if source == BuiltIn {
		source = ""
	}
	cfg, source, err := Find(source)
	if err != nil {
		return err
	}
	p := &parent{cfg: cfg.Effective(), root: os.Geteuid() == 0}
	p.cms, p.alone, p.dir = p.cfg.CM.Count, p.cfg.alone(), &runDir{path: p.cfg.Privsep.RuntimeDir}
	if err := develop(p.cfg); err != nil {
		return err
	}
	f, err := p.cfg.readFiles(nil)
	if err != nil {
		return located(err, source)
	}
	f.close()
	if err := CheckAudit(p.cfg, source); err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(p.checkLine())
	return err
}

// Refuse is for a parent that cannot even begin: if another one handed over to
// it, that one goes on. It returns err if none did.
func Refuse(err error) error {
	h, handErr := takeHandover()
	if handErr != nil {
		return errors.Join(err, handErr)
	}
	return goBack(h, err)
}

// goBack has the binary go on that handed over, while its children are still
// waiting. It returns if there is none.
func goBack(h *handover, err error) error {
	if h == nil || h.Old < 0 {
		return err
	}
	old := os.NewFile(uintptr(h.Old), "the binary before")
	h.Old, h.Back = -1, "it cannot go on: "+err.Error()
	h.Files = slices.Clone(h.Files)
	return errors.Join(err, h.exec(old))
}

// continueUpgrade goes on after the exec, when all are adopted.
func (p *parent) continueUpgrade(h *handover) {
	u := &upgrade{client: h.Client, back: h.Back}
	if h.Old >= 0 {
		u.old = os.NewFile(uintptr(h.Old), "the binary before")
	}
	p.upgrade = u
	if u.back != "" {
		u.tell(UpgradeStep{Step: "gone back to the binary before: " + u.back})
	} else {
		u.tell(UpgradeStep{Step: "the children are adopted"})
	}
	p.replaceNext()
}

// replaceNext replaces the next child that runs another binary than ours. One whose
// second place is not vacant yet has its turn when it is.
func (p *parent) replaceNext() {
	u, waits := p.upgrade, false
	if p.stopping {
		return
	}
	for _, c := range p.children {
		if !p.outdated(c) {
			continue
		}
		ch, err := p.replace(c)
		if err == nil {
			u.at = ch
			return
		}
		if waits = p.other(c).state != vacant; !waits {
			p.turnBack(err.Error())
			return
		}
		u.tell(UpgradeStep{Step: "waiting: " + err.Error()})
	}
	if waits {
		return
	}
	p.upgrade = nil
	if u.old != nil {
		u.old.Close()
	}
	if u.back != "" {
		p.log.Error().Str("reason", u.back).Msg("upgrade failed: gone on as before")
		p.record(&auditUpgradeFailed{Reason: u.back})
		u.tell(UpgradeStep{Error: "the new binary failed, and the one before goes on: " + u.back})
		return
	}
	p.log.Info().Str("version", p.settings.Version).Msg("upgraded")
	p.record(&auditUpgrade{Version: p.settings.Version})
	u.tell(UpgradeStep{Done: "upgraded to version " + p.settings.Version})
}

// outdated tells whether a child is to be replaced in an upgrade.
func (p *parent) outdated(c *child) bool {
	if c.state != running || c.leaves() {
		return false
	}
	id, err := privsep.Stat(int(p.exe.Fd()))
	return err == nil && (c.proc.Record.Dev != id.Dev || c.proc.Record.Ino != id.Ino)
}

// replaced follows the end of a change, which may be a part of an upgrade.
func (p *parent) replaced(ch *change) {
	u := p.upgrade
	if u == nil || u.exe != nil || u.at != ch || p.stopping {
		return
	}
	if ch.failed != "" {
		p.turnBack(ch.failed)
		return
	}
	u.tell(UpgradeStep{Step: ch.summary()})
	u.at = nil
	p.replaceNext()
}

// turnBack goes back to the binary before. If that is gone, too, the child is
// started again and again, like any other.
func (p *parent) turnBack(reason string) {
	u := p.upgrade
	u.at = nil
	p.log.Error().Str("reason", reason).Bool("back", u.old != nil).Msg("upgrade failed")
	p.record(&auditUpgradeFailed{Reason: reason})
	if u.old != nil {
		u.tell(UpgradeStep{Step: reason})
		err := p.execute(u.old, p.handOver(-1, u.client, reason))
		reason += "; and the binary before cannot be executed: " + err.Error()
	}
	u.tell(UpgradeStep{Error: reason})
	p.upgrade = nil
}
