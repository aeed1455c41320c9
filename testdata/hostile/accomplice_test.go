package hostile

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// accompliceFlag makes of this program a process that a villain started before
// it was jailed, and left its channel to.
const accompliceFlag = "-accomplice"

const accompliceEvent = "the accomplice speaks"

// errand is what the accomplice is told once the villain has announced itself.
type errand struct {
	Frame []byte
	Claim bool // SCM_CREDENTIALS of the villain
	PID   int
	UID   int
}

// helper is an accomplice as its villain has it.
type helper struct {
	orders int // fd to write the errand to
	uid    int
}

// prepare starts an accomplice if the plan says so.
func (v *villain) prepare() error {
	kind, ok := strings.CutPrefix(v.plan.Do, "accomplice ")
	if !ok {
		return nil
	}
	uid := v.boot.UID // a forked child
	switch strings.TrimSuffix(kind, " claiming") {
	case "sibling":
		uid++ // the next cm's
	case "root":
		uid = 0
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	cmd := exec.Command(exe, accompliceFlag)
	cmd.Stderr = os.Stderr
	dup, err := unix.FcntlInt(channelFD, unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return err
	}
	channel, orders := os.NewFile(uintptr(dup), "channel"), os.NewFile(uintptr(p[0]), "orders")
	defer channel.Close()
	defer orders.Close()
	cmd.ExtraFiles = []*os.File{channel, orders}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	v.helper = helper{orders: p[1], uid: uid}
	return cmd.Start()
}

// sendHelper lets the accomplice send a message that is right in every byte.
func (v *villain) sendHelper() error {
	e := errand{Frame: v.pen.frame(privsep.KindLog, logLineOf(accompliceEvent, "", "")),
		Claim: strings.HasSuffix(v.plan.Do, "claiming"), PID: os.Getpid(), UID: v.boot.UID}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := unix.Write(v.orders, b); err != nil {
		return err
	}
	return unix.Close(v.orders)
}

// accomplice is such a process: fd 3 is the channel, fd 4 brings the errand.
func accomplice() int {
	b, err := io.ReadAll(os.NewFile(4, "orders"))
	var e errand
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "accomplice: %v\n", err)
		return 1
	}
	p := pen{fd: channelFD}
	if e.Claim {
		claim := unix.UnixCredentials(&unix.Ucred{Pid: int32(e.PID), Uid: uint32(e.UID), Gid: uint32(e.UID)})
		if err := p.write(e.Frame, claim); err != unix.EPERM {
			fmt.Fprintf(os.Stderr, "accomplice: claim: %v\n", err)
			return 1
		}
	}
	p.write(e.Frame, nil)
	return 0
}
