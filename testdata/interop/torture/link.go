package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.test/interop/torture/client"
)

// load is everything that clients do, against the listeners of one broker.
type load struct {
	*book
	at       map[string]client.Address // by transport
	kinds    []string                  // of transports, those that are used more are in it more often
	patience time.Duration             // for what must happen
	still    time.Duration             // nothing has moved for so long: nothing will
	cms      func() []int              // pids of the connection managers; may be nil

	streams atomic.Uint32 // numbers given out
	cells   atomic.Int64
	stop    chan struct{} // closed when all is to come to its end

	mu    sync.Mutex
	links map[*link]struct{} // that are open
}

func newLoad(at map[string]client.Address, patience, still time.Duration) *load {
	l := &load{book: newBook(), at: at, patience: patience, still: still, stop: make(chan struct{}), links: map[*link]struct{}{}}
	for kind, weight := range map[string]int{"tcp": 5, "unix": 3, "tls": 2} {
		if _, ok := at[kind]; ok {
			for range weight {
				l.kinds = append(l.kinds, kind)
			}
		}
	}
	return l
}

func (l *load) stopping() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// link is a client connection. It is never opened again: whoever needs another
// one opens another one.
type link struct {
	load   *load
	name   string
	kind   string
	socket net.Conn
	conn   *client.Conn // nil: nats.go has it
	opened time.Time

	doomed  atomic.Bool // its cm was killed, or may close it after an upgrade
	closing atomic.Bool // we end it ourselves, or the broker was told to end
	ended   chan struct{}
	once    sync.Once

	mu     sync.Mutex
	fences []func()
}

// open connects over a transport. What does not come to a PONG is counted.
func (l *load) open(kind, name string, buffer int) (*link, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.patience)
	defer cancel()
	k, began := l.newLink(kind, name), time.Now()
	c, err := client.Open(ctx, l.at[kind], buffer, k.dialed)
	if err != nil {
		k.refused(began, err)
		return nil, err
	}
	k.conn = c
	k.greeted()
	return k, nil
}

func (l *load) newLink(kind, name string) *link {
	return &link{load: l, name: name + " over " + kind, kind: kind, ended: make(chan struct{})}
}

// dialed makes the connection known: its cm may be killed from now on.
func (k *link) dialed(s net.Conn) {
	k.load.mu.Lock()
	defer k.load.mu.Unlock()
	k.socket = s
	k.load.links[k] = struct{}{}
}

// greeted counts a connection that has come to its first PONG.
func (k *link) greeted() {
	k.opened = time.Now()
	k.load.add(opened, 1)
}

// refused counts one that has not.
func (k *link) refused(began time.Time, err error) {
	k.forget()
	if k.doomed.Load() {
		k.load.add(unopenedWithCM, 1)
		return
	}
	k.load.refused(began, k.kind, err)
}

func (k *link) forget() {
	k.load.mu.Lock()
	defer k.load.mu.Unlock()
	delete(k.load.links, k)
}

// pick chooses a transport.
func (l *load) pick(r *rand.Rand) string { return l.kinds[r.IntN(len(l.kinds))] }

// end is told once that a connection is no more, by whoever reads it.
func (k *link) end(err error) {
	k.once.Do(func() {
		k.forget()
		switch {
		case k.closing.Load():
		case k.doomed.Load():
			k.load.add(endedWithCM, 1)
		default:
			k.load.blame(dropped, 1, "%s, open for %v: %v", k.name, time.Since(k.opened).Round(time.Millisecond), err)
		}
		if k.conn != nil {
			k.conn.Close()
		}
		close(k.ended)
	})
}

// close ends the connection from our side; its reader then calls end.
func (k *link) close() {
	k.closing.Store(true)
	if k.conn != nil {
		k.conn.Close()
	}
}

func (k *link) over() bool {
	select {
	case <-k.ended:
		return true
	default:
		return false
	}
}

// gone: it ended with its cm. lostIt: it ended and should not have.
func (k *link) gone() bool   { return k.over() && k.doomed.Load() }
func (k *link) lostIt() bool { return k.over() && !k.doomed.Load() && !k.closing.Load() }

// fence sends b and a PING; then is called when the PONG has come.
func (k *link) fence(b []byte, then func()) error {
	k.mu.Lock()
	k.fences = append(k.fences, then)
	k.mu.Unlock()
	return k.conn.Write(append(b, "PING\r\n"...))
}

// pong passes the oldest fence.
func (k *link) pong() {
	k.mu.Lock()
	var then func()
	if len(k.fences) > 0 {
		then, k.fences = k.fences[0], k.fences[1:]
	}
	k.mu.Unlock()
	if then != nil {
		then()
	}
}

// read serves the connection to its end.
func (k *link) read(message func(*client.Frame)) {
	for {
		f, err := k.conn.Next()
		if err == nil && f.Verb == "-ERR" {
			err = fmt.Errorf("broker says %s", f.Line)
		}
		if err != nil {
			k.end(err)
			return
		}
		switch f.Verb {
		case "MSG", "HMSG":
			message(&f)
		case "PONG":
			k.pong()
		}
	}
}

// sync waits until the broker has dealt with b; the link must be read meanwhile.
func (k *link) sync(b string) bool {
	done := make(chan struct{})
	if k.fence([]byte(b), func() { close(done) }) != nil {
		return false
	}
	select {
	case <-done:
		return true
	case <-k.ended:
		return false
	case <-time.After(k.load.patience):
		if !k.over() {
			k.load.blame(broken, 1, "%s: no PONG for %v", k.name, k.load.patience)
		}
		return false
	}
}
