package process

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/testdata/tree"
	"github.com/nats-io/nats.go"
)

const (
	streams = 20_000
	workers = 12 // connections at a time
)

// seed is random, or what GATEHOUSE_SEED says; it is printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if given := os.Getenv("GATEHOUSE_SEED"); given != "" {
		var err error
		n, err = strconv.ParseUint(given, 10, 64)
		must(t, err)
	}
	t.Logf("GATEHOUSE_SEED=%d", n)
	return n
}

// Streams that were true once and then changed, cut short, and written in odd
// pieces, by many connections at a time: every process stays, and beside them
// well-behaved clients lose nothing and are never disconnected.
func TestHostileStreams(t *testing.T) {
	b := startBroker(t, settings{cms: 2, limits: "auth_timeout = \"300ms\"\nmax_connections = 64"})
	transcripts := append(b.record(), handwritten...)
	before := b.processes()
	calm := startCalm(t, b.client(""), b.client(""), time.Millisecond)
	nc := b.natsClient()
	nc.SetDisconnectErrHandler(func(_ *nats.Conn, err error) { t.Errorf("nats.go was disconnected: %v", err) })
	from, began := seed(t), time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for n := next.Add(1); n <= streams; n = next.Add(1) {
				h := &hostile{b: b, rnd: rand.New(rand.NewPCG(from, uint64(n))), n: int(n)}
				if err := h.run(h.mutate(transcripts)); err != nil {
					t.Errorf("stream %d: %v", n, err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d streams in %v", streams, time.Since(began))
	awaitAnswer(t, nc)
	nc.SetDisconnectErrHandler(nil)
	calm.end(t)
	b.unchanged(before)
	var st *tree.Status
	await(t, "the end of all hostile connections", patience, func() bool {
		st = b.status()
		return st.Role("router").Connections == 3 && st.Role("dispatcher").Connections == 3 && st.Empty()
	})
	if n := st.Role("router").Subscriptions; n != 2+2 { // calm's, echo and nats.go's inbox
		t.Errorf("%d subscriptions are left", n)
	}
	for _, event := range []string{"record refused", "handoff refused", "role killed at another's word"} {
		if n := len(b.log.All(event)); n > 0 {
			t.Errorf("%d lines %q in the log", n, event)
		}
	}
}

// hostile is one connection of the flood.
type hostile struct {
	b   *broker
	rnd *rand.Rand
	n   int
}

// run plays a stream. That the broker refuses it is as good as that it does not;
// the faults are not to take the connection, and not to end it.
func (h *hostile) run(stream string) error {
	c, err := h.connect()
	if err != nil {
		return err
	}
	defer c.reset()
	h.write(c, stream)
	switch h.rnd.IntN(8) {
	case 0: // a reset, with whatever is unread
	case 1: // a farewell, without reading
		c.conn.Close()
	case 2: // nothing more, until the broker has had enough
		c.conn.SetReadDeadline(time.Now().Add(time.Duration(h.rnd.IntN(20)) * time.Millisecond))
		io.Copy(io.Discard, c.in)
	default: // no more from here, all from there
		c.conn.(interface{ CloseWrite() error }).CloseWrite()
		c.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c.in); errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("still open %v after its end: %q", patience, stream)
		}
	}
	return nil
}

// connect takes either listener.
func (h *hostile) connect() (*client, error) {
	addr, d := h.b.addr, from(h.n)
	if h.rnd.IntN(2) == 0 {
		addr, d = h.b.unix, &net.Dialer{Timeout: patience}
	}
	return dialWith(d, addr)
}

// write sends a stream in pieces of any size; an error is the broker's answer.
func (h *hostile) write(c *client, stream string) {
	for len(stream) > 0 {
		n := len(stream)
		if h.rnd.IntN(3) > 0 {
			n = 1 + h.rnd.IntN(n)
		}
		if c.send(stream[:n]) != nil {
			return
		}
		stream = stream[n:]
	}
}

// mutate makes a new stream out of true ones.
func (h *hostile) mutate(transcripts []string) string {
	s := []byte(transcripts[h.rnd.IntN(len(transcripts))])
	if h.rnd.IntN(4) == 0 { // two, spliced anywhere
		other := transcripts[h.rnd.IntN(len(transcripts))]
		s = append(s[:h.rnd.IntN(len(s)+1)], other[h.rnd.IntN(len(other)):]...)
	}
	for range h.rnd.IntN(5) {
		s = mutations[h.rnd.IntN(len(mutations))](h.rnd, s)
	}
	if h.rnd.IntN(3) == 0 {
		s = s[:h.rnd.IntN(len(s)+1)]
	}
	return string(s)
}

var mutations = []func(*rand.Rand, []byte) []byte{
	func(r *rand.Rand, s []byte) []byte { // one bit
		if len(s) > 0 {
			s[r.IntN(len(s))] ^= 1 << r.IntN(8)
		}
		return s
	},
	func(r *rand.Rand, s []byte) []byte { // bytes that mean something
		i := r.IntN(len(s) + 1)
		return slices.Insert(s, i, []byte(odd[r.IntN(len(odd))])...)
	},
	func(r *rand.Rand, s []byte) []byte { // a piece away
		i := r.IntN(len(s) + 1)
		return slices.Delete(s, i, i+r.IntN(len(s)-i+1)/2)
	},
	func(r *rand.Rand, s []byte) []byte { // a piece twice
		i := r.IntN(len(s) + 1)
		j := i + r.IntN(len(s)-i+1)
		return slices.Insert(s, j, slices.Clone(s[i:j])...)
	},
	func(r *rand.Rand, s []byte) []byte { // another number
		for i := r.IntN(len(s) + 1); i < len(s); i++ {
			if s[i] >= '0' && s[i] <= '9' {
				return slices.Replace(s, i, i+1, []byte(numbers[r.IntN(len(numbers))])...)
			}
		}
		return s
	},
	func(r *rand.Rand, s []byte) []byte { // noise
		for i := range min(len(s), 1+r.IntN(16)) {
			s[i] = byte(r.IntN(256))
		}
		return s
	},
}

var odd = []string{"\r", "\n", "\r\n", " ", "\t", "\x00", ">", "*", ".", "..", "-ERR 'no'\r\n", "+OK\r\n", "INFO {}\r\n", "PING\r\n",
	"CONNECT {}\r\n", "CONNECT ", "PUB ", "HPUB ", "SUB > 1\r\n", "UNSUB 1\r\n", "MSG a 1 0\r\n\r\n", "\xff\xfe", "é", "$SYS.", "_R_.", "$GNR.",
	strings.Repeat("a.", 300), strings.Repeat("9", 40), strings.Repeat("{", 200)}

var numbers = []string{"", "-1", "0", "00000000000", "1048576", "1048577", "2147483647", "2147483648", "4294967295", "4294967296",
	"9223372036854775807", "18446744073709551616", "1e3", "0x10"}

// handwritten are what nats.go does not say.
var handwritten = []string{
	"PUB a 5\r\nhello\r\nPING\r\n",
	"CONNECT {}\r\nSUB a.* q 1\r\nSUB a.b q 2\r\nPUB a.b r 3\r\nabc\r\nUNSUB 1 5\r\nUNSUB 2\r\nPING\r\n",
	quiet + "HPUB a r 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHPUB b 0 0\r\n\r\nPING\r\n",
	`CONNECT {"verbose":true,"pedantic":true,"echo":false,"protocol":1,"name":"x/1"}` + "\r\nSUB > 1\r\nPUB .. 0\r\n\r\nPUB a.* 2\r\nhi\r\nPING\r\n",
	quiet + "SUB big 1\r\nPUB big 70000\r\n" + strings.Repeat("0123456789", 7000) + "\r\nPING\r\n",
	"sub\tfoo\t  bar   1\r\nping and more\r\npub foo 0\r\n\r\npong\r\n+ok\r\ninfo {\"a\":1}\r\n",
}

// record lets nats.go do much of what it can and returns what it sent, one
// transcript a connection.
func (b *broker) record() (transcripts []string) {
	b.t.Helper()
	var mu sync.Mutex
	use := func(what func(*nats.Conn)) {
		var sent strings.Builder
		nc, err := nats.Connect("nats://"+b.addr, nats.NoReconnect(), nats.SetCustomDialer(tapDialer(func(p []byte) {
			mu.Lock()
			defer mu.Unlock()
			sent.Write(p)
		})))
		must(b.t, err)
		what(nc)
		nc.Flush()
		nc.Close()
		mu.Lock()
		defer mu.Unlock()
		transcripts = append(transcripts, sent.String())
	}
	use(func(nc *nats.Conn) {
		sub, _ := nc.SubscribeSync("a.>")
		for i := range 5 {
			nc.Publish(fmt.Sprintf("a.%d", i), []byte(strings.Repeat("x", 1<<(3*i))))
		}
		sub.AutoUnsubscribe(7)
		sub.NextMsg(patience)
		sub.Unsubscribe()
	})
	use(func(nc *nats.Conn) {
		nc.QueueSubscribe("work", "q", func(m *nats.Msg) { m.Respond(m.Data) })
		m := nats.NewMsg("work")
		m.Header.Add("Key", "value")
		m.Data = []byte("job")
		nc.RequestMsg(m, patience)
		nc.Request("nobody.there", nil, patience)
	})
	use(func(nc *nats.Conn) {
		nc.Subscribe("d.*", func(*nats.Msg) {})
		for range 50 {
			nc.Publish("d.x", []byte("drained"))
		}
		nc.Flush()
		nc.Drain()
		await(b.t, "the end of a drain", patience, nc.IsClosed)
	})
	for i, s := range transcripts {
		if !strings.HasPrefix(s, "CONNECT {") || !strings.Contains(s, "SUB ") || !strings.Contains(s, "PUB ") {
			b.t.Fatalf("transcript %d is %q", i, s)
		}
	}
	return transcripts
}

// tapDialer shows what is written to the connections that it makes.
type tapDialer func([]byte)

type tapped struct {
	net.Conn
	show func([]byte)
}

func (show tapDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, patience)
	return &tapped{conn, show}, err
}

func (t *tapped) Write(b []byte) (int, error) {
	t.show(b)
	return t.Conn.Write(b)
}
