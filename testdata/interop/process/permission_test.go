package process

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// startGuarded runs a broker whose clients all have one profile, which consists of
// these lines, while the rest of the configuration names it.
func startGuarded(t *testing.T, lines ...string) *broker {
	t.Helper()
	b := newBroker(t, settings{cms: 2})
	b.edit("[listen]\n", "[listen]\nprofile = \"desk\"\n")
	b.profile(lines...)
	b.start()
	return b
}

// profile makes these lines the profile of all clients.
func (b *broker) profile(lines ...string) {
	b.t.Helper()
	b.profiles("[[profile]]\nname = \"desk\"\n" + strings.Join(lines, "\n") + "\n")
}

// A client whose connection may last a second makes one after the other, by itself, and
// is told why; a new router ends them as the one before did.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `max_age = "1s"`)
	again, told := make(chan struct{}, 100), make(chan error, 100)
	nc, err := nats.Connect("nats://"+b.addr, nats.MaxReconnects(-1), nats.ReconnectWait(pace), nats.ReconnectJitter(0, 0), nats.Timeout(patience),
		nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { told <- err }))
	must(t, err)
	defer nc.Close()
	sub, err := nc.SubscribeSync("a")
	must(t, err)
	for i := range 4 {
		if i == 2 {
			b.kill("router")
		}
		within(t, "another connection", again)
		if err := within(t, "the reason", told); !errors.Is(err, nats.ErrAuthExpired) {
			t.Errorf("told %v", err)
		}
	}
	await(t, "a message after all that", patience, func() bool {
		must(t, nc.Publish("a", nil))
		_, err := sub.NextMsg(100 * time.Millisecond)
		return err == nil
	})
}

// guest is a nats.go client that keeps what it is told besides messages.
type guest struct {
	*nats.Conn
	t    testing.TB
	told chan error // errors, in order; the loss of the connection among them
}

func (b *broker) guest(name string) *guest {
	b.t.Helper()
	g := &guest{t: b.t, told: make(chan error, 1000)}
	var err error
	g.Conn, err = nats.Connect("nats://"+b.addr, nats.Name(name), nats.NoReconnect(), nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { g.told <- err }),
		nats.ClosedHandler(func(*nats.Conn) { g.told <- nats.ErrConnectionClosed }))
	must(b.t, err)
	b.t.Cleanup(g.Close)
	return g
}

// violations has the client publish where nobody may, and wants it to have been told
// exactly this before: "Publish to x". So the connection is there, too.
func (g *guest) violations(forbidden string, want ...string) {
	g.t.Helper()
	must(g.t, g.Publish(forbidden, nil))
	must(g.t, g.FlushTimeout(patience))
	for _, w := range append(want, fmt.Sprintf("Publish to %q", forbidden)) {
		err := within(g.t, "a violation", g.told)
		if text := fmt.Sprintf("%v: Permissions Violation for %s", nats.ErrPermissionViolation, w); !errors.Is(err, nats.ErrPermissionViolation) || err.Error() != text {
			g.t.Errorf("told %v, want %s", err, text)
		}
	}
	if !g.IsConnected() {
		g.t.Errorf("no connection any more: %v", g.LastError())
	}
}

// hears subscribes and returns a channel of what comes.
func (g *guest) hears(subject, queue string) chan *nats.Msg {
	g.t.Helper()
	c := make(chan *nats.Msg, 1000)
	_, err := g.ChanQueueSubscribe(subject, queue, c)
	must(g.t, err)
	must(g.t, g.FlushTimeout(patience))
	return c
}

// got wants messages on these subjects, in this order, and then the last word, which
// is sent here.
func (g *guest) got(c chan *nats.Msg, lastWord string, want ...string) {
	g.t.Helper()
	must(g.t, g.Publish(lastWord, nil))
	must(g.t, g.FlushTimeout(patience))
	for _, w := range append(want, lastWord) {
		if m := within(g.t, "a message on "+w, c); m.Subject != w {
			g.t.Errorf("message on %s, want %s", m.Subject, w)
		}
	}
}

// What may not be published is refused and named; the rest arrives.
func TestPublishPermissions(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `publish = ["px.>", "a.*.c", "one"]`, `publish_deny = ["px.*.secret", "px.deep.>"]`)
	g, reader := b.guest("g"), b.guest("reader")
	all := reader.hears(">", "")
	var arrive, refused []string
	for _, c := range []struct {
		subject string
		allowed bool
	}{
		{"px.a", true}, {"px", false}, {"px.a.b.c", true}, {"px.a.secret", false}, {"px.a.secret.b", true},
		{"px.deep", true}, {"px.deep.a", false}, {"a.b.c", true}, {"a.c", false}, {"a.b.c.d", false}, {"one", true},
		{"One", false}, {"one.two", false}, {"px.*", true}, {"*", false},
	} {
		must(t, g.Publish(c.subject, []byte("x")))
		if c.allowed {
			arrive = append(arrive, c.subject)
		} else {
			refused = append(refused, fmt.Sprintf("Publish to %q", c.subject))
		}
	}
	g.violations("nowhere", refused...)
	g.got(all, "one", arrive...)
	// Logged once a second, however many there were.
	if b.log.Find(0, "not permitted", patience, "reason", "publish", "subject", "px") == nil {
		t.Error("nothing of it in the log")
	}
	if n := len(b.log.All("not permitted")); n > len(refused)/2 {
		t.Errorf("%d lines in the log for %d violations", n, len(refused)+1)
	}
}

// What may not be subscribed to is refused and named; of what is allowed but for a
// part, that part does not come.
func TestSubscribePermissions(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `publish_deny = ["nowhere"]`, `subscribe = ["px.>", "a.*", "_INBOX.>"]`, `subscribe_deny = ["px.secret.*", "a.no"]`)
	g := b.guest("g")
	heard := map[string]chan *nats.Msg{}
	var refused []string
	for _, c := range []struct {
		subject, queue string
		allowed        bool
	}{
		{"px.a", "", true}, {"px.>", "", true}, {"px.*", "", true}, {"px.secret.>", "", true}, {"px.secret.*", "", false},
		{"px.secret.a", "", false}, {"px.secret.a.b", "", true}, {"a.*", "", true}, {"a.no", "", false}, {"a.>", "", false},
		{">", "", false}, {"*", "", false}, {"b", "", false}, {"px", "", false}, {"px.a", "q", true}, {"b", "q", false},
	} {
		if c.allowed {
			heard[c.subject+" "+c.queue] = g.hears(c.subject, c.queue)
			continue
		}
		g.hears(c.subject, c.queue)
		if c.queue == "" {
			refused = append(refused, fmt.Sprintf("Subscription to %q", c.subject))
		} else {
			refused = append(refused, fmt.Sprintf("Subscription to %q using queue %q", c.subject, c.queue))
		}
	}
	g.violations("nowhere", refused...)
	other := b.guest("other")
	for _, subject := range []string{"px.a", "px.secret.a", "px.secret.a.b", "a.no", "a.yes", "b", "px.secret", "px.a", "px.secret.a.b", "a.yes"} {
		must(t, other.Publish(subject, nil))
	}
	must(t, other.FlushTimeout(patience))
	// The last one that each gets is the last of all that it could get.
	for by, want := range map[string][]string{
		"px.a ":          {"px.a", "px.a"},
		"px.a q":         {"px.a", "px.a"},
		"px.> ":          {"px.a", "px.secret.a.b", "px.secret", "px.a", "px.secret.a.b"},
		"px.* ":          {"px.a", "px.secret", "px.a"},
		"px.secret.> ":   {"px.secret.a.b", "px.secret.a.b"},
		"px.secret.a.b ": {"px.secret.a.b", "px.secret.a.b"},
		"a.* ":           {"a.yes", "a.yes"},
	} {
		for _, subject := range want {
			if m := within(t, "a message on "+subject, heard[by]); m.Subject != subject {
				t.Errorf("%s: message on %s, want %s", by, m.Subject, subject)
			}
		}
		delete(heard, by)
	}
	if len(heard) > 0 {
		t.Errorf("%d subscriptions are not looked at", len(heard))
	}
}

// A service that may publish nothing may answer what it was asked, as often as it is
// said, and only that.
func TestAllowResponses(t *testing.T) {
	for text, most := range map[string]int{"true": 1, "3": 3, "-1": 50} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			b := startGuarded(t, `publish = ["ask.>"]`, "allow_responses = "+text)
			asker, service := b.guest("asker"), b.guest("service")
			asked, plain := service.hears("ask.it", "q"), service.hears("ask.all", "")
			inbox := nats.NewInbox()
			answers := asker.hears(inbox+".*", "")
			must(t, service.Publish(inbox+".0", nil)) // nobody has asked
			service.violations("nowhere", fmt.Sprintf("Publish to %q", inbox+".0"))
			for i, c := range []chan *nats.Msg{asked, plain} {
				m := nats.NewMsg([]string{"ask.it", "ask.all"}[i])
				m.Reply = fmt.Sprint(inbox, ".", i)
				must(t, asker.PublishMsg(m))
				request := within(t, "a request", c)
				for range most {
					must(t, request.Respond(nil))
				}
				must(t, service.FlushTimeout(patience))
				for range most {
					if a := within(t, "an answer", answers); a.Subject != m.Reply {
						t.Errorf("answer on %s, want %s", a.Subject, m.Reply)
					}
				}
				if most < 50 {
					must(t, request.Respond(nil))
					service.violations("nowhere", fmt.Sprintf("Publish to %q", m.Reply))
				} else {
					service.violations("nowhere")
				}
			}
			// Who was not asked may not answer: another member, another client.
			other := b.guest("other")
			must(t, asker.PublishRequest("ask.it", inbox+".2", nil))
			request := within(t, "a request", asked)
			must(t, other.Publish(inbox+".2", nil))
			other.violations("nowhere", fmt.Sprintf("Publish to %q", inbox+".2"))
			must(t, request.Respond([]byte("late")))
			if a := within(t, "an answer", answers); string(a.Data) != "late" {
				t.Errorf("another answer: %q", a.Data)
			}
		})
	}
}

// A mode that the profile does not have is refused like a subject that it does not
// A name of a type that the profile does not have gives no right to its subject.
func TestTypesOfProfile(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `types = ["pricer"]`, `publish_deny = ["nowhere"]`)
	pricer, desk := b.guest("pricer/1"), b.guest("desk/1")
	heard := pricer.hears("_APP.pricer.1", "")
	desk.hears("_APP.desk.1", "")
	desk.violations("nowhere", `Subscription to "_APP.desk.1"`)
	desk.hears("_APP.pricer.1", "")
	desk.violations("nowhere", `Subscription to "_APP.pricer.1"`)
	desk.hears("_APP.>", "")
	desk.violations("nowhere", `Subscription to "_APP.>"`)
	must(t, desk.Publish("_APP.pricer.1", nil))
	pricer.got(heard, "_APP.pricer.1", "_APP.pricer.1")
}

// A client is read as fast as its profile says; nothing is lost, and others are not
// SIGHUP takes rights away from those who are there: a subscription ends and its
// client is told, others stay. It gives rights back, too.
func TestReloadPermissions(t *testing.T) {
	t.Parallel()
	b := startGuarded(t, `publish_deny = ["nowhere"]`)
	g, other := b.guest("g"), b.guest("other")
	gone, stays, partly := g.hears("px.secret", ""), g.hears("px.open", ""), g.hears("px.*", "")
	other.got(stays, "px.open")
	other.got(gone, "px.secret")
	within(t, "a message", partly)
	within(t, "a message", partly)

	b.profile(`publish_deny = ["nowhere", "ask.*"]`, `subscribe_deny = ["px.secret"]`)
	if got := b.reload("reloaded").Fields["changed"]; got != "profile.desk" {
		t.Errorf("changed: %v", got)
	}
	g.violations("nowhere", `Subscription to "px.secret"`)
	other.violations("nowhere")
	must(t, other.Publish("px.secret", nil))
	other.got(stays, "px.open")
	if m := within(t, "a message", partly); m.Subject != "px.open" || len(gone) > 0 {
		t.Errorf("message on %s, and %d for what was taken away", m.Subject, len(gone))
	}
	must(t, g.Publish("ask.it", nil))
	g.violations("nowhere", `Publish to "ask.it"`)

	// It holds for the next router, too.
	mark := b.log.Mark()
	b.kill("router")
	if b.log.Find(mark, "role ready", patience, "role", "router") == nil {
		t.Fatal("no other router")
	}
	g.hears("px.secret", "")
	g.violations("nowhere", `Subscription to "px.secret"`)
	must(t, other.Publish("px.secret", nil))
	other.got(stays, "px.open")

	b.profile(`publish_deny = ["nowhere"]`)
	b.reload("reloaded")
	must(t, g.Publish("ask.it", nil))
	again := g.hears("px.secret", "")
	other.got(again, "px.secret")
	g.violations("nowhere")
}

// Clients without credentials that have no profile any more are sent away; those of
// another one are held against that.
func TestReloadProfileOfAnonymous(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{cms: 2})
	b.profiles(`[[profile]]
name = "desk"
subscribe = ["a"]
[[profile]]
name = "feed"
subscribe = ["b"]
publish_deny = ["nowhere"]
`)
	b.start()
	g := b.guest("g")
	a, c := g.hears("a", ""), g.hears("b", "")
	g.got(a, "a")
	b.edit("[listen]\n", "[listen]\nprofile = \"feed\"\n")
	b.reload("reloaded")
	g.violations("nowhere", `Subscription to "a"`)
	g.got(c, "b")
	b.edit(`profile = "feed"`, `profile = "desk"`)
	b.reload("reloaded")
	if err := within(t, "a violation", g.told); err == nil || !strings.HasSuffix(err.Error(), `Subscription to "b"`) {
		t.Errorf("told %v", err)
	}
}

// Receivers whose profile says so are told who sent a message, by the broker alone:
