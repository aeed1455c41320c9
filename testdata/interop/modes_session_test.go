package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// inSession sends a request of a session and gives the answer's body.
func inSession(t *testing.T, s *client.Session, subject, body string) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	m, err := s.Request(ctx, &nats.Msg{Subject: subject, Data: []byte(body)})
	if err != nil {
		return "", err
	}
	return string(m.Data), nil
}

// sticks sends n requests of a session, which all go to the same member, and returns it.
func sticks(t *testing.T, s *client.Session, subject string, n int) (name string) {
	t.Helper()
	for i := range n {
		got, err := inSession(t, s, subject, "")
		must(t, err)
		if i > 0 && got != name {
			t.Fatalf("request %d of the session went to %s, those before to %s", i, got, name)
		}
		name = got
	}
	return name
}

// All requests of a session go to one member, those of others elsewhere: who serves a
// session counts as busy.
func TestSession(t *testing.T) {
	const names = "abcd"
	b := startModes(t, "")
	one, other, all := b.connect(), b.connect(), b.members(names, "work")
	b.onBoth()
	sessions := []*client.Session{client.NewSession(one), client.NewSession(one), client.NewSession(other)}
	sessions[2].ID = sessions[0].ID // which is another one, being another client's
	homes := ""
	for _, s := range sessions {
		home := sticks(t, s, "work", 10)
		if strings.Contains(homes, home) {
			t.Errorf("%s serves two sessions, another one none", home)
		}
		homes += home
	}
	free := without(names, homes)
	if got := shares(t, one, "work", 6); got[free] != 6 {
		t.Errorf("%s is free, the requests went to %v", free, got)
	}
	for i, s := range sessions {
		if home := sticks(t, s, "work", 3); home != homes[i:i+1] {
			t.Errorf("session %d went from %c to %s", i, homes[i], home)
		}
	}

	// The end is told to the member, and it serves nobody any more.
	for i, s := range sessions {
		must(t, s.Close(soonEnough(t)))
		home := all[homes[i:i+1]]
		b.await("the end at the member", func() bool {
			return slices.ContainsFunc(home.all(), func(m *nats.Msg) bool {
				return m.Header.Get(client.HeaderSessionEnd) != "" && m.Header.Get(client.HeaderSession) == s.ID && len(m.Data) == 0
			})
		})
	}
	fair(t, "after the end", shares(t, one, "work", 12), names, 3)
}

// A request of a session may have several answers; the end may come with a request.
func TestSessionAnswers(t *testing.T) {
	b := startModes(t, "")
	nc, all := b.connect(), b.members("ab", "work")
	s := client.NewSession(nc)
	home := all[sticks(t, s, "work", 1)]
	var got []string
	go func() {
		for range 2 {
			request := <-home.kept
			for i := range 100 {
				request.Respond(fmt.Append(nil, i))
			}
		}
	}()
	for m, err := range s.Requests(soonEnough(t), &nats.Msg{Subject: "work", Data: []byte("keep")}) {
		must(t, err)
		if got = append(got, string(m.Data)); len(got) == 100 {
			break
		}
	}
	for i, body := range got {
		if body != fmt.Sprint(i) {
			t.Fatalf("answer %d is %s", i, body)
		}
	}
	m, err := s.Request(soonEnough(t), &nats.Msg{Subject: "work", Data: []byte("keep"), Header: nats.Header{client.HeaderSessionEnd: {"now"}}})
	if err != nil || string(m.Data) != "0" {
		t.Errorf("%v, %v", m, err)
	}
	fair(t, "after the end", shares(t, nc, "work", 10), "ab", 5)
	must(t, s.Close(soonEnough(t)))
	if n := len(home.all()); n != 1+1+1+5 {
		t.Errorf("%s has had %d messages: Close told it of an end that it knew", home.name, n)
	}
}

// If the member goes the next request says so, and the one after it begins anew. That
// this is by a status that clients without the helper see, too, is raw.
func TestSessionGone(t *testing.T) {
	b := startModes(t, "")
	nc, raw := b.connect(), b.connect()
	for _, leave := range []func(*member){
		(*member).Close,
		func(m *member) { must(t, m.subs[0].Unsubscribe()); must(t, m.Flush()) },
	} {
		all := b.members("ab", "work")
		s := client.NewSession(nc)
		home := sticks(t, s, "work", 3)
		header := nats.Header{client.HeaderMode: {"session"}, client.HeaderSession: {"raw"}}
		rawAsk := func() *nats.Msg {
			t.Helper()
			inbox := raw.NewInbox()
			answers, err := raw.SubscribeSync(inbox)
			must(t, err)
			defer answers.Unsubscribe()
			must(t, raw.PublishMsg(&nats.Msg{Subject: "work", Reply: inbox, Header: header}))
			m, err := answers.NextMsg(patience)
			must(t, err)
			return m
		}
		// One of both gets the raw session, the one that is free.
		rawHome := string(rawAsk().Data)
		if rawHome == home {
			t.Fatalf("%s serves both", home)
		}
		must(t, raw.Flush()) // its inboxes are gone
		subscriptions := b.router().Subscriptions
		for _, name := range []string{home, rawHome} {
			leave(all[name])
		}
		b.await("their end", func() bool { return b.router().Subscriptions == subscriptions-2 })
		all["c"] = b.member("c", "work", "members")
		if _, err := inSession(t, s, "work", ""); !errors.Is(err, client.ErrSessionGone) {
			t.Errorf("the session's member has gone: %v", err)
		}
		if home := sticks(t, s, "work", 2); home != "c" {
			t.Errorf("it goes on at %s", home)
		}
		if m := rawAsk(); m.Header.Get("Status") != "410" || m.Header.Get("Description") != "Session Gone" {
			t.Errorf("the status is %v %q", m.Header, m.Data)
		}
		if m := rawAsk(); string(m.Data) != "c" {
			t.Errorf("the answer is %v %q", m.Header, m.Data)
		}
		must(t, s.Close(soonEnough(t)))
		header[client.HeaderSessionEnd] = []string{""}
		rawAsk()
		all["c"].Close()
	}
}

// Who waits for the member when it goes is told that; the session is gone after it.
func TestSessionMemberLost(t *testing.T) {
	b := startModes(t, "")
	nc, all := b.connect(), b.members("ab", "work")
	s := client.NewSession(nc)
	home := all[sticks(t, s, "work", 1)]
	outcome := make(chan error, 1)
	go func() {
		_, err := inSession(t, s, "work", "keep")
		outcome <- err
	}()
	within(t, "the request", home.kept)
	home.Close()
	if err := within(t, "the loss", outcome); !errors.Is(err, client.ErrResponderLost) {
		t.Errorf("the outcome is %v", err)
	}
	if _, err := inSession(t, s, "work", ""); !errors.Is(err, client.ErrSessionGone) {
		t.Errorf("the request after that: %v", err)
	}
	if next := sticks(t, s, "work", 3); next == home.name {
		t.Errorf("it goes on at %s, which has gone", next)
	}
}

// A session that is not used is forgotten, and its member is as free as any other.
func TestSessionIdle(t *testing.T) {
	b := startModes(t, `session_idle = "1s"`)
	nc, all := b.connect(), b.members("ab", "work")
	s := client.NewSession(nc)
	home := sticks(t, s, "work", 3)
	b.await("the turn of who serves the session", func() bool {
		name, err := ask(t, nc, "work", "")
		must(t, err)
		return name == home
	})
	all[home].Close()
	b.await("the end of the member", func() bool { return b.connections() == 2 })
	if next := sticks(t, s, "work", 2); next == home {
		t.Errorf("it goes on at %s, which has gone", next)
	}
}

// The broker keeps sessions by connection.
func TestSessionReconnected(t *testing.T) {
	b := startModes(t, "")
	back := make(chan struct{}, 1)
	nc := b.connect(nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	b.members("ab", "work")
	s := client.NewSession(nc)
	sticks(t, s, "work", 3)
	must(t, nc.ForceReconnect())
	within(t, "the connection", back)
	if _, err := inSession(t, s, "work", ""); !errors.Is(err, client.ErrSessionGone) {
		t.Errorf("on another connection: %v", err)
	}
	sticks(t, s, "work", 3)
}

// Sessions stick over the death of routers, between requests and amid them, and end as
// they would have.
func TestSessionRouterKilled(t *testing.T) {
	const names, kills = "abcd", 4
	b := startModes(t, "")
	nc, all := b.connect(), b.members(names, "work")
	still := client.NewSession(nc) // asks nothing while routers come and go
	quiet := sticks(t, still, "work", 2)
	stop, done := make(chan struct{}), make(chan error, 3)
	homes := make([]string, cap(done))
	for i := range cap(done) {
		s := client.NewSession(b.connect())
		homes[i] = sticks(t, s, "work", 2)
		go func() { done <- stickUntil(t, stop, s, homes[i]) }()
	}
	slices.Sort(homes)
	if got := strings.Join(slices.Compact(homes), ""); len(got) != 3 || strings.Contains(got, quiet) {
		t.Errorf("four sessions of four members are at %s and %s", quiet, got)
	}
	for range kills {
		b.killRouter()
	}
	close(stop)
	for range cap(done) {
		must(t, within(t, "the sessions", done))
	}
	if home := sticks(t, still, "work", 3); home != quiet {
		t.Errorf("the session went from %s to %s", quiet, home)
	}
	b.killRouter()
	all[quiet].Close()
	b.await("its end", func() bool { return b.connections() == 1+4-1+3 })
	if _, err := inSession(t, still, "work", ""); !errors.Is(err, client.ErrSessionGone) {
		t.Errorf("its member has gone: %v", err)
	}
}

// stickUntil sends requests of a session, which all have to go home.
func stickUntil(t *testing.T, stop chan struct{}, s *client.Session, home string) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if got, err := inSession(t, s, "work", ""); err != nil || got != home {
			return fmt.Errorf("request %d of a session at %s: %s, %w", n, home, got, err)
		}
	}
}
