package parent

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
)

// routerEnd is a parent with a router, of which this is the other end.
func routerEnd(t *testing.T, phase privsep.Phase) (*parent, *child, *privsep.Channel) {
	t.Helper()
	near, far, err := privsep.Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	key := privsep.NewKey()
	p := &parent{cfg: Defaults().Effective(), log: zerolog.Nop(), began: privsep.Uptime()}
	c := &child{id: privsep.ID{Role: privsep.RoleRouter}, state: running, ch: privsep.NewChannel(near, privsep.RoleParent, privsep.RoleRouter, key)}
	end := privsep.NewChannel(far, privsep.RoleRouter, privsep.RoleParent, key)
	c.ch.SetPhase(phase)
	end.SetPhase(phase)
	t.Cleanup(func() { c.ch.Close(); end.Close() })
	return p, c, end
}

// listOf gives profiles of these names.
func listOf(names ...string) []ProfileConfig {
	var list []ProfileConfig
	for _, name := range names {
		list = append(list, ProfileConfig{Name: name, Weight: 1})
	}
	return list
}

// heardBy takes all that there is: the names of each set, and other kinds.
func heardBy(t *testing.T, end *privsep.Channel) (all []string) {
	t.Helper()
	var set privsep.ProfileSet
	var m privsep.Message
	for end.Recv(&m) == nil {
		if m.Kind != privsep.KindProfile {
			if set.Begun() {
				t.Errorf("%v in the middle of a set", m.Kind)
			}
			all = append(all, m.Kind.String())
			continue
		}
		list, whole, err := set.Take(m.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			all = append(all, strings.Join(namesOf(list), ","))
		}
	}
	return all
}

func namesOf(list []privsep.Profile) (names []string) {
	for _, p := range list {
		names = append(names, p.Name)
	}
	return names
}

// A router gets a set only when it is another one, and before the settings.
func TestProfilesToRouter(t *testing.T) {
	p, c, end := routerEnd(t, privsep.PhaseRun)
	for i, step := range []struct {
		list []ProfileConfig
		want []string
	}{
		{nil, []string{"", "SETTINGS"}}, // what it has is not known
		{nil, []string{"SETTINGS"}},
		{listOf("a", "b"), []string{"a,b", "SETTINGS"}},
		{listOf("a", "b"), []string{"SETTINGS"}},
		{listOf("b"), []string{"b", "SETTINGS"}},
		{nil, []string{"", "SETTINGS"}},
	} {
		p.setProfiles(step.list)
		p.reloads++
		p.resettle(c)
		if got := heardBy(t, end); !reflect.DeepEqual(got, step.want) {
			t.Errorf("step %d: heard %q, want %q", i, got, step.want)
		}
	}
	other := &child{id: privsep.ID{Role: privsep.RoleCM}, state: running}
	p.resettle(other)
	if other.profile != 0 {
		t.Error("a cm got profiles")
	}
}

func TestProfilesInSetup(t *testing.T) {
	for _, n := range []int{0, 1, privsep.MaxProfiles} {
		p, c, end := routerEnd(t, privsep.PhaseSetup)
		var names []string
		for i := range n {
			names = append(names, fmt.Sprint("p", i))
		}
		p.setProfiles(listOf(names...))
		handed := make(chan error, 1)
		go func() { handed <- p.handOut(c) }()
		s, err := privsep.ReadSetup(end)
		if err := <-handed; err != nil {
			t.Fatal(err)
		}
		if err != nil || !reflect.DeepEqual(namesOf(s.Profiles), names) || c.profile != p.profiles.number {
			t.Errorf("%d profiles: %q %v, number %d of %d", n, namesOf(s.Profiles), err, c.profile, p.profiles.number)
		}
	}
}

// A large set takes no longer than the router takes to read it, and there is room
// for more afterwards. One that does not read is ended, after a time.
func TestProfilesMany(t *testing.T) {
	p, c, end := routerEnd(t, privsep.PhaseRun)
	var names []string
	for i := range privsep.MaxProfiles {
		names = append(names, fmt.Sprint("p", i))
	}
	p.setProfiles(listOf(names...))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var set privsep.ProfileSet
		var m privsep.Message
		for {
			if err := end.RecvWait(&m, setupTimeout); err != nil || m.Kind != privsep.KindProfile {
				t.Errorf("%v %v", m.Kind, err)
				return
			}
			if all, whole, err := set.Take(m.Payload); err != nil || whole {
				if len(all) != len(names) || err != nil {
					t.Errorf("%d profiles, %v", len(all), err)
				}
				return
			}
		}
	}()
	began := time.Now()
	p.giveProfiles(c)
	<-done
	t.Logf("%d profiles in %v", len(names), time.Since(began))
	for range 50 {
		p.send(c, privsep.KindStatsGet, (&privsep.StatsGet{}).Append(nil))
	}
}

// Another set has another number, also that of another parent.
func TestProfileNumbers(t *testing.T) {
	a, b := &parent{began: 1000}, &parent{began: 2000}
	for i, list := range [][]ProfileConfig{nil, listOf("a"), listOf("a"), listOf("b")} {
		before := a.profiles.number
		a.setProfiles(list)
		b.setProfiles(list)
		if same := i == 2; a.profiles.number == 0 || a.profiles.number == b.profiles.number || (a.profiles.number == before) != same {
			t.Errorf("set %d: numbers %d, %d, and %d before", i, a.profiles.number, b.profiles.number, before)
		}
	}
}

// What status warns of is what is so now.
func TestOpenness(t *testing.T) {
	var out bytes.Buffer
	cfg := Defaults()
	p := &parent{log: zerolog.New(&out), warnings: []string{"first", openness(cfg)}}
	closed := Defaults()
	closed.Listen.Profile = "desk"
	p.warnInstead(openness(cfg), openness(closed))
	p.warnInstead(openness(closed), openness(closed))
	if n := strings.Count(out.String(), "\n"); n != 1 || len(p.warnings) != 2 || !strings.Contains(p.warnings[1], `"desk"`) {
		t.Errorf("%d lines, warnings %q", n, p.warnings)
	}
}
