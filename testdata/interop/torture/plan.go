package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// deed is one thing done to one role.
type deed struct{ action, role string }

// actions with what they can be done to; "" is for those that concern the whole
// broker, and stop picks among all.
var actions = map[string][]string{
	"kill":    {"router", "dispatcher", "auth", "cm", "parent"},
	"restart": {"router", "dispatcher", "auth", "cm"},
	"stop":    {""},
	"hup":     {""},
	"upgrade": {""},
}

// actionNames in the order of the help.
var actionNames = []string{"kill", "stop", "hup", "restart", "upgrade"}

// parsePlan reads "kill:router=1000,kill:cm/1=5,stop=20" and the like.
func parsePlan(text string) (map[deed]int, error) {
	plan := map[deed]int{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		what, number, ok := strings.Cut(part, "=")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not ACTION:ROLE=NUMBER", part)
		}
		action, role, _ := strings.Cut(what, ":")
		kind, _, _ := strings.Cut(role, "/")
		if !slices.Contains(actions[action], kind) {
			return nil, fmt.Errorf("%q: no such action", what)
		}
		plan[deed{action, role}] += n
	}
	return plan, nil
}

// shuffle puts all deeds of the plan whose action is allowed into an order that
// the seed decides.
func shuffle(plan map[deed]int, allowed []string, r *rand.Rand) (all []deed) {
	for d, n := range plan {
		if slices.Contains(allowed, d.action) {
			all = append(all, slices.Repeat([]deed{d}, n)...)
		}
	}
	slices.SortFunc(all, func(a, b deed) int { return strings.Compare(a.action+a.role, b.action+b.role) })
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
