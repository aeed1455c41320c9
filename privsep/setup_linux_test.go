package privsep

import (
	"errors"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// handOut plays the parent of a setup; it ends with SETUP_END unless told not to.
func handOut(t *testing.T, ch *Channel, fd int) {
	t.Helper()
	for _, m := range []struct {
		kind Kind
		p    payload
		fds  []int
	}{
		{KindConfig, &Settings{CMs: 2, Environment: "orga"}, nil},
		{KindSegment, &Segment{Kind: SegArena, Index: 1, Size: 4096, Writable: true}, []int{fd}},
		{KindListener, &Listener{Network: NetTCP, Address: "127.0.0.1:1"}, []int{fd}},
	} {
		if err := ch.Send(m.kind, m.p.Append(nil), m.fds...); err != nil {
			t.Fatal(err)
		}
	}
	if err := ch.Send(KindSetupEnd, nil); err != nil {
		t.Fatal(err)
	}
}

func TestSetup(t *testing.T) {
	noLeak(t)
	ours, theirs := channels(t, RoleParent, RoleDispatcher, PhaseSetup)
	handOut(t, ours, null(t))
	s, err := ReadSetup(theirs)
	if err != nil || s.Settings.Environment != "orga" || len(s.Segments) != 1 || len(s.Listeners) != 1 {
		t.Fatalf("%+v %v", s, err)
	}
	fd := s.Segments[0].FD
	size, err := TakeSegment(s, SegArena, 1, func(fd, size int, writable bool) (int, error) {
		if fd != s.Segments[0].FD || !writable {
			t.Errorf("fd %d writable %v", fd, writable)
		}
		return size, nil
	})
	if err != nil || size != 4096 || s.Segments[0].FD != -1 {
		t.Fatalf("%d %v %+v", size, err, s.Segments)
	}
	for _, at := range []int{0, 1} { // never there; taken already
		if _, err := TakeSegment(s, SegArena, at, func(int, int, bool) (int, error) { return 0, nil }); err == nil {
			t.Fatalf("segment %d taken", at)
		}
	}
	closeFD(fd) // which is kept
	closeFD(s.Listeners[0].FD)
	if err := Announce(theirs, Sandbox{Landlock: 5}); err != nil || theirs.Phase() != PhaseRun {
		t.Fatalf("%v %v", theirs.Phase(), err)
	}
	var m Message
	var done SetupDone
	if err := ours.Recv(&m); err != nil || m.Kind != KindSetupDone || done.Parse(m.Payload) != nil || done != (SetupDone{Version, Sandbox{Landlock: 5}}) {
		t.Fatalf("%v %+v %v", m.Kind, done, err)
	}
}

func TestSetupRefuses(t *testing.T) {
	noLeak(t)
	ours, theirs := channels(t, RoleParent, RoleCM, PhaseSetup)
	if err := ours.Send(KindSegment, []byte("no segment"), null(t)); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSetup(theirs); s != nil || !errors.Is(err, ErrShape) {
		t.Fatalf("%+v %v", s, err)
	}
	// In order for a cm, but not of its setup's reader.
	bell, other := doorbell(t)
	if err := ours.Send(KindDoorbell, (&DoorbellEnd{}).Append(nil), bell); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSetup(theirs); s != nil || !errors.Is(err, ErrShape) {
		t.Fatalf("%+v %v", s, err)
	}
	if _, err := unix.FcntlInt(uintptr(other), unix.F_GETFD, 0); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if s, err := ReadSetup(theirs); s != nil || err == nil {
		t.Fatalf("%+v %v", s, err)
	}
}

// A router has its profiles before it is ready, all of a set or the setup fails.
func TestSetupProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		frames []*Profile
		want   int // profiles, -1: refused
	}{
		"none":        {nil, 0},
		"a set":       {[]*Profile{frameOf(7, "a", false), frameOf(7, "b", true)}, 2},
		"an empty":    {[]*Profile{frameOf(7, "", true)}, 0},
		"no end":      {[]*Profile{frameOf(7, "a", false)}, -1},
		"no end left": {[]*Profile{frameOf(7, "a", true), frameOf(8, "a", false)}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := channels(t, RoleParent, RoleRouter, PhaseSetup)
			for _, p := range c.frames {
				if err := ours.Send(KindProfile, p.Append(nil)); err != nil {
					t.Fatal(err)
				}
			}
			if err := ours.Send(KindSetupEnd, nil); err != nil {
				t.Fatal(err)
			}
			s, err := ReadSetup(theirs)
			switch {
			case c.want < 0 && !errors.Is(err, ErrShape):
				t.Fatalf("taken: %+v %v", s, err)
			case c.want >= 0 && (err != nil || len(s.Profiles) != c.want):
				t.Fatalf("%+v %v, want %d", s, err, c.want)
			}
		})
	}
}

func TestRoleStats(t *testing.T) {
	ours, theirs := channels(t, RoleParent, RoleRouter, PhaseRun)
	var want RoleStats
	for i, v := range want.values() {
		*v = uint64(i) + 1
	}
	if n := reflect.TypeFor[RoleStats]().NumField(); n != len(want.values()) || n > MaxStats {
		t.Fatalf("%d counters, %d travel", n, len(want.values()))
	}
	if err := ours.Send(KindStatsGet, (&StatsGet{ID: 9}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	var m Message
	if err := theirs.Recv(&m); err != nil {
		t.Fatal(err)
	}
	if err := AnswerStats(theirs, &m, want); err != nil {
		t.Fatal(err)
	}
	if err := ours.Recv(&m); err != nil {
		t.Fatal(err)
	}
	if id, got, err := ParseRoleStats(m.Payload); err != nil || id != 9 || got != want {
		t.Fatalf("%d %+v %v", id, got, err)
	}
	short := Stats{ID: 9, Values: []uint64{1}}
	if id, got, err := ParseRoleStats(short.Append(nil)); !errors.Is(err, ErrShape) || id != 0 || got != (RoleStats{}) {
		t.Fatalf("%d %+v %v", id, got, err)
	}
	if err := AnswerStats(theirs, &Message{Kind: KindStatsGet}, want); !errors.Is(err, ErrShape) {
		t.Fatal(err)
	}
}
