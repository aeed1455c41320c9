package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"gatehouse.test/interop/torture/ledger"
)

const (
	smallest = 64
	largest  = 64 << 10
)

// habit is how a publisher sends.
type habit struct {
	batch      int           // messages in one write, at most
	gap        time.Duration // between writes, on average; 0: none
	low, high  int           // sizes, by their logarithm evenly
	fenceEvery int           // writes, on average
}

// newHabit is one of gentle, steady and saturating, with small, large or mixed
// sizes.
func newHabit(r *rand.Rand) habit {
	h := []habit{
		{batch: 1, gap: 20 * time.Millisecond, fenceEvery: 3},
		{batch: 10, gap: 5 * time.Millisecond, fenceEvery: 5},
		{batch: 50, fenceEvery: 10},
	}[r.IntN(3)]
	sizes := [][2]int{{smallest, 256}, {smallest, largest}, {4 << 10, largest}}[r.IntN(3)]
	h.low, h.high = sizes[0], sizes[1]
	return h
}

func (h *habit) size(r *rand.Rand) int {
	return int(float64(h.low) * math.Pow(float64(h.high)/float64(h.low), r.Float64()))
}

// publisher sends on the streams of one connection.
type publisher struct {
	cell    *cell
	link    *link
	streams []*stream
	habit
	rand *rand.Rand
	buf  []byte
}

func (c *cell) publisher(k *link, streams ...*stream) *publisher {
	return &publisher{cell: c, link: k, streams: streams, habit: newHabit(c.rand), rand: rand.New(rand.NewPCG(c.rand.Uint64(), 0))}
}

// run sends until the cell is to end, and fences what it sent.
func (p *publisher) run() {
	tick := time.NewTimer(0)
	defer tick.Stop()
	<-tick.C
	for p.cell.await() {
		p.buf = p.buf[:0]
		for range 1 + p.rand.IntN(p.batch) {
			p.append(p.streams[p.rand.IntN(len(p.streams))])
		}
		var err error
		if p.rand.IntN(p.fenceEvery) == 0 {
			err = p.fence()
		} else {
			err = p.link.conn.Write(p.buf)
		}
		if err != nil {
			return // its reader tells of the end
		}
		if p.gap == 0 {
			continue
		}
		tick.Reset(time.Duration(p.rand.ExpFloat64() * float64(p.gap)))
		select {
		case <-tick.C:
		case <-p.cell.over:
		}
	}
	p.buf = p.buf[:0]
	_ = p.fence() // an end is told by its reader
}

// append adds the next message of a stream to what is sent next. It counts as
// sent from now on.
func (p *publisher) append(s *stream) {
	size := p.size(p.rand)
	seq := s.sent.Add(1)
	p.cell.under.Add(int64(size) * s.fanout)
	head := ""
	if s.headers {
		head = s.header(seq)
		p.buf = fmt.Appendf(p.buf, "HPUB %s %s %d %d\r\n%s", s.subject, s.reply, len(head), len(head)+size, head)
	} else {
		p.buf = fmt.Appendf(p.buf, "PUB %s %s %d\r\n", s.subject, s.reply, size)
	}
	p.buf = append(ledger.Append(p.buf, ledger.Mark{Stream: s.id, Seq: seq}, size), "\r\n"...)
}

// fence sends what is in the buffer and has the PONG behind it noted.
func (p *publisher) fence() error {
	sent := make([]uint64, len(p.streams))
	for i, s := range p.streams {
		sent[i] = s.sent.Load()
	}
	return p.link.fence(p.buf, func() {
		for i, s := range p.streams {
			s.fenced.Store(sent[i])
		}
		p.cell.moved.Add(1)
	})
}

// requester is a publisher who has few requests under way at a time and measures
// how long each takes.
type requester struct {
	publisher
	depth int

	mu    sync.Mutex
	sent  map[uint64]time.Time
	freed chan struct{}
}

func (c *cell) requester(k *link, s *stream, depth int) *requester {
	q := &requester{publisher: *c.publisher(k, s), depth: depth, sent: map[uint64]time.Time{}, freed: make(chan struct{}, depth)}
	for range depth {
		q.freed <- struct{}{}
	}
	return q
}

// run sends one request for each place that is free, every one with a fence.
func (q *requester) run() {
	for {
		select {
		case <-q.freed:
		case <-q.cell.over:
			return
		}
		q.buf = q.buf[:0]
		q.mu.Lock()
		q.sent[q.streams[0].sent.Load()+1] = time.Now()
		q.mu.Unlock()
		q.append(q.streams[0])
		if q.fence() != nil {
			return
		}
	}
}

// answered notes the answer to a request.
func (q *requester) answered(seq uint64) {
	q.mu.Lock()
	sent, ok := q.sent[seq]
	delete(q.sent, seq)
	q.mu.Unlock()
	if ok {
		q.cell.pause(sent)
		q.freed <- struct{}{}
	}
}
