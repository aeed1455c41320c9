package parent

import (
	"os"
	"slices"
	"time"

	"gatehouse/privsep"
)

// inspect.go looks at processes that log in by what they are, for auth, and at those that
// call tlsd. Nobody else may ask, and both are told of who has connected nothing but what
// a rule asks for, of a [[user]] or of a grant.
//
// Which process is meant says a pid together with the inode of its pidfd, which no
// other one ever has: of another process in its place nothing is told, whoever asks. The
// one who connected says neither; it has reached auth from the dispatcher, and tlsd has
// it from the kernel.
//
// Looking is done beside the loop, a few at a time, since files may be on what does not
// answer. A file is opened only if uid, gid and path are those of a rule that wants to
// know its digest, which auth makes: it is read by nobody here.

// inspections are under way.
type inspections struct {
	blind bool   // to what processes of other users execute
	lacks string // of this kernel, "": nothing

	done chan inspection
	told privsep.Pace // lines about what could not be seen
}

// inspection is one of them when it is over.
type inspection struct {
	of     *child
	proc   *privsep.Child // the process that has asked
	answer privsep.Inspected
	file   int // -1: none
	err    error
}

const (
	mostInspections = 16 // of one child
	unseenPace      = 5
	inspectKnock    = 254 // no signal, digest or trial
)

// inspect serves one request. An error is an offence.
func (p *parent) inspect(c *child, m *privsep.Message) error {
	var q privsep.Inspect
	if err := q.Parse(m.Payload); err != nil {
		return err
	}
	if c.standsBy() {
		return &offence{m.Kind.String(), "phase"}
	}
	w := &p.inspections
	if w.done == nil {
		w.done = make(chan inspection, mostInspections)
	}
	if c.inspecting == mostInspections {
		busy := privsep.Inspected{ID: q.ID, Reason: privsep.ReasonCrowded}
		p.send(c, privsep.KindInspected, busy.Append(p.buf[:0]))
		return nil
	}
	c.inspecting++
	rules, groups, proc, knock := p.userSet.rules, false, c.proc, p.knock
	if c.id.Role == privsep.RoleTLSD {
		rules, groups = p.sharing.rules, true
	}
	go func() {
		i := look(&q, rules, groups)
		i.of, i.proc = c, proc
		w.done <- i
		privsep.RawWrite(knock, []byte{inspectKnock})
	}()
	return nil
}

// inspected passes on what has been seen, if who asked is still there.
func (p *parent) inspected() {
	w := &p.inspections
	i := <-w.done
	i.of.inspecting--
	if i.answer.Reason == privsep.ReasonProcessUnreadable && i.err != nil && w.told.Take(unseenPace, time.Now()) {
		p.log.Warn().Err(i.err).Msg("process not looked at")
	}
	kind, fds := privsep.KindInspected, []int(nil)
	if i.file >= 0 {
		defer privsep.CloseFD(i.file)
		kind, fds = privsep.KindInspectedFile, []int{i.file}
	}
	if i.of.proc == i.proc {
		p.send(i.of, kind, i.answer.Append(p.buf[:0]), fds...)
	}
}

// look looks at a process. Rules are for those of a gid, or of any that they have
// (groups).
func look(q *privsep.Inspect, rules []privsep.ProcessRule, groups bool) inspection {
	i := inspection{answer: privsep.Inspected{ID: q.ID}, file: -1}
	if reason := i.look(q, rules, groups); reason != privsep.ReasonNone {
		i.answer = privsep.Inspected{ID: q.ID, Reason: reason}
		if i.file >= 0 {
			privsep.CloseFD(i.file)
			i.file = -1
		}
	}
	return i
}

func (i *inspection) look(q *privsep.Inspect, rules []privsep.ProcessRule, groups bool) privsep.Reason {
	w, reason := privsep.Find(q.Process)
	if reason != privsep.ReasonNone {
		return reason
	}
	defer w.Close()
	before, reason := w.Check()
	if reason != privsep.ReasonNone {
		return reason
	}
	i.answer.Start = before
	var others []uint32
	if groups {
		others = w.Groups()
	}
	i.err = i.lookAtFile(w, q, rules, others)
	after, reason := w.Check() // what was read in between was of this process
	switch {
	case reason != privsep.ReasonNone:
		return reason
	case i.err != nil:
		return privsep.ReasonProcessUnreadable
	case after != before:
		return privsep.ReasonProcessChanged
	}
	return privsep.ReasonNone
}

// lookAtFile finds what the process executes, as far as a rule asks for it.
func (i *inspection) lookAtFile(w *privsep.Witness, q *privsep.Inspect, rules []privsep.ProcessRule, groups []uint32) error {
	var x *privsep.Executable
	is := map[string]bool{"": true} // of the paths of rules
	read := false
	for k := range rules {
		r := &rules[k]
		if !r.Looks() || !r.OwnsIn(&q.Process, groups) {
			continue
		}
		if x == nil {
			var err error
			if x, err = w.Executable(); err != nil {
				return err
			}
			defer x.Close()
		}
		here, known := is[r.Executable]
		if !known {
			here = x.Is(r.Executable)
			is[r.Executable] = here
		}
		read = read || here && r.BySum
	}
	if x == nil {
		return nil
	}
	sight := &i.answer.Sight
	sight.Dev, sight.Ino, sight.Link = x.ID.Dev, x.ID.Ino, x.Link
	for path, here := range is {
		if here && path != "" {
			sight.Executables = append(sight.Executables, path)
		}
	}
	slices.Sort(sight.Executables)
	sight.Executables = sight.Executables[:min(len(sight.Executables), privsep.MaxExecutables)]
	if !read || !q.File {
		return nil
	}
	var err error
	i.file, err = x.Open()
	return err
}

// hindrances say what keeps processes from logging in, and callers of tlsd from what
// their executable lets them do; "": nothing does.
type hindrances [2]string

func (w *inspections) hinders(c *Config) (h hindrances) {
	const blind = "the parent lacks CAP_SYS_PTRACE, which it keeps if there is such a rule when it starts"
	switch logs, looks := c.credentials().Has(privsep.CredentialProcess), c.looksAtUsers(); {
	case !logs:
	case w.lacks != "":
		h[0] = "no process can log in by its uid: this kernel has no " + w.lacks
	case w.blind && looks:
		h[0] = "no process can log in by executable or sha256: " + blind
	case os.Geteuid() != 0 && looks:
		h[0] = "not root: only processes of this uid can log in by executable or sha256"
	}
	switch {
	case !c.looksAtCallers():
	case w.lacks != "":
		h[1] = "no caller of tlsd is known by its executable: this kernel has no " + w.lacks
	case w.blind:
		h[1] = "no caller of tlsd is known by its executable: " + blind
	case os.Geteuid() != 0:
		h[1] = "not root: only callers of this uid are known to tlsd by their executable"
	}
	return h
}

// hinderedInstead warns of what has changed.
func (p *parent) hinderedInstead(before hindrances) {
	for i, text := range p.inspections.hinders(p.cfg) {
		p.warnInstead(before[i], text)
	}
}
