package process

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"gatehouse/testdata/tree"
)

// A binary of which each router dies before a store into shared memory, the n-th of
// the n-th router since its first record, so at every point of a batch, and of
// several; and clients who must not notice: nothing lost, doubled or out of order,
// no connection ended.
func TestRouterDiesAtEveryStore(t *testing.T) {
	t.Parallel()
	deaths := 150
	if testing.Short() {
		deaths = 50
	}
	b := startBroker(t, settings{cms: 2, binary: mortal(t)})
	b.mortal = true
	var all []*crowd
	for i := range 3 {
		all = append(all, startCrowd(t, b, fmt.Sprintf("s%d", i)))
	}
	pair := startCalm(t, b.client(""), b.client(""), 0)
	died := func() int { return len(b.log.All("role died", "role", "router", "reason", "signal killed")) }
	await(t, "the deaths of routers", 3*patience, func() bool { return died() >= deaths })
	for _, c := range all {
		c.end()
	}
	pair.end(t)
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
	t.Logf("%d routers died", died())
}

// mortal builds the binary.
func mortal(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "gatehouse")
	must(t, tree.Build(path, "-tags", "stores"))
	return path
}

// crowd is a publisher and its readers: plain ones, a queue group, and one that
// subscribes anew for each message.
type crowd struct {
	t       testing.TB
	subject string
	sender  *client
	readers []*client
	workers []*client
	fresh   *client
	stop    chan struct{}
	done    sync.WaitGroup
	err     error
	rounds  int
}

func startCrowd(t testing.TB, b *broker, subject string) *crowd {
	t.Helper()
	c := &crowd{t: t, subject: subject, sender: b.client(""), fresh: b.client(""), stop: make(chan struct{})}
	for range 3 {
		r := b.client("SUB " + subject + ".all 1\r\nSUB " + subject + ".> 2\r\n")
		must(t, r.sync())
		c.readers = append(c.readers, r)
	}
	for range 3 {
		w := b.client("SUB " + subject + ".work workers 3\r\n")
		must(t, w.sync())
		c.workers = append(c.workers, w)
	}
	c.done.Go(func() {
		for c.err == nil {
			select {
			case <-c.stop:
				return
			default:
			}
			if c.err = c.round(); c.err != nil {
				c.err = fmt.Errorf("round %d: %w", c.rounds, c.err)
			}
			c.rounds++
		}
	})
	return c
}

// round sends what leads to every kind of output, and takes it all.
func (c *crowd) round() error {
	n := c.rounds
	sid := fmt.Sprintf("f%d", n)
	if err := c.fresh.send(fmt.Sprintf("SUB %s.all %s\r\nUNSUB %s 2\r\nPING\r\n", c.subject, sid, sid)); err != nil {
		return err
	}
	if err := c.fresh.pong(); err != nil {
		return err
	}
	out := ""
	for i := range 3 {
		out += pub(c.subject+".all", fmt.Sprint(3*n+i))
	}
	out += pub(c.subject+".work", fmt.Sprint(n))
	if err := c.sender.send(out + "PING\r\n"); err != nil {
		return err
	}
	if err := c.sender.pong(); err != nil {
		return err
	}
	for _, r := range c.readers {
		if err := c.read(r, n); err != nil {
			return err
		}
	}
	for i := range 2 { // the third is over its limit
		if _, err := c.fresh.message(3*n + i); err != nil {
			return fmt.Errorf("limited: %w", err)
		}
	}
	return c.worked(n)
}

// read takes what one plain reader gets of a round: each message by both of its
// subscriptions, and those to the workers by one.
func (c *crowd) read(r *client, n int) error {
	for i := range 3 {
		for range 2 {
			if _, err := r.message(3*n + i); err != nil {
				return fmt.Errorf("plain: %w", err)
			}
		}
	}
	if _, err := r.message(n); err != nil {
		return fmt.Errorf("plain, of the workers': %w", err)
	}
	return nil
}

// worked wants one of the workers, and one alone, to have the round's message: each
// says PING, which it is answered after what it got.
func (c *crowd) worked(n int) error {
	had := 0
	for _, w := range c.workers {
		if err := w.send("PING\r\n"); err != nil {
			return err
		}
		for {
			f, err := w.next()
			if err != nil {
				return err
			}
			if f.verb() == "PONG" {
				break
			}
			if f.verb() == "MSG" && string(f.body) == fmt.Sprint(n) {
				had++
			} else if f.verb() != "PING" {
				return fmt.Errorf("a worker reads %q with %q", f.line, f.body)
			}
		}
	}
	if had != 1 {
		return fmt.Errorf("%d workers had the message", had)
	}
	return nil
}

func (c *crowd) end() {
	c.t.Helper()
	close(c.stop)
	c.done.Wait()
	if c.err != nil {
		c.t.Error(c.err)
	}
	c.t.Logf("%s: %d rounds", c.subject, c.rounds)
}

// pong reads up to the answer to a PING and wants nothing else.
func (c *client) pong() error {
	for {
		f, err := c.next()
		if err != nil {
			return err
		}
		switch f.verb() {
		case "PONG":
			return nil
		case "PING":
		default:
			return fmt.Errorf("read %q with %q instead of PONG", f.line, f.body)
		}
	}
}
