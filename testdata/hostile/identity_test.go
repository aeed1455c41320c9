package hostile

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/testdata/tree"
)

// TestImpostors: a process that has the socket, the key and the number of the
// next message is refused all the same.
func TestImpostors(t *testing.T) {
	t.Parallel()
	var jobs []job
	for _, role := range []string{"cm", "dispatcher", "router", "auth", "tlsd", "console"} {
		for _, who := range []string{"child", "sibling", "root", "child claiming", "sibling claiming"} {
			jobs = append(jobs, job{role: role, plan: plan{Stage: stageRun, Do: "accomplice " + who}, reason: "impostor", check: unheard})
		}
	}
	campaign(t, jobs)
}

// unheard wants nothing of what an impostor said in the log.
func unheard(t *testing.T, b *broker, pid int) {
	if n := len(b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == accompliceEvent })); n > 0 {
		t.Errorf("an impostor was heard %d times", n)
	}
}

// claims are credentials that a villain gives itself.
var claims = []struct {
	name string
	of   func(*villain) unix.Ucred
	want syscall.Errno // 0: it is the truth
}{
	{"its own", func(v *villain) unix.Ucred { return v.own() }, 0},
	{"the parent's pid", func(v *villain) unix.Ucred { c := v.own(); c.Pid = int32(v.parentPID); return c }, unix.EPERM},
	{"pid 1", func(v *villain) unix.Ucred { c := v.own(); c.Pid = 1; return c }, unix.EPERM},
	{"root's uid", func(v *villain) unix.Ucred { c := v.own(); c.Uid = 0; return c }, unix.EPERM},
	{"root's gid", func(v *villain) unix.Ucred { c := v.own(); c.Gid = 0; return c }, unix.EPERM},
	{"a sibling's uid", func(v *villain) unix.Ucred { c := v.own(); c.Uid++; return c }, unix.EPERM},
	{"nobody's pid", func(v *villain) unix.Ucred { c := v.own(); c.Pid = 1<<22 - 1; return c }, unix.EPERM},
}

func (v *villain) own() unix.Ucred {
	return unix.Ucred{Pid: int32(os.Getpid()), Uid: uint32(v.boot.UID), Gid: uint32(v.boot.GID)}
}

// claim sends a message with the credentials of claims[N].
func (v *villain) claim() error {
	c := claims[v.plan.N].of(v)
	err := v.pen.write(v.pen.frame(privsep.KindLog, line1()), unix.UnixCredentials(&c))
	if err != nil {
		v.pen.seq--
	}
	v.say(attempt, claims[v.plan.N].name, err)
	return v.finish()
}

// TestClaims: the kernel lets nobody claim to be another.
func TestClaims(t *testing.T) {
	t.Parallel()
	var jobs []job
	for n, c := range claims {
		for _, role := range []string{"cm", "dispatcher", "router", "auth", "tlsd", "console"} {
			jobs = append(jobs, job{role: role, plan: plan{Stage: stageRun, Do: "claim", N: n}, check: answered(c.want)})
		}
	}
	campaign(t, jobs)
}

// peerCell sends kind N to the peer, with an fd if S says so, and waits for the
// peer's answer: the end of the channel.
func (v *villain) peerCell() error {
	if err := v.meet(); err != nil {
		return err
	}
	var oob []byte
	b := v.dispPen.frame(privsep.Kind(v.plan.N), nil)
	switch v.plan.S {
	case "with fd":
		oob = unix.UnixRights(channelFD)
		b[1] = 1
		v.dispPen.mac(b)
	case "forged":
		b[macAt] ^= 1
	}
	if err := v.dispPen.write(b, oob); err != nil {
		return err
	}
	for {
		var m privsep.Message
		err := v.disp.RecvWait(&m, -1)
		switch {
		case err == io.EOF && v.id.Role == privsep.RoleCM:
			return nil // its end is near
		case err == io.EOF:
			return v.finish()
		case err != nil:
			return err
		}
	}
}

// TestPeers sends every kind from a cm to the dispatcher, which has it killed,
// and what a cm does not take from a dispatcher to a cm, which hangs up.
func TestPeers(t *testing.T) {
	t.Parallel()
	var fromCM, fromDispatcher []job
	add := func(k privsep.Kind, s string) {
		p := plan{Stage: stageRun, Do: "peer", N: int(k), S: s}
		fromCM = append(fromCM, job{role: "cm", plan: p, kind: "CM_FAULT", reason: "protocol"})
		fromDispatcher = append(fromDispatcher, job{role: "dispatcher", plan: p, check: hungUp})
	}
	for _, k := range kinds() {
		add(k, "")
	}
	add(privsep.KindConnHandoff, "with fd")
	add(privsep.KindConnHandoff, "forged")
	// Apart: a villain hears nothing.
	t.Run("cm", func(t *testing.T) { campaign(t, fromCM) })
	t.Run("dispatcher", func(t *testing.T) { campaign(t, fromDispatcher) })
}

// hungUp wants a cm to say that it closed the channel to the dispatcher.
func hungUp(t *testing.T, b *broker, _ int) {
	t.Helper()
	if b.log.Await(0, time.Second, func(l *tree.Line) bool { return l.Str("message") == "channel closed" && l.Str("peer") == "dispatcher" }) == nil {
		t.Error("no cm says that it closed the channel to the dispatcher")
	}
}
