package console

import (
	"encoding/json"
	"sync"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// layout is the version of what the console maps.
const layout = store.LayoutVersion

// word is the parent's: what `gatehouse status` shows. One question is asked at a time,
// and seldom enough for the rules.
type word struct {
	parent *privsep.Channel

	mu    sync.Mutex
	last  *status // nil: none has come yet
	id    uint64
	asked time.Time
	done  chan struct{} // closed when the question is answered; nil: none is asked
}

// status is one answer.
type status struct {
	text json.RawMessage
	at   time.Time
	load float64 // processors in use since the answer before
	said
}

// said is what of it the console itself needs.
type said struct {
	Version     string    `json:"version"`
	Environment string    `json:"environment"`
	Broker      string    `json:"broker"`
	ServerID    string    `json:"server_id"`
	Started     time.Time `json:"started"`
	Root        bool      `json:"root"`
	Processes   []process `json:"processes"`
	Arenas      []arena   `json:"arenas"`
	Offences    []offence `json:"offences"`
	Key         *key      `json:"key"`
	Transfer    *signer   `json:"transfer"`
	Identity    *signer   `json:"identity"`
}

type process struct {
	Role          string  `json:"role"`
	State         string  `json:"state"`
	Restarts      int     `json:"restarts"`
	Connections   uint64  `json:"connections"`
	Subscriptions uint64  `json:"subscriptions"`
	InMsgs        uint64  `json:"in_msgs"`
	OutMsgs       uint64  `json:"out_msgs"`
	InBytes       uint64  `json:"in_bytes"`
	OutBytes      uint64  `json:"out_bytes"`
	SlowConsumers uint64  `json:"slow_consumers"`
	Signatures    uint64  `json:"signatures"`
	Handshakes    uint64  `json:"handshakes"`
	NoHandshakes  uint64  `json:"handshakes_failed"`
	LoginsWait    uint64  `json:"logins_waiting"`
	Sessions      uint64  `json:"sessions"`
	Memory        uint64  `json:"memory"`
	Threads       int     `json:"threads"`
	CPU           float64 `json:"cpu_seconds"`
}

type arena struct {
	CM     int    `json:"cm"`
	Size   uint64 `json:"size"`
	Used   uint64 `json:"used"`
	Bodies uint64 `json:"bodies"`
}

type offence struct {
	Role   string `json:"role"`
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

type key struct {
	Signatures uint64    `json:"signatures"`
	Refused    uint64    `json:"refused"`
	NotAfter   time.Time `json:"not_after"`
}

type signer struct {
	Signed  uint64 `json:"signed"`
	Refused uint64 `json:"refused"`
}

// cpu is the processor time of all processes, in seconds.
func (s *said) cpu() (t float64) {
	for _, p := range s.Processes {
		t += p.CPU
	}
	return t
}

const (
	fresh   = 500 * time.Millisecond // how old an answer may be; the rules allow twice as many
	patient = 2 * time.Second        // how long a request waits for one
)

func newWord(parent *privsep.Channel) *word { return &word{parent: parent} }

// get gives the last answer, and whether it is of now. It waits for one if there is a
// parent that could give it.
func (w *word) get(give <-chan struct{}) (s *status, now bool) {
	w.mu.Lock()
	if w.last != nil && time.Since(w.last.at) < fresh {
		defer w.mu.Unlock()
		return w.last, true
	}
	done := w.ask()
	w.mu.Unlock()
	if done != nil {
		t := time.NewTimer(patient)
		defer t.Stop()
		select {
		case <-done:
		case <-t.C:
		case <-give:
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.last != nil && time.Since(w.last.at) < patient
}

// ask asks, unless that has been done. It gives nil where nobody will answer.
func (w *word) ask() chan struct{} {
	if w.done != nil && time.Since(w.asked) < patient {
		return w.done
	}
	if time.Since(w.asked) < fresh {
		return nil
	}
	w.id++
	w.asked = time.Now()
	get := privsep.StatusGet{ID: w.id}
	if w.parent.Send(privsep.KindStatusGet, get.Append(nil)) != nil {
		return nil
	}
	if w.done == nil {
		w.done = make(chan struct{})
	}
	return w.done
}

// take takes an answer. One that nobody has asked for is of no use.
func (w *word) take(m *privsep.Message) error {
	id, text, err := privsep.TakeStatus(m)
	if err != nil {
		return err
	}
	s := &status{text: text, at: time.Now()}
	if err := json.Unmarshal(text, &s.said); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id != w.id || w.done == nil {
		return nil
	}
	if last := w.last; last != nil {
		if used, d := s.cpu()-last.cpu(), s.at.Sub(last.at); used > 0 && d > 0 {
			s.load = used / d.Seconds()
		}
	}
	w.last = s
	w.settle()
	return nil
}

func (w *word) settle() {
	if w.done != nil {
		close(w.done)
		w.done = nil
	}
}

// lost has nobody wait for a parent that is gone.
func (w *word) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle()
}

// again lets a new parent be asked.
func (w *word) again() {
	w.lost()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = time.Time{}
}
