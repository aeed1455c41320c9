package interop

import (
	"errors"
	"strings"
	"testing"

	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// refusals collects what the broker refuses a connection.
type refusals chan error

func (r refusals) option() nats.Option {
	return nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r <- err })
}

// next wants a refusal of a subscription to subject.
func (r refusals) next(t *testing.T, subject string) {
	t.Helper()
	err := within(t, "a refusal", r)
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Permissions Violation for Subscription to "`+subject+`"`) {
		t.Errorf("told %v", err)
	}
}

// Only the owner of a name may have its subject, no wildcard sees what comes there, and
// it makes no difference where either of them is.
func TestDirect(t *testing.T) {
	b := startModes(t, "")
	subject := client.Direct("pricer", "1")
	if subject != "_APP.pricer.1" {
		t.Errorf("the subject is %s", subject)
	}
	refused := make(refusals, 10)
	owner := &member{name: "owner", Conn: b.connectUnix(client.Name("pricer", "1"))}
	owner.join(t, subject, "")
	monitor := b.member("monitor", ">", "", refused.option(), client.Name("pricer", "2"))
	group := b.member("group", "*.*.*", "g")
	for _, s := range []string{subject, "_APP.>", "_APP.pricer.*", "_APP.*.1", "_APP.pricer", "_APP.pricer.1.x", "_APP.pricer.3"} {
		must(t, errorOf(monitor.SubscribeSync(s)))
		refused.next(t, s)
	}
	for _, nc := range []*nats.Conn{b.connect(), b.connect(), b.connectUnix(), monitor.Conn} {
		if name, err := ask(t, nc, subject, "one"); name != "owner" || err != nil {
			t.Errorf("%s, %v", name, err)
		}
		if m, err := nc.Request(subject, []byte("two"), patience); err != nil || string(m.Data) != "owner" {
			t.Errorf("%v, %v", m, err)
		}
		must(t, nc.Publish(subject, []byte("three")))
		must(t, nc.Flush())
	}
	b.await("all of it", func() bool { return len(owner.all()) == 4*3 })

	nobody := client.Direct("pricer", "2")
	if _, err := ask(t, b.connect(), nobody, ""); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("to nobody: %v", err)
	}
	must(t, monitor.Publish("the.end", nil))
	b.await("the end at who listens to everything", func() bool { return hasHeard(monitor, "the.end") })
	for _, m := range append(monitor.all(), group.all()...) {
		if strings.HasPrefix(m.Subject, "_APP.") {
			t.Errorf("somebody else has had a message on %s", m.Subject)
		}
	}
	if len(refused) > 0 {
		t.Errorf("refused: %v", <-refused)
	}
}

func hasHeard(m *member, subject string) bool {
	for _, msg := range m.all() {
		if msg.Subject == subject {
			return true
		}
	}
	return false
}

// A second client of one name is refused the subject, or takes it over: the one that has
// to do without is told. When the owner has gone the name is free.
func TestDirectTwice(t *testing.T) {
	for _, replace := range []bool{false, true} {
		how := "refuse"
		if replace {
			how = "replace"
		}
		t.Run(how, func(t *testing.T) {
			b := startModes(t, `duplicate_instance = "`+how+`"`)
			subject, refused := client.Direct("pricer", "1"), map[string]refusals{}
			open := func(name string) *member {
				refused[name] = make(refusals, 10)
				return b.member(name, subject, "", client.Name("pricer", "1"), refused[name].option())
			}
			nc, first := b.connect(), open("first")
			second := open("second")
			winner, loser := first, second
			if replace {
				winner, loser = second, first
			}
			refused[loser.name].next(t, subject)
			for range 4 {
				if name, err := ask(t, nc, subject, ""); name != winner.name || err != nil {
					t.Errorf("%s, %v", name, err)
				}
			}
			outcome := keep(t, nc, subject)
			within(t, "the request", winner.kept)
			winner.Close()
			if got := within(t, "the loss", outcome); !errors.Is(got.err, client.ErrResponderLost) {
				t.Errorf("the outcome is %+v", got)
			}
			loser.join(t, subject, "")
			if name, err := ask(t, nc, subject, ""); name != loser.name || err != nil {
				t.Errorf("%s, %v", name, err)
			}
		})
	}
}

// A name keeps its owner over the death of a router.
func TestDirectRouterKilled(t *testing.T) {
	b := startModes(t, "")
	subject, refused := client.Direct("pricer", "1"), make(refusals, 10)
	nc := b.connect()
	owner := &member{name: "owner", Conn: b.connectUnix(client.Name("pricer", "1")), kept: make(chan *nats.Msg, 1)}
	owner.join(t, subject, "")
	outcome := keep(t, nc, subject)
	request := within(t, "the request", owner.kept)
	b.killRouter()
	must(t, request.Respond([]byte("late")))
	if got := within(t, "the answer", outcome); got != (asked{"late", nil}) {
		t.Errorf("the answer is %+v", got)
	}
	b.member("other", subject, "", client.Name("pricer", "1"), refused.option())
	refused.next(t, subject)
	if name, err := ask(t, nc, subject, ""); name != "owner" || err != nil {
		t.Errorf("%s, %v", name, err)
	}
}
