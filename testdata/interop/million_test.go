package interop

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"gatehouse/testdata/tree"
	"github.com/nats-io/nats.go"
)

// Two connection managers: everything published on one arrives at subscribers
// on both, once and in order, and nothing of it stays in memory.
func TestMillionAcrossTwoManagers(t *testing.T) {
	const subscribers = 3
	n := uint64(1_000_000)
	if testing.Short() {
		n = 100_000
	}
	b := startBroker(t, settings{cms: 2})
	pub := b.connect()
	done := make(chan error, subscribers)
	for i := range subscribers {
		must(t, countTo(b.connect(), n, func(err error) {
			if err != nil {
				err = fmt.Errorf("subscriber %d: %w", i, err)
			}
			done <- err
		}))
	}
	if standIn() == "" {
		b.checkSpread(subscribers + 1)
	}
	began := time.Now()
	for i := range n {
		must(t, pub.Publish("million", binary.BigEndian.AppendUint64(make([]byte, 0, 16), i)))
	}
	must(t, pub.Publish("million", nil)) // the end: nothing may come between
	for range subscribers {
		must(t, within(t, "all messages", done))
	}
	t.Logf("%d messages to %d subscribers in %v", n, subscribers, time.Since(began))
	if standIn() == "" {
		b.checkEmpty()
	}
}

// countTo expects n numbered messages in order and then an empty one; report
// is called once, at the end or at the first message that is wrong.
func countTo(nc *nats.Conn, n uint64, report func(error)) error {
	next, over := uint64(0), false
	s, err := nc.Subscribe("million", func(m *nats.Msg) {
		switch {
		case over:
		case len(m.Data) == 8 && binary.BigEndian.Uint64(m.Data) == next && next < n:
			next++
		case len(m.Data) == 0 && next == n:
			over = true
			report(nil)
		default:
			over = true
			report(fmt.Errorf("message %x after %d in order", m.Data, next))
		}
	})
	if err != nil {
		return err
	}
	// The client itself must not drop what it cannot handle at once.
	if err := s.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	return nc.Flush()
}

// checkSpread makes sure that both connection managers have connections: as
// the publisher is on one of them, each then has a subscriber or two.
func (b *broker) checkSpread(conns uint64) {
	b.t.Helper()
	var found []uint64
	b.await("the connections in status", func() bool {
		found = nil
		sum := uint64(0)
		for _, p := range b.status().Processes {
			if len(p.Role) > 3 && p.Role[:3] == "cm/" {
				found = append(found, p.Connections)
				sum += p.Connections
			}
		}
		return sum == conns
	})
	if len(found) != 2 || found[0] != found[1] {
		b.t.Fatalf("connections of the managers: %v, want %d on each of two", found, conns/2)
	}
}

// checkEmpty waits until no body is left in any arena.
func (b *broker) checkEmpty() {
	b.t.Helper()
	var s *tree.Status
	defer func() {
		if b.t.Failed() {
			b.t.Logf("arenas: %+v", s)
		}
	}()
	b.await("empty arenas", func() bool {
		s = b.status()
		return s.Empty()
	})
	if len(s.Arenas) != 2 {
		b.t.Errorf("%d arenas, want 2", len(s.Arenas))
	}
	for _, p := range s.Processes {
		if p.Restarts != 0 {
			b.t.Errorf("%s was restarted", p.Role)
		}
	}
}
