package main

import (
	"fmt"
	"slices"
	"time"
)

// end settles the cell, takes the account, and closes what is still open.
func (c *cell) end() {
	c.settle()
	c.account()
	for _, k := range c.links {
		k.close()
	}
	c.readers.Wait()
}

// settle waits until all that is due has come, or nothing has moved for long.
// Then a PONG on each connection shows that nothing comes after it either.
func (c *cell) settle() {
	moved, since := int64(-1), time.Now()
	for wait := time.Millisecond; !c.complete(); wait = min(2*wait, 50*time.Millisecond) {
		if now := c.moved.Load(); now != moved {
			moved, since = now, time.Now()
		}
		if time.Since(since) > c.still {
			c.unfenced()
			return
		}
		<-time.After(wait)
	}
	for _, k := range c.links {
		if k.conn != nil && !k.over() {
			k.sync("")
		}
	}
}

// unfenced blames the broker for each publisher whose PONG has not come.
func (c *cell) unfenced() {
	silent := map[*link]bool{}
	for _, s := range c.streams {
		if !s.from.over() && s.fenced.Load() < s.sent.Load() && !silent[s.from] {
			silent[s.from] = true
			c.blame(broken, 1, "%s: no PONG, and nothing else in the cell for %v", s.from.name, c.still)
		}
	}
}

// complete tells whether nothing is awaited any more.
func (c *cell) complete() bool {
	for _, s := range c.streams {
		if !s.from.over() && s.fenced.Load() < s.sent.Load() {
			return false
		}
	}
	for _, s := range c.all {
		if missing, _ := s.missing(); missing > 0 && !s.excused() {
			return false
		}
	}
	return true
}

// missing counts what is due to a sink, or to its group, and has not come.
func (s *sink) missing() (n uint64, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.hears {
		missing, first := h.track.Missing(h.due())
		if n += missing; missing > 0 {
			what = fmt.Sprintf("stream %d on %q from %s: %d of %d missing, the first is %d, sent %d, known to be read %d",
				h.id, h.subject, h.from.name, missing, h.due(), first, h.sent.Load(), h.fenced.Load())
		}
	}
	if s.refusals > 0 {
		what += fmt.Sprintf(", %d times there was nobody to answer", s.refusals)
	}
	return n, what
}

// parties are the connections whose end excuses a sink: its own, those of its
// group, those of who answers it.
func (s *sink) parties() []*link {
	all := append([]*link{s.link}, s.leans...)
	for _, o := range s.cell.all {
		if s.group != "" && o.group == s.group {
			all = append(all, o.link)
		}
	}
	return all
}

func (s *sink) excused() bool {
	return slices.ContainsFunc(s.parties(), (*link).over) && !s.cell.ending
}

// account writes what is missing into the book, once for each group.
func (c *cell) account() {
	groups := map[string]bool{}
	for _, s := range c.streams {
		c.add(published, s.sent.Load())
		if s.reply != "" {
			c.add(requests, s.sent.Load())
		}
	}
	for _, s := range c.all {
		if s.group != "" && groups[s.group] {
			continue
		}
		groups[s.group] = true
		n, what := s.missing()
		kind := lost
		if s.replies {
			kind = unanswered
		}
		if !c.ending {
			switch {
			case s.group == "" && s.link.gone():
				continue // nothing is due to it
			case slices.ContainsFunc(s.parties(), (*link).lostIt):
				kind = undelivered
			case slices.ContainsFunc(s.parties(), (*link).gone):
				kind = goneWithCM
			}
		}
		c.blame(kind, n, "%s %s: %s", s.link.name, s.group, what)
	}
}
