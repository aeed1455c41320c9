package console

import (
	"sync"
	"time"
)

// history is how much there was of everything, a while back.
type history struct {
	view *view

	mu      sync.Mutex
	samples [historyLength]sample // a ring, at the next one
	at, n   int
}

type sample struct {
	when time.Time
	totals
}

const (
	historyStep   = 2 * time.Second
	historyLength = 300
)

func newHistory(v *view) *history {
	h := &history{view: v}
	h.look(time.Now())
	return h
}

// keep looks every step until the end.
func (h *history) keep(end <-chan struct{}) {
	t := time.NewTicker(historyStep)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			h.look(now)
		case <-end:
			return
		}
	}
}

func (h *history) look(now time.Time) {
	s := sample{now, h.view.totals()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples[h.at] = s
	h.at = (h.at + 1) % historyLength
	h.n = min(h.n+1, historyLength)
}

// past is the history as it is shown: rates a second and levels, the oldest first, one
// for each step up to the end.
type past struct {
	Step   float64              `json:"step"` // seconds
	End    time.Time            `json:"end"`
	Rates  map[string][]float64 `json:"rates"`
	Levels map[string][]uint64  `json:"levels"`
}

var rates = map[string]func(*totals) uint64{
	"in_msgs":               func(t *totals) uint64 { return t.InMsgs },
	"out_msgs":              func(t *totals) uint64 { return t.OutMsgs },
	"in_bytes":              func(t *totals) uint64 { return t.InBytes },
	"out_bytes":             func(t *totals) uint64 { return t.OutBytes },
	"slow_consumers":        func(t *totals) uint64 { return t.SlowConsumers },
	"permission_violations": func(t *totals) uint64 { return t.Violations },
	"logins":                func(t *totals) uint64 { return t.Logins },
	"logins_refused":        func(t *totals) uint64 { return t.LoginsRefused },
}

var levels = map[string]func(*totals) uint64{
	"connections":   func(t *totals) uint64 { return t.Connections },
	"subscriptions": func(t *totals) uint64 { return t.Subscriptions },
}

// past gives all that is known.
func (h *history) past() *past {
	h.mu.Lock()
	defer h.mu.Unlock()
	ss := make([]sample, 0, h.n)
	for i := range h.n {
		ss = append(ss, h.samples[(h.at-h.n+i+historyLength)%historyLength])
	}
	p := &past{Step: historyStep.Seconds(), Rates: map[string][]float64{}, Levels: map[string][]uint64{}}
	if len(ss) > 0 {
		p.End = ss[len(ss)-1].when
	}
	for name, of := range rates {
		list := []float64{}
		for i := 1; i < len(ss); i++ {
			list = append(list, rate(of(&ss[i-1].totals), of(&ss[i].totals), ss[i].when.Sub(ss[i-1].when)))
		}
		p.Rates[name] = list
	}
	for name, of := range levels {
		list := []uint64{}
		for i := 1; i < len(ss); i++ {
			list = append(list, of(&ss[i].totals))
		}
		p.Levels[name] = list
	}
	return p
}

// rate is how many a second; a counter that has begun anew has none.
func rate(from, to uint64, d time.Duration) float64 {
	if to < from || d <= 0 {
		return 0
	}
	return float64(to-from) / d.Seconds()
}
