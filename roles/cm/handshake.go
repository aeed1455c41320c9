package cm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"gatehouse/privsep"
)

// handshake is one TLS handshake, in a goroutine of its own: it takes a
// millisecond of computing and waits for client and parent. The socket is its
// alone until the loop has taken it from the mailbox; the loop only tells it of
// readiness.
type handshake struct {
	c    *conn // the loop's
	fd   int
	cred *credential
	conn *tls.Conn
	from *privsep.ConnHandoff // what the parent wants to know before it signs
	*workshop
	asking *asking

	ready  chan struct{} // of capacity 1: the socket's state has changed
	stop   chan struct{} // closed by the loop: the connection has ended
	signed chan []byte   // of capacity 1: the parent's answer, nil if it has none

	working bool // has one of the workshop's turns
	request signRequest
	err     error // the result

	// Under asking's lock.
	stopped bool   // the loop has ended the connection
	id      uint64 // of the SIGN that was sent, 0: none
}

// workshop is what all handshakes of a cm share.
type workshop struct {
	turns chan struct{} // as many as may compute at once
	wg    sync.WaitGroup

	// jobs goes to goroutines that have done one before: their stacks have
	// grown. No more of them wait than may compute.
	jobs chan *handshake
	idle atomic.Int32

	asleep atomic.Bool // the loop: ring the bell
	posted atomic.Bool // one of the lists is not empty

	mu       sync.Mutex
	bell     int
	finished []*handshake // to be taken by the loop
	requests []*handshake // for signatures
}

// maxHandshakes bounds the handshakes under way, some 30 KiB each; connections
// beyond wait in line with a fraction of that.
const maxHandshakes = 4096

var (
	errEnded  = errors.New("the connection has ended")
	errSilent = errors.New("no handshake within auth_timeout")
)

// begin has a goroutine do h, which the group counts already.
func (w *workshop) begin(h *handshake) {
	select {
	case w.jobs <- h:
	default:
		go w.serve(h)
	}
}

// serve is a goroutine: one handshake, and others while it is needed.
func (w *workshop) serve(h *handshake) {
	for h != nil {
		h.err = h.shake()
		h.post(&h.finished)
		w.wg.Done()
		if int(w.idle.Add(1)) > cap(w.turns) {
			w.idle.Add(-1)
			return
		}
		h = <-w.jobs // nil: closed
		w.idle.Add(-1)
	}
}

// shake never panics: what a client sends must not end the process.
func (h *handshake) shake() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("crypto/tls: %v", p)
		}
		h.rest()
	}()
	if err := h.work(); err != nil {
		return err
	}
	return h.conn.Handshake()
}

// await waits for the socket. Others compute meanwhile.
func (h *handshake) await() error {
	select {
	case <-h.ready:
		return nil
	default:
	}
	h.rest()
	select {
	case <-h.ready:
		return h.work()
	case <-h.stop:
		return errEnded
	}
}

// work waits for a turn to compute: more at once than processors would only
// make the loop wait longer for one.
func (h *handshake) work() error {
	select {
	case h.turns <- struct{}{}:
		h.working = true
		return nil
	case <-h.stop:
		return errEnded
	}
}

func (h *handshake) rest() {
	if h.working {
		h.working = false
		<-h.turns
	}
}

// post puts h in one of the two lists for the loop. Either the loop sees posted
// before it sleeps, or asleep is seen here.
func (h *handshake) post(list *[]*handshake) {
	h.mu.Lock()
	*list = append(*list, h)
	h.posted.Store(true)
	h.mu.Unlock()
	if h.asleep.Swap(false) {
		privsep.Ring(h.bell)
	}
}

// collect empties both lists.
func (w *workshop) collect() (finished, requests []*handshake) {
	w.mu.Lock()
	defer w.mu.Unlock()
	finished, requests = w.finished, w.requests
	w.finished, w.requests = nil, nil
	w.posted.Store(false)
	return finished, requests
}

// wake tells the goroutine that the socket has changed.
func (h *handshake) wake() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
}
