package privsep

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
)

// frameOf is one PROFILE of a set.
func frameOf(set uint32, name string, last bool) *Profile {
	p := &Profile{Set: set, Last: last, Name: name}
	if name != "" {
		p.Weight = 1
	}
	return p
}

func TestProfileSet(t *testing.T) {
	var s ProfileSet
	take := func(p *Profile) ([]Profile, bool, error) { return s.Take(p.Append(nil)) }
	for set := uint32(1); set < 4; set++ {
		if set == 2 { // one that is never completed
			if _, whole, err := take(frameOf(set, "lost", false)); whole || err != nil || !s.Begun() {
				t.Fatalf("set %d: whole %v, %v", set, whole, err)
			}
			continue
		}
		if _, whole, err := take(frameOf(set, "a", false)); whole || err != nil {
			t.Fatalf("set %d: whole %v, %v", set, whole, err)
		}
		all, whole, err := take(frameOf(set, "b", true))
		want := []Profile{*frameOf(set, "a", false), *frameOf(set, "b", true)}
		if err != nil || !whole || !reflect.DeepEqual(all, want) || s.Begun() {
			t.Fatalf("set %d: %+v %v %v", set, all, whole, err)
		}
	}
	if all, whole, err := take(frameOf(4, "", true)); len(all) != 0 || !whole || err != nil {
		t.Fatalf("an empty set: %+v %v %v", all, whole, err)
	}
	// What the last one had does not show in the next of the same number.
	if all, whole, err := take(frameOf(4, "c", true)); len(all) != 1 || !whole || err != nil {
		t.Fatalf("a number again: %+v %v %v", all, whole, err)
	}
}

func TestProfileSetRefuses(t *testing.T) {
	var s ProfileSet
	if _, _, err := s.Take([]byte("no profile")); !errors.Is(err, ErrShape) {
		t.Error(err)
	}
	for i := range MaxProfiles {
		if _, _, err := s.Take(frameOf(1, fmt.Sprint(i), false).Append(nil)); err != nil {
			t.Fatalf("profile %d: %v", i, err)
		}
	}
	for name, p := range map[string]*Profile{"one too many": frameOf(1, "more", true), "an end without a name": frameOf(1, "", true)} {
		if all, whole, err := s.Take(p.Append(nil)); all != nil || whole || !errors.Is(err, ErrShape) {
			t.Errorf("%s: %d profiles, %v", name, len(all), err)
		}
	}
}

func TestModeNames(t *testing.T) {
	if all := uint8(1<<len(ModeNames) - 1); all != AllModes {
		t.Errorf("%d names, modes are %b", len(ModeNames), AllModes)
	}
}
