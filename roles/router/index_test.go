package router

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/wire"
)

// words are few, so that patterns and subjects meet. Some look like wildcards
// without being any.
var words = []string{"a", "b", "a*", "*b", ">a"}

func subjectOf(tokens ...string) *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom(tokens), 1, 4), func(s []string) string { return strings.Join(s, ".") })
}

var (
	// anyPattern may be subscribed to.
	anyPattern = rapid.Map(rapid.OneOf(
		subjectOf(words...),
		subjectOf("a", "b", "*"),
		rapid.Map(subjectOf("a", "b", "*"), func(s string) string { return s + ".>" }),
		rapid.Just(">"),
	), func(s string) string {
		if !wire.ValidSubject([]byte(s)) {
			panic(s)
		}
		return s
	})
	// anySubject may be published to: wildcards are words like others there, and
	// one with an empty token is nobody's.
	anySubject = rapid.OneOf(
		subjectOf("a", "b"),
		subjectOf(words...),
		subjectOf("a", "*", ">", ""),
	)
)

// naive is the index as wire.Match has it.
type naive []*sub

func (n naive) match(subject string) (plain []*sub, groups map[string][]*sub) {
	groups = map[string][]*sub{}
	for _, s := range n {
		switch {
		case !wire.Match([]byte(s.subject), []byte(subject)):
		case s.queue == "":
			plain = append(plain, s)
		default:
			groups[s.queue] = append(groups[s.queue], s)
		}
	}
	return plain, groups
}

// same tells whether a match has exactly the members that it should, in any
// order, each queue group once.
func same(m *match, plain []*sub, groups map[string][]*sub) bool {
	got := map[string][]*sub{}
	for _, g := range m.groups {
		if got[g.queue] != nil || len(g.members) == 0 {
			return false
		}
		got[g.queue] = g.members
	}
	return sameSubs(m.plain, plain) && maps.EqualFunc(got, groups, sameSubs) && m.none() == (len(plain)+len(groups) == 0)
}

func sameSubs(a, b []*sub) bool {
	set := map[*sub]int{}
	for _, s := range a {
		set[s]++
	}
	for _, s := range b {
		set[s]--
	}
	for _, n := range set {
		if n != 0 {
			return false
		}
	}
	return true
}

func show(subs []*sub) (s []string) {
	for _, x := range subs {
		s = append(s, x.subject+"/"+x.queue)
	}
	slices.Sort(s)
	return s
}

// indexTest is an index, the model beside it, and matches that are kept as
// sessions and the cache keep them.
type indexTest struct {
	x       *index
	subs    naive
	scratch match
	kept    map[string]*match
}

func (i *indexTest) insert(t *rapid.T) {
	s := &sub{subject: anyPattern.Draw(t, "pattern"), queue: rapid.SampledFrom([]string{"", "", "p", "q"}).Draw(t, "queue")}
	i.x.insert(s)
	i.subs = append(i.subs, s)
}

func (i *indexTest) remove(t *rapid.T) {
	if len(i.subs) == 0 {
		t.Skip("no subscription")
	}
	k := rapid.IntRange(0, len(i.subs)-1).Draw(t, "which")
	s := i.subs[k]
	i.subs = slices.Delete(i.subs, k, k+1)
	i.x.remove(s)
	i.x.remove(s) // a second time changes nothing
}

// lookup looks twice, since the first sight of a subject is not kept.
func (i *indexTest) lookup(t *rapid.T) {
	subject := anySubject.Draw(t, "subject")
	for range 2 {
		i.look(t, subject)
	}
}

func (i *indexTest) look(t fataler, subject string) {
	plain, groups := i.subs.match(subject)
	m, kept := i.x.lookup([]byte(subject), &i.scratch)
	if !same(m, plain, groups) {
		t.Fatalf("%s: %v and %d groups, want %v and %d", subject, show(m.plain), len(m.groups), show(plain), len(groups))
	}
	if kept != i.x.current(m) {
		t.Fatalf("%s: kept %v, current %v", subject, kept, i.x.current(m))
	}
	if kept {
		i.kept[subject] = m
	}
}

// flood fills the cache beyond the limit up to which a wildcard is held against
// each cached subject.
func (i *indexTest) flood(t *rapid.T) {
	first := rapid.SampledFrom(words).Draw(t, "first")
	for n := range scanLimit + 1 {
		i.look(t, fmt.Sprintf("%s.%d", first, n))
		i.look(t, fmt.Sprintf("%s.%d", first, n))
	}
}

// law: what is current is right.
func (i *indexTest) law(t *rapid.T) {
	if i.x.count != len(i.subs) {
		t.Fatalf("count %d, want %d", i.x.count, len(i.subs))
	}
	if len(i.subs) == 0 && !i.x.root.empty() {
		t.Fatalf("nodes are left")
	}
	for subject, m := range i.kept {
		if !i.x.current(m) {
			delete(i.kept, subject)
			continue
		}
		if plain, groups := i.subs.match(subject); !same(m, plain, groups) {
			t.Fatalf("%s: a match that is out of date is current: %v, want %v and %d groups", subject, show(m.plain), show(plain), len(groups))
		}
	}
}

func TestIndexIsNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := &indexTest{x: newIndex(), kept: map[string]*match{}}
		t.Repeat(map[string]func(*rapid.T){
			"insert": i.insert, "insert too": i.insert, "remove": i.remove,
			"lookup": i.lookup, "lookup too": i.lookup, "flood": i.flood, "": i.law,
		})
		for len(i.subs) > 0 {
			i.x.remove(i.subs[0])
			i.subs = i.subs[1:]
			i.law(t)
		}
	})
}

// The cache is bounded, and what it gives up is no longer current.
func TestIndexCacheBounded(t *testing.T) {
	x := newIndex()
	x.insert(&sub{subject: ">"})
	var scratch match
	kept := map[string]*match{}
	for n := range 3 * cacheLimit {
		s := fmt.Sprint("s.", n)
		x.lookup([]byte(s), &scratch)
		if m, ok := x.lookup([]byte(s), &scratch); ok {
			kept[s] = m
		}
		if len(x.cache) > cacheLimit {
			t.Fatalf("%d matches cached", len(x.cache))
		}
	}
	current := 0
	for s, m := range kept {
		if x.current(m) {
			current++
		}
		if x.current(m) != (x.cache[s] == m) {
			t.Fatalf("%s: current %v, cached %v", s, x.current(m), x.cache[s] == m)
		}
	}
	if current != len(x.cache) || current < cacheLimit/2 {
		t.Fatalf("%d current, %d cached", current, len(x.cache))
	}
}

// A subject that is used once, as those of replies are, is not cached.
func TestIndexFirstSight(t *testing.T) {
	x := newIndex()
	var scratch match
	for n := range 1000 {
		if _, kept := x.lookup(fmt.Append(nil, "_INBOX.", n), &scratch); kept {
			t.Fatalf("%d: kept at first sight", n)
		}
	}
	if len(x.cache) != 0 {
		t.Fatalf("%d matches cached", len(x.cache))
	}
}

// Without allocations: a subject that is cached, and one that is not but has
// no more recipients than an earlier one.
func TestLookupAllocs(t *testing.T) {
	x := newIndex()
	for _, q := range []string{"", "q", "r"} {
		x.insert(&sub{subject: "a.*", queue: q})
	}
	var scratch match
	subject := []byte("a.b")
	for range 3 {
		x.lookup(subject, &scratch)
	}
	if n := testing.AllocsPerRun(100, func() { x.lookup(subject, &scratch) }); n > 0 {
		t.Errorf("cached: %v allocations", n)
	}
	other := []byte("a.00")
	n := testing.AllocsPerRun(100, func() {
		if other[3]++; other[3] > '9' {
			other[2], other[3] = other[2]+1, '0'
		}
		x.lookup(other, &scratch)
	})
	if n > 0 {
		t.Errorf("not cached: %v allocations", n)
	}
}
