package hostile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/privsep/sandbox"
)

// plan is what one villain does.
type plan struct {
	Stage string // when: see below
	Do    string // name of an offence
	N     int    // its argument
	S     string // another
}

// Stages of a child's life in which it can offend.
const (
	stageBoot  = "boot"  // nothing was read yet, not even the key
	stageSetup = "setup" // the key is known, root is not given up
	stageRun   = "run"   // jailed, announced
	stageStop  = "stop"  // told to stop
	stageDrain = "drain" // told the last there is to be told
)

// planFile is the file of the n-th plan for a component, and taken what it is
// called once a process has it.
func planFile(dir, role string, n int) string {
	return filepath.Join(dir, "plans", fmt.Sprintf("%s.%03d", strings.ReplaceAll(role, "/", "-"), n))
}

const taken = ".pid"

// planned takes the next plan for component name from beside the executable;
// nil when there is none. It leaves its pid.
func planned(name string) (*villain, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(exe), "plans", strings.ReplaceAll(name, "/", "-")+".*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, f := range files {
		if strings.HasSuffix(f, taken) || slices.Contains(files, f+taken) {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		v := &villain{}
		if err := json.Unmarshal(b, &v.plan); err != nil {
			return nil, err
		}
		if v.id, err = privsep.ParseID(name); err != nil {
			return nil, err
		}
		return v, replace(f+taken, fmt.Sprint(os.Getpid()))
	}
	return nil, nil
}

// replace writes a file in one step.
func replace(path, content string) error {
	if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+"~", path)
}

// villain is a role that was taken over.
type villain struct {
	plan plan
	id   privsep.ID
	boot *privsep.Boot
	set  *privsep.Setup
	ch   *privsep.Channel // to receive by
	pen  *pen             // to send by
	raw  []byte           // the BOOT packet as it came

	parentPID int
	helper
	disp    *privsep.Channel // to the dispatcher, or of a dispatcher to a cm
	dispPen *pen
	dispKey privsep.Key
	msg     privsep.Message
}

const channelFD = 3

// offence is something that a sound role does not do. Errors of the kernel are
// what it hopes for, so only those that spoil the test are returned.
type offence func(*villain) error

// live goes through a role's life up to the stage of its offence, and waits
// there for its end.
func (v *villain) live() error {
	do, ok := offences[v.plan.Do]
	if !ok {
		return fmt.Errorf("no offence %q", v.plan.Do)
	}
	if err := v.begin(); err != nil {
		return err
	}
	if v.plan.Stage == stageBoot || v.plan.Stage == stageSetup {
		return v.offend(do)
	}
	if err := v.announce(); err != nil {
		return err
	}
	if v.plan.Stage == stageStop || v.plan.Stage == stageDrain {
		if err := v.told(); err != nil {
			return err
		}
	}
	if v.plan.Stage == stageDrain && (v.id.Role == privsep.RoleCM || v.id.Role == privsep.RoleRouter) { // they are told twice
		v.pen.send(privsep.KindDrained, nil)
		if err := v.told(); err != nil {
			return err
		}
	}
	return v.offend(do)
}

// told waits for SHUTDOWN.
func (v *villain) told() error {
	for {
		if err := v.receive(); err != nil || v.msg.Kind == privsep.KindShutdown {
			return err
		}
	}
}

func (v *villain) offend(do offence) error {
	if err := do(v); err != nil {
		return err
	}
	for {
		<-time.After(time.Hour) // the parent ends us
	}
}

// begin takes the channel and, but for stage boot, reads what is handed out.
func (v *villain) begin() (err error) {
	v.parentPID = os.Getppid()
	v.raw = make([]byte, 4096)
	if err := waitFor(channelFD, unix.POLLIN); err != nil {
		return err
	}
	n, _, err := unix.Recvfrom(channelFD, v.raw, unix.MSG_PEEK)
	if err != nil {
		return err
	}
	v.raw = v.raw[:n]
	v.pen = newPen(channelFD, privsep.Key{}, v.id.Role, privsep.RoleParent)
	if v.plan.Stage == stageBoot {
		return nil
	}
	if v.boot, v.ch, err = privsep.Inherit(); err != nil {
		return err
	}
	v.pen = newPen(channelFD, v.boot.Key, v.id.Role, privsep.RoleParent)
	v.set, err = privsep.ReadSetup(v.ch)
	return err
}

// announce is jailed as the role is, and says so.
func (v *villain) announce() error {
	if err := v.prepare(); err != nil {
		return err
	}
	if err := privsep.EmptyRoot(v.set.Settings.Root); err != nil {
		return err
	}
	if err := privsep.Drop(v.boot.UID, v.boot.GID); err != nil {
		return err
	}
	walls, err := sandbox.Enter(v.id.Role, sandbox.Options{OwnUID: true, Connect: v.set.Settings.TLSPorts})
	if err != nil {
		return err
	}
	done := privsep.SetupDone{Version: privsep.Version, Sandbox: walls}
	if err := v.pen.send(privsep.KindSetupDone, done.Append(nil)); err != nil {
		return err
	}
	v.ch.SetPhase(privsep.PhaseRun)
	return nil
}

// receive waits for the parent's next message and keeps the way to a peer.
func (v *villain) receive() error {
	if err := v.ch.RecvWait(&v.msg, -1); err != nil {
		return err
	}
	if v.msg.Kind != privsep.KindPeer {
		return nil
	}
	var p privsep.Peer
	if err := p.Parse(v.msg.Payload); err != nil {
		return err
	}
	v.disp = privsep.NewChannel(v.msg.FDs[0], v.id.Role, p.ID.Role, p.Key)
	v.disp.SetPhase(privsep.PhaseRun)
	v.dispKey = p.Key
	v.dispPen = newPen(v.msg.FDs[0], p.Key, v.id.Role, p.ID.Role)
	return nil
}

// meet waits until there is a way to a peer.
func (v *villain) meet() error {
	for v.disp == nil {
		if err := v.receive(); err != nil {
			return err
		}
	}
	return nil
}

// say sends a log line: what the villain wants the test to know.
func (v *villain) say(event, reason string, err error) {
	v.pen.send(privsep.KindLog, logLineOf(event, reason, errText(err)))
}

// finish says that all went through; the test then ends the villain. If it did
// not, nobody hears this.
func (v *villain) finish() error {
	v.say(allServed, "", nil)
	if v.plan.Stage == stageDrain {
		os.Exit(0) // as a role that was told to stop
	}
	return nil
}

const allServed = "all was served"

// errText is the name of an errno: "EPERM".
func errText(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &errno):
		if errno == 0 {
			return "none"
		}
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// logLineOf is the payload of a LOG (privsep/logcodec.go): level warn, none
// dropped, event, two texts.
func logLineOf(event, reason, errno string) []byte {
	b := []byte{byte(privsep.LevelWarn), 0, 0, 0, 0, byte(len(event))}
	b = append(b, event...)
	b = append(b, 2)
	for _, f := range []privsep.Field{privsep.Str(privsep.KeyReason, reason), privsep.Str(privsep.KeyErr, errno)} {
		b = append(b, byte(f.Key), 0, byte(len(f.Text)))
		b = append(b, f.Text...)
	}
	return b
}
