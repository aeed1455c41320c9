package process

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// calm is a pair of well-behaved clients in steady exchange: one sends numbered
// requests, a few at a time, the other answers each. Whatever a test does to
// the broker beside them, nothing may be lost, doubled or out of order.
type calm struct {
	asks, answers *client
	stop          chan struct{}
	done          sync.WaitGroup
	err           error

	rounds  int
	slowest time.Duration
	at      time.Time // end of the slowest round
}

// calmBatch is how many requests are under way at a time.
const calmBatch = 8

// startCalm begins the exchange; pace is the time between rounds, 0 for none.
// The subject is nobody else's.
func startCalm(t testing.TB, asks, answers *client, pace time.Duration) *calm {
	t.Helper()
	c := &calm{asks: asks, answers: answers, stop: make(chan struct{})}
	subject := fmt.Sprintf("calm.%p.%d", c, time.Now().UnixNano())
	must(t, answers.send("SUB "+subject+" c\r\n"))
	must(t, answers.sync())
	must(t, asks.send("SUB "+subject+".back c\r\n"))
	must(t, asks.sync())
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		c.err = c.run(subject, pace)
	}()
	return c
}

func (c *calm) run(subject string, pace time.Duration) error {
	tick := time.NewTicker(max(pace, time.Nanosecond))
	defer tick.Stop()
	for n := 0; ; n += calmBatch {
		began := time.Now()
		if err := c.round(subject, n); err != nil {
			return fmt.Errorf("in round %d: %w", c.rounds, err)
		}
		c.rounds++
		if took := time.Since(began); took > c.slowest {
			c.slowest, c.at = took, time.Now()
		}
		select {
		case <-c.stop:
			return nil
		default:
		}
		if pace > 0 {
			<-tick.C
		}
	}
}

func (c *calm) round(subject string, n int) error {
	out := ""
	for i := range calmBatch {
		body := fmt.Sprint(n + i)
		out += fmt.Sprintf("PUB %s %s.back %d\r\n%s\r\n", subject, subject, len(body), body)
	}
	if err := c.asks.send(out); err != nil {
		return err
	}
	out = ""
	for i := range calmBatch {
		f, err := c.answers.message(n + i)
		if err != nil {
			return fmt.Errorf("request %d: %w", n+i, err)
		}
		out += pub(subject+".back", string(f.body))
	}
	if err := c.answers.send(out); err != nil {
		return err
	}
	for i := range calmBatch {
		if _, err := c.asks.message(n + i); err != nil {
			return fmt.Errorf("answer %d: %w", n+i, err)
		}
	}
	return nil
}

// strangerLost comes where a stranger has subscribed to everything in a queue group,
// and has gone without having answered.
const strangerLost = "NATS/1.0 503 Responder Lost\r\n\r\n"

// message reads the message with this number.
func (c *client) message(n int) (frame, error) {
	for {
		f, err := c.next()
		if err != nil {
			return f, err
		}
		if f.verb() == "PING" {
			if err := c.send("PONG\r\n"); err != nil {
				return f, err
			}
			continue
		}
		if f.verb() == "HMSG" && string(f.body) == strangerLost {
			continue
		}
		if f.verb() != "MSG" || string(f.body) != fmt.Sprint(n) {
			return f, fmt.Errorf("read %q with %q", f.line, f.body)
		}
		return f, nil
	}
}

// end stops the exchange, which must have gone on without a fault.
func (c *calm) end(t testing.TB) {
	t.Helper()
	close(c.stop)
	c.done.Wait()
	if c.err != nil {
		t.Errorf("well-behaved clients: %v", c.err)
	}
	if c.rounds == 0 {
		t.Error("well-behaved clients exchanged nothing")
	}
	t.Logf("well-behaved clients: %d requests, slowest round %v", c.rounds*calmBatch, c.slowest)
}
