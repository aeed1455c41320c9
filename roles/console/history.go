package console

import (
	"math"
	"sync"
	"time"
)

// How far back the history goes, and how finely: ten minutes, and a day.
const (
	recentStep, recentSamples = 2 * time.Second, 300
	dayStep, daySamples       = 5 * time.Minute, 288
)

// history remembers as much as its rings hold, so that a page that is loaded again, or
// somewhere else, shows what was before.
type history struct {
	view *view

	mu          sync.Mutex
	recent, day ring
}

func newHistory(v *view) *history {
	return &history{
		view:   v,
		recent: ring{step: recentStep, samples: make([]sample, 0, recentSamples)},
		day:    ring{step: dayStep, samples: make([]sample, 0, daySamples)},
	}
}

// keep looks every step until the end.
func (h *history) keep(end <-chan struct{}) {
	t := time.NewTicker(recentStep)
	defer t.Stop()
	h.add(time.Now(), h.view.totals())
	for {
		select {
		case now := <-t.C:
			h.add(now, h.view.totals())
		case <-end:
			return
		}
	}
}

// add takes the counters of a moment.
func (h *history) add(now time.Time, t totals) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent.add(now, &t)
	h.day.add(now, &t)
}

// past is the history as it is shown.
type past struct {
	Recent series `json:"recent"`
	Day    series `json:"day"`
}

// after gives what was measured after since (Unix, seconds): all of it after 0.
func (h *history) after(since int64) *past {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &past{Recent: h.recent.after(since), Day: h.day.after(since)}
}

// series is what was measured every so often, a list for each figure, the oldest first:
// rates a second, and levels at the end of what a sample is of. Where there is nothing to
// tell of a stretch of time there is no sample, so Time has gaps.
type series struct {
	Step   int                  `json:"step"` // seconds
	Time   []int64              `json:"time"` // Unix, seconds
	Rates  map[string][]float64 `json:"rates"`
	Levels map[string][]uint64  `json:"levels"`
}

var rates = [...]struct {
	name string
	of   func(*totals) uint64
}{
	{"in_msgs", func(t *totals) uint64 { return t.InMsgs }},
	{"out_msgs", func(t *totals) uint64 { return t.OutMsgs }},
	{"in_bytes", func(t *totals) uint64 { return t.InBytes }},
	{"out_bytes", func(t *totals) uint64 { return t.OutBytes }},
	{"slow_consumers", func(t *totals) uint64 { return t.SlowConsumers }},
	{"permission_violations", func(t *totals) uint64 { return t.Violations }},
	{"logins", func(t *totals) uint64 { return t.Logins }},
	{"logins_refused", func(t *totals) uint64 { return t.LoginsRefused }},
}

var levels = [...]struct {
	name string
	of   func(*totals) uint64
}{
	{"connections", func(t *totals) uint64 { return t.Connections }},
	{"subscriptions", func(t *totals) uint64 { return t.Subscriptions }},
}

type sample struct {
	time   int64
	rates  [len(rates)]float64
	levels [len(levels)]uint64
}

// ring has the last cap(samples) samples; next is the oldest once it is full.
type ring struct {
	step    time.Duration
	samples []sample
	next    int
	from    time.Time // of last; zero: there is none
	last    totals
}

// add makes a sample of what has changed since the last one, if that is long enough ago.
// A clock that was set, counters that fell and a console that stood still make a gap.
func (r *ring) add(now time.Time, t *totals) {
	now = now.Round(0) // what is shown is the wall clock's, and so is what is between
	took := now.Sub(r.from)
	if took >= 0 && took < r.step-r.step/4 {
		return
	}
	whole := !r.from.IsZero() && took > 0 && took < 2*r.step
	s := sample{time: now.Unix()}
	for i, c := range rates {
		was, is := c.of(&r.last), c.of(t)
		whole = whole && is >= was
		s.rates[i] = perSecond(was, is, took)
	}
	for i, c := range levels {
		s.levels[i] = c.of(t)
	}
	r.from, r.last = now, *t
	if whole {
		r.keep(s)
	}
}

func (r *ring) keep(s sample) {
	if len(r.samples) < cap(r.samples) {
		r.samples = append(r.samples, s)
		return
	}
	r.samples[r.next] = s
	r.next = (r.next + 1) % len(r.samples)
}

// perSecond has one digit after the point: more is noise, and longer to send.
func perSecond(was, is uint64, took time.Duration) float64 {
	if is <= was || took <= 0 {
		return 0
	}
	return math.Round(float64(is-was)/took.Seconds()*10) / 10
}

func (r *ring) after(since int64) series {
	s := series{Step: int(r.step / time.Second), Time: []int64{}, Rates: map[string][]float64{}, Levels: map[string][]uint64{}}
	of := make([]*sample, 0, len(r.samples))
	for i := range r.samples {
		if p := &r.samples[(r.next+i)%len(r.samples)]; p.time > since {
			of, s.Time = append(of, p), append(s.Time, p.time)
		}
	}
	for i, c := range rates {
		list := make([]float64, len(of))
		for k, p := range of {
			list[k] = p.rates[i]
		}
		s.Rates[c.name] = list
	}
	for i, c := range levels {
		list := make([]uint64, len(of))
		for k, p := range of {
			list[k] = p.levels[i]
		}
		s.Levels[c.name] = list
	}
	return s
}
