package auth

import (
	"sync"
	"time"

	"gatehouse/privsep"
)

// witness asks the parent what processes are. Checks ask and wait (look); the loop
// sends what they ask and gives them the answers, or that there is none in time. A
// parent that is gone is waited for.
type witness struct {
	mu     sync.Mutex
	unsent []*question
	asked  map[uint64]*question
	last   uint64
	over   bool // nobody is asked any more
	bell   int
	pace   privsep.Pace
	again  time.Time // when to try to send again
}

// question is one that a check waits for.
type question struct {
	privsep.Inspect
	until  time.Time
	answer chan sighting // takes one
}

// sighting is an answer, whose file, if there is one, is the check's.
type sighting struct {
	privsep.Inspected
	file *privsep.Content
}

// Questions a second: within the rule's rate, of which some is left to the clock's and
// the parent's delays.
const questionPace = 1000

const sendAgain = 5 * time.Millisecond

// look has the parent look at a process.
func (w *witness) look(t *attempt, file bool) sighting {
	q := &question{Inspect: privsep.Inspect{File: file, Process: t.process}, until: t.until, answer: make(chan sighting, 1)}
	w.put(q)
	return <-q.answer
}

func (w *witness) put(q *question) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		q.refuse(privsep.ReasonLate)
		return
	}
	w.last++
	q.ID = w.last
	w.unsent = append(w.unsent, q)
	privsep.Ring(w.bell)
}

func (q *question) refuse(reason privsep.Reason) {
	q.answer <- sighting{Inspected: privsep.Inspected{Reason: reason}}
}

// send sends what there is to be asked, as far as there is somebody to ask and room.
func (w *witness) send(parent *privsep.Channel, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.again = (time.Time{}); len(w.unsent) > 0; {
		q := w.unsent[0]
		if parent.Orphaned() || !w.pace.Take(questionPace, now) || parent.Send(privsep.KindInspect, q.Append(nil)) != nil {
			w.again = now.Add(sendAgain)
			return
		}
		if w.asked == nil {
			w.asked = make(map[uint64]*question)
		}
		w.asked[q.ID] = q
		w.unsent[0], w.unsent = nil, w.unsent[1:]
	}
}

// repeat has a new parent asked what the one before has not answered.
func (w *witness) repeat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, q := range w.asked {
		w.unsent = append(w.unsent, q)
		delete(w.asked, id)
	}
}

// take gives an answer to the check that waits for it. One that comes too late is nothing.
func (w *witness) take(m *privsep.Message) error {
	var s sighting
	if err := s.Parse(m.Payload); err != nil {
		m.CloseFDs()
		return err
	}
	if len(m.FDs) > 0 {
		var err error
		s.file, err = privsep.TakeContent(m.FDs[0])
		m.FDs = m.FDs[:0]
		if err != nil {
			s.Inspected = privsep.Inspected{ID: s.ID, Reason: privsep.ReasonProcessUnreadable}
		}
	}
	w.mu.Lock()
	q := w.asked[s.ID]
	delete(w.asked, s.ID)
	w.mu.Unlock()
	if q == nil {
		if s.file != nil {
			s.file.Close()
		}
		return nil
	}
	q.answer <- s
	return nil
}

// expire tells those whose time is up, or all.
func (w *witness) expire(now time.Time, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = w.over || all
	late := func(q *question) bool {
		is := all || now.After(q.until)
		if is {
			q.refuse(privsep.ReasonLate)
		}
		return is
	}
	kept := w.unsent[:0]
	for _, q := range w.unsent {
		if !late(q) {
			kept = append(kept, q)
		}
	}
	clear(w.unsent[len(kept):])
	w.unsent = kept
	for id, q := range w.asked {
		if late(q) {
			delete(w.asked, id)
		}
	}
}

// next is when there is something to do, zero: nothing is asked.
func (w *witness) next() (next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	sooner(w.again)
	for _, q := range w.unsent {
		sooner(q.until)
	}
	for _, q := range w.asked {
		sooner(q.until)
	}
	return next
}
