package privsep

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Version of the role protocol: the first thing SETUP_DONE says. Raised
// whenever testdata/kinds.ok changes.
const Version = 7

// Kind is a kind of message between roles. Values are frozen by
// testdata/kinds.ok and only ever appended.
type Kind uint16

// The kinds. The payload of each is the struct of its name; of SETTINGS it is Live,
// of INSPECTED_FILE Inspected, of MOVE_BYTES the bytes themselves, of STATUS StatusText,
// of AUDIT LogLine; SYSTEM_GET and SYSTEM_CONN have none.
const (
	KindNone Kind = iota
	KindBoot
	KindConfig
	KindSegment
	KindListener
	KindPeer
	KindDoorbell
	KindSetupEnd
	KindSetupDone
	KindLog
	KindStatsGet
	KindStats
	KindCMGone
	KindConnHandoff
	KindShutdown
	KindDrained
	KindCMFault
	KindCertificate
	KindKey
	KindSign
	KindSigned
	KindAdopt
	KindAdopted
	KindCMRetire
	KindRetire
	KindRetiring
	KindMoveConn
	KindMoveBytes
	KindSettings
	KindListenerGone
	KindProfile
	KindUser
	KindStanding
	KindLogin
	KindVerdict
	KindAuthFault
	KindTicketSign
	KindTicketSigned
	KindIssuer
	KindApproval
	KindDirectory
	KindDial
	KindDialed
	KindDialFailed
	KindInspect
	KindInspected
	KindInspectedFile
	KindTLSPolicy
	KindTLSSign
	KindTLSSigned
	KindStatusGet
	KindStatus
	KindSystemGet
	KindSystemConn
	KindAudit
	KindKick
	KindKicked
	KindSubsGet
	KindSubs
	KindShard
	numKinds
)

// Phase is a channel's stage of life, one bit each: a rule names a set.
type Phase uint8

// The phases, in the only order in which a channel passes them.
const (
	PhaseBoot  Phase = 1 << iota // nothing has been said yet
	PhaseAdopt                   // a new parent has said who it is, instead of the setup
	PhaseSetup                   // the parent hands out what the role may have
	PhaseRun                     // at work
	PhaseDrain                   // shutting down
)

var phaseNames = [...]string{"boot", "adopt", "setup", "run", "drain"}

// String gives the names of the set's phases with commas.
func (p Phase) String() string {
	var s []string
	for i, name := range phaseNames {
		if p&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	if len(s) == 0 || p >= 1<<len(phaseNames) {
		return "phase(" + strconv.Itoa(int(p)) + ")"
	}
	return strings.Join(s, ",")
}

// roleSet is a set of roles, one bit each.
type roleSet uint16

const (
	parent     roleSet = 1 << RoleParent
	dispatcher roleSet = 1 << RoleDispatcher
	cm         roleSet = 1 << RoleCM
	router     roleSet = 1 << RoleRouter
	auth       roleSet = 1 << RoleAuth
	tlsd       roleSet = 1 << RoleTLSD
	console    roleSet = 1 << RoleConsole

	anyChild = dispatcher | cm | router | auth | tlsd | console
)

func (s roleSet) has(r Role) bool { return r < numRoles && s&(1<<r) != 0 }

func (s roleSet) String() string {
	var names []string
	for r := range numRoles {
		if s.has(r) {
			names = append(names, r.String())
		}
	}
	return strings.Join(names, ",")
}

// rule permits one kind from each of one set of roles to each of another.
type rule struct {
	kind     Kind
	name     string
	from, to roleSet
	phases   Phase
	fds      int  // exactly
	max      int  // bytes of payload at most
	once     bool // once in a channel's life
	rate     int  // a second at most, and as many at once; 0: no limit
}

// rules is the whole protocol between roles. A message that has no row here,
// or that breaks its row, closes the channel.
var rules = [...]rule{
	{KindBoot, "BOOT", parent, anyChild, PhaseBoot, 0, 64, true, 0},
	{KindConfig, "CONFIG", parent, anyChild, PhaseSetup, 0, 4096, true, 0},
	{KindSegment, "SEGMENT", parent, anyChild, PhaseSetup, 1, 32, false, 0},
	{KindListener, "LISTENER", parent, dispatcher | tlsd | console, PhaseSetup | PhaseRun, 1, 320, false, 0},
	{KindPeer, "PEER", parent, dispatcher | cm | router | auth | console, PhaseSetup | PhaseRun, 1, 48, false, 0},
	{KindDoorbell, "DOORBELL", parent, cm | router, PhaseSetup | PhaseRun | PhaseDrain, 1, 16, false, 0},
	{KindSetupEnd, "SETUP_END", parent, anyChild, PhaseSetup, 0, 0, true, 0},
	{KindSetupDone, "SETUP_DONE", anyChild, parent, PhaseSetup, 0, 8, true, 0},
	{KindLog, "LOG", anyChild, parent, PhaseSetup | PhaseRun | PhaseDrain, 0, 2560, false, 1000},
	{KindStatsGet, "STATS_GET", parent, anyChild, PhaseRun | PhaseDrain, 0, 8, false, 0},
	{KindStats, "STATS", anyChild, parent, PhaseRun | PhaseDrain, 0, 512, false, 0},
	{KindCMGone, "CM_GONE", parent, dispatcher | router, PhaseRun, 0, 16, false, 0},
	{KindCMFault, "CM_FAULT", dispatcher | router, parent, PhaseRun, 0, 16, false, 100},
	{KindConnHandoff, "CONN_HANDOFF", dispatcher, cm, PhaseRun, 1, 128, false, 0},
	{KindShutdown, "SHUTDOWN", parent, anyChild, PhaseRun | PhaseDrain, 0, 8, false, 0},
	{KindCertificate, "CERTIFICATE", parent, cm, PhaseSetup | PhaseRun, 1, 16, false, 0},
	{KindKey, "KEY", parent, cm, PhaseSetup | PhaseRun, 1, 16, false, 0},
	{KindSign, "SIGN", cm, parent, PhaseRun | PhaseDrain, 0, 256, false, 20000},
	{KindSigned, "SIGNED", parent, cm, PhaseRun | PhaseDrain, 0, 1056, false, 0},
	{KindSettings, "SETTINGS", parent, anyChild, PhaseRun, 0, 3072, false, 0},
	{KindListenerGone, "LISTENER_GONE", parent, dispatcher | console, PhaseRun, 0, 8, false, 0},
	{KindDrained, "DRAINED", anyChild, parent, PhaseRun | PhaseDrain, 0, 0, false, 100},
	{KindAdopt, "ADOPT", parent, anyChild, PhaseBoot, 0, 64, true, 0},
	{KindAdopted, "ADOPTED", anyChild, parent, PhaseAdopt, 0, 2048, true, 0},
	{KindCMRetire, "CM_RETIRE", parent, dispatcher | router, PhaseRun, 0, 16, false, 0},
	{KindRetire, "RETIRE", parent, cm, PhaseRun, 1, 56, false, 0},
	{KindRetiring, "RETIRING", cm, parent, PhaseRun | PhaseDrain, 0, 24, false, 100},
	// One way, whoever sends: from a cm that is replaced to the one in its place.
	{KindMoveConn, "MOVE_CONN", cm, cm, PhaseRun, 1, 128, false, 0},
	{KindMoveBytes, "MOVE_BYTES", cm, cm, PhaseRun, 0, MaxMoveBytes, false, 0},
	// A set, whose last one says so: in the setup whole, later before the SETTINGS
	// that go with it.
	{KindProfile, "PROFILE", parent, router, PhaseSetup | PhaseRun, 0, MaxProfile, false, 0},
	{KindUser, "USER", parent, auth, PhaseSetup | PhaseRun, 0, 3072, false, 0},
	{KindStanding, "STANDING", parent, router, PhaseSetup | PhaseRun, 0, 32 << 10, false, 0},
	{KindLogin, "LOGIN", router, auth, PhaseRun, 0, MaxPayload, false, 0},
	{KindVerdict, "VERDICT", auth, router, PhaseRun, 0, 512, false, 0},
	{KindAuthFault, "AUTH_FAULT", router, parent, PhaseRun, 0, 16, false, 100},
	{KindTicketSign, "TICKET_SIGN", router, parent, PhaseRun | PhaseDrain, 0, 448, false, 2000},
	{KindTicketSigned, "TICKET_SIGNED", parent, router, PhaseRun | PhaseDrain, 0, MaxTicket + 16, false, 0},
	{KindIssuer, "ISSUER", parent, auth, PhaseSetup | PhaseRun, 0, MaxIssuer, false, 0},
	{KindApproval, "APPROVAL", parent, auth, PhaseSetup | PhaseRun, 1, 24, false, 0},
	{KindDirectory, "DIRECTORY", parent, auth, PhaseSetup | PhaseRun, 1, MaxDirectory, false, 0},
	{KindDial, "DIAL", auth, parent, PhaseRun | PhaseDrain, 0, 16, false, 100},
	{KindDialed, "DIALED", parent, auth, PhaseRun | PhaseDrain, 1, 8, false, 0},
	{KindDialFailed, "DIAL_FAILED", parent, auth, PhaseRun | PhaseDrain, 0, 16, false, 0},
	{KindInspect, "INSPECT", auth | tlsd, parent, PhaseRun | PhaseDrain, 0, 32, false, 2000},
	{KindInspected, "INSPECTED", parent, auth | tlsd, PhaseRun | PhaseDrain, 0, 5120, false, 0},
	{KindInspectedFile, "INSPECTED_FILE", parent, auth, PhaseRun | PhaseDrain, 1, 5120, false, 0},
	{KindTLSPolicy, "TLS_POLICY", parent, tlsd, PhaseSetup | PhaseRun, 1, MaxTLSPolicy, false, 0},
	{KindTLSSign, "TLS_SIGN", tlsd, parent, PhaseRun | PhaseDrain, 0, 192, false, 5000},
	{KindTLSSigned, "TLS_SIGNED", parent, tlsd, PhaseRun | PhaseDrain, 0, 1056, false, 0},
	{KindStatusGet, "STATUS_GET", console, parent, PhaseRun | PhaseDrain, 0, 8, false, 4},
	{KindStatus, "STATUS", parent, console, PhaseRun | PhaseDrain, 1, 16, false, 0},
	// The console asks to be a client of the broker: a connection, one end for each.
	{KindSystemGet, "SYSTEM_GET", console, parent, PhaseRun | PhaseDrain, 0, 0, false, 4},
	{KindSystemConn, "SYSTEM_CONN", parent, dispatcher | console, PhaseRun, 1, 0, false, 0},
	{KindAudit, "AUDIT", auth | router, parent, PhaseRun | PhaseDrain, 0, 2560, false, 4000},
	{KindKick, "KICK", parent, cm, PhaseRun, 0, 16, false, 0},
	{KindKicked, "KICKED", cm, parent, PhaseRun | PhaseDrain, 0, 16, false, 0},
	{KindSubsGet, "SUBS_GET", console, router, PhaseRun, 0, 16, false, 100},
	{KindSubs, "SUBS", router, console, PhaseRun, 0, 64 << 10, false, 0},
	{KindShard, "SHARD", parent, tlsd, PhaseSetup | PhaseRun, 1, 16, false, 0},
}

// String gives the kind's name as logs and the golden have it.
func (k Kind) String() string {
	for i := range rules {
		if rules[i].kind == k {
			return rules[i].name
		}
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// KindsTo lists the kinds that role to may be sent, for a role's test that its
// handlers are exactly these.
func KindsTo(to Role) []Kind {
	var ks []Kind
	for i := range rules {
		if rules[i].to.has(to) {
			ks = append(ks, rules[i].kind)
		}
	}
	return ks
}

// PermitError says which message broke which part of the rules. From is the
// channel that it came in on, never a claim of the message.
type PermitError struct {
	Kind     Kind
	From, To Role
	Phase    Phase
	Size     int // bytes of payload
	FDs      int
	Reason   string // "kind", "direction", "phase", "size", "fds", "once" or "rate"
}

// Error names the message and the broken part.
func (e *PermitError) Error() string {
	return fmt.Sprintf("privsep: %v from %v to %v in phase %v, %d bytes, %d fds: not permitted (%s)",
		e.Kind, e.From, e.To, e.Phase, e.Size, e.FDs, e.Reason)
}

// Permit is the gate in front of every decoder: it holds one message against
// the rules and returns nil or a *PermitError. phase is one phase, not a set.
func Permit(k Kind, from, to Role, phase Phase, size, nfds int) error {
	_, err := permit(k, from, to, phase, size, nfds)
	return err
}

// permit is Permit with the row that was found, for what only a channel knows.
func permit(k Kind, from, to Role, phase Phase, size, nfds int) (*rule, error) {
	reason := "kind"
	for i := range rules {
		r := &rules[i]
		if r.kind != k {
			continue
		}
		if !r.from.has(from) || !r.to.has(to) {
			reason = "direction"
			continue
		}
		if reason = r.breach(phase, size, nfds); reason == "" {
			return r, nil
		}
		break // kind, from and to name at most one row
	}
	return nil, &PermitError{k, from, to, phase, size, nfds, reason}
}

// breach names the first part of r that the message breaks, "" if none.
func (r *rule) breach(phase Phase, size, nfds int) string {
	switch {
	case bits.OnesCount8(uint8(phase)) != 1 || r.phases&phase == 0:
		return "phase"
	case size < 0 || size > r.max:
		return "size"
	case nfds != r.fds:
		return "fds"
	}
	return ""
}

// largest gives the biggest payload that from may send to: a receiver needs no
// more room, and the kernel's MSG_TRUNC tells of anything bigger.
func largest(from, to Role) int {
	n := 0
	for i := range rules {
		if rules[i].from.has(from) && rules[i].to.has(to) {
			n = max(n, rules[i].max)
		}
	}
	return n
}
