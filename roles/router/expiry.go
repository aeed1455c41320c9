package router

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"
)

// What ends by time: requests, sessions of the mode of that name (affinity), and the wait
// for tickets. Most requests end after the same while, so they stand in a list in their
// order; only those with a time of their own are kept in order.

// timed is a heap by time.
type timed []*request

func (h timed) Len() int           { return len(h) }
func (h timed) Less(i, j int) bool { return h[i].before(h[j]) }
func (h timed) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i+1, j+1
}

// before tells which of two ends first.
func (r *request) before(o *request) bool {
	return r.until < o.until || r.until == o.until && r.number < o.number
}

// Push and Pop are heap.Interface's.
func (h *timed) Push(x any) {
	r := x.(*request)
	r.at = len(*h) + 1
	*h = append(*h, r)
}

// Pop takes the last one.
func (h *timed) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	r.at = 0
	return r
}

// time has a request end at its time.
func (q *requests) time(r *request) {
	if q.last != nil && r.until < q.last.until {
		heap.Push(&q.timed, r)
		return
	}
	r.prev = q.last
	if q.last != nil {
		q.last.next = r
	} else {
		q.first = r
	}
	q.last = r
}

func (q *requests) untime(r *request) {
	if r.at > 0 {
		heap.Remove(&q.timed, r.at-1)
		return
	}
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		q.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		q.last = r.prev
	}
	r.next, r.prev = nil, nil
}

// next returns the request that ends first, nil if there is none.
func (q *requests) next() *request {
	switch {
	case len(q.timed) == 0:
		return q.first
	case q.first == nil || q.timed[0].before(q.first):
		return q.timed[0]
	}
	return q.first
}

// byAge returns all requests in the order in which they were made, which is that in which
// answers to one subject count.
func (q *requests) byAge() []*request {
	all := append(make([]*request, 0, q.count), q.timed...)
	for r := q.first; r != nil; r = r.next {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *request) int { return cmp.Compare(a.number, b.number) })
	return all
}

// clock is milliseconds since the machine was started, for all routers one after the
// other. Within a batch it stands still.
func (r *router) clock() int64 {
	if r.time == 0 {
		r.time = r.epoch + time.Since(r.began).Milliseconds()
	}
	return r.time
}

// expiry is how long the router may sleep until something ends by time, negative: for
// ever.
func (r *router) expiry() time.Duration {
	at := int64(-1)
	if q := r.requests.next(); q != nil {
		at = q.until
	}
	if a := r.affinities.first; a != nil {
		if idle := a.used + r.cfg.SessionIdle.Milliseconds(); at < 0 || idle < at {
			at = idle
		}
	}
	if q := r.desk.queue; len(q) > 0 {
		if by := q[0].at + ticketPatience; at < 0 || by < at {
			at = by
		}
	}
	if r.ages.some && (at < 0 || r.ages.next < at) {
		at = r.ages.next
	}
	if at < 0 {
		return -1
	}
	return time.Duration(min(max(at-r.clock(), 0), math.MaxInt32)) * time.Millisecond
}

// expire ends what is due, between records.
func (r *router) expire() {
	if r.requests.first == nil && len(r.requests.timed) == 0 && r.affinities.first == nil && len(r.desk.queue) == 0 {
		return
	}
	r.expireTickets()
	now := r.clock()
	for q := r.requests.next(); q != nil && q.until <= now; q = r.requests.next() {
		r.timeOut(q)
	}
	idle := now - r.cfg.SessionIdle.Milliseconds()
	for a := r.affinities.first; a != nil && a.used <= idle; a = r.affinities.first {
		r.unbind(a)
		r.trim()
	}
}
