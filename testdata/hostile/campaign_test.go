package hostile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles/parent"
	"gatehouse/testdata/tree"
)

// job is one offence and how it must end.
type job struct {
	role string // "dispatcher", "router", "auth", "tlsd", "console" or "cm"
	plan plan
	// What it is refused, counted and logged for; no reason: all that the
	// villain does is served, and the test ends it.
	kind, reason string
	death        string // as the parent has it; "": killed
	accuses      bool   // the spare cm of not draining, which is then killed
	check        func(t *testing.T, b *broker, pid int)
}

func (j *job) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s in %s: %s %d %s", j.role, j.plan.Stage, j.plan.Do, j.plan.N, j.plan.S))
}

func (j *job) end() string {
	if j.death != "" {
		return j.death
	}
	return "signal killed"
}

const (
	// turns is how many villains a component has in one broker: with each the
	// parent waits twice as long before the next start.
	turns = 4
	// villainous is how many cms of a broker have villains.
	villainous = 4
	// calmCMs: two that keep the well-behaved clients, two that nobody needs.
	calmCMs = 4
)

// spare is the index of the cm that a role accuses.
func spare(role string) int {
	if role == "router" {
		return villainous + calmCMs - 1
	}
	return villainous + calmCMs - 2
}

func cm(n int) string { return fmt.Sprintf("cm/%d", n) }

// campaign spreads the jobs over as many brokers as it takes.
func campaign(t *testing.T, jobs []job) { campaignWith(t, jobs, settings{}, nil) }

// campaignWith does so with brokers of some kind, and with something going on
// beside the offences.
func campaignWith(t *testing.T, jobs []job, s settings, beside func(*broker) (stop func())) {
	s.cms = villainous + calmCMs
	by := map[string][]job{}
	for _, j := range jobs {
		by[j.role] = append(by[j.role], j)
	}
	s.logins, s.shares, s.watched = len(by["auth"]) > 0, len(by["tlsd"]) > 0, len(by["console"]) > 0
	left := len(jobs)
	for n := 0; left > 0; n++ {
		share := map[string][]job{}
		for role, most := range map[string]int{"dispatcher": turns, "router": turns, "auth": turns, "tlsd": turns, "console": turns, "cm": turns * villainous} {
			k := min(most, len(by[role]))
			share[role], by[role] = by[role][:k], by[role][k:]
			left -= k
		}
		t.Run(fmt.Sprintf("broker %d", n), func(t *testing.T) {
			t.Parallel()
			a := newAction(t, startBroker(t, s))
			a.beside = beside
			a.run(share)
		})
	}
}

// action is a campaign's part in one broker.
type action struct {
	b        *broker
	t        *testing.T
	queues   map[string][]job // by component
	villains map[int]bool     // all pids there were, with those they replaced
	beside   func(*broker) (stop func())
	done     map[string]int // jobs by component
}

func newAction(t *testing.T, b *broker) *action {
	return &action{b: b, t: t, queues: map[string][]job{}, villains: map[int]bool{}, done: map[string]int{}}
}

func (a *action) run(share map[string][]job) {
	from, to := a.b.client(), a.b.client()
	calm := startCalm(a.t, from, to)
	homes := []string{a.b.home(from.conn), a.b.home(to.conn), cm(spare("dispatcher")), cm(spare("router"))}
	n, used := 0, 0
	for _, j := range share["cm"] {
		for slices.Contains(homes, cm(n)) {
			n++
		}
		a.queues[cm(n)] = append(a.queues[cm(n)], j)
		if used++; used%turns == 0 {
			n++
		}
	}
	for _, role := range []string{"dispatcher", "auth", "tlsd", "console"} {
		if len(share[role]) > 0 {
			a.queues[role] = share[role]
		}
	}
	files := openFiles(a.t, a.b.pid)
	if a.beside != nil {
		defer a.beside(a.b)()
	}
	a.commit(slices.Collect(maps.Keys(a.queues)))
	calm.end(a.t)
	if len(share["router"]) > 0 { // without a router there are no messages
		a.queues["router"] = share["router"]
		a.commit([]string{"router"})
	}
	a.judge()
	await(a.t, "the parent to have as many files open as before", func() bool { return openFiles(a.t, a.b.pid) == files })
	startCalm(a.t, a.b.client(), a.b.client()).end(a.t)
	a.b.stop(0)
}

// commit lets all villains of some components have their turns, and wants every
// other process to be the one that it was.
func (a *action) commit(roles []string) {
	before := a.b.processes()
	for _, role := range roles {
		var plans []plan
		for _, j := range a.queues[role] {
			plans = append(plans, j.plan)
		}
		a.b.plan(role, plans...)
		a.b.kill(role)
	}
	for _, role := range roles {
		a.villains[before[role]] = true // it is not the one to be waited for
		for n := a.done[role]; n < len(a.queues[role]); n++ {
			a.villains[a.turn(role, n)] = true
		}
		a.done[role] = len(a.queues[role])
	}
	for _, role := range roles {
		if a.b.log.Await(0, patience, func(l *tree.Line) bool {
			return l.Str("message") == "role ready" && l.Str("role") == role && !a.villains[l.PID()]
		}) == nil {
			a.t.Fatalf("no sound %s after the villains", role)
		}
	}
	now := a.b.processes()
	for role, pid := range before {
		if !slices.Contains(roles, role) && now[role] != pid && !a.meant(role) {
			a.t.Errorf("%s was pid %d and is %d now, and did nothing", role, pid, now[role])
		}
	}
}

// turn waits for the end of one villain, gives it if nobody else does, and
// returns its pid.
func (a *action) turn(role string, n int) (pid int) {
	j := &a.queues[role][n]
	await(a.t, j.String()+" to begin", func() bool { pid = a.b.villain(role, n); return pid != 0 })
	l := a.b.log.Await(0, patience, func(l *tree.Line) bool {
		return l.PID() == pid && (l.Str("message") == "role died" || l.Str("message") == allServed)
	})
	if l == nil {
		a.t.Fatalf("%v has not ended", j)
	}
	if l.Str("message") == allServed {
		must(a.t, syscall.Kill(pid, syscall.SIGKILL))
		a.b.log.Await(0, patience, func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == "role died" })
	}
	return pid
}

// meant tells whether a role was to be killed at another's word.
func (a *action) meant(role string) bool {
	for by, jobs := range a.queues {
		if role == cm(spare(by)) && slices.ContainsFunc(jobs, func(j job) bool { return j.accuses }) {
			return true
		}
	}
	return false
}

// judge holds every job against the log and the operator's view, and wants no
// security event but theirs.
func (a *action) judge() {
	count := map[parent.Offence]uint64{}
	events := 0
	for role, jobs := range a.queues {
		for n, j := range jobs {
			pid := a.b.villain(role, n)
			j.judge(a.t, a.b, role, pid)
			if j.reason != "" {
				count[parent.Offence{Role: role, Kind: j.kind, Reason: j.reason}]++
				events++
			}
			if j.accuses {
				count[parent.Offence{Role: cm(spare(role)), Kind: privsep.KindCMFault.String(), Reason: privsep.FaultStalled.String()}]++
			}
		}
	}
	if got := a.b.log.Where((*tree.Line).Security); len(got) != events {
		a.t.Errorf("%d security events, want %d", len(got), events)
	}
	for _, o := range a.b.status().Offences {
		key := o
		key.Count = 0
		if o.Count != count[key] {
			a.t.Errorf("status counts %+v, want %d", o, count[key])
		}
		delete(count, key)
	}
	for key := range count {
		a.t.Errorf("status does not count %+v", key)
	}
}

func (j *job) judge(t *testing.T, b *broker, role string, pid int) {
	t.Helper()
	own := b.log.Where(func(l *tree.Line) bool { return l.PID() == pid })
	refusals, served, death := 0, 0, ""
	for i := range own {
		l := &own[i]
		switch {
		case l.Security():
			refusals++
			if l.Str("role") != role || l.Str("kind") != j.kind || l.Str("reason") != j.reason {
				t.Errorf("%v: refused by %s\nwant kind %q, reason %q", j, l.Text, j.kind, j.reason)
			}
		case l.Str("message") == allServed:
			served++
		case l.Str("message") == "role died":
			death = l.Str("reason")
		}
	}
	want := 0
	if j.reason != "" {
		want = 1
	}
	if refusals != want || served != 1-want && j.death == "" {
		t.Errorf("%v: %d refusals, %d times served", j, refusals, served)
	}
	if death != j.end() {
		t.Errorf("%v: ended by %q, want %q", j, death, j.end())
	}
	if j.check != nil {
		j.check(t, b, pid)
	}
}
