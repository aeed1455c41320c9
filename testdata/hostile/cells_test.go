package hostile

import (
	"crypto/tls"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gatehouse/privsep"
)

var offences = map[string]offence{
	"cell":                        (*villain).cell,
	"frame":                       (*villain).frameCase,
	"fds":                         (*villain).fds,
	"claim":                       (*villain).claim,
	"peer":                        (*villain).peerCell,
	"sign":                        (*villain).signCase,
	"tls sign":                    (*villain).tlsSignCase,
	"flood of tls signs":          (*villain).floodTLSSigns,
	"outwards":                    (*villain).outwards,
	"leak":                        (*villain).leak,
	"foreign":                     (*villain).foreign,
	"flood of signs":              (*villain).floodSigns,
	"accomplice child":            (*villain).sendHelper,
	"accomplice child claiming":   (*villain).sendHelper,
	"accomplice sibling":          (*villain).sendHelper,
	"accomplice sibling claiming": (*villain).sendHelper,
	"accomplice root":             (*villain).sendHelper,
}

// served is the part of the role protocol that a child may speak to the parent
// unasked, a second time and by hand: who, when, what.
var served = map[string]map[string][]privsep.Kind{
	stageSetup: {
		"dispatcher": {privsep.KindSetupDone, privsep.KindLog},
		"router":     {privsep.KindSetupDone, privsep.KindLog},
		"auth":       {privsep.KindSetupDone, privsep.KindLog},
		"tlsd":       {privsep.KindSetupDone, privsep.KindLog},
		"console":    {privsep.KindSetupDone, privsep.KindLog},
		"cm":         {privsep.KindSetupDone, privsep.KindLog},
	},
	stageRun: {
		"dispatcher": {privsep.KindLog, privsep.KindDrained, privsep.KindCMFault},
		"router":     {privsep.KindLog, privsep.KindDrained, privsep.KindCMFault, privsep.KindAuthFault, privsep.KindTicketSign, privsep.KindAudit},
		"auth":       {privsep.KindLog, privsep.KindDrained, privsep.KindDial, privsep.KindInspect, privsep.KindAudit},
		"tlsd":       {privsep.KindLog, privsep.KindDrained, privsep.KindTLSSign, privsep.KindInspect},
		"console":    {privsep.KindLog, privsep.KindDrained, privsep.KindStatusGet, privsep.KindSystemGet},
		"cm":         {privsep.KindLog, privsep.KindDrained, privsep.KindSign},
	},
	stageDrain: {
		"dispatcher": {privsep.KindLog, privsep.KindDrained},
		"router":     {privsep.KindLog, privsep.KindDrained, privsep.KindTicketSign, privsep.KindAudit},
		"auth":       {privsep.KindLog, privsep.KindDrained, privsep.KindDial, privsep.KindInspect, privsep.KindAudit},
		"tlsd":       {privsep.KindLog, privsep.KindDrained, privsep.KindTLSSign, privsep.KindInspect},
		"console":    {privsep.KindLog, privsep.KindDrained, privsep.KindStatusGet, privsep.KindSystemGet},
		"cm":         {privsep.KindLog, privsep.KindDrained, privsep.KindSign},
	},
}

// kinds are all there are, and some that are none.
func kinds() []privsep.Kind {
	var all []privsep.Kind
	k := privsep.KindNone
	for all = append(all, k); known(k + 1); k++ {
		all = append(all, k+1)
	}
	return append(all, k+1, k+2, 0x100, 0x7fff, 0xffff)
}

// payloads are sound ones of what children may say; of all else any will do.
func payload(role string, k privsep.Kind) []byte {
	switch k {
	case privsep.KindLog:
		return logLineOf("a line", "", "")
	case privsep.KindAudit:
		if role == "router" {
			return logLineOf("not permitted", "", "")
		}
		return logLineOf("login", "", "")
	case privsep.KindKicked:
		return new(privsep.Kicked).Append(nil)
	case privsep.KindStats:
		m := privsep.Stats{Values: make([]uint64, reflect.TypeFor[privsep.RoleStats]().NumField())}
		return m.Append(nil)
	case privsep.KindCMFault:
		m := privsep.CMFault{CM: spare(role), Generation: 1, Reason: privsep.FaultStalled}
		return m.Append(nil)
	case privsep.KindAuthFault: // of one that there will never be
		m := privsep.AuthFault{Generation: 1 << 40, Reason: privsep.FaultStalled}
		return m.Append(nil)
	case privsep.KindInspect: // of one that is not the one of that inode
		m := privsep.Inspect{File: true, Process: privsep.Process{PID: 1, PidIno: 1}}
		return m.Append(nil)
	case privsep.KindSetupDone:
		m := privsep.SetupDone{Version: privsep.Version}
		return m.Append(nil)
	case privsep.KindRetiring:
		return new(privsep.Retiring).Append(nil)
	case privsep.KindAdopted:
		m := privsep.Adopted{Version: privsep.Version, Generation: 1}
		return m.Append(nil)
	case privsep.KindTicketSign: // there is no key for tickets here
		m := privsep.TicketSign{User: "alice", Audience: "orgb"}
		return m.Append(nil)
	case privsep.KindDial: // there is no directory here
		m := privsep.Dial{ID: 1}
		return m.Append(nil)
	case privsep.KindTLSSign: // by a key that is not there
		m := privsep.TLSSign{Scheme: uint16(tls.ECDSAWithP256AndSHA256), Input: verifyInput(clientContext, 32)}
		return m.Append(nil)
	case privsep.KindStatusGet:
		m := privsep.StatusGet{ID: 1}
		return m.Append(nil)
	case privsep.KindSign:
		m := privsep.Sign{Input: make([]byte, 130)}
		return m.Append(nil)
	}
	return nil
}

// cell sends kind N with a sound payload.
func (v *villain) cell() error {
	k := privsep.Kind(v.plan.N)
	v.pen.send(k, payload(v.id.Role.String(), k))
	return v.finish()
}

// TestCells sends every kind from every role in every stage before the stop, and
// wants what is in the table served, and all else refused.
func TestCells(t *testing.T) {
	t.Parallel()
	var jobs []job
	for _, role := range []string{"dispatcher", "router", "auth", "tlsd", "console", "cm"} {
		for _, stage := range []string{stageBoot, stageSetup, stageRun} {
			for _, k := range kinds() {
				if stage == stageBoot && k > privsep.KindConfig {
					continue // no key, no kind
				}
				if k == privsep.KindSign && stage == stageRun && role == "cm" {
					continue // TestSigner
				}
				jobs = append(jobs, cellJob(role, stage, k))
			}
		}
	}
	campaign(t, jobs)
}

func cellJob(role, stage string, k privsep.Kind) job {
	j := job{role: role, plan: plan{Stage: stage, Do: "cell", N: int(k)}, kind: k.String()}
	switch {
	case stage == stageBoot: // without the key nothing counts, whatever it says
		j.kind, j.reason = "", "forged"
	case stage == stageSetup && k == privsep.KindSetupDone: // but it is root still
		j.reason = "unconfined"
	case slices.Contains(served[stage][role], k):
		j.kind, j.accuses = "", k == privsep.KindCMFault
	case answers(role, k) && stage != stageSetup:
		j.reason = "unasked"
	case !known(k):
		j.reason = "kind"
	case !answers(role, k) && k != privsep.KindAdopted && !slices.Contains(served[stageSetup][role], k) && !slices.Contains(served[stageRun][role], k):
		j.reason = "direction"
	default:
		j.reason = "phase"
	}
	return j
}

// answers tells whether a role may say k when it has been asked, or told to retire.
func answers(role string, k privsep.Kind) bool {
	return k == privsep.KindStats || role == "cm" && (k == privsep.KindRetiring || k == privsep.KindKicked)
}

func known(k privsep.Kind) bool { return !strings.HasPrefix(k.String(), "kind(") }
