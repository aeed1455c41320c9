package privsep

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

const droppedStatus = "Name:\tgatehouse\nUmask:\t0022\nUid:\t61100\t61100\t61100\t61100\nGid:\t61101\t61101\t61101\t61101\n" +
	"Groups:\t \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n" +
	"CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\nSeccomp_filters:\t0\n"

func tasksOf(statuses ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i, s := range statuses {
		m[string(rune('1'+i))+"/status"] = &fstest.MapFile{Data: []byte(s)}
	}
	return m
}

// Law: one thread that kept anything spoils the proof for the process.
func TestPostureEveryThreadCounts(t *testing.T) {
	p, err := readTasks(tasksOf(droppedStatus, droppedStatus, droppedStatus))
	if err != nil || p.Threads != 3 || p.dropped(61100, 61101) != nil || !p.NoCaps() {
		t.Fatalf("%+v %v", p, err)
	}
	if p.dropped(61101, 61101) == nil || p.dropped(61100, 61100) == nil {
		t.Fatal("another uid or gid passed")
	}
	for _, change := range [][2]string{
		{"Uid:\t61100\t61100\t61100\t61100", "Uid:\t0\t0\t0\t0"},
		{"Uid:\t61100\t61100\t61100", "Uid:\t61100\t61100\t0"},
		{"Gid:\t61101\t61101", "Gid:\t61101\t0"},
		{"Groups:\t ", "Groups:\t4 20 27"},
		{"CapInh:\t0000000000000000", "CapInh:\t0000000000000001"},
		{"CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001"},
		{"CapEff:\t0000000000000000", "CapEff:\t0000000000000001"},
		{"CapBnd:\t0000000000000000", "CapBnd:\t8000000000000000"},
		{"CapAmb:\t0000000000000000", "CapAmb:\t0000000000000001"},
		{"NoNewPrivs:\t1", "NoNewPrivs:\t0"},
		{"Seccomp:\t0", "Seccomp:\t2"},
	} {
		other := strings.Replace(droppedStatus, change[0], change[1], 1)
		for _, all := range [][]string{{droppedStatus, droppedStatus, other}, {other, droppedStatus}} {
			p, err := readTasks(tasksOf(all...))
			if err != nil || p.Uniform || !errors.Is(p.dropped(61100, 61101), errUnproved) {
				t.Errorf("%s on one thread: %+v %v", change[1], p, err)
			}
		}
	}
}

// A kernel that does not say is not believed.
func TestPostureMissingLine(t *testing.T) {
	for line := range statusLines {
		cut := strings.Replace(droppedStatus, "\n"+line+":", "\nX"+line+":", 1)
		if p, err := readTasks(tasksOf(droppedStatus, cut)); !errors.Is(err, errStatus) || p.Threads != 0 {
			t.Errorf("without %s: %+v %v", line, p, err)
		}
		odd := strings.Replace(droppedStatus, "\n"+line+":\t", "\n"+line+":\tx", 1)
		if _, err := readTasks(tasksOf(odd)); !errors.Is(err, errStatus) {
			t.Errorf("%s not a number: %v", line, err)
		}
	}
	if _, err := readTasks(fstest.MapFS{}); err == nil {
		t.Error("no thread at all was proof")
	}
	p, err := readTasks(fstest.MapFS{"1/status": {Data: []byte(droppedStatus)}, "2/comm": {}})
	if err != nil || p.Threads != 1 {
		t.Errorf("a thread that has gone counted: %+v %v", p, err)
	}
}
