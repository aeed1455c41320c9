package interop

import (
	"testing"

	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// stamping is a profile whose clients hear who sends them something, and of which some
// may call themselves pricers.
const stamping = "types = [\"pricer\"]\nstamp_sender = true\n"

// What the broker knows of a sender goes with its messages, those without headers, too,
// and is the only thing that is said under that name. Clients here have no credentials:
// there is but the type, for which the profile vouches.
func TestSender(t *testing.T) {
	b := startOwn(t, settings{cms: 2, profile: stamping})
	c := subscribe(t, b.connect(), "", "news")
	pricer, other := client.Identity{Type: "pricer", Instance: "1"}, client.Identity{}
	for _, from := range []struct {
		name nats.Option
		want client.Identity
	}{{client.Name("pricer", "1"), pricer}, {client.Name("trader", "1"), other}, {nats.Name("pricer"), other}, {nats.Name(""), other}} {
		nc := b.connect(from.name)
		must(t, nc.Publish("news", []byte("plain")))
		must(t, nc.PublishMsg(&nats.Msg{Subject: "news", Data: []byte("with headers"), Header: nats.Header{
			"A": {"b"}, client.HeaderFrom: {"user=root", "anonymous"}, "gatehouse-from": {"user=root"}}}))
		for range 2 {
			m := within(t, "a message", c)
			if id, ok := client.Sender(m); !ok || id != from.want {
				t.Errorf("%s is from %+v, %v, want %+v; headers %v", m.Data, id, ok, from.want, m.Header)
			}
			if m.Header["gatehouse-from"] != nil || string(m.Data) == "with headers" != (m.Header.Get("A") == "b") {
				t.Errorf("%s has headers %v", m.Data, m.Header)
			}
		}
	}
}

// Where the receiver's profile does not ask for it nothing is said, by nobody.
func TestSenderNotStamped(t *testing.T) {
	b := startOwn(t, settings{cms: 2})
	nc := b.connect(client.Name("pricer", "1"))
	c := subscribe(t, nc, "", "news")
	must(t, nc.PublishMsg(&nats.Msg{Subject: "news", Header: nats.Header{"A": {"b"}, client.HeaderFrom: {"user=root"}}}))
	m := within(t, "the message", c)
	if id, ok := client.Sender(m); ok || len(m.Header) != 1 {
		t.Errorf("it is from %+v, headers %v", id, m.Header)
	}
}
