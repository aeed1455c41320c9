package process

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// have.
func TestModesRefused(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `modes = ["broadcast", "session"]`, `publish_deny = ["nowhere"]`, `types = ["pricer"]`)
	g := b.guest("pricer/1")
	heard := g.hears("px", "q")
	send := func(mode, reply string) {
		m := nats.NewMsg("px")
		m.Reply = reply
		if mode != "" {
			m.Header.Set("Gatehouse-Mode", mode)
			m.Header.Set("Gatehouse-Session", "7")
		}
		must(t, g.PublishMsg(m))
	}
	inbox := nats.NewInbox()
	for _, c := range []struct {
		mode, reply string
		allowed     bool
	}{
		{"", "", true}, {"broadcast", "", true}, {"broadcast", inbox, true}, {"session", inbox, true},
		{"", inbox, false}, {"semaphore", inbox, false}, {"fanout", inbox, false}, {"fanout", "", false},
	} {
		if send(c.mode, c.reply); c.allowed {
			g.violations("nowhere")
			within(t, "a message in mode "+c.mode, heard)
		} else {
			g.violations("nowhere", `Publish to "px"`)
		}
	}
	g.hears("_APP.pricer.1", "")
	g.violations("nowhere", `Subscription to "_APP.pricer.1"`)
	must(t, g.Publish("_APP.pricer.1", nil))
	g.violations("nowhere", `Publish to "_APP.pricer.1"`)
	if len(heard) > 0 {
		t.Errorf("%d messages came all the same", len(heard))
	}
}

// What a profile limits is limited for its clients as limits do it for all.
func TestProfileLimits(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `max_subscriptions = 2`, `max_payload = 100`, `publish_deny = ["nowhere"]`)
	g := b.guest("g")
	first := g.hears("a", "")
	g.hears("b", "")
	g.hears("c", "")
	if err := within(t, "an error", g.told); !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		t.Errorf("told %v", err)
	}
	g.violations("nowhere")
	must(t, g.Publish("a", []byte(strings.Repeat("x", 100))))
	g.got(first, "a", "a")
	// INFO has said so, and nats.go keeps to it.
	if err := g.Publish("a", []byte(strings.Repeat("x", 101))); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("101 bytes: %v", err)
	}
	raw := b.client("")
	must(t, raw.send(pub("a", strings.Repeat("x", 101))))
	raw.expect(t, "-ERR 'Maximum Payload Violation'")
	if len(first) > 0 {
		t.Error("a message of 101 bytes came")
	}
}

// slower for it.
func TestProfileRate(t *testing.T) {
	t.Parallel()
	const rate = 200
	b := startGuarded(t, fmt.Sprintf("rate = %d", rate))
	g, reader := b.guest("g"), b.guest("reader")
	heard := reader.hears("a", "")
	began := time.Now()
	for i := range 3 * rate {
		must(t, g.Publish("a", []byte(fmt.Sprint(i))))
	}
	must(t, g.FlushTimeout(patience))
	// The first second's worth may go at once.
	if took := time.Since(began); took < 1500*time.Millisecond || took > patience/2 {
		t.Errorf("%d messages in %v", 3*rate, took)
	}
	for i := range 3 * rate {
		if m := within(t, "a message", heard); string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("message %s, want %d", m.Data, i)
		}
	}
	b.profile()
	b.reload("reloaded")
	began = time.Now()
	for range 3 * rate {
		must(t, g.Publish("a", nil))
	}
	must(t, g.FlushTimeout(patience))
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("%d messages in %v without a rate", 3*rate, took)
	}
}

// A reader that stops is cut off at what its profile allows, others are not.
func TestProfilePending(t *testing.T) {
	t.Parallel()
	const n, size = 30_000, 1024 // less than limits.max_pending
	b := startGuarded(t, `max_pending = "1MiB"`)
	stopped, reader, publisher := b.clientBy(smallWindow(4<<10), "SUB flood 1\r\n"), b.client("SUB flood 1\r\n"), b.client("")
	read, published := make(chan error, 1), make(chan error, 1)
	go func() { read <- reader.readNumbered(n, size) }()
	go func() { published <- publisher.publishNumbered("flood", n, size) }()
	must(t, errors.Join(within(t, "the publisher", published), within(t, "the reader", read)))
	if b.log.Find(0, "connection ended", patience, "reason", "slow_consumer") == nil {
		t.Error("nobody was cut off")
	}
	if text := stopped.rest(); len(text) >= n*size {
		t.Errorf("a reader that had stopped got %d bytes", len(text))
	}
	must(t, reader.sync())
}

// whatever the sender says under that name is taken out.
func TestGatehouseFrom(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, "stamp_sender = true", `types = ["pricer"]`)
	pricer, other, reader := b.guest("pricer/eu 1"), b.guest("desk/1"), b.guest("reader")
	pricer2 := b.guest("pricer/eu-1")
	heard := reader.hears("px", "")
	without, err := dial(b.addr) // a client that takes no headers
	must(t, err)
	defer without.reset()
	must(t, without.send(strings.NewReplacer(`"headers":true`, `"headers":false`, `"no_responders":true`, `"no_responders":false`).Replace(quiet)+"SUB px 1\r\n"))
	must(t, without.sync())
	for _, c := range []struct {
		from *guest
		want string
	}{{pricer2, "type=pricer; instance=eu-1"}, {other, "anonymous"}, {pricer, "anonymous"}} {
		forged := nats.NewMsg("px")
		forged.Data = []byte("forged")
		forged.Header["gatehouse-from"] = []string{"user=root"}
		forged.Header["Gatehouse-From"] = []string{"user=root"}
		forged.Header["GATEHOUSE-FROM"] = []string{"user=root"}
		forged.Header.Set("Other", "kept")
		must(t, c.from.Publish("px", []byte("bare")))
		must(t, c.from.PublishMsg(forged))
		must(t, c.from.FlushTimeout(patience))
		for _, kind := range []string{"bare", "forged"} {
			m := within(t, "a message", heard)
			var froms []string
			for name, values := range m.Header {
				if strings.EqualFold(name, "Gatehouse-From") {
					froms = append(froms, values...)
				}
			}
			if len(froms) != 1 || froms[0] != c.want || string(m.Data) != kind || kind == "forged" && m.Header.Get("Other") != "kept" {
				t.Errorf("%s: from %q, want %q: %q %v", kind, froms, c.want, m.Data, m.Header)
			}
			if body := without.expect(t, fmt.Sprintf("MSG px 1 %d", len(kind))); body != kind {
				t.Errorf("without headers: %q, want %s", body, kind)
			}
		}
	}
}
