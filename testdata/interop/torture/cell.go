package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.test/interop/torture/client"
	"gatehouse.test/interop/torture/ledger"
)

// stream is what one publisher sends on one subject.
type stream struct {
	id      uint32
	subject string
	reply   string // "": no answer is wanted
	headers bool
	from    *link
	fanout  int64         // deliveries of each message
	sent    atomic.Uint64 // highest number that may have left
	fenced  atomic.Uint64 // highest number that the broker is known to have read
}

// due is the highest number that must arrive. The broker need not have read what
// was sent without a PONG over a connection that then ended.
func (s *stream) due() uint64 {
	if s.from.over() {
		return s.fenced.Load()
	}
	return s.sent.Load()
}

// header is that of a message of a stream with headers.
func (s *stream) header(seq uint64) string {
	return fmt.Sprintf("NATS/1.0\r\nTorture: %d/%d\r\n\r\n", s.id, seq)
}

// heard is a stream as a sink has it.
type heard struct {
	*stream
	subject string // that it must come under
	track   *ledger.Track
	last    uint64 // highest number of this very sink
}

// sink is one subscription. The members of a group share their tracks.
type sink struct {
	cell     *cell
	link     *link
	sid      string
	group    string  // "": none
	answer   bool    // sends what it gets to the reply subject
	replies  bool    // what it gets are answers
	anyOrder bool    // several send it
	leans    []*link // whose end may cost it something

	mu       *sync.Mutex
	hears    map[uint32]*heard
	refusals int // answers that nobody is there to answer
	onTake   func(seq uint64)
}

// cell is a few clients who talk among themselves only: opened together,
// settled to the last message, closed together. When one of their connections
// ends the others come to an end in good order.
type cell struct {
	*load
	name    string
	rand    *rand.Rand
	links   []*link
	sinks   map[*link][]*sink
	all     []*sink
	streams []*stream
	window  int64 // bytes that may be under way

	under  atomic.Int64 // bytes under way, counted once for each delivery
	moved  atomic.Int64 // deliveries
	ending bool         // the broker was told to stop: connections end, and rightly

	mu      sync.Mutex
	room    sync.Cond
	waiting atomic.Int64
	over    chan struct{}
	once    sync.Once
	readers sync.WaitGroup
}

func (l *load) newCell(shape string, r *rand.Rand) *cell {
	c := &cell{load: l, name: fmt.Sprintf("%s.%d", shape, l.cells.Add(1)), rand: r, window: 4 << 20,
		sinks: map[*link][]*sink{}, over: make(chan struct{})}
	c.room.L = &c.mu
	return c
}

// join opens a connection of the cell; nil when that did not work.
func (c *cell) join(name string) *link {
	k, err := c.open(c.pick(c.rand), c.name+" "+name, 16<<10)
	if err != nil {
		c.halt()
		return nil
	}
	c.links = append(c.links, k)
	return k
}

// stream makes a stream of a publisher.
func (c *cell) stream(from *link, subject string) *stream {
	s := &stream{id: c.load.streams.Add(1), subject: subject, from: from, headers: c.rand.IntN(4) == 0}
	c.streams = append(c.streams, s)
	return s
}

// sink makes a subscription for streams, which it is to hear under their own
// subjects. Members of the same group must hear the same streams.
func (c *cell) sink(k *link, group string, streams ...*stream) *sink {
	s := &sink{cell: c, link: k, sid: fmt.Sprint(len(c.sinks[k]) + 1), group: group, mu: new(sync.Mutex), hears: map[uint32]*heard{}}
	var sibling *sink
	for _, o := range c.all {
		if group != "" && o.group == group {
			sibling = o
		}
	}
	if sibling != nil {
		s.mu = sibling.mu
	}
	for _, st := range streams {
		h := &heard{stream: st, subject: st.subject, track: new(ledger.Track)}
		if sibling != nil {
			h.track = sibling.hears[st.id].track
		} else {
			st.fanout++
		}
		s.hears[st.id] = h
	}
	c.sinks[k] = append(c.sinks[k], s)
	c.all = append(c.all, s)
	return s
}

// listen starts to read a connection.
func (c *cell) listen(k *link) {
	c.readers.Go(func() {
		k.read(func(f *client.Frame) { c.take(k, f) })
		c.halt()
	})
}

// take holds one message against what is expected.
func (c *cell) take(k *link, f *client.Frame) {
	for _, s := range c.sinks[k] {
		if s.sid == string(f.SID) {
			s.take(f)
			return
		}
	}
	c.blame(misdelivered, 1, "%s: a message on %q with sid %q, which it does not have", k.name, f.Subject, f.SID)
}

func (s *sink) take(f *client.Frame) {
	c := s.cell
	if len(f.Body) == 0 && len(f.Header) > 0 { // no responders: the number stays missing
		s.mu.Lock()
		s.refusals++
		s.mu.Unlock()
		return
	}
	m, state := ledger.Read(f.Body)
	if state == ledger.BadHeader {
		c.blame(damaged, 1, "%s: %d bytes on %q whose header is damaged", s.link.name, len(f.Body), f.Subject)
		return
	}
	s.mu.Lock()
	h := s.hears[m.Stream]
	if h == nil || h.subject != string(f.Subject) {
		s.mu.Unlock()
		c.blame(misdelivered, 1, "%s: message %d of stream %d on %q", s.link.name, m.Seq, m.Stream, f.Subject)
		return
	}
	verdict, high := h.track.Take(m.Seq), h.last
	h.last = max(h.last, m.Seq)
	s.mu.Unlock()
	if state != ledger.Sound || h.headers != (len(f.Header) > 0) || h.headers && h.header(m.Seq) != string(f.Header) {
		c.blame(damaged, 1, "%s: message %d of stream %d, %d bytes on %q", s.link.name, m.Seq, m.Stream, len(f.Body), f.Subject)
	}
	switch {
	case verdict == ledger.Again:
		c.blame(doubled, 1, "%s: message %d of stream %d on %q", s.link.name, m.Seq, m.Stream, f.Subject)
		return
	case m.Seq < high && !s.anyOrder:
		c.blame(reordered, 1, "%s: message %d of stream %d on %q after %d", s.link.name, m.Seq, m.Stream, f.Subject, high)
	}
	c.arrived(int64(len(f.Body)))
	s.pass(f, m)
}

// pass does what else is to be done with a message: an answer to it, or a note
// of it as an answer.
func (s *sink) pass(f *client.Frame, m ledger.Mark) {
	if s.answer {
		out := append(fmt.Appendf(nil, "PUB %s %d\r\n", f.Reply, len(f.Body)), f.Body...)
		if len(f.Header) > 0 {
			out = append(fmt.Appendf(nil, "HPUB %s %d %d\r\n", f.Reply, len(f.Header), len(f.Header)+len(f.Body)), f.Header...)
			out = append(out, f.Body...)
		}
		_ = s.link.conn.Write(append(out, "\r\n"...)) // an end is noticed by who reads
	}
	if s.replies {
		s.cell.add(answered, 1)
	}
	if s.onTake != nil {
		s.onTake(m.Seq)
	}
}

// arrived makes room for more.
func (c *cell) arrived(size int64) {
	c.add(delivered, 1)
	c.moved.Add(1)
	if c.under.Add(-size) < c.window*3/4 && c.waiting.Load() > 0 {
		c.wake()
	}
}

func (c *cell) wake() {
	c.mu.Lock()
	c.room.Broadcast()
	c.mu.Unlock()
}

// halt lets the cell come to its end.
func (c *cell) halt() {
	c.once.Do(func() { close(c.over) })
	c.wake()
}

func (c *cell) halted() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// await waits for room in the window; false: the cell is to end.
func (c *cell) await() bool {
	if c.under.Load() > c.window {
		c.mu.Lock()
		c.waiting.Add(1)
		for c.under.Load() > c.window && !c.halted() {
			c.room.Wait()
		}
		c.waiting.Add(-1)
		c.mu.Unlock()
	}
	return !c.halted()
}

// subscribe sends all SUBs, each connection's in one go, and waits until the
// broker has them; then the streams may begin.
func (c *cell) subscribe(patterns map[*sink]string) bool {
	for _, k := range c.links {
		c.listen(k)
	}
	for _, k := range c.links {
		lines := ""
		for _, s := range c.sinks[k] {
			lines += fmt.Sprintf("SUB %s %s %s\r\n", patterns[s], s.group, s.sid)
		}
		if !k.sync(lines) {
			c.halt()
			return false
		}
	}
	return true
}

// live runs the publishers for a time, or to the end of the load when it is 0.
func (c *cell) live(life time.Duration, publishers ...func()) {
	var work sync.WaitGroup
	for _, p := range publishers {
		work.Go(p)
	}
	var timer <-chan time.Time
	if life > 0 {
		timer = time.After(life)
	}
	select {
	case <-timer:
	case <-c.stop:
	case <-c.over:
	}
	c.halt()
	work.Wait()
}
