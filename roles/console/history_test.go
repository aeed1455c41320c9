package console

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

var historyStart = time.Unix(1_800_000_000, 0)

// feed adds n moments of recentStep, with counters that grow by step in each.
func feed(h *history, from time.Time, n int, was, step totals) (time.Time, totals) {
	for range n {
		h.add(from, was)
		from = from.Add(recentStep)
		was.InMsgs += step.InMsgs
		was.OutMsgs += step.OutMsgs
		was.InBytes += step.InBytes
		was.OutBytes += step.OutBytes
		was.SlowConsumers += step.SlowConsumers
	}
	return from, was
}

func TestHistoryRates(t *testing.T) {
	h := newHistory(nil)
	feed(h, historyStart, 3, totals{InMsgs: 1 << 60, Connections: 7, Subscriptions: 9}, totals{InMsgs: 3, OutMsgs: 21, InBytes: 2048, OutBytes: 4096, SlowConsumers: 1})
	got, err := json.Marshal(h.after(0).Recent)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"step":2,"time":[1800000002,1800000004],"rates":{"in_bytes":[1024,1024],"in_msgs":[1.5,1.5],"logins":[0,0],` +
		`"logins_refused":[0,0],"out_bytes":[2048,2048],"out_msgs":[10.5,10.5],"permission_violations":[0,0],"slow_consumers":[0.5,0.5]},` +
		`"levels":{"connections":[7,7],"subscriptions":[9,9]}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory(nil)
	const moments = daySamples * int(dayStep/recentStep) * 3
	end, _ := feed(h, historyStart, moments, totals{}, totals{InMsgs: 2})
	last := end.Add(-recentStep).Unix()
	all := h.after(0)
	for _, c := range []struct {
		name string
		s    series
		n    int
	}{{"recent", all.Recent, recentSamples}, {"day", all.Day, daySamples}} {
		if len(c.s.Time) != c.n || len(c.s.Rates["in_msgs"]) != c.n || len(c.s.Levels["connections"]) != c.n {
			t.Errorf("%s: %d samples, want %d", c.name, len(c.s.Time), c.n)
		}
		if !slices.IsSorted(c.s.Time) || c.s.Time[c.n-1] > last || c.s.Time[c.n-1] <= last-int64(c.s.Step) {
			t.Errorf("%s: ends at %d, now is %d", c.name, c.s.Time[c.n-1], last)
		}
		if c.s.Rates["in_msgs"][0] != 1 || c.s.Rates["in_msgs"][c.n-1] != 1 {
			t.Errorf("%s: rates %v and %v, want 1", c.name, c.s.Rates["in_msgs"][0], c.s.Rates["in_msgs"][c.n-1])
		}
	}
	if text, _ := json.Marshal(all); len(text) > 64<<10 {
		t.Errorf("%d bytes of JSON", len(text))
	}
	if n := len(h.after(last - 5).Recent.Time); n != 3 {
		t.Errorf("%d samples of the last five seconds", n)
	}
	if n := len(h.after(last).Recent.Time); n != 0 {
		t.Errorf("%d samples of the future", n)
	}
}

// What is not known leaves no sample: a process that counted is gone, the console stood
// still, the clock was set.
func TestHistoryGaps(t *testing.T) {
	for _, c := range []struct {
		name string
		next func(now time.Time, was totals) (time.Time, totals)
	}{
		{"counters fell", func(now time.Time, was totals) (time.Time, totals) { was.OutBytes = 0; return now, was }},
		{"stood still", func(now time.Time, was totals) (time.Time, totals) { return now.Add(time.Minute), was }},
		{"clock set back", func(now time.Time, was totals) (time.Time, totals) { return now.Add(-time.Hour), was }},
		{"clock set forward", func(now time.Time, was totals) (time.Time, totals) { return now.Add(time.Hour), was }},
	} {
		h := newHistory(nil)
		step := totals{InMsgs: 10, OutMsgs: 10, InBytes: 10, OutBytes: 10}
		now, was := feed(h, historyStart, 4, totals{}, step)
		now, was = c.next(now, was)
		feed(h, now, 4, was, step)
		s := h.after(0).Recent
		if len(s.Time) != 6 {
			t.Errorf("%s: %d samples, want 6", c.name, len(s.Time))
		}
		for i, r := range s.Rates["in_msgs"] {
			if r != 5 || s.Rates["out_bytes"][i] != 5 {
				t.Errorf("%s: rates %v %v, want 5", c.name, r, s.Rates["out_bytes"][i])
			}
		}
	}
}

// A console that is asked to add too often adds no more.
func TestHistoryTooOften(t *testing.T) {
	h := newHistory(nil)
	for i := range 1000 {
		h.add(historyStart.Add(time.Duration(i)*time.Millisecond), totals{})
	}
	if n := len(h.after(0).Recent.Time); n != 0 {
		t.Errorf("%d samples of one second", n)
	}
}
