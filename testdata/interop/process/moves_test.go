package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// busy is a client that talks to itself: numbered messages, several a
// millisecond, each of which must come back once and in its turn. What a replaced
// process costs it is the longest wait for the next.
type busy struct {
	c     *client
	stop  chan struct{}
	waits []wait
	n     int
	err   error
}

// wait is one exchange: when it began and how long it took.
type wait struct {
	began time.Time
	took  time.Duration
}

func (u *busy) run(subject string, pace time.Duration) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ; ; u.n++ {
		began := time.Now()
		if err := u.c.send(pub(subject, fmt.Sprint(u.n))); err != nil {
			return fmt.Errorf("message %d: %w", u.n, err)
		}
		if _, err := u.c.message(u.n); err != nil {
			return fmt.Errorf("message %d: %w", u.n, err)
		}
		u.waits = append(u.waits, wait{began, time.Since(began)})
		select {
		case <-u.stop:
			return nil
		case <-tick.C:
		}
	}
}

const idle, many = 5000, 100

// Five thousand idle and a hundred busy connections are moved from process to
// process: none is dropped, nothing lost, doubled or out of order, and nobody
// waits long.
func TestMoves(t *testing.T) {
	b := startBroker(t, settings{cms: 1})
	for try := 1; ; try++ {
		late := b.moves(20, func(int) {
			out := b.restart(b.cms()[0])
			if !strings.Contains(out, fmt.Sprintf(" %d connections moved\n", idle+many)) {
				t.Errorf("told %q", out)
			}
		})
		if late == 0 {
			break
		}
		if try == 3 { // what others do to the machine does not show each time
			t.Errorf("somebody waited for %v", late)
			break
		}
	}
}

// The same crowd goes through upgrades to another binary and back. GATEHOUSE_UPGRADES
// says how many, for a long run.
func TestUpgradesOfMany(t *testing.T) {
	times := 2
	if n, err := strconv.Atoi(os.Getenv("GATEHOUSE_UPGRADES")); err == nil {
		times = n
	}
	b := startCopy(t, settings{cms: 1})
	next := filepath.Join(t.TempDir(), "next")
	build(t, next, "next")
	late := b.moves(times, func(i int) {
		copyFile(t, []string{next, gatehouse}[i%2], b.binary)
		out, err := b.upgrade()
		if err != nil || !strings.Contains(out, fmt.Sprintf(" %d connections moved\n", idle+many)) {
			t.Errorf("upgrade %d: %v\n%s", i, err, out)
		}
	})
	if late > 0 {
		t.Errorf("somebody waited for %v", late)
	}
}

// moves has a throng of clients moved so many times. It gives the longest wait of one of
// them, 0 if that was short, or as on this machine before.
func (b *broker) moves(times int, move func(i int)) (late time.Duration) {
	g := b.gather()
	var open map[string]string
	for i := range times {
		move(i)
		b.awaitAlone()
		if i == 0 {
			open = b.openEverywhere()
		}
	}
	b.t.Logf("%d moves of %d connections in %v", times, idle+many, time.Since(g.began))
	late = g.disperse(100 * time.Millisecond)
	for role, was := range open {
		if role == "parent" || role == "router" || role == "dispatcher" {
			if now := b.openEverywhere()[role]; now != was {
				b.t.Errorf("%s has open %s, before %s", role, now, was)
			}
		}
	}
	for _, p := range b.status().Processes {
		b.t.Logf("%s: %d KiB", p.Role, p.Memory>>10)
	}
	g.leave()
	return late
}

// throng is many clients, some of which talk to themselves all the time.
type throng struct {
	b       *broker
	idle    []*client
	busy    []*busy
	stop    chan struct{}
	running sync.WaitGroup
	began   time.Time // what is done to them
}

func (b *broker) gather() *throng {
	t := b.t
	g := &throng{b: b, idle: make([]*client, idle), stop: make(chan struct{})}
	t.Cleanup(func() {
		for _, c := range g.idle {
			if c != nil {
				c.reset()
			}
		}
	})
	b.each(16, idle, func(i int) (err error) {
		if g.idle[i], err = dialWith(from(i), b.addr); err != nil {
			return err
		}
		if err := g.idle[i].send(quiet + "SUB all 1\r\nSUB queue q 2\r\n"); err != nil {
			return err
		}
		return g.idle[i].sync()
	})
	if t.Failed() {
		t.FailNow()
	}
	for i := range many {
		subject := fmt.Sprintf("busy.%d", i)
		u := &busy{c: b.client("SUB " + subject + " 1\r\n"), stop: g.stop}
		g.busy = append(g.busy, u)
		g.running.Go(func() { u.err = u.run(subject, 10*time.Millisecond) })
	}
	<-time.After(time.Second) // what the machine alone makes them wait
	g.began = time.Now()
	return g
}

// disperse gives the longest wait, if it was longer than longest and than before, and
// ends the talking, in which nothing may have been lost, doubled or out of
// order, nor anybody, on a machine that is not too busy, have waited for longer than
// that; and all idle ones must be there.
func (g *throng) disperse(longest time.Duration) (late time.Duration) {
	t := g.b.t
	t.Helper()
	close(g.stop)
	g.running.Wait()
	var before, waits []time.Duration
	messages := 0
	for i, u := range g.busy {
		if u.err != nil {
			t.Errorf("busy client %d: %v", i, u.err)
		}
		messages += u.n
		for _, w := range u.waits {
			if w.began.Before(g.began) {
				before = append(before, w.took)
			} else {
				waits = append(waits, w.took)
			}
		}
	}
	t.Logf("%d messages\n%sbefore:\n%s", messages, histogram(waits), histogram(before))
	if most := slices.Max(waits); most > longest && slices.Max(before) < longest/2 {
		late = most
	}
	publisher := g.b.client("")
	must(t, publisher.send(pub("all", "hello")+pub("queue", "one")))
	must(t, publisher.sync())
	one := 0
	for i, c := range g.idle {
		f, err := c.next()
		if err != nil || f.line != "MSG all 1 5" {
			t.Fatalf("idle client %d: %q, %v", i, f.line, err)
		}
		must(t, c.send("PING\r\n"))
		if f, err = c.next(); err == nil && f.line == "MSG queue 2 3" {
			one++
			f, err = c.next()
		}
		if err != nil || f.line != "PONG" {
			t.Fatalf("idle client %d: %q, %v", i, f.line, err)
		}
	}
	if one != 1 {
		t.Errorf("%d members of the queue group got its message", one)
	}
	return late
}

// leave ends their connections.
func (g *throng) leave() {
	for i, c := range g.idle {
		c.reset()
		g.idle[i] = nil
	}
	for _, u := range g.busy {
		u.c.reset()
	}
}

// awaitAlone waits for the end of a process that has been replaced.
func (b *broker) awaitAlone() {
	b.t.Helper()
	await(b.t, "the end of the replaced process", patience, func() bool { return len(b.processes()) == 4 })
}

// histogram shows how long waits were, by powers of two.
func histogram(waits []time.Duration) string {
	counts := map[int]int{}
	top := 0
	for _, w := range waits {
		k := 0
		for limit := time.Millisecond; w >= limit; limit *= 2 {
			k++
		}
		counts[k]++
		top = max(top, k)
	}
	var b strings.Builder
	for k := range top + 1 {
		fmt.Fprintf(&b, "  below %4d ms %8d\n", 1<<k, counts[k])
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		fmt.Fprintf(&b, "  p50 %v, p99 %v, longest %v\n", waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)-1])
	}
	return b.String()
}
