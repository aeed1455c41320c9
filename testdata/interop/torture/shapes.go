package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// shapes are the kinds of cells, each with what it shows.
var shapes = []struct {
	name string
	run  func(l *load, r *rand.Rand, life time.Duration)
}{
	{"fan", fan},         // everybody gets everything, on every cm
	{"wild", wild},       // wildcards that overlap
	{"queue", queue},     // each message to one member of each group
	{"request", request}, // each request to one responder, each answered once
	{"churn", churn},     // SUB and UNSUB all the time, with a maximum
	{"natsgo", natsgo},   // the same with nats.go
	{"request", request}, // twice: pauses are measured here
}

// joinAll opens connections; nil when one could not be opened.
func (c *cell) joinAll(name string, n int) (all []*link) {
	for i := range n {
		k := c.join(fmt.Sprint(name, i))
		if k == nil {
			return nil
		}
		all = append(all, k)
	}
	return all
}

// joinSome is joinAll or joinOne.
func (c *cell) joinSome(name string, n int) []*link {
	if c.rand.IntN(2) == 0 {
		return c.joinAll(name, n)
	}
	return c.joinOne(name, n)
}

// joinOne is joinAll with all connections on the same cm, whichever that is: the
// death of another one then excuses nothing. Of so many connections on so few cms
// enough have the same.
func (c *cell) joinOne(name string, n int) []*link {
	if c.cms == nil {
		return c.joinAll(name, n)
	}
	cms := c.cms()
	all := c.joinAll(name, n*max(1, len(cms)))
	for _, pid := range cms {
		held, err := c.heldBy(pid)
		if err != nil {
			continue // it is dying
		}
		mine := slices.DeleteFunc(slices.Clone(all), func(k *link) bool { return !slices.Contains(held, k) })
		if len(mine) < n {
			continue
		}
		all = append(mine[:n:n], slices.DeleteFunc(all, func(k *link) bool { return slices.Contains(mine[:n], k) })...)
		break
	}
	if len(all) < n {
		return nil
	}
	for _, k := range all[n:] {
		c.links = slices.DeleteFunc(c.links, func(o *link) bool { return o == k })
		k.close()
		k.end(nil)
	}
	return all[:n]
}

// leave closes the cell before it has begun.
func (c *cell) leave() {
	for _, k := range c.links {
		k.close()
	}
	c.readers.Wait()
	for _, k := range c.links {
		k.end(nil) // those whose reading had not begun
	}
}

func fan(l *load, r *rand.Rand, life time.Duration) {
	c := l.newCell("fan", r)
	pubs, subs := c.joinAll("publisher", 1+r.IntN(2)), c.joinAll("subscriber", 2+r.IntN(3))
	if c.halted() {
		c.leave()
		return
	}
	var streams []*stream
	var work []func()
	patterns := map[*sink]string{}
	for _, k := range pubs {
		s := c.stream(k, c.name)
		streams = append(streams, s)
		work = append(work, c.publisher(k, s).run)
	}
	for _, k := range subs {
		patterns[c.sink(k, "", streams...)] = c.name
	}
	c.play(patterns, life, work)
}

// play subscribes, lets the publishers work, and closes the books.
func (c *cell) play(patterns map[*sink]string, life time.Duration, work []func()) {
	if !c.subscribe(patterns) {
		c.leave()
		return
	}
	c.live(life, work...)
	c.end()
}

func wild(l *load, r *rand.Rand, life time.Duration) {
	c := l.newCell("wild", r)
	pubs, subs := c.joinAll("publisher", 2), c.joinAll("subscriber", 3)
	if c.halted() {
		c.leave()
		return
	}
	const leaves = 4
	byLeaf := make([][]*stream, leaves)
	var all []*stream
	var work []func()
	for _, k := range pubs {
		var mine []*stream
		for i := range leaves {
			s := c.stream(k, fmt.Sprintf("%s.%d.x", c.name, i))
			mine, byLeaf[i] = append(mine, s), append(byLeaf[i], s)
		}
		all = append(all, mine...)
		work = append(work, c.publisher(k, mine...).run)
	}
	patterns := map[*sink]string{}
	for i, k := range subs {
		patterns[c.sink(k, "", all...)] = c.name + ".>"
		patterns[c.sink(k, "", all...)] = c.name + ".*.x"
		patterns[c.sink(k, "", byLeaf[i]...)] = fmt.Sprintf("%s.%d.*", c.name, i)
	}
	c.play(patterns, life, work)
}

func queue(l *load, r *rand.Rand, life time.Duration) {
	c := l.newCell("queue", r)
	pubs, subs := c.joinAll("publisher", 2), c.joinAll("subscriber", 1)
	members := c.joinSome("member", 4+r.IntN(3))
	if c.halted() {
		c.leave()
		return
	}
	var streams []*stream
	var work []func()
	for _, k := range pubs {
		s := c.stream(k, c.name)
		streams = append(streams, s)
		work = append(work, c.publisher(k, s).run)
	}
	patterns := map[*sink]string{c.sink(subs[0], "", streams...): c.name}
	for i, k := range members {
		patterns[c.sink(k, fmt.Sprintf("group%d", i%2), streams...)] = c.name
	}
	c.play(patterns, life, work)
}

func request(l *load, r *rand.Rand, life time.Duration) {
	c := l.newCell("request", r)
	n := 1 + r.IntN(3)
	all := c.joinSome("client", n+1+r.IntN(3))
	if c.halted() {
		c.leave()
		return
	}
	asks, answers := all[:n], all[n:]
	var streams []*stream
	var work []func()
	patterns := map[*sink]string{}
	for i, k := range asks {
		s := c.stream(k, c.name)
		s.reply = fmt.Sprintf("_INBOX.%s.%d", c.name, i)
		streams = append(streams, s)
		q := c.requester(k, s, 1+r.IntN(4))
		q.high = 4 << 10
		work = append(work, q.run)
		inbox := c.sink(k, "", s)
		inbox.hears[s.id].subject = s.reply
		inbox.replies, inbox.leans, inbox.onTake = true, answers, q.answered
		inbox.anyOrder = len(answers) > 1
		patterns[inbox] = s.reply
	}
	for _, k := range answers {
		s := c.sink(k, "responders", streams...)
		s.answer = true
		patterns[s] = c.name
	}
	c.play(patterns, life, work)
}
