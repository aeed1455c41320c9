package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// count is one figure of the account.
type count int

// Those from lost on must be zero. Those from goneWithCM on are what the death
// of a connection manager may cost, and only that.
const (
	published count = iota
	delivered
	requests
	answered
	opened

	lost
	doubled
	reordered
	damaged
	misdelivered
	unanswered
	dropped
	undelivered
	unopened
	broken

	goneWithCM
	endedWithCM
	unopenedWithCM
	counts
)

// countNames say what was counted, as the table at the end has them.
var countNames = [counts]string{
	published: "messages published", delivered: "messages delivered", requests: "requests", answered: "requests answered", opened: "connections opened",
	lost: "lost", doubled: "doubled", reordered: "reordered", damaged: "damaged", misdelivered: "delivered to the wrong one",
	unanswered: "requests without an answer", dropped: "connections dropped", undelivered: "lost with a dropped connection",
	unopened: "new connections refused or dropped", broken: "what the broker did not do when told",
	goneWithCM: "messages gone with a connection manager", endedWithCM: "connections ended with a connection manager",
	unopenedWithCM: "new connections ended with a connection manager",
}

// offendersOfAKind is how many of each are described; all are counted.
const offendersOfAKind = 6

// event is something that was done to the broker.
type event struct {
	what  string
	began time.Time
	took  time.Duration // until it was whole again
	why   string        // what the broker lacked last, until then
}

// book is the account of a run.
type book struct {
	began time.Time
	n     [counts]atomic.Uint64

	mu        sync.Mutex
	events    []event
	offenders [counts][]string
	reasons   map[string]int     // of failed new connections
	pauses    map[string]*pauses // by what was being done; "" for all

	// cmDown is when the last killed cm was seen to be gone, in ns of Unix time, or
	// as late as can be until then.
	cmDown atomic.Int64
}

func newBook() *book {
	return &book{began: time.Now(), reasons: map[string]int{}, pauses: map[string]*pauses{}}
}

func (b *book) add(c count, n uint64) { b.n[c].Add(n) }

func (b *book) get(c count) uint64 { return b.n[c].Load() }

// blame counts n of c and keeps a description of the first few.
func (b *book) blame(c count, n uint64, format string, args ...any) {
	if n == 0 {
		return
	}
	b.add(c, n)
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.offenders[c]) < offendersOfAKind {
		b.offenders[c] = append(b.offenders[c], fmt.Sprintf(format, args...)+"; "+b.whereLocked(now))
	}
}

// whereLocked places a moment among the events.
func (b *book) whereLocked(at time.Time) string {
	where := fmt.Sprintf("at %.3f s", at.Sub(b.began).Seconds())
	for i := len(b.events) - 1; i >= 0; i-- {
		if e := b.events[i]; !e.began.After(at) {
			return fmt.Sprintf("%s, %v after event %d, %s", where, at.Sub(e.began).Round(time.Millisecond/10), i+1, e.what)
		}
	}
	return where + ", before any event"
}

// begin notes an event and returns what is to be called when it is over.
func (b *book) begin(format string, args ...any) (over func() event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := len(b.events)
	b.events = append(b.events, event{what: fmt.Sprintf(format, args...), began: time.Now()})
	return func() event {
		b.mu.Lock()
		defer b.mu.Unlock()
		e := &b.events[i]
		e.took = time.Since(e.began)
		return *e
	}
}

// lacks notes why the broker is not whole yet, or that it is.
func (b *book) lacks(err error) error {
	if err != nil {
		b.mu.Lock()
		b.events[len(b.events)-1].why = err.Error()
		b.mu.Unlock()
	}
	return err
}

// pauses are the times from requests to their answers.
type pauses struct {
	*hdrhistogram.Histogram
	longest time.Duration
	at      string
}

// pause notes how long a request took, for all and for what was being done to
// the broker while it was under way.
func (b *book) pause(sent time.Time) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pauseLocked("", sent, now)
	for i := len(b.events) - 1; i >= 0; i-- {
		if e := &b.events[i]; e.took == 0 || e.began.Add(e.took).After(sent) {
			b.pauseLocked(e.action(), sent, now)
			continue
		}
		return
	}
}

func (b *book) pauseLocked(during string, sent, now time.Time) {
	p := b.pauses[during]
	if p == nil {
		p = &pauses{Histogram: hdrhistogram.New(1, time.Hour.Microseconds(), 3)}
		b.pauses[during] = p
	}
	took := now.Sub(sent)
	_ = p.RecordValue(max(1, min(took.Microseconds(), time.Hour.Microseconds()))) // within the bounds
	if took > p.longest {
		p.longest, p.at = took, b.whereLocked(now)
	}
}

// action is what was done, without to whom in particular.
func (e *event) action() string {
	what, _, _ := strings.Cut(e.what, " (")
	return what
}

// refused counts a connection that could not be opened.
func (b *book) refused(began time.Time, kind string, err error) {
	if b.cmDown.Load() > began.UnixNano() {
		b.add(unopenedWithCM, 1)
		return
	}
	reason := kind + ": " + err.Error()
	if i := strings.Index(reason, "->"); i >= 0 { // two addresses, other ones each time
		reason = reason[:strings.LastIndexByte(reason[:i], ' ')] + reason[i+strings.IndexByte(reason[i:], ':'):]
	}
	b.mu.Lock()
	b.reasons[reason]++
	b.mu.Unlock()
	b.blame(unopened, 1, "%s, begun %v before", reason, time.Since(began).Round(time.Millisecond))
}

// failed tells whether anything was counted that must not be.
func (b *book) failed() bool {
	for c := lost; c < goneWithCM; c++ {
		if b.get(c) > 0 {
			return true
		}
	}
	return false
}
