package hostile

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
	"gatehouse/testdata/tree"
)

// frameCase is one way to get a frame wrong.
type frameCase struct {
	kind, reason string
	stage        string // "": run
	write        func(*villain)
}

func line1() []byte { return logLineOf("a line", "", "") }

// sealed sends the next frame with a right MAC after spoil had it.
func (v *villain) sealed(k privsep.Kind, payload []byte, spoil func(b []byte) []byte) {
	b := spoil(v.pen.frame(k, payload))
	if len(b) >= headerLen {
		v.pen.mac(b)
	}
	v.pen.write(b, nil)
}

// unsealed sends it with the MAC that it had before.
func (v *villain) unsealed(spoil func(b []byte) []byte) {
	v.pen.write(spoil(v.pen.frame(privsep.KindLog, line1())), nil)
}

func sized(k privsep.Kind, n int) func(*villain) {
	return func(v *villain) { v.pen.send(k, make([]byte, n)) }
}

func put(at int, b byte) func([]byte) []byte {
	return func(f []byte) []byte { f[at] = b; return f }
}

func length(change func(uint32) uint32) func(*villain) {
	return func(v *villain) {
		v.sealed(privsep.KindLog, line1(), func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[4:], change(binary.LittleEndian.Uint32(b[4:])))
			return b
		})
	}
}

func numbered(seq func(next uint64) uint64) func(*villain) {
	return func(v *villain) { v.pen.write(v.pen.sealed(seq(v.pen.seq+1), privsep.KindLog, line1()), nil) }
}

func cut(n int) func(*villain) {
	return func(v *villain) { v.sealed(privsep.KindLog, line1(), func(b []byte) []byte { return b[:n] }) }
}

var frameCases = map[string]frameCase{
	// Shape.
	"empty packet":       {"", "malformed", "", func(v *villain) { v.pen.write(nil, nil) }},
	"one byte":           {"", "malformed", "", cut(1)},
	"header but one":     {"", "malformed", "", cut(headerLen - 1)},
	"payload cut":        {"", "malformed", "", cut(headerLen + 3)},
	"header alone":       {"", "malformed", "", cut(headerLen)},
	"length one more":    {"", "malformed", "", length(func(n uint32) uint32 { return n + 1 })},
	"length one less":    {"", "malformed", "", length(func(n uint32) uint32 { return n - 1 })},
	"length zero":        {"", "malformed", "", length(func(uint32) uint32 { return 0 })},
	"length all ones":    {"", "malformed", "", length(func(uint32) uint32 { return math.MaxUint32 })},
	"version 0":          {"", "malformed", "", func(v *villain) { v.sealed(privsep.KindLog, line1(), put(0, 0)) }},
	"version 2":          {"", "malformed", "", func(v *villain) { v.sealed(privsep.KindLog, line1(), put(0, 2)) }},
	"version 255":        {"", "malformed", "", func(v *villain) { v.sealed(privsep.KindLog, line1(), put(0, 255)) }},
	"an fd that is none": {"", "malformed", "", func(v *villain) { v.sealed(privsep.KindLog, line1(), put(1, 1)) }},
	"255 that are none":  {"", "malformed", "", func(v *villain) { v.sealed(privsep.KindLog, line1(), put(1, 255)) }},
	"two in one packet": {"", "malformed", "", func(v *villain) {
		v.pen.write(append(v.pen.frame(privsep.KindDrained, nil), v.pen.frame(privsep.KindDrained, nil)...), nil)
	}},
	"trailing byte": {"", "malformed", "", func(v *villain) {
		v.sealed(privsep.KindDrained, nil, func(b []byte) []byte { return append(b, 0) })
	}},

	// Length of payloads.
	"LOG of 0":            {"LOG", "malformed", "", sized(privsep.KindLog, 0)},
	"LOG of 1":            {"LOG", "malformed", "", sized(privsep.KindLog, 1)},
	"LOG of most":         {"LOG", "malformed", "", sized(privsep.KindLog, 2560)},
	"LOG of too much":     {"", "truncated", "", sized(privsep.KindLog, 2561)},
	"LOG of 64 KiB":       {"", "truncated", "", sized(privsep.KindLog, 64<<10)},
	"LOG of 64 KiB and 1": {"", "truncated", "", sized(privsep.KindLog, 64<<10+1)},
	"STATS of 0":          {"STATS", "malformed", "", sized(privsep.KindStats, 0)},
	"STATS of 1":          {"STATS", "malformed", "", sized(privsep.KindStats, 1)},
	"STATS of most":       {"STATS", "malformed", "", sized(privsep.KindStats, 512)},
	"STATS of too much":   {"STATS", "size", "", sized(privsep.KindStats, 513)},
	"STATS of 64 KiB":     {"", "truncated", "", sized(privsep.KindStats, 64<<10)},
	"DRAINED of 1":        {"DRAINED", "size", "", sized(privsep.KindDrained, 1)},
	"SETUP_DONE of 0":     {"SETUP_DONE", "malformed", stageSetup, sized(privsep.KindSetupDone, 0)},
	"SETUP_DONE of 1":     {"SETUP_DONE", "malformed", stageSetup, sized(privsep.KindSetupDone, 1)},
	"SETUP_DONE of 8":     {"SETUP_DONE", "malformed", stageSetup, sized(privsep.KindSetupDone, 8)},
	"SETUP_DONE of 9":     {"SETUP_DONE", "size", stageSetup, sized(privsep.KindSetupDone, 9)},
	"SETUP_DONE version 0": {"SETUP_DONE", "malformed", stageSetup, func(v *villain) {
		v.pen.send(privsep.KindSetupDone, new(privsep.SetupDone).Append(nil))
	}},
	"SIGN of 0":            {"SIGN", "malformed", "", sized(privsep.KindSign, 0)},
	"SIGN of 1":            {"SIGN", "malformed", "", sized(privsep.KindSign, 1)},
	"SIGN of most":         {"SIGN", "malformed", "", sized(privsep.KindSign, 256)},
	"SIGN of too much":     {"SIGN", "size", "", sized(privsep.KindSign, 257)},
	"SIGN of 64 KiB and 1": {"", "truncated", "", sized(privsep.KindSign, 64<<10+1)},

	"INSPECT of 0":        {"INSPECT", "malformed", "", sized(privsep.KindInspect, 0)},
	"INSPECT of most":     {"INSPECT", "malformed", "", sized(privsep.KindInspect, 32)},
	"INSPECT of too much": {"INSPECT", "size", "", sized(privsep.KindInspect, 33)},

	"TLS_SIGN of 0":        {"TLS_SIGN", "malformed", "", sized(privsep.KindTLSSign, 0)},
	"TLS_SIGN of most":     {"TLS_SIGN", "malformed", "", sized(privsep.KindTLSSign, 192)},
	"TLS_SIGN of too much": {"TLS_SIGN", "size", "", sized(privsep.KindTLSSign, 193)},

	// Payloads that say what none may.
	"LOG as parent": {"LOG", "malformed", "", func(v *villain) {
		b := line1()
		b[len(b)-5] = byte(privsep.KeyRole)
		v.pen.send(privsep.KindLog, b)
	}},
	"LOG with escape": {"LOG", "malformed", "", func(v *villain) { v.pen.send(privsep.KindLog, logLineOf("a\x1b[2Jline", "", "")) }},
	"LOG level 4":     {"LOG", "malformed", "", func(v *villain) { v.pen.send(privsep.KindLog, append([]byte{4}, line1()[1:]...)) }},

	// Authenticity.
	"MAC zero": {"", "forged", "", func(v *villain) {
		v.unsealed(func(b []byte) []byte { clear(b[macAt:headerLen]); return b })
	}},
	"MAC one bit":     {"", "forged", "", func(v *villain) { v.unsealed(func(b []byte) []byte { b[macAt+15] ^= 1; return b }) }},
	"payload one bit": {"", "forged", "", func(v *villain) { v.unsealed(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }) }},
	"kind changed":    {"", "forged", "", func(v *villain) { v.unsealed(put(2, byte(privsep.KindDrained))) }},
	"number changed":  {"", "forged", "", func(v *villain) { v.unsealed(put(8, 77)) }},
	"no key":          {"", "forged", stageBoot, func(v *villain) { v.pen.send(privsep.KindLog, line1()) }},
	"random key": {"", "forged", "", func(v *villain) {
		newPen(channelFD, privsep.NewKey(), v.id.Role, privsep.RoleParent).send(privsep.KindLog, line1())
	}},
	"the channel's key itself": {"", "forged", "", func(v *villain) {
		p := *v.pen
		p.key = v.boot.Key[:]
		p.send(privsep.KindLog, line1())
	}},
	"the other direction's key": {"", "forged", "", func(v *villain) {
		p := newPen(channelFD, v.boot.Key, privsep.RoleParent, v.id.Role)
		p.seq = v.pen.seq
		p.send(privsep.KindLog, line1())
	}},
	"reflected": {"", "forged", "", func(v *villain) { v.pen.write(v.raw, nil) }},
	"another channel's key": {"", "forged", "", func(v *villain) {
		if v.meet() == nil {
			newPen(channelFD, v.dispKey, v.id.Role, privsep.RoleParent).send(privsep.KindLog, line1())
		}
	}},

	// Numbers.
	"replay": {"", "replayed", "", func(v *villain) {
		b := v.pen.frame(privsep.KindLog, line1())
		v.pen.write(b, nil)
		v.pen.write(b, nil)
	}},
	"first again":    {"", "replayed", "", numbered(func(uint64) uint64 { return 1 })},
	"number 0":       {"", "replayed", "", numbered(func(uint64) uint64 { return 0 })},
	"a gap of one":   {"", "replayed", "", numbered(func(n uint64) uint64 { return n + 1 })},
	"highest number": {"", "replayed", "", numbered(func(uint64) uint64 { return math.MaxUint64 })},
	"two exchanged": {"", "replayed", "", func(v *villain) {
		a, b := v.pen.frame(privsep.KindLog, line1()), v.pen.frame(privsep.KindLog, line1())
		v.pen.write(b, nil)
		v.pen.write(a, nil)
	}},

	// Times.
	"SETUP_DONE again": {"SETUP_DONE", "phase", "", func(v *villain) {
		m := privsep.SetupDone{Version: privsep.Version}
		v.pen.send(privsep.KindSetupDone, m.Append(nil))
	}},
	"10000 LOG":     {"LOG", "rate", "", flood(privsep.KindLog, 10_000)},
	"10000 STATS":   {"STATS", "unasked", "", flood(privsep.KindStats, 10_000)},
	"10000 DRAINED": {"DRAINED", "rate", "", flood(privsep.KindDrained, 10_000)},

	// Silence.
	"channel closed":    {"", "mute", "", func(*villain) { unix.Close(channelFD) }},
	"half of it closed": {"", "mute", "", func(*villain) { unix.Shutdown(channelFD, unix.SHUT_WR) }},
}

// flood sends up to n messages; a channel that is closed ends it.
func flood(k privsep.Kind, n int) func(*villain) {
	return func(v *villain) {
		for range n {
			if v.pen.send(k, payload(v.id.Role.String(), k)) != nil {
				return
			}
		}
	}
}

func (v *villain) frameCase() error {
	frameCases[v.plan.S].write(v)
	return nil
}

// TestFrames sends each wrong frame from a cm, and of each class of them one from
// the other roles too.
func TestFrames(t *testing.T) {
	t.Parallel()
	var jobs []job
	everywhere := []string{"empty packet", "LOG of too much", "MAC zero", "replay", "10000 LOG", "channel closed"}
	for name, c := range frameCases {
		stage := c.stage
		if stage == "" {
			stage = stageRun
		}
		roles := []string{"cm"}
		switch c.kind {
		case privsep.KindInspect.String():
			roles = []string{"auth"}
		case privsep.KindTLSSign.String():
			roles = []string{"tlsd"}
		}
		if slices.Contains(everywhere, name) {
			roles = append(roles, "dispatcher", "router", "auth", "tlsd", "console")
		}
		for _, role := range roles {
			jobs = append(jobs, job{role: role, plan: plan{Stage: stage, Do: "frame", S: name}, kind: c.kind, reason: c.reason})
		}
	}
	slices.SortFunc(jobs, func(a, b job) int { return strings.Compare(a.plan.S, b.plan.S) })
	campaign(t, jobs)
}

// fdCounts are numbers of fds that come with a frame which is right otherwise.
var fdCounts = []int{1, 2, 3, 253, 254}

// fds tries to give the parent N fds.
func (v *villain) fds() error {
	fds := slices.Repeat([]int{0}, v.plan.N)
	b := v.pen.frame(privsep.KindLog, line1())
	b[1] = byte(v.plan.N)
	v.pen.mac(b)
	err := v.pen.write(b, unix.UnixRights(fds...))
	if err == nil { // the parent's to refuse
		return nil
	}
	v.pen.seq-- // nothing has left
	v.say(attempt, "", err)
	return v.finish()
}

// attempt is the event of a line that says what the kernel answered.
const attempt = "attempt"

// answered wants the kernel's answer to an attempt.
func answered(want syscall.Errno) func(*testing.T, *broker, int) {
	return func(t *testing.T, b *broker, pid int) {
		t.Helper()
		got := b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == attempt })
		if len(got) != 1 || got[0].Str("err") != errText(want) {
			t.Errorf("answered %v, want %v", got, errText(want))
		}
	}
}

// TestFDs: the kernel takes no fd for the parent.
func TestFDs(t *testing.T) {
	t.Parallel()
	var jobs []job
	for _, role := range []string{"cm", "dispatcher", "router", "auth", "tlsd", "console"} {
		for _, n := range fdCounts {
			want := unix.EPERM
			if n > 253 { // SCM_MAX_FD
				want = unix.EINVAL
			}
			jobs = append(jobs, job{role: role, plan: plan{Stage: stageRun, Do: "fds", N: n}, check: answered(want)})
		}
	}
	campaign(t, jobs)
}

// TestFirstStart: a role that offends before it is ready, at the first start of
// the broker, ends it with one line and nothing left behind.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	for _, p := range []plan{
		{Stage: stageBoot, Do: "cell", N: int(privsep.KindLog)},
		{Stage: stageSetup, Do: "cell", N: int(privsep.KindStats)},
		{Stage: stageSetup, Do: "cell", N: int(privsep.KindSetupDone)},
		{Stage: stageSetup, Do: "frame", S: "MAC zero"},
	} {
		for _, role := range []string{"cm/1", "dispatcher", "router"} {
			t.Run(role+" "+p.Stage+" "+p.Do, func(t *testing.T) {
				t.Parallel()
				b := newBroker(t, settings{cms: 2, plans: map[string][]plan{role: {p}}})
				b.launch(nil)
				b.startFails(role)
			})
		}
	}
}

// startFails wants one security line about role, and one line why there is no
// broker.
func (b *broker) startFails(role string) {
	b.t.Helper()
	if !happens(b.exited) || !b.log.Ended(patience) {
		b.t.Fatal("the broker runs on")
	}
	b.over = true
	security := b.log.Where((*tree.Line).Security)
	if len(security) != 1 || security[0].Str("role") != role || security[0].PID() != b.villain(role, 0) {
		b.t.Errorf("security events: %v", security)
	}
	var words []string
	for _, l := range b.log.Where(func(l *tree.Line) bool { return l.Fields == nil }) {
		words = append(words, l.Text)
	}
	if len(words) != 1 || b.code != 1 {
		b.t.Errorf("exit code %d, last words %q", b.code, words)
	}
	if left := tree.ChildrenOf(b.pid); len(left) > 0 {
		b.t.Errorf("processes left: %v", left)
	}
}
