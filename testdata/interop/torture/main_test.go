package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"gatehouse/testdata/tree"
)

// builds are the binaries under test.
var builds []string

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIP needs root: processes under uids of their own")
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "ghtbuild")
	if err == nil {
		builds, err = build(dir)
	}
	if err == nil {
		err = tree.RaiseFileLimit()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPlan(t *testing.T) {
	plan, err := parsePlan("kill:router=3, kill:cm/1=1,stop=2,kill:router=1,upgrade=0")
	must(t, err)
	want := map[deed]int{{"kill", "router"}: 4, {"kill", "cm/1"}: 1, {"stop", ""}: 2, {"upgrade", ""}: 0}
	if !reflect.DeepEqual(plan, want) {
		t.Errorf("plan %v", plan)
	}
	for _, bad := range []string{"kill", "kill=1", "kill:router", "kill:tlsd=1", "stop:router=1", "hup=-1", "hup=x", "dance=1"} {
		if _, err := parsePlan(bad); err == nil {
			t.Errorf("%q is taken for a plan", bad)
		}
	}
	order := func(seed uint64) []deed {
		return shuffle(plan, []string{"kill", "stop"}, rand.New(rand.NewPCG(seed, 0)))
	}
	if !reflect.DeepEqual(order(1), order(1)) || reflect.DeepEqual(order(1), order(2)) || len(order(1)) != 7 {
		t.Errorf("orders %v, %v", order(1), order(2))
	}
	if all := shuffle(plan, []string{"stop"}, rand.New(rand.NewPCG(1, 0))); len(all) != 2 {
		t.Errorf("stop alone gives %v", all)
	}
}

func TestOptions(t *testing.T) {
	var out strings.Builder
	o, err := parseOptions([]string{"-plan", "stop=1", "-seed", "5"}, &out)
	must(t, err)
	if o.seed != 5 || len(o.plan) != 1 || out.Len() > 0 {
		t.Errorf("%+v, %q", o, out.String())
	}
	for _, bad := range [][]string{{"-plan", "x"}, {"more"}, {"-none"}} {
		out.Reset()
		if _, err := parseOptions(bad, &out); err == nil || out.Len() == 0 {
			t.Errorf("%v: %v, %q", bad, err, out.String())
		}
	}
}
