package interop

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// everybody asks all of a subject and collects who answers, in order, and the error at
// the end.
func everybody(t *testing.T, nc *nats.Conn, subject, body string, opts ...client.Option) (names []string, err error) {
	t.Helper()
	for m, err := range client.Fanout(soonEnough(t), nc, &nats.Msg{Subject: subject, Data: []byte(body)}, opts...) {
		if err != nil {
			return names, err
		}
		names = append(names, string(m.Data))
	}
	return names, nil
}

// named is everybody for a fanout that all of some names answer, each once.
func named(t *testing.T, nc *nats.Conn, subject, want string, opts ...client.Option) {
	t.Helper()
	got, err := everybody(t, nc, subject, "", opts...)
	slices.Sort(got)
	if err != nil || strings.Join(got, "") != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
}

// Every member of every group and every subscriber gets it, on whatever connection
// manager, and it is over when all have answered.
func TestFanout(t *testing.T) {
	b := startModes(t, "")
	nc := b.connect()
	for name, queue := range map[string]string{"a": "g", "b": "g", "c": "g", "d": "h", "e": "", "f": ""} {
		b.member(name, "who.*", queue)
	}
	two := b.member("g", "who.is", "g")
	two.join(t, "who.>", "") // twice the same client, for two subscriptions
	b.onBoth()
	named(t, nc, "who.is", "abcdefgg")
	named(t, nc, "who.was", "abcdefg")
	named(t, two.Conn, "who.was", "abcdefg")
	if got, err := everybody(t, nc, "nobody", ""); !errors.Is(err, nats.ErrNoResponders) || len(got) > 0 {
		t.Errorf("of nobody: %v, %v", got, err)
	}
	noEcho := b.connect(nats.NoEcho())
	must(t, errorOf(noEcho.Subscribe("who.*", func(m *nats.Msg) { m.Respond([]byte("self")) })))
	named(t, noEcho, "who.was", "abcdefg")
}

func errorOf[T any](_ T, err error) error { return err }

// A fanout may be for programs of a type alone, and so may be other requests.
func TestFanoutToType(t *testing.T) {
	b := startModes(t, "")
	nc := b.connect()
	b.member("a", "who", "g", client.Name("pricer", "1"))
	b.member("b", "who", "g", client.Name("pricer", "2"))
	b.member("c", "who", "g", client.Name("trader", "1"))
	b.member("d", "who", "", client.Name("trader", "2"))
	b.member("e", "who", "", nats.Name("pricer"))
	named(t, nc, "who", "abcde")
	named(t, nc, "who", "ab", client.ToType("pricer"))
	named(t, nc, "who", "cd", client.ToType("trader"))
	for _, o := range []client.Option{client.ToType("price"), client.ToOrganisation("ORGA")} {
		if got, err := everybody(t, nc, "who", "", o); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%v, %v", got, err)
		}
	}
	for range 10 {
		if name, err := ask(t, nc, "who", "", client.ToType("pricer")); err != nil || !strings.Contains("ab", name) {
			t.Errorf("a request to pricers: %s, %v", name, err)
		}
	}
}

// What there is to say when not all answer.
func TestFanoutIncomplete(t *testing.T) {
	b := startModes(t, `request_timeout = "1h"`)
	nc := b.connect()
	b.member("a", "who", "g")
	mute := b.member("b", "who", "g")
	mute.join(t, "mute", "")
	must(t, mute.subs[0].Unsubscribe())
	must(t, errorOf(mute.Subscribe("who", func(m *nats.Msg) { mute.kept <- m })))
	must(t, mute.Flush())

	got, err := everybody(t, nc, "who", "", client.Within(time.Second))
	var e *client.FanoutError
	if !errors.As(err, &e) || *e != (client.FanoutError{Expected: 2, Answered: 1, Err: nats.ErrTimeout}) || !slices.Equal(got, []string{"a"}) {
		t.Errorf("one is mute: %v, %v", got, err)
	}
	request := within(t, "the request", mute.kept)
	must(t, request.Respond([]byte("too late")))

	outcome := make(chan error, 1)
	go func() {
		_, err := everybody(t, nc, "who", "")
		outcome <- err
	}()
	within(t, "the request", mute.kept)
	mute.Close()
	if err := within(t, "the end", outcome); !errors.As(err, &e) || *e != (client.FanoutError{Expected: 2, Answered: 1, Lost: 1, Err: client.ErrResponderLost}) {
		t.Errorf("one is lost: %v", err)
	}
	named(t, nc, "who", "a")
}

// The configuration bounds a fanout that asks for no time, or for more.
func TestFanoutRequestTimeout(t *testing.T) {
	b := startModes(t, `request_timeout = "200ms"`)
	nc := b.connect()
	b.member("a", "who", "g")
	for _, opts := range [][]client.Option{nil, {client.Within(time.Hour)}} {
		if _, err := everybody(t, nc, "who", "keep", opts...); !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("the outcome is %v", err)
		}
	}
}

// What a client without the helpers sees, to the header.
func TestFanoutRaw(t *testing.T) {
	b := startModes(t, "")
	nc := b.connect()
	for _, name := range []string{"a", "b"} {
		m := b.connect()
		must(t, errorOf(m.Subscribe("who", func(r *nats.Msg) {
			if string(r.Data) != "mute" {
				// What only the broker may say does not get through.
				r.RespondMsg(&nats.Msg{Data: []byte(name), Header: nats.Header{
					"Gatehouse-Answered": {"2"}, "gatehouse-lost": {"0"}, "GATEHOUSE-EXPECT": {"9"}, "Gatehouse-From": {"user=root"}, "Own": {"x"}}})
			}
		})))
		must(t, m.Flush())
	}
	c := subscribe(t, nc, "", "answers")
	send := func(body string, h nats.Header) {
		t.Helper()
		must(t, nc.PublishMsg(&nats.Msg{Subject: "who", Reply: "answers", Data: []byte(body), Header: h}))
	}
	next := func(want nats.Header) {
		t.Helper()
		if m := within(t, "a message", c); !maps.EqualFunc(m.Header, want, slices.Equal) || len(m.Data) > 0 != (want.Get("Status") == "") {
			t.Errorf("message %v %q, want headers %v", m.Header, m.Data, want)
		}
	}
	begun := nats.Header{"Status": {"100"}, "Gatehouse-Expect": {"2"}}
	send("", nats.Header{"gatehouse-MODE": {"fanout"}})
	next(begun)
	next(nats.Header{"Own": {"x"}})
	next(nats.Header{"Own": {"x"}})
	next(nats.Header{"Status": {"204"}, "Gatehouse-Answered": {"2"}, "Gatehouse-Lost": {"0"}})

	send("mute", nats.Header{"Gatehouse-Mode": {"fanout"}, "Gatehouse-Timeout": {"50"}})
	next(begun)
	next(nats.Header{"Status": {"504"}, "Gatehouse-Answered": {"0"}, "Gatehouse-Lost": {"0"}})

	for name, value := range map[string]string{"Mode": "fan-out", "Session": "a b", "Timeout": "0", "To-Type": "", "To-Organisation": strings.Repeat("x", 129)} {
		send("", nats.Header{"Gatehouse-" + name: {value}})
		next(nats.Header{"Status": {"400"}, "Description": {"Bad Gatehouse-" + name}})
	}
	send("", nats.Header{"Gatehouse-Mode": {"session"}})
	next(nats.Header{"Status": {"400"}, "Description": {"Bad Gatehouse-Session"}})
}

// Routers die while a fanout is on its way: each answer comes, once, and its end.
func TestFanoutRouterKilled(t *testing.T) {
	const members, rounds = 40, 5
	b := startModes(t, "")
	nc := b.connect()
	var all []*member
	for i := range members {
		queue := ""
		if i%2 == 0 {
			queue = "g"
		}
		all = append(all, b.member(fmt.Sprintf("%02d", i), "who", queue))
	}
	for round := range rounds {
		outcome := make(chan []string, 1)
		go func() {
			names, err := everybody(t, nc, "who", "keep")
			if err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			slices.Sort(names)
			outcome <- names
		}()
		for i, m := range all {
			request := within(t, "the request", m.kept)
			if i == members/3 || i == members/2 {
				b.killRouter()
			}
			must(t, request.Respond([]byte(m.name)))
		}
		names := within(t, "the end", outcome)
		if len(names) != members || len(slices.Compact(names)) != members {
			t.Errorf("round %d: %v", round, names)
		}
	}
	b.checkFanouts(nc, members, 10)
	if n := len(all[0].all()); n != rounds+10 {
		t.Errorf("a member has had %d requests of %d", n, rounds+10)
	}
}

// checkFanouts wants fanouts complete while a router dies at a moment of its own.
func (b *broker) checkFanouts(nc *nats.Conn, members, n int) {
	b.t.Helper()
	done := make(chan error, 1)
	go func() {
		for range n {
			names, err := everybody(b.t, nc, "who", "")
			if err == nil && len(names) != members {
				err = fmt.Errorf("%d answers of %d", len(names), members)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	b.killRouter()
	must(b.t, within(b.t, "the fanouts", done))
}

// A fanout to thousands is complete, whether its router lives to see that or not.
func TestFanoutOfThousands(t *testing.T) {
	const subs = 4000
	b := startModes(t, "")
	nc := b.connect()
	for range 2 {
		m := b.connect()
		for range subs / 2 {
			must(t, errorOf(m.Subscribe("who", func(r *nats.Msg) { r.Respond([]byte("x")) })))
		}
		must(t, m.Flush())
	}
	for _, kills := range []bool{false, true} {
		got := make(chan int, 1)
		go func() {
			names, err := everybody(t, nc, "who", "")
			if err != nil {
				t.Error(err)
			}
			got <- len(names)
		}()
		if kills {
			b.killRouter()
		}
		if n := within(t, "the end", got); n != subs {
			t.Errorf("%d answers of %d", n, subs)
		}
	}
}

// A member that is lost while there is no router is counted by the next one.
func TestFanoutLostWithRouter(t *testing.T) {
	b := startModes(t, "")
	nc := b.connect()
	mute, stays := b.member("a", "who", ""), b.member("b", "who", "")
	outcome := make(chan error, 1)
	go func() {
		_, err := everybody(t, nc, "who", "keep")
		outcome <- err
	}()
	within(t, "the request", mute.kept)
	request := within(t, "the request", stays.kept)
	mute.Close()
	b.killRouter()
	must(t, request.Respond([]byte("b")))
	var e *client.FanoutError
	if err := within(t, "the end", outcome); !errors.As(err, &e) || *e != (client.FanoutError{Expected: 2, Answered: 1, Lost: 1, Err: client.ErrResponderLost}) {
		t.Errorf("the outcome is %v", err)
	}
}
