package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gatehouse.test/interop/torture/client"
	"gatehouse.test/interop/torture/ledger"
)

// churn subscribes with a maximum over and over while the other side publishes
// more than that, and holds each subscription to its number.
func churn(l *load, r *rand.Rand, life time.Duration) {
	c := l.newCell("churn", r)
	pub, sub := c.join("publisher"), c.join("subscriber")
	if c.halted() {
		c.leave()
		return
	}
	var mu sync.Mutex
	var round *sink
	c.readers.Go(func() { pub.read(func(*client.Frame) {}); c.halt() })
	c.readers.Go(func() {
		sub.read(func(f *client.Frame) {
			mu.Lock()
			s := round
			mu.Unlock()
			if s == nil || s.sid != string(f.SID) {
				c.blame(misdelivered, 1, "%s: a message for sid %q, which has ended", sub.name, f.SID)
				return
			}
			s.take(f)
		})
		c.halt()
	})
	end := time.Now().Add(life)
	for n := 1; !c.halted() && !c.stopping() && (life == 0 || time.Now().Before(end)); n++ {
		s := c.newRound(pub, sub, n)
		mu.Lock()
		round = s
		mu.Unlock()
		if !c.round(s, 1+uint64(r.IntN(20))) {
			break
		}
	}
	c.halt()
	c.leave()
}

// newRound is a sink whose stream has a subject of its own.
func (c *cell) newRound(pub, sub *link, n int) *sink {
	st := c.stream(pub, fmt.Sprintf("%s.%d", c.name, n))
	c.streams = nil // each round takes its own account
	h := &heard{stream: st, subject: st.subject, track: new(ledger.Track)}
	return &sink{cell: c, link: sub, sid: fmt.Sprint(n), mu: new(sync.Mutex), hears: map[uint32]*heard{st.id: h}}
}

// round subscribes for most messages, sends a few more, and wants exactly those.
func (c *cell) round(s *sink, most uint64) bool {
	var st *stream
	for _, h := range s.hears {
		st = h.stream
	}
	if !s.link.sync(fmt.Sprintf("SUB %s %s\r\nUNSUB %s %d\r\n", st.subject, s.sid, s.sid, most)) {
		return false
	}
	p := c.publisher(st.from, st)
	for range most + uint64(c.rand.IntN(5)) {
		p.append(st)
	}
	if !st.from.sync(string(p.buf)) {
		return false
	}
	c.add(published, st.sent.Load())
	// What exceeds the maximum is not due, and comes to nobody.
	over := st.sent.Load() - most
	st.sent.Store(most)
	st.fenced.Store(most)
	if c.settleRound(s); s.link.over() {
		return false
	}
	n, what := s.missing()
	c.blame(lost, n, "%s: %s, subscribed for %d", s.link.name, what, most)
	s.mu.Lock()
	defer s.mu.Unlock()
	if top := s.hears[st.id].track.Top(); top > most {
		c.blame(misdelivered, top-most, "%s: %d messages, subscribed for %d of %d", s.link.name, top, most, most+over)
	}
	return true
}

// settleRound waits for what is due, and for a PONG behind it.
func (c *cell) settleRound(s *sink) {
	began := time.Now()
	for wait := time.Millisecond; time.Since(began) < c.still && !s.link.over(); wait = min(2*wait, 50*time.Millisecond) {
		if n, _ := s.missing(); n == 0 {
			break
		}
		<-time.After(wait)
	}
	s.link.sync("")
}
