package interop

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestRequestReply(t *testing.T) {
	b := startBroker(t, settings{})
	for range 3 {
		server := b.connect()
		_, err := server.QueueSubscribe("double", "servers", func(m *nats.Msg) {
			m.Respond(append(m.Data, m.Data...))
		})
		must(t, err)
		must(t, server.Flush())
	}
	var wg sync.WaitGroup
	for i := range 8 {
		nc := b.connect()
		wg.Go(func() {
			for n := range 200 {
				body := fmt.Sprintf("%d-%d;", i, n)
				m, err := nc.Request("double", []byte(body), patience)
				if err != nil || string(m.Data) != body+body {
					t.Errorf("request %s: %v, %v", body, m, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNoResponders(t *testing.T) {
	b := startBroker(t, settings{})
	nc := b.connect()
	began := time.Now()
	if _, err := nc.Request("nobody.there", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("error %v after %v", err, time.Since(began))
	}
	// Once somebody is there the same request is answered; when gone again, not.
	server := b.connect()
	sub, err := server.Subscribe("nobody.*", func(m *nats.Msg) { m.Respond([]byte("here")) })
	must(t, err)
	must(t, server.Flush())
	if m, err := nc.Request("nobody.there", nil, patience); err != nil || string(m.Data) != "here" {
		t.Errorf("answer %v, %v", m, err)
	}
	must(t, sub.Unsubscribe())
	must(t, server.Flush())
	if _, err := nc.Request("nobody.there", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after its end: error %v", err)
	}
}

// A drained connection has handled everything sent to it, and its requests'
// replies have left; the rest of the group takes over without a gap.
func TestDrain(t *testing.T) {
	b := startBroker(t, settings{})
	closed := make(chan struct{})
	leaver := b.connect(nats.ClosedHandler(func(*nats.Conn) { close(closed) }), nats.DrainTimeout(patience))
	stayer := b.connect()
	handled := make(chan string, 5000)
	for name, nc := range map[string]*nats.Conn{"leaver": leaver, "stayer": stayer} {
		_, err := nc.QueueSubscribe("work", "workers", func(m *nats.Msg) {
			handled <- name
			m.Respond(m.Data)
		})
		must(t, err)
		must(t, nc.Flush())
	}
	client := b.connect()
	replies := subscribe(t, client, "", "replies")
	const n = 4000
	for i := range n {
		must(t, client.PublishRequest("work", "replies", fmt.Appendf(nil, "%d", i)))
		if i == n/2 {
			must(t, client.Flush()) // the first half has been handed out
			must(t, leaver.Drain())
		}
	}
	answered := map[string]int{}
	for range n {
		answered[string(within(t, "a reply", replies).Data)]++
	}
	if len(answered) != n {
		t.Errorf("%d of %d requests answered", len(answered), n)
	}
	within(t, "the connection's end", closed)
	if len(handled) != n {
		t.Errorf("%d messages handled, %d sent", len(handled), n)
	}
	who := map[string]int{}
	for range len(handled) {
		who[<-handled]++
	}
	if who["leaver"] == 0 || who["stayer"] == 0 {
		t.Errorf("not both had work: %v", who)
	}
}

// After a restart of the broker the client is back by itself, with its
// subscriptions, and what it published meanwhile arrives.
func TestReconnect(t *testing.T) {
	b := startBroker(t, settings{})
	down, up := make(chan error, 10), make(chan struct{}, 10)
	nc := b.connect(nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { down <- err }),
		nats.ReconnectHandler(func(*nats.Conn) { up <- struct{}{} }))
	plain := subscribe(t, nc, "", "r.*")
	queue := subscribe(t, nc, "q", "r.>")
	first, err := nc.GetClientID()
	must(t, err)
	for round := range 3 {
		b.stop()
		within(t, "the disconnect", down)
		must(t, nc.Publish("r.x", fmt.Appendf(nil, "while down %d", round)))
		b.start()
		within(t, "the reconnect", up)
		must(t, nc.Publish("r.x", fmt.Appendf(nil, "when up %d", round)))
		for _, c := range []chan *nats.Msg{plain, queue} {
			for _, want := range []string{"while down", "when up"} {
				if m := within(t, want, c); string(m.Data) != fmt.Sprintf("%s %d", want, round) {
					t.Errorf("%q, want %s %d", m.Data, want, round)
				}
			}
		}
	}
	if id, err := nc.GetClientID(); err != nil || id == 0 || first == 0 {
		t.Errorf("client ids %d and %d, %v", first, id, err)
	}
}
