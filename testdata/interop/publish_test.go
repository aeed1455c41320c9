package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// subscribe puts the messages of all the subjects into one channel, in the
// order in which they come on the connection, and waits until that is active.
func subscribe(t *testing.T, nc *nats.Conn, queue string, subjects ...string) chan *nats.Msg {
	t.Helper()
	c := make(chan *nats.Msg, 10000)
	for _, s := range subjects {
		var err error
		if queue == "" || s == end {
			_, err = nc.ChanSubscribe(s, c)
		} else {
			_, err = nc.ChanQueueSubscribe(s, queue, c)
		}
		must(t, err)
	}
	must(t, nc.Flush())
	return c
}

// end is the subject of a last message: what came before it is everything.
const end = "the.end"

// collect returns the data of all messages up to the one on end.
func collect(t *testing.T, c <-chan *nats.Msg) (data []string) {
	t.Helper()
	for {
		m := within(t, "the last message", c)
		if m.Subject == end {
			return data
		}
		data = append(data, string(m.Data))
	}
}

func TestPublishSubscribe(t *testing.T) {
	b := startBroker(t, settings{})
	pub, sub := b.connect(), b.connect()
	c := subscribe(t, sub, "", "a.b", end)
	var want []string
	for i := range 5000 {
		// Sizes from nothing to above any one buffer.
		body := strings.Repeat("x", i%7*i%3000) + fmt.Sprint(i)
		want = append(want, body)
		must(t, pub.Publish("a.b", []byte(body)))
	}
	must(t, pub.Publish("a.c", []byte("to nobody")))
	must(t, pub.Publish(end, nil))
	if got := collect(t, c); !slices.Equal(got, want) {
		t.Errorf("%d messages, not the %d published in order", len(got), len(want))
	}
}

func TestWildcards(t *testing.T) {
	b := startBroker(t, settings{})
	nc := b.connect()
	patterns := []string{"a.b.c", "a.*.c", "a.*", "a.>", ">", "*.b.>", "*"}
	subjects := []string{"a.b.c", "a.b", "a", "x.b.c", "a.b.c.d"}
	want := map[string]string{
		"a.b.c": "a.b.c", "a.*.c": "a.b.c", "a.*": "a.b", "a.>": "a.b.c a.b a.b.c.d",
		">": "a.b.c a.b a x.b.c a.b.c.d", "*.b.>": "a.b.c x.b.c a.b.c.d", "*": "a",
	}
	channels := map[string]chan *nats.Msg{}
	for _, p := range patterns {
		subjects := []string{p, end}
		if p == ">" {
			subjects = []string{p}
		}
		channels[p] = subscribe(t, b.connect(), "", subjects...)
	}
	for _, s := range append(subjects, end) {
		must(t, nc.Publish(s, []byte(s)))
	}
	for _, p := range patterns {
		if got := strings.Join(collect(t, channels[p]), " "); got != want[p] {
			t.Errorf("%s: %s, want %s", p, got, want[p])
		}
	}
}

// One member of each group gets a message, whatever subject it has subscribed
// to: groups go by their name alone.
func TestQueueGroups(t *testing.T) {
	b := startBroker(t, settings{})
	pub := b.connect()
	groups := map[string][]chan *nats.Msg{
		"one": {
			subscribe(t, b.connect(), "one", "q.a", end),
			subscribe(t, b.connect(), "one", "q.*", end),
			subscribe(t, b.connect(), "one", "q.>", end),
		},
		"two": {subscribe(t, b.connect(), "two", "q.a", end)},
		"":    {subscribe(t, b.connect(), "", "q.a", end)},
	}
	const n = 3000
	for i := range n {
		must(t, pub.Publish("q.a", fmt.Appendf(nil, "%04d", i)))
	}
	must(t, pub.Publish(end, nil))
	for name, members := range groups {
		var all []string
		for i, c := range members {
			got := collect(t, c)
			if !slices.IsSorted(got) {
				t.Errorf("group %q, member %d: out of order", name, i)
			}
			if share := n / len(members); len(members) > 1 && (len(got) < share/2 || len(got) > 2*share) {
				t.Errorf("group %q, member %d: %d of %d messages", name, i, len(got), n)
			}
			all = append(all, got...)
		}
		slices.Sort(all)
		if len(slices.Compact(all)) != n || len(all) != n {
			t.Errorf("group %q: %d messages, want each of %d once", name, len(all), n)
		}
	}
}

func TestHeaders(t *testing.T) {
	b := startBroker(t, settings{})
	pub, sub := b.connect(), b.connect()
	c := subscribe(t, sub, "", "h")
	m := nats.NewMsg("h")
	m.Header.Add("Multi", "one")
	m.Header.Add("Multi", "two words: and a colon")
	m.Header.Set("lower-case", "")
	for _, body := range []string{"", "body\r\nwith lines\r\n"} {
		m.Data = []byte(body)
		must(t, pub.PublishMsg(m))
		got := within(t, "the message", c)
		if !slices.Equal(got.Header.Values("Multi"), m.Header.Values("Multi")) || len(got.Header) != 2 || !bytes.Equal(got.Data, m.Data) {
			t.Errorf("headers %v, data %q", got.Header, got.Data)
		}
	}
	if !pub.HeadersSupported() {
		t.Error("INFO announces no headers")
	}
}

func TestAutoUnsubscribe(t *testing.T) {
	b := startBroker(t, settings{})
	pub, sub := b.connect(), b.connect()
	c := make(chan *nats.Msg, 100)
	s, err := sub.ChanSubscribe("auto", c)
	must(t, err)
	must(t, s.AutoUnsubscribe(10))
	_, err = sub.ChanSubscribe(end, c)
	must(t, err)
	must(t, sub.Flush())
	for i := range 50 {
		must(t, pub.Publish("auto", fmt.Appendf(nil, "%d", i)))
	}
	must(t, pub.Publish(end, nil))
	if got := strings.Join(collect(t, c), " "); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("delivered: %s", got)
	}
}

// The limit is known from INFO, holds to the byte, and whoever ignores it is
// told so and disconnected.
func TestMaxPayload(t *testing.T) {
	const limit = 4096
	b := startBroker(t, settings{maxPayload: limit})
	nc := b.connect()
	c := subscribe(t, nc, "", "big")
	if nc.MaxPayload() != limit {
		t.Errorf("INFO says max_payload %d", nc.MaxPayload())
	}
	must(t, nc.Publish("big", make([]byte, limit)))
	if m := within(t, "the largest message", c); len(m.Data) != limit {
		t.Errorf("%d bytes", len(m.Data))
	}
	if err := nc.Publish("big", make([]byte, limit+1)); err != nats.ErrMaxPayload {
		t.Errorf("one byte more: %v", err)
	}
	raw, err := net.Dial("tcp", b.addr)
	must(t, err)
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(raw, "CONNECT {\"verbose\":false}\r\nPUB big %d\r\n", limit+1)
	var last string
	lines := bufio.NewScanner(raw)
	for lines.Scan() {
		last = lines.Text()
	}
	if last != "-ERR 'Maximum Payload Violation'" || lines.Err() != nil {
		t.Errorf("last line %q, then %v", last, lines.Err())
	}
}
