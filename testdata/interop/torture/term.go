package main

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// terminate sends SIGTERM while publishers are at full flow. Each message that
// the broker has read, by its own PONG, must reach who subscribed, whose
// connections it must not end before.
func (k *killer) terminate(seed uint64) error {
	c := k.load.newCell("sigterm", rand.New(rand.NewPCG(seed, 3<<32)))
	pubs, subs := c.joinAll("publisher", 4), c.joinAll("subscriber", 4)
	if c.halted() {
		c.leave()
		return fmt.Errorf("no load for SIGTERM")
	}
	patterns := map[*sink]string{}
	var work []func()
	for _, l := range pubs {
		s := c.stream(l, c.name)
		p := c.publisher(l, s)
		p.habit = habit{batch: 20, low: smallest, high: largest, fenceEvery: 2}
		work = append(work, p.run)
	}
	for _, l := range subs {
		patterns[c.sink(l, "", c.streams...)] = c.name
	}
	if !c.subscribe(patterns) {
		c.leave()
		return fmt.Errorf("no load for SIGTERM")
	}
	for _, f := range work {
		c.readers.Go(f)
	}
	began := time.Now()
	for c.moved.Load() < 2000 && time.Since(began) < k.load.patience {
		<-time.After(time.Millisecond)
	}
	c.ending = true
	for _, l := range c.links {
		l.closing.Store(true)
	}
	over := k.load.begin("SIGTERM")
	defer over()
	if err := k.end(); err != nil {
		return err
	}
	for _, l := range c.links {
		<-l.ended
	}
	c.readers.Wait()
	c.account()
	return nil
}

// end stops the broker by SIGTERM and wants it gone, and nothing left of it.
func (k *killer) end() error {
	if err := k.parent.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-k.exited:
	case <-time.After(drain + k.load.patience):
		return fmt.Errorf("the broker lives on %v after SIGTERM", drain+k.load.patience)
	}
	if code := k.parent.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("exit code %d after SIGTERM:\n%s", code, tail(k.logs[len(k.logs)-1].Text(), 5))
	}
	return nil
}

// judgeLogs holds what the parents wrote against what was done: no other deaths,
// nobody who broke the rules between the roles, no trace of a panic.
func (k *killer) judgeLogs() {
	deaths := 0
	for _, log := range k.logs {
		died := log.All("role died")
		deaths += len(died)
		for _, line := range log.Lines(0) {
			if line.Fields == nil || line.Fields["security"] != nil {
				k.load.blame(broken, 1, "the log says %s", line.Text)
			}
		}
	}
	if deaths > k.deaths {
		k.load.blame(broken, uint64(deaths-k.deaths), "%d roles died, we killed %d", deaths, k.deaths)
	}
}
