package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/testdata/tree"
	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// startModes runs a broker with two connection managers; modes are lines of [modes].
func startModes(t *testing.T, modes string) *broker {
	t.Helper()
	return startOwn(t, settings{cms: 2, modes: modes})
}

// startOwn is startBroker for what is Gatehouse's own.
func startOwn(t *testing.T, s settings) *broker {
	t.Helper()
	if standIn() != "" {
		t.Skip("SKIP there is no such thing in another broker")
	}
	return startBroker(t, s)
}

// killRouter ends the router without warning and waits for the next one.
func (b *broker) killRouter() {
	b.t.Helper()
	old := b.router()
	must(b.t, syscall.Kill(old.PID, syscall.SIGKILL))
	b.await("the next router", func() bool { p := b.router(); return p.PID != old.PID && p.State == "running" })
}

func (b *broker) router() tree.Process {
	b.t.Helper()
	return b.status().Role("router")
}

// onBoth fails the test unless each connection manager has clients.
func (b *broker) onBoth() {
	b.t.Helper()
	for _, role := range []string{"cm/0", "cm/1"} {
		if b.status().Role(role).Connections == 0 {
			b.t.Errorf("%s has no clients", role)
		}
	}
}

// connections is how many clients there are.
func (b *broker) connections() uint64 {
	b.t.Helper()
	return b.status().Sum(func(p tree.Process) uint64 { return p.Connections })
}

// soonEnough is a context for what must happen.
func soonEnough(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx
}

// member answers requests with its name, but keeps those that begin with "keep", which
// the test answers itself.
type member struct {
	name string
	*nats.Conn
	kept chan *nats.Msg
	subs []*nats.Subscription

	mu    sync.Mutex
	heard []*nats.Msg
}

// member connects one that subscribes to subject, in a queue group unless that is empty.
// It is active when member returns.
func (b *broker) member(name, subject, queue string, opts ...nats.Option) *member {
	b.t.Helper()
	m := &member{name: name, Conn: b.connect(opts...), kept: make(chan *nats.Msg, 1000)}
	m.join(b.t, subject, queue)
	return m
}

func (m *member) join(t *testing.T, subject, queue string) {
	t.Helper()
	s, err := m.QueueSubscribe(subject, queue, m.take)
	must(t, err)
	must(t, m.Flush())
	m.subs = append(m.subs, s)
}

func (m *member) take(msg *nats.Msg) {
	m.mu.Lock()
	m.heard = append(m.heard, msg)
	m.mu.Unlock()
	if strings.HasPrefix(string(msg.Data), "keep") {
		m.kept <- msg
	} else if msg.Reply != "" {
		msg.Respond([]byte(m.name))
	}
}

// all are the messages that it has had so far.
func (m *member) all() []*nats.Msg {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

// members connects some to one queue group, named by the letters.
func (b *broker) members(names, subject string) map[string]*member {
	b.t.Helper()
	all := map[string]*member{}
	for _, name := range strings.Split(names, "") {
		all[name] = b.member(name, subject, "members")
	}
	return all
}

// ask sends a request by the helpers and gives the answer's body.
func ask(t *testing.T, nc *nats.Conn, subject, body string, opts ...client.Option) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	m, err := client.Request(ctx, nc, &nats.Msg{Subject: subject, Data: []byte(body)}, opts...)
	if err != nil {
		return "", err
	}
	return string(m.Data), nil
}

// asked is what Request gives to a goroutine.
type asked struct {
	body string
	err  error
}

// keep sends a request that its member keeps, and tells what becomes of it.
func keep(t *testing.T, nc *nats.Conn, subject string) chan asked {
	t.Helper()
	outcome := make(chan asked, 1)
	go func() {
		body, err := ask(t, nc, subject, "keep")
		outcome <- asked{body, err}
	}()
	return outcome
}

// holder is the member that has kept a request, and the request.
func holder(t *testing.T, all map[string]*member) (*member, *nats.Msg) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
		for _, m := range all {
			select {
			case msg := <-m.kept:
				return m, msg
			default:
			}
		}
	}
	t.Fatal("nobody has the request")
	return nil, nil
}

// shares counts who answers n requests, sent one after the other.
func shares(t *testing.T, nc *nats.Conn, subject string, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		name, err := ask(t, nc, subject, "")
		must(t, err)
		count[name]++
	}
	return count
}

// fair fails the test unless each of n members has had as many of the requests.
func fair(t *testing.T, what string, count map[string]int, names string, each int) {
	t.Helper()
	for _, name := range strings.Split(names, "") {
		if count[name] != each {
			t.Errorf("%s: %v, want %d for each of %s", what, count, each, names)
			return
		}
	}
	if len(count) != len(names) {
		t.Errorf("%s: %v, want only %s", what, count, names)
	}
}

// without are the names that are not among the others.
func without(names, others string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(others, r) {
			return -1
		}
		return r
	}, names)
}

// A request goes to the member that owes the fewest answers, those alike in turn; who
// owes one has its turn again when it has answered.
func TestSemaphore(t *testing.T) {
	b := startModes(t, "")
	nc, all := b.connect(), b.members("abcd", "work")
	b.onBoth()
	fair(t, "all idle", shares(t, nc, "work", 20), "abcd", 5)

	outcome := keep(t, nc, "work")
	busy, request := holder(t, all)
	rest := without("abcd", busy.name)
	fair(t, "one busy", shares(t, nc, "work", 30), rest, 10)
	must(t, request.Respond([]byte("late")))
	if got := within(t, "the answer", outcome); got != (asked{"late", nil}) {
		t.Errorf("the answer is %+v", got)
	}
	fair(t, "all idle again", shares(t, nc, "work", 20), "abcd", 5)

	// nats.go's own Request is the same to the broker.
	for range 8 {
		if m, err := nc.Request("work", nil, patience); err != nil || !strings.Contains("abcd", string(m.Data)) {
			t.Errorf("%v, %v", m, err)
		}
	}
}

// What is not answered stops counting with the requester, and after request_timeout.
func TestSemaphoreForgets(t *testing.T) {
	b := startModes(t, `request_timeout = "500ms"`)
	nc, all := b.connect(), b.members("ab", "work")
	for _, leaves := range []bool{true, false} {
		asker := b.connect()
		must(t, asker.PublishRequest("work", asker.NewInbox(), []byte("keep")))
		busy, _ := holder(t, all)
		if leaves {
			asker.Close()
		}
		b.await("the turn of who was busy", func() bool {
			name, err := ask(t, nc, "work", "")
			must(t, err)
			return name == busy.name
		})
		fair(t, "all idle", shares(t, nc, "work", 10), "ab", 5)
	}
}

// Who waits for a member that goes is told at once, whichever way it asked.
func TestSemaphoreMemberLost(t *testing.T) {
	b := startModes(t, "")
	nc, raw := b.connect(), b.connect()
	statuses := subscribe(t, raw, "", "answers")
	for _, leave := range []func(*member){(*member).Close, func(m *member) { must(t, m.Drain()) }} {
		m := b.member("m", "work", "members")
		byHelper, byNATS := keep(t, nc, "work"), make(chan error, 1)
		go func() {
			_, err := nc.Request("work", []byte("keep"), patience)
			byNATS <- err
		}()
		must(t, raw.PublishRequest("work", "answers", []byte("keep")))
		for range 3 {
			within(t, "the requests", m.kept)
		}
		leave(m)
		if got := within(t, "the loss", byHelper); !errors.Is(got.err, client.ErrResponderLost) {
			t.Errorf("the helper gives %+v", got)
		}
		if err := within(t, "the loss", byNATS); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("nats.go gives %v", err)
		}
		s := within(t, "the status", statuses)
		if s.Header.Get("Status") != "503" || s.Header.Get("Description") != "Responder Lost" || len(s.Data) > 0 {
			t.Errorf("the status is %v %q", s.Header, s.Data)
		}
	}
	if _, err := ask(t, nc, "work", ""); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("nobody is left: %v", err)
	}
}

// A member that passes a request on owes nothing any more; whom it has passed it to does.
func TestSemaphoreHandedOver(t *testing.T) {
	b := startModes(t, "")
	nc, front := b.connect(), b.members("ab", "front")
	back := b.member("back", "back", "members")
	outcome := keep(t, nc, "front")
	busy, request := holder(t, front)
	must(t, busy.PublishRequest("back", request.Reply, []byte("keep")))
	passed := within(t, "what was passed on", back.kept)
	fair(t, "idle again", shares(t, nc, "front", 10), "ab", 5)
	must(t, passed.Respond([]byte("by another")))
	if got := within(t, "the answer", outcome); got != (asked{"by another", nil}) {
		t.Errorf("the answer is %+v", got)
	}

	outcome = keep(t, nc, "front")
	busy, request = holder(t, front)
	must(t, busy.PublishRequest("back", request.Reply, []byte("keep")))
	within(t, "what was passed on", back.kept)
	busy.Close() // who has passed it on is no loss
	must(t, nc.Flush())
	back.Close()
	if got := within(t, "the loss", outcome); !errors.Is(got.err, client.ErrResponderLost) {
		t.Errorf("the outcome is %+v", got)
	}
}

// Routers die while requests are on their way: each is answered once, and who owes how
// much is known afterwards.
func TestSemaphoreRouterKilled(t *testing.T) {
	const requesters, kills, names = 6, 5, "abcd"
	b := startModes(t, "")
	nc, all := b.connect(), b.members(names, "work")
	outcome := keep(t, nc, "work")
	busy, _ := holder(t, all)

	stop, done := make(chan struct{}), make(chan error, requesters)
	for i := range requesters {
		go func(nc *nats.Conn) { done <- requestUntil(stop, nc, i) }(b.connect())
	}
	for range kills {
		b.killRouter()
		if _, err := ask(t, nc, "work", ""); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	for range requesters {
		must(t, within(t, "the requesters", done))
	}
	heard := map[string]int{}
	for _, m := range all {
		for _, msg := range m.all() {
			heard[string(msg.Data)]++
		}
	}
	for body, n := range heard {
		if n != 1 && body != "" {
			t.Errorf("request %s arrived %d times", body, n)
		}
	}
	rest := without(names, busy.name)
	fair(t, "one busy since before", shares(t, nc, "work", 30), rest, 10)
	busy.Close()
	if got := within(t, "the loss", outcome); !errors.Is(got.err, client.ErrResponderLost) {
		t.Errorf("the outcome is %+v", got)
	}
}

// requestUntil sends numbered requests, one after the other, and wants an answer to each.
func requestUntil(stop chan struct{}, nc *nats.Conn, i int) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := nc.Request("work", fmt.Appendf(nil, "%d-%d", i, n), patience); err != nil {
			return fmt.Errorf("request %d-%d: %w", i, n, err)
		}
	}
}
