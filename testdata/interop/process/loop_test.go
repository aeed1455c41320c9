package process

import (
	"testing"
	"time"
)

// A role that crashes in a loop: each start waits longer than the one before, the
// log says so, and the parent and all others go on.
func TestDeathLoop(t *testing.T) {
	t.Parallel()
	const loop = 7 // deaths
	b := startBroker(t, settings{cms: 2})
	before := b.processes()
	mark := 0
	var gaps []time.Duration // from a death to the next start
	for range loop {
		ready := b.log.Find(mark, "role ready", patience, "role", "cm/1")
		if ready == nil {
			t.Fatal("cm/1 did not come up")
		}
		if died := b.log.All("role died"); len(died) > 0 {
			gaps = append(gaps, ready.At.Sub(died[len(died)-1].At))
		}
		mark = b.log.Mark()
		b.crash("cm/1")
		if b.log.Find(mark, "role died", patience, "role", "cm/1") == nil {
			t.Fatal("the parent has not noticed the death")
		}
	}
	if st := b.status(); st.Role("cm/1").State != "backoff" || st.Role("cm/1").PID != 0 {
		t.Errorf("status in the delay: %+v", st.Role("cm/1"))
	}
	if err := b.serves(); err != nil {
		t.Errorf("clients in the delay: %v", err)
	}
	ready := b.log.Find(mark, "role ready", patience, "role", "cm/1")
	if ready == nil {
		t.Fatal("cm/1 did not come up in the end")
	}
	gaps = append(gaps, ready.At.Sub(b.log.All("role died")[loop-1].At))
	t.Logf("delays %v", gaps)
	if gaps[0] > back {
		t.Errorf("the first start came after %v", gaps[0])
	}
	for i, least := range []time.Duration{time.Second, time.Second / 2, time.Second / 4} {
		if got := gaps[loop-1-i]; got < least {
			t.Errorf("start %d came after %v, want at least %v", loop-i, got, least)
		}
	}
	if n := len(b.log.All("role dies in a loop", "role", "cm/1")); n != loop-4 {
		t.Errorf("%d reports of a loop, want one from the fifth death on", n)
	}
	if err := b.serves(); err != nil {
		t.Errorf("clients after the loop: %v", err)
	}
	before["cm/1"] = b.processes()["cm/1"]
	b.unchanged(before)
	if st := b.status(); st.Role("cm/1").Restarts != loop {
		t.Errorf("status after the loop: %+v", st.Role("cm/1"))
	}
}
