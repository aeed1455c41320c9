package cm

import (
	"sync"
	"sync/atomic"

	"gatehouse/privsep"
)

// doorman brings the goroutines what the loop has for them. The loop's thread
// runs no other goroutine: one that the loop made runnable would lie in its
// queue until some thread came round to steal it. The doorman waits in the Go
// runtime's poller and runs as soon as it is rung for, and who it wakes after it.
type doorman struct {
	ring   int
	ear    *privsep.Ear
	asleep atomic.Bool

	mu      sync.Mutex
	errands []errand
	ended   chan struct{}
}

// errand is one thing to do for a handshake: to begin it, to hand it the
// parent's answer, or to tell it that its socket has changed.
type errand struct {
	h      *handshake
	what   errandKind
	signed []byte
}

type errandKind uint8

const (
	errandBegin errandKind = iota
	errandSigned
	errandReady
)

func newDoorman() (*doorman, error) {
	near, far, err := privsep.Doorbell()
	if err != nil {
		return nil, err
	}
	d := &doorman{ring: near, ear: privsep.NewEar(far), ended: make(chan struct{})}
	go d.run()
	return d, nil
}

// send has an errand done. Either the doorman sees it before he sleeps, or he
// is seen to be asleep here.
func (d *doorman) send(e errand) {
	d.mu.Lock()
	d.errands = append(d.errands, e)
	d.mu.Unlock()
	if d.asleep.Swap(false) {
		privsep.Ring(d.ring)
	}
}

func (d *doorman) run() {
	defer close(d.ended)
	var spare []errand
	for {
		d.mu.Lock()
		es := d.errands
		d.errands = spare
		d.mu.Unlock()
		for i := range es {
			es[i].do()
		}
		clear(es)
		spare = es[:0]
		d.asleep.Store(true)
		d.mu.Lock()
		more := len(d.errands) > 0
		d.mu.Unlock()
		if !more && d.ear.Wait() != nil {
			return
		}
		d.asleep.Store(false)
	}
}

func (e *errand) do() {
	switch e.what {
	case errandBegin:
		e.h.begin(e.h)
	case errandSigned:
		e.h.signed <- e.signed
	case errandReady:
		e.h.wake()
	}
}

// close ends the doorman; nothing may be sent any more.
func (d *doorman) close() {
	d.ear.Close()
	<-d.ended
	privsep.CloseFD(d.ring)
}
