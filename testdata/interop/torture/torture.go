package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"gatehouse/testdata/tree"
)

// drain is the drain_timeout of the broker that is tortured: for as long a cm that
// was replaced keeps connections by TLS, and the next upgrade waits for it.
const drain = 5 * time.Second

// authTimeout is its auth_timeout: handshakes wait for a parent as long, and a key
// that was replaced is kept as long.
const authTimeout = 10 * time.Second

// options are what a run is asked for.
type options struct {
	builds   []string // of the broker
	seed     uint64
	plan     map[deed]int
	actions  []string
	gap      time.Duration
	least    time.Duration
	absent   time.Duration
	span     time.Duration // least time of load
	crowd    crowd
	cms      int
	patience time.Duration
	still    time.Duration
	soak     time.Duration // of tlsd, in the place of all else
	sessions int
	log      io.Writer // gets that of the broker in the end; may be nil
	progress io.Writer
}

// torture runs everything: start, load, deeds, drain, count, SIGTERM. An error
// means that nothing could be measured.
func torture(ctx context.Context, o options) (*report, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root: roles under uids of their own")
	}
	if err := tree.RaiseFileLimit(); err != nil {
		return nil, err
	}
	// On a machine that does all of this at once, a login may take its time.
	b, err := newBroker(o.builds, o.cms, fmt.Sprintf("drain_timeout = \"%v\"\nauth_timeout = \"%v\"", drain, authTimeout))
	if err != nil {
		return nil, err
	}
	defer b.remove()
	if err := b.serve(o.patience); err != nil {
		return nil, err
	}
	l := newLoad(b.listeners, o.patience, o.still)
	l.cms = func() []int { return b.roles("cm") }
	if err := l.warm(o.seed); err != nil {
		return nil, err
	}
	before, err := b.baseline(o.patience)
	if err != nil {
		return nil, err
	}
	k := &killer{broker: b, load: l, rand: rand.New(rand.NewPCG(o.seed, 4<<32)), gap: o.gap, least: o.least, absent: o.absent}
	r := &report{book: l.book, seed: o.seed, crowd: o.crowd}
	k.rack(ctx, o)
	if r.leaks = b.leaks(before, o.patience); b.whole() == nil {
		if err := k.terminate(o.seed); err != nil {
			l.blame(broken, 1, "%v", err)
		}
		r.remains = b.remains(o.patience)
	}
	k.judgeLogs()
	if o.log != nil {
		for i, log := range b.logs {
			fmt.Fprintf(o.log, "standard error of parent %d:\n%s\n", i+1, log.Text())
		}
	}
	return r, nil
}

// rack puts the load on, does what the plan says, and lets everything settle.
func (k *killer) rack(ctx context.Context, o options) {
	wait := k.load.run(o.seed, o.crowd)
	span := time.After(o.span)
	deeds := shuffle(o.plan, o.actions, k.rand)
	done := make(chan struct{})
	go func() { defer close(done); k.tell(o.progress, len(deeds), k.load.stop) }()
	k.run(deeds, ctx.Done())
	select {
	case <-span:
	case <-ctx.Done():
	}
	close(k.load.stop)
	<-done
	wait()
}

// tell shows every few seconds how far it is.
func (k *killer) tell(w io.Writer, deeds int, stop <-chan struct{}) {
	if w == nil {
		return
	}
	every := time.NewTicker(10 * time.Second)
	defer every.Stop()
	for {
		select {
		case <-stop:
			return
		case <-every.C:
			k.load.mu.Lock()
			links := len(k.load.links)
			k.load.mu.Unlock()
			k.load.book.mu.Lock()
			events := len(k.load.events)
			k.load.book.mu.Unlock()
			fmt.Fprintf(w, "%v: %d of %d deeds, %d connections, %d messages delivered, %d lost, %d dropped\n", time.Since(k.load.began).Round(time.Second),
				events, deeds, links, k.load.get(delivered), k.load.get(lost)+k.load.get(unanswered), k.load.get(dropped))
		}
	}
}

// warm uses each transport on each cm once: what the broker opens at the first
// use is no leak.
func (l *load) warm(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 5<<32))
	for range 3 {
		c := l.newCell("warm", r)
		c.joinAll("client", 8)
		halted := c.halted()
		c.leave()
		if halted {
			return errors.New("the broker takes no connections")
		}
	}
	// Chance may have left a way out, and what a process has for that.
	for _, kind := range slices.Sorted(maps.Keys(l.at)) {
		for range 8 {
			k, err := l.open(kind, "warm", 512)
			if err != nil {
				return err
			}
			k.close()
			k.end(nil)
		}
	}
	return nil
}
