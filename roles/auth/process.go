package auth

import (
	"errors"
	"reflect"
	"slices"

	"gatehouse/privsep"
)

// processed is a user with what a process of his must be.
type processed struct {
	rule privsep.ProcessRule
	user *user
}

// checkProcess finds out whose the process is that has connected. What it executes is
// read once; so that nothing changes behind that, the process is looked at again after it,
// and must be the same in everything.
func checkProcess(t *attempt) (*user, privsep.Reason) {
	if t.process == (privsep.Process{}) {
		return nil, privsep.ReasonProcessUnknown
	}
	first := t.look(true)
	if first.Reason != privsep.ReasonNone {
		return nil, first.Reason
	}
	t.executable = first.Link
	if first.file == nil {
		return t.users.runBy(&t.process, &first.Sight, nil)
	}
	sum, waited, err := t.digests.of(first.file, t.until)
	if err != nil {
		t.err = err
		if errors.Is(err, errLate) {
			return nil, privsep.ReasonLate
		}
		return nil, privsep.ReasonProcessUnreadable
	}
	if !waited {
		return t.users.runBy(&t.process, &first.Sight, &sum)
	}
	again := t.look(false)
	switch {
	case again.Reason != privsep.ReasonNone:
		return nil, again.Reason
	case !reflect.DeepEqual(first.Sight, again.Sight):
		return nil, privsep.ReasonProcessChanged
	}
	return t.users.runBy(&t.process, &first.Sight, &sum)
}

// runBy finds the user whose process it is. Where the rules of several fit, it is his
// whose rule asks for all that the others do.
func (s *users) runBy(who *privsep.Process, sight *privsep.Sight, sum *[32]byte) (*user, privsep.Reason) {
	var fit []*processed
	reason := privsep.ReasonProcessNobody
	for i := range s.byProcess {
		p := &s.byProcess[i]
		if !p.rule.Owns(who) || p.rule.Executable != "" && !slices.Contains(sight.Executables, p.rule.Executable) {
			continue
		}
		if p.rule.BySum && (sum == nil || *sum != p.rule.SHA256) {
			reason = privsep.ReasonProcessDigest
			continue
		}
		fit = append(fit, p)
	}
	if len(fit) == 0 {
		return nil, reason
	}
	for _, p := range fit {
		if p.stands(fit) {
			return p.user, privsep.ReasonNone
		}
	}
	return nil, privsep.ReasonProcessAmbiguous
}

// stands tells whether a rule asks for all that each of the others does, and for more.
func (p *processed) stands(others []*processed) bool {
	return !slices.ContainsFunc(others, func(o *processed) bool {
		return o != p && (!p.rule.Covers(&o.rule) || o.rule.Covers(&p.rule))
	})
}
