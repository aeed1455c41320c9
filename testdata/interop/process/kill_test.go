package process

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/testdata/tree"
	"github.com/nats-io/nats.go"
)

const (
	kills = 3 // of each role: with more, the next start is delayed on purpose
	// back is how long new clients may wait after the death of a role.
	back = time.Second
)

// All connections outlive the router, and what is on its way through it arrives
// once and in order: between two cms and within one.
func TestKillRouter(t *testing.T) {
	const kills = 25
	b := startBroker(t, settings{cms: 2})
	nc := b.natsClientAt("nats://"+b.addr, nats.NoReconnect())
	var pairs []*calm
	for range 4 { // so that there are some on each cm and some between them
		pairs = append(pairs, startCalm(t, b.client(""), b.client(""), 0))
	}
	others, open := b.processes(), b.openEverywhere()
	for range kills {
		b.killAndServe("router", others)
		m, err := nc.Request("echo", []byte("hi"), patience)
		must(t, err)
		if string(m.Data) != "hi" {
			t.Fatalf("nats.go got %q", m.Data)
		}
	}
	for _, c := range pairs {
		c.end(t)
	}
	if st := nc.Stats(); st.Reconnects > 0 {
		t.Errorf("%d reconnects", st.Reconnects)
	}
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
	b.awaitOpen(open)
}

// Messages to so many subscriptions that their instructions do not fit into a ring,
// which go on over the deaths of routers: each subscription has each of them once.
func TestKillRouterInFanOut(t *testing.T) {
	const subs, messages, kills = 9000, 30, 12
	b := startBroker(t, settings{cms: 2, store: "ring = \"512KiB\""})
	publisher, done := b.client(""), make(chan error, 2)
	for cm := range 2 {
		c := b.clientOn(fmt.Sprintf("cm/%d", cm))
		var out strings.Builder
		for i := range subs {
			fmt.Fprintf(&out, "SUB many subscription.number.%07d\r\n", i)
		}
		must(t, c.send(out.String()))
		must(t, c.sync())
		go func() { done <- c.each(subs, messages) }()
	}
	sent := make(chan error, 1)
	go func() {
		for n := range messages {
			if err := publisher.send(pub("many", fmt.Sprint(n))); err != nil {
				sent <- err
				return
			}
		}
		sent <- publisher.sync()
	}()
	for range kills {
		mark := b.log.Mark()
		b.kill("router")
		if b.log.Find(mark, "took over", patience, "role", "router") == nil {
			t.Fatal("the router did not come back")
		}
	}
	must(t, <-sent)
	for range 2 {
		must(t, <-done)
	}
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
}

// each reads messages of the numbers from 0 on, each once for each of the
// subscriptions.
func (c *client) each(subs, messages int) error {
	for n := range messages {
		had := make(map[string]bool, subs)
		for range subs {
			f, err := c.message(n)
			if err != nil {
				return fmt.Errorf("message %d, after %d: %w", n, len(had), err)
			}
			sid := strings.Fields(f.line)[2]
			if had[sid] {
				return fmt.Errorf("message %d: %s has it twice", n, sid)
			}
			had[sid] = true
		}
	}
	return nil
}

// A router that finds nonsense in the place of the state of the one before says so
// and begins anew: connections end, new ones are served.
func TestUnreadableState(t *testing.T) {
	b := startBroker(t, settings{cms: 2})
	c := b.client("SUB x 1\r\n")
	must(t, c.sync())
	m := b.memoryOf("router")
	b.signal("router", syscall.SIGSTOP)
	m.setWord("router_state", stateCommit, 1<<40)
	mark := b.log.Mark()
	b.kill("router")
	if l := b.log.Find(mark, "state not readable", patience, "role", "router"); l == nil {
		t.Fatal("the log does not tell")
	}
	if text := c.rest(); text != "" {
		t.Errorf("the client was told %q", text)
	}
	await(t, "service", patience, func() bool { return b.serves() == nil })
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
}

// The connections of a dead dispatcher are the cms'; new ones wait in the
// listen queue and none is refused.
func TestKillDispatcher(t *testing.T) {
	b := startBroker(t, settings{cms: 2})
	calm := startCalm(t, b.client(""), b.client(""), 0)
	others, open := b.processes(), b.openEverywhere()
	for range kills {
		pid := b.processes()["dispatcher"]
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		refused, dialed := make(chan error, 20), new(sync.WaitGroup)
		for range cap(refused) {
			dialed.Go(func() {
				c, err := dial(b.addr)
				refused <- err
				if err == nil {
					c.reset()
				}
			})
		}
		b.killAndServe("dispatcher", others)
		dialed.Wait()
		for range cap(refused) {
			if err := <-refused; err != nil {
				t.Errorf("a connection during the dispatcher's absence: %v", err)
			}
		}
	}
	calm.end(t)
	b.awaitOpen(open)
}

// A dispatcher dies with handoffs on their way: the cm that has them takes each
// once, and no place of the connection table is lost.
func TestKillDispatcherInFlight(t *testing.T) {
	const n = 30
	b := startBroker(t, settings{cms: 1})
	for range kills {
		b.signal("cm/0", syscall.SIGSTOP)
		greeted := make(chan *client, n)
		for range n {
			go func() {
				c, err := dial(b.addr)
				if err != nil {
					t.Errorf("a connection on its way: %v", err)
				}
				greeted <- c
			}()
		}
		connections := func() uint64 { st := b.status(); return st.Role("dispatcher").Connections }
		await(t, "handoffs", patience, func() bool { return connections() == n })
		b.kill("dispatcher")
		b.signal("cm/0", syscall.SIGCONT)
		for range n {
			if c := within(t, "INFO", greeted); c != nil {
				must(t, c.send(quiet))
				must(t, c.sync())
				c.reset()
			}
		}
		await(t, "an empty connection table", patience, func() bool { return b.serves() == nil && connections() == 0 })
	}
}

func TestKillCM(t *testing.T) {
	b := startBroker(t, settings{cms: 2})
	nc := b.natsClient()
	var here, there []*client // clients of cm/0, of cm/1
	for range 8 {
		if c := b.client("SUB x 1\r\n"); b.homeOf(c) == "cm/0" {
			here = append(here, c)
		} else {
			there = append(there, c)
		}
	}
	if len(here) < 3 || len(there) < 3 {
		t.Fatalf("%d clients on cm/0, %d on cm/1", len(here), len(there))
	}
	calm := startCalm(t, there[0], there[1], 0)
	others, open := b.processes(), b.openEverywhere()
	for i := range kills {
		b.killAndServe("cm/0", others)
		awaitAnswer(t, nc)
		if i == 0 {
			for _, c := range here {
				if text := c.rest(); text != "" {
					t.Errorf("a client of the dead cm was told %q", text)
				}
			}
		}
	}
	calm.end(t)
	must(t, there[2].sync())
	if st := b.status(); st.Role("cm/0").Restarts != kills || st.Role("cm/1").Restarts != 0 {
		t.Errorf("restarts: %+v", st.Processes)
	}
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
	b.awaitOpen(open)
}

// openEverywhere is what each process has open, but for clients.
func (b *broker) openEverywhere() map[string]string {
	b.t.Helper()
	all, kinds := map[string]string{}, tree.Sockets()
	for role, pid := range b.processes() {
		count, err := tree.Descriptors(pid, kinds)
		must(b.t, err)
		delete(count, "tcp connection")
		delete(count, "") // a socket that has come or gone since it was listed
		all[role] = fmt.Sprint(count)
	}
	return all
}

// awaitOpen wants every process, the new ones too, to have open what was open
// before: nothing is left of those that died.
func (b *broker) awaitOpen(before map[string]string) {
	b.t.Helper()
	var now map[string]string
	defer func() {
		if b.t.Failed() {
			b.t.Logf("open now:    %v\nopen before: %v", now, before)
		}
	}()
	await(b.t, "the descriptors of before", soon, func() bool {
		now = b.openEverywhere()
		return maps.Equal(now, before)
	})
}

// killAndServe kills a role and wants new clients served by both cms within
// back, by a new process of that role and the same of all others.
func (b *broker) killAndServe(role string, others map[string]int) {
	b.t.Helper()
	mark := b.log.Mark()
	killed := time.Now()
	pid := b.kill(role)
	tries := 0
	for err := error(fmt.Errorf("not tried")); err != nil; tries++ {
		if err = b.serves(); err != nil && time.Since(killed) > patience {
			b.t.Fatalf("%v after the death of %s: %v", patience, role, err)
		}
	}
	took := time.Since(killed)
	b.t.Logf("%s killed: clients served after %v, at attempt %d", role, took, tries)
	if took > back {
		b.t.Errorf("clients served %v after the death of %s, want at most %v", took, role, back)
	}
	ready := b.log.Find(mark, "role ready", patience, "role", role)
	if ready == nil || b.log.Find(mark, "role died", patience, "role", role, "reason", "signal killed") == nil {
		b.t.Fatalf("the log does not tell of the death of %s and its return", role)
	}
	now := b.processes()
	for r, p := range others {
		if changed := now[r] != p; r != role && changed {
			b.t.Errorf("%s is pid %d, was %d", r, now[r], p)
		}
	}
	if now[role] == pid || now[role] == 0 {
		b.t.Errorf("%s is pid %d, was %d", role, now[role], pid)
	}
	checkTasks(b.t, now[role])
}

// serves lets four new clients, so that there is one on each cm, hear each
// other.
func (b *broker) serves() error {
	var all []*client
	for range 4 {
		c, err := dial(b.addr)
		if err != nil {
			return err
		}
		defer c.reset()
		if err = c.send(quiet + "SUB hello 1\r\n"); err == nil {
			err = c.sync()
		}
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	for i, c := range all {
		if err := c.send(pub("hello", fmt.Sprint(i))); err != nil {
			return err
		}
		for _, other := range all {
			if _, err := other.message(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// natsClient is nats.go with a responder on "echo", which comes back quickly
// when its connection ends.
func (b *broker) natsClient() *nats.Conn {
	b.t.Helper()
	return b.natsClientAt("nats://" + b.addr)
}

func (b *broker) natsClientAt(url string, opts ...nats.Option) *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.Timeout(patience))...)
	must(b.t, err)
	b.t.Cleanup(nc.Close)
	_, err = nc.Subscribe("echo", func(m *nats.Msg) { m.Respond(m.Data) })
	must(b.t, err)
	return nc
}

// awaitAnswer wants a nats.go client to be at work, again if need be by itself.
func awaitAnswer(t testing.TB, nc *nats.Conn) {
	t.Helper()
	await(t, "an answer through nats.go", patience, func() bool {
		m, err := nc.Request("echo", []byte("hi"), 200*time.Millisecond)
		return err == nil && string(m.Data) == "hi"
	})
}

// Roles die in the middle of traffic. Whatever it was that they were at, the
// broker is whole afterwards: both cms serve, and no body is kept for ever.
func TestKillUnderLoad(t *testing.T) {
	b := startBroker(t, settings{cms: 2})
	var stop atomic.Bool
	var load sync.WaitGroup
	var received atomic.Int64
	for i := range 4 {
		nc := b.natsClient()
		for _, subject := range []string{"load", "load.>", "*"} {
			_, err := nc.QueueSubscribe(subject, "", func(*nats.Msg) { received.Add(1) })
			must(t, err)
		}
		load.Go(func() {
			body := []byte(strings.Repeat("x", 100<<(3*i)))
			for n := 0; !stop.Load(); n++ {
				nc.Publish([]string{"load", "load.a"}[n%2], body)
				if n%64 == 0 {
					nc.FlushTimeout(time.Second)
				}
			}
		})
	}
	var killed []string
	for _, role := range []string{"router", "cm/0", "dispatcher", "cm/1", "router", "cm/1", "cm/0", "router"} {
		n := received.Load()
		await(t, "traffic", patience, func() bool { return received.Load() > n+200 })
		mark := b.log.Mark()
		b.kill(role)
		killed = append(killed, role)
		if b.log.Find(mark, "role ready", patience, "role", role) == nil {
			t.Fatalf("%s did not come back", role)
		}
	}
	stop.Store(true)
	load.Wait()
	t.Logf("killed %v; %d messages received", killed, received.Load())
	await(t, "service", patience, func() bool { return b.serves() == nil })
	var st *tree.Status
	defer func() {
		if t.Failed() {
			t.Logf("%+v", st)
		}
	}()
	await(t, "empty arenas and four connections", patience, func() bool {
		st = b.status()
		conns := func(p tree.Process) uint64 { return p.Connections }
		return st.Empty() && st.Sum(conns) == 4 && st.Role("router").Connections == 4 && st.Role("dispatcher").Connections == 4
	})
}
