package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// crowd is how many clients there are of each kind.
type crowd struct {
	cells int           // at a time
	idle  int           // connections
	opens time.Duration // between two visitors, on average; 0: none
	life  time.Duration // longest of a cell that does not last to the end
}

// visitors are so many at a time at most.
const visitors = 8

// run starts the load and returns when all idle connections are open. wait
// returns when, after the load was told to stop, everything is settled.
func (l *load) run(seed uint64, c crowd) (wait func()) {
	var work sync.WaitGroup
	for i := range c.cells {
		work.Go(func() { l.worker(i, rand.New(rand.NewPCG(seed, uint64(i))), c.life) })
	}
	if c.opens > 0 {
		for i := range visitors { // one that waits for a dispatcher holds no other up
			work.Go(func() { l.opens(rand.New(rand.NewPCG(seed, 1<<32+uint64(i))), visitors*c.opens) })
		}
	}
	if c.idle > 0 {
		all := make(chan struct{})
		work.Go(func() { l.idle(c.idle, rand.New(rand.NewPCG(seed, 2<<32)), func() { close(all) }) })
		<-all
	}
	return work.Wait
}

// worker runs one cell after the other. The first ones of each shape last to the
// end, if they can: connections must survive everything, not only the next thing.
func (l *load) worker(i int, r *rand.Rand, longest time.Duration) {
	for !l.stopping() {
		shape, life := shapes[i%len(shapes)], time.Duration(0)
		if i >= len(shapes) {
			shape, life = shapes[r.IntN(len(shapes))], time.Duration(1+r.Int64N(int64(longest)))
		}
		before := l.get(unopened) + l.get(unopenedWithCM)
		shape.run(l, r, life)
		if l.get(unopened)+l.get(unopenedWithCM) > before {
			l.breathe()
		}
	}
}

// breathe lets a broker that refuses connections have a moment.
func (l *load) breathe() {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-l.stop:
	}
}
