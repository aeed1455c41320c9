package tlsd

import (
	"context"
	"errors"
	"sync"
	"time"

	"gatehouse/privsep"
)

// asking is what callers and handshakes ask the parent, and wait for.
type asking struct {
	parent *privsep.Channel

	mu   sync.Mutex
	sent map[uint64]*question // by id
	last uint64
	pace privsep.Pace // of INSPECT
}

type question struct {
	kind    privsep.Kind
	payload []byte
	asked   uint64      // which parent, by adoptions before it
	unsent  bool        // there was no parent, or no room
	answer  chan answer // has room for one
}

// answer is one of them.
type answer struct {
	signature []byte
	seen      privsep.Inspected
}

func newAsking(parent *privsep.Channel) *asking {
	return &asking{parent: parent, sent: map[uint64]*question{}}
}

var errRefuse = errors.New("the key is not to be had")

// sign asks for a signature and waits for it, or for the end of ctx.
func (k *asking) sign(ctx context.Context, s privsep.TLSSign) ([]byte, error) {
	if len(s.Input) > privsep.MaxSignInput {
		return nil, privsep.ErrShape
	}
	a, err := k.ask(ctx, privsep.KindTLSSign, func(id uint64) []byte {
		s.ID = id
		return s.Append(nil)
	})
	if err == nil && len(a.signature) == 0 {
		err = errRefuse
	}
	return a.signature, err
}

const (
	// looksPace is how many processes a second are asked about: within the rule's rate,
	// of which some is left to the clock's and the parent's delays.
	looksPace  = 1000
	looksAgain = 5 * time.Millisecond
)

// inspect asks what a process is, and waits as sign does.
func (k *asking) inspect(ctx context.Context, who privsep.Process) (privsep.Inspected, error) {
	for !k.mayLook() {
		select {
		case <-time.After(looksAgain):
		case <-ctx.Done():
			return privsep.Inspected{}, ctx.Err()
		}
	}
	a, err := k.ask(ctx, privsep.KindInspect, func(id uint64) []byte {
		q := privsep.Inspect{ID: id, Process: who}
		return q.Append(nil)
	})
	return a.seen, err
}

func (k *asking) mayLook() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pace.Take(looksPace, time.Now())
}

// ask asks one question.
func (k *asking) ask(ctx context.Context, kind privsep.Kind, payload func(id uint64) []byte) (answer, error) {
	q := &question{kind: kind, answer: make(chan answer, 1)}
	k.mu.Lock()
	k.last++
	id := k.last
	q.payload = payload(id)
	k.sent[id] = q
	k.send(q)
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.sent, id)
	}()
	again := time.NewTicker(unsentAgain)
	defer again.Stop()
	for {
		select {
		case a := <-q.answer:
			return a, nil
		case <-ctx.Done():
			return answer{}, ctx.Err()
		case <-again.C:
			k.mu.Lock()
			if q.unsent {
				k.send(q)
			}
			k.mu.Unlock()
		}
	}
}

// unsentAgain is after how long the parent is asked again what it had no room for.
const unsentAgain = 20 * time.Millisecond

// send asks the parent. What it cannot be asked now it is soon, or the next one.
func (k *asking) send(q *question) {
	parent, err := k.parent.SendTo(q.kind, q.payload)
	q.asked, q.unsent = parent, err != nil
}

// again asks the new parent for what those before have not answered.
func (k *asking) again() {
	parent := k.parent.Adoptions()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range k.sent {
		if q.unsent || q.asked < parent {
			k.send(q)
		}
	}
}

// signed takes a signature.
func (k *asking) signed(m *privsep.Message) error {
	var p privsep.TLSSigned
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	k.take(p.ID, answer{signature: append([]byte(nil), p.Signature...)})
	return nil
}

// inspected takes what a process is.
func (k *asking) inspected(m *privsep.Message) error {
	var p privsep.Inspected
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	k.take(p.ID, answer{seen: p})
	return nil
}

// take gives an answer to who waits for it, if there is anybody still.
func (k *asking) take(id uint64, a answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if q := k.sent[id]; q != nil {
		delete(k.sent, id)
		q.answer <- a
	}
}
