package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gatehouse.test/interop/torture/client"
)

// opens opens and closes connections until the load is to end; each must get as
// far as to hear itself.
func (l *load) opens(r *rand.Rand, every time.Duration) {
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		case <-time.After(time.Duration(r.ExpFloat64() * float64(every))):
		}
		k, err := l.open(l.pick(r), fmt.Sprint("visitor", n), 4<<10)
		if err != nil {
			l.breathe()
			continue
		}
		got := make(chan struct{}, 1)
		read := make(chan struct{})
		go func() {
			defer close(read)
			k.read(func(*client.Frame) { got <- struct{}{} })
		}()
		subject := fmt.Sprintf("visit.%p.%d", k, n)
		if k.sync(fmt.Sprintf("SUB %s 1\r\nPUB %s 2\r\nhi\r\n", subject, subject)) {
			select {
			case <-got:
			case <-k.ended:
			case <-time.After(l.still):
				l.blame(lost, 1, "%s: its own message", k.name)
			}
		}
		k.close()
		<-read
	}
}

// idle keeps n connections open that do nothing, and in the end wants a PONG of
// each. opened is called when all are there.
func (l *load) idle(n int, r *rand.Rand, opened func()) {
	var all, first sync.WaitGroup
	first.Add(n)
	opening := make(chan struct{}, 16)
	for i := range n {
		kind := l.pick(r)
		all.Go(func() {
			once := sync.OnceFunc(first.Done)
			defer once()
			for !l.stopping() {
				opening <- struct{}{}
				k, err := l.open(kind, fmt.Sprint("idle", i), 512)
				<-opening
				if err != nil {
					l.breathe()
					continue
				}
				once()
				l.sit(k)
			}
		})
	}
	first.Wait()
	opened()
	all.Wait()
}

// sit holds an idle connection until it or the load ends.
func (l *load) sit(k *link) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		k.read(func(f *client.Frame) { l.blame(misdelivered, 1, "%s: a message on %q", k.name, f.Subject) })
	}()
	select {
	case <-k.ended:
	case <-l.stop:
		k.sync("")
	}
	k.close()
	<-read
}
