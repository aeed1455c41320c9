package cm

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/privsep"
)

// mailbox brings things from any thread to one that sleeps in a poller, where a
// doorbell wakes it.
type mailbox[T any] struct {
	asleep atomic.Bool // the owner: ring the bell
	full   atomic.Bool
	bell   int
	near   int // the owner's end
	rung   int // edges of it since it was read

	mu    sync.Mutex
	items []T
}

// init makes the bell, whose edges at near the owner waits for.
func (b *mailbox[T]) init() (err error) {
	b.near, b.bell, err = privsep.Doorbell()
	return err
}

// put leaves x to be found when the owner wakes for another reason.
func (b *mailbox[T]) put(x T) {
	b.mu.Lock()
	b.items = append(b.items, x)
	b.full.Store(true)
	b.mu.Unlock()
}

// post wakes the owner for x. Either it sees full before it sleeps, or asleep is
// seen here.
func (b *mailbox[T]) post(x T) {
	b.put(x)
	if b.asleep.Swap(false) {
		privsep.Ring(b.bell)
	}
}

// take empties the box; spare is for what comes next.
func (b *mailbox[T]) take(spare []T) []T {
	if !b.full.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = spare[:0]
	b.full.Store(false)
	return items
}

// wait is the owner's way to sleep.
func (b *mailbox[T]) wait(poll *privsep.Poller, timeout time.Duration) ([]privsep.Ready, error) {
	b.asleep.Store(true)
	defer b.asleep.Store(false)
	if b.full.Load() {
		timeout = 0
	}
	return poll.Wait(timeout)
}

// heard is for an edge of the bell, which only wakes.
func (b *mailbox[T]) heard() {
	if b.rung++; b.rung >= privsep.DrainEvery {
		b.rung = 0
		privsep.DrainBell(b.near)
	}
}

func (b *mailbox[T]) close() {
	privsep.CloseFD(b.near)
	privsep.CloseFD(b.bell)
}

// counter is between the loop and the workshops: what is finished, and the
// certificate of what begins.
type counter struct {
	finished mailbox[*handshake] // the loop's; nil: see fault

	mu    sync.Mutex
	cred  *credential // nil: none yet, handshakes wait
	fault error       // a workshop could not go on
}

// workshop is a thread that does handshakes, many at a time. It waits in a poller
// for their sockets. What the loop wants of it comes in box.
type workshop struct {
	*counter
	poll   *privsep.Poller
	box    mailbox[errand]
	asking *asking
	load   int           // handshakes here: the loop's
	ended  chan struct{} // closed by run; nil before it

	hs    map[uint64]*handshake // by token
	line  []*handshake          // want a certificate, or that others end
	busy  int                   // hands at work
	idle  []*hand
	last  time.Time // a handshake was over
	spare []errand
	done  bool
}

// errand is what the loop has for the workshop.
type errand struct {
	what   errandKind
	h      *handshake
	id     uint64 // of the SIGN, or the rate
	signed []byte
}

type errandKind uint8

const (
	errandBegin  errandKind = iota // the client may begin
	errandSigned                   // the parent's answer
	errandStop                     // the connection has ended
	errandLook                     // there is a certificate
	errandAgain                    // there is a new parent
	errandRate                     // sign_rate has changed
	errandEnd                      // of the workshop
)

const (
	// maxHandshakes bounds the handshakes under way in a workshop, some 30 KiB
	// each; connections beyond wait in line with a fraction of that.
	maxHandshakes = 2048
	// idleHands are kept. More are for idleTime: while handshakes come.
	idleHands = 1
	idleTime  = 50 * time.Millisecond
	signTick  = time.Millisecond // while signatures wait for their turn
	tokenBox  = 0                // handshakes count from 1
)

// newWorkshop makes a socket, which the sandbox would not allow.
func newWorkshop(c *counter, a *asking) (*workshop, error) {
	w := &workshop{counter: c, asking: a, hs: map[uint64]*handshake{}}
	return w, w.box.init()
}

// start has w work, if it does not yet.
func (w *workshop) start() (err error) {
	if w.ended != nil {
		return nil
	}
	if w.poll, err = privsep.NewPoller(); err != nil {
		return err
	}
	if err := w.poll.Add(w.box.near, tokenBox, privsep.In|privsep.Edge); err != nil {
		w.poll.Close()
		return err
	}
	w.ended = make(chan struct{})
	go w.run()
	return nil
}

// offer makes c the certificate of new handshakes.
func (k *counter) offer(c *credential) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.cred; old != nil {
		old.retired = true
		old.release()
	}
	k.cred = c
}

// borrow gives the certificate for a handshake that begins.
func (k *counter) borrow() *credential {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cred != nil {
		k.cred.users++
	}
	return k.cred
}

func (k *counter) giveBack(c *credential) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.users--
	c.release()
}

// fail ends the process by way of the loop.
func (k *counter) fail(err error) {
	k.mu.Lock()
	k.fault = err
	k.mu.Unlock()
	k.finished.post(nil)
}

func (k *counter) failure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault
}

// close ends w with the handshakes that it has.
func (w *workshop) close() {
	if w.ended != nil {
		w.box.post(errand{what: errandEnd})
		<-w.ended
		w.poll.Close()
	}
	w.box.close()
}

func (w *workshop) run() {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	defer close(w.ended)
	for !w.done {
		ready, err := w.box.wait(w.poll, w.timeout())
		if err != nil {
			w.fail(err)
			return
		}
		w.errands() // which say whose the sockets are
		for _, e := range ready {
			if e.Token == tokenBox {
				w.box.heard()
			} else if h := w.hs[e.Token]; h != nil { // else it has just ended
				w.ready(h)
			}
		}
		w.admit()
		w.asking.resume()
		if len(w.idle) > idleHands && len(ready) == 0 && time.Since(w.last) >= idleTime {
			w.dismiss(idleHands)
		}
	}
	w.dismiss(0)
}

func (w *workshop) timeout() time.Duration {
	switch {
	case w.asking.waiting() && !w.asking.parent.Orphaned():
		return signTick
	case len(w.idle) > idleHands:
		return idleTime
	}
	return -1
}

// dismiss lets hands go that have nothing to do, but for keep.
func (w *workshop) dismiss(keep int) {
	for len(w.idle) > keep {
		n := len(w.idle) - 1
		w.idle[n].stop()
		w.idle[n] = nil
		w.idle = w.idle[:n]
	}
}

func (w *workshop) errands() {
	es := w.box.take(w.spare)
	for i := range es {
		switch e := &es[i]; e.what {
		case errandBegin:
			w.hs[e.h.token] = e.h
		case errandSigned:
			if h := w.asking.answered(e.id); h != nil {
				h.signed, h.told = e.signed, true
				w.work(h)
			}
		case errandAgain:
			w.asking.again()
		case errandRate:
			w.asking.setRate(int(e.id))
		case errandStop:
			w.stop(e.h)
		case errandEnd:
			for _, h := range w.hs {
				w.stop(h)
			}
			w.done = true
		}
	}
	if es != nil {
		clear(es)
		w.spare = es
	}
}

// ready is for a change of h's socket. A client that is silent costs no hand.
func (w *workshop) ready(h *handshake) {
	switch {
	case h.hand != nil:
		w.work(h)
	case !h.lined:
		h.lined = true
		w.line = append(w.line, h)
	}
}

// admit begins those in line, as far as that is possible.
func (w *workshop) admit() {
	for len(w.line) > 0 && w.busy < maxHandshakes {
		h := w.line[0]
		if w.hs[h.token] == h { // it has not ended in line
			if h.cred = w.borrow(); h.cred == nil {
				return
			}
			w.begin(h)
		}
		w.line[0] = nil
		w.line = w.line[1:]
	}
	if len(w.line) == 0 {
		w.line = nil
	}
}

func (w *workshop) begin(h *handshake) {
	if n := len(w.idle); n > 0 {
		h.hand = w.idle[n-1]
		w.idle = w.idle[:n-1]
	} else {
		h.hand = newHand()
	}
	h.hand.h = h
	w.busy++
	w.work(h)
}

// work goes on with h until it waits, or is over.
func (w *workshop) work(h *handshake) {
	if h.hand.work(); h.over {
		w.busy--
		w.last = time.Now()
		h.hand.h = nil
		w.idle = append(w.idle, h.hand)
		h.released = h.cred.key != nil
		w.giveBack(h.cred)
		w.letGo(h)
	}
}

// stop ends h wherever it is.
func (w *workshop) stop(h *handshake) {
	if w.hs[h.token] != h {
		return // the loop will find it in its mailbox
	}
	h.dead = true
	w.asking.forget(h)
	if h.hand != nil {
		w.work(h) // await fails from now on
	} else {
		w.letGo(h)
	}
}

// letGo gives h and its socket to the loop.
func (w *workshop) letGo(h *handshake) {
	delete(w.hs, h.token)
	_ = w.poll.Del(h.fd) // it may never have got into it
	w.finished.post(h)
}
