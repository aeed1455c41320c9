package console

import (
	"math"
	"time"
)

// How far back the history goes, and how finely: ten minutes, and a day.
const (
	recentEvery, recentSamples = 2 * time.Second, 300
	dayEvery, daySamples       = 5 * time.Minute, 288
)

// Totals are the broker's counters at one moment. The first four never fall, but when a
// process that counted is gone.
type Totals struct {
	InMsgs, OutMsgs, InBytes, OutBytes uint64
	Connections, Subscriptions         uint64
	SlowConsumers                      uint64
}

// History is what the status page draws.
type History struct {
	Recent Series `json:"recent"`
	Day    Series `json:"day"`
}

// Series is what was measured every so often, a column for each figure. Where there is
// nothing to tell of a stretch of time there is no sample, so Time has gaps.
type Series struct {
	Every         int       `json:"every"`   // seconds
	Time          []int64   `json:"time"`    // Unix, seconds; the end of what a sample is of
	InMsgs        []float64 `json:"in_msgs"` // per second, as the next three
	OutMsgs       []float64 `json:"out_msgs"`
	InBytes       []float64 `json:"in_bytes"`
	OutBytes      []float64 `json:"out_bytes"`
	Connections   []uint64  `json:"connections"` // at that moment
	Subscriptions []uint64  `json:"subscriptions"`
	SlowConsumers []uint64  `json:"slow_consumers"` // that were cut off meanwhile
}

// history remembers as much as its rings hold, so that a page that is loaded again, or
// somewhere else, shows what was before. It is the caller's to lock.
type history struct{ recent, day ring }

func newHistory() *history {
	return &history{
		recent: ring{every: recentEvery, samples: make([]sample, 0, recentSamples)},
		day:    ring{every: dayEvery, samples: make([]sample, 0, daySamples)},
	}
}

// add takes the counters of a moment. It is to be called every recentEvery.
func (h *history) add(now time.Time, t Totals) {
	h.recent.add(now, t)
	h.day.add(now, t)
}

// after gives what was measured after since (Unix, seconds): all of it after 0.
func (h *history) after(since int64) History {
	return History{Recent: h.recent.after(since), Day: h.day.after(since)}
}

type sample struct {
	time                               int64
	inMsgs, outMsgs, inBytes, outBytes float64
	connections, subscriptions, slow   uint64
}

// ring has the last cap(samples) samples; next is the oldest once it is full.
type ring struct {
	every   time.Duration
	samples []sample
	next    int
	from    time.Time // of last; zero: there is none
	last    Totals
}

// add makes a sample of what has changed since the last one, if that is long enough ago.
// A clock that was set, counters that fell and a console that stood still make a gap.
func (r *ring) add(now time.Time, t Totals) {
	took := now.Sub(r.from)
	if took >= 0 && took < r.every-r.every/4 {
		return
	}
	was := r.last
	fell := t.InMsgs < was.InMsgs || t.OutMsgs < was.OutMsgs || t.InBytes < was.InBytes || t.OutBytes < was.OutBytes
	whole := !r.from.IsZero() && took > 0 && took < 2*r.every && !fell
	r.from, r.last = now, t
	if !whole {
		return
	}
	s := sample{
		time: now.Unix(), connections: t.Connections, subscriptions: t.Subscriptions,
		inMsgs: perSecond(was.InMsgs, t.InMsgs, took), outMsgs: perSecond(was.OutMsgs, t.OutMsgs, took),
		inBytes: perSecond(was.InBytes, t.InBytes, took), outBytes: perSecond(was.OutBytes, t.OutBytes, took),
	}
	if t.SlowConsumers > was.SlowConsumers {
		s.slow = t.SlowConsumers - was.SlowConsumers
	}
	if len(r.samples) < cap(r.samples) {
		r.samples = append(r.samples, s)
		return
	}
	r.samples[r.next] = s
	r.next = (r.next + 1) % len(r.samples)
}

// perSecond has one digit after the point: more is noise, and longer to send.
func perSecond(was, is uint64, took time.Duration) float64 {
	return math.Round(float64(is-was)/took.Seconds()*10) / 10
}

func (r *ring) after(since int64) Series {
	s := Series{
		Every: int(r.every / time.Second), Time: []int64{},
		InMsgs: []float64{}, OutMsgs: []float64{}, InBytes: []float64{}, OutBytes: []float64{},
		Connections: []uint64{}, Subscriptions: []uint64{}, SlowConsumers: []uint64{},
	}
	for i := range r.samples {
		p := &r.samples[(r.next+i)%len(r.samples)]
		if p.time <= since {
			continue
		}
		s.Time = append(s.Time, p.time)
		s.InMsgs, s.OutMsgs = append(s.InMsgs, p.inMsgs), append(s.OutMsgs, p.outMsgs)
		s.InBytes, s.OutBytes = append(s.InBytes, p.inBytes), append(s.OutBytes, p.outBytes)
		s.Connections, s.Subscriptions = append(s.Connections, p.connections), append(s.Subscriptions, p.subscriptions)
		s.SlowConsumers = append(s.SlowConsumers, p.slow)
	}
	return s
}
