package client

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// flushWait is how long what follows a request may be in coming before its absence is
// worth nothing.
const flushWait = time.Minute

// call is a request on its way. What comes for it waits in a list that has no bound, so
// that nothing of many answers at once is dropped: as many come as are expected.
type call struct {
	nc   *nats.Conn
	down chan nats.Status // something comes when the connection is lost

	mu      sync.Mutex
	waiting []*nats.Msg
	more    chan struct{} // room for one, which is there when waiting may not be empty
}

func newCall(nc *nats.Conn) *call {
	return &call{nc: nc, down: nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED), more: make(chan struct{}, 1)}
}

// end lets go of the connection.
func (c *call) end() { c.nc.RemoveStatusListener(c.down) }

// take is called by nats.go for every message.
func (c *call) take(m *nats.Msg) {
	c.mu.Lock()
	c.waiting = append(c.waiting, m)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// first takes the oldest message out of the list, nil: it is empty.
func (c *call) first() *nats.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return nil
	}
	m := c.waiting[0]
	c.waiting[0] = nil
	c.waiting = c.waiting[1:]
	return m
}

// next waits for a message. What has come goes before what ends the wait.
func (c *call) next(ctx context.Context) (*nats.Msg, error) {
	for {
		if m := c.first(); m != nil {
			return m, nil
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.down:
			if c.nc.IsClosed() {
				return nil, nats.ErrConnectionClosed
			}
			return nil, nats.ErrDisconnected
		}
	}
}

// inbox subscribes to the subject that answers come to.
func (c *call) inbox() (*nats.Subscription, error) {
	sub, err := c.nc.Subscribe(c.nc.NewInbox(), c.take)
	if err != nil {
		return nil, err
	}
	return sub, sub.SetPendingLimits(-1, -1)
}

// ask is a message to be sent: a copy, with what the mode needs.
func ask(msg *nats.Msg, reply, mode string, opts []Option) *nats.Msg {
	m := &nats.Msg{Subject: msg.Subject, Reply: reply, Header: maps.Clone(msg.Header), Data: msg.Data}
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	if mode != "" {
		m.Header[HeaderMode] = []string{mode}
	}
	for _, o := range opts {
		o(m)
	}
	return m
}

// Option says more about a request.
type Option func(*nats.Msg)

// ToType has a request go to programs of a type alone, the first part of the name that
// they connect with: see [Name].
func ToType(kind string) Option {
	return func(m *nats.Msg) { m.Header[HeaderToType] = []string{kind} }
}

// ToOrganisation has a request go to clients of an organisation alone.
func ToOrganisation(name string) Option {
	return func(m *nats.Msg) { m.Header[HeaderToOrganisation] = []string{name} }
}

// Within has the broker end a fanout after d. It may end it before that: its
// configuration has a limit for all requests.
func Within(d time.Duration) Option {
	return func(m *nats.Msg) { m.Header[HeaderTimeout] = []string{max(d, time.Millisecond).String()} }
}
