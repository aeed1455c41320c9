package process

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse.test/interop/certs"
	"gatehouse/testdata/tree"
	"github.com/nats-io/nats.go"
)

// secure makes the broker's certificate and returns the lines about it: those
// that are missing from [listen], and [tls]. Without a use there are none.
func (b *broker) secure(use string) string {
	b.t.Helper()
	if use == "" {
		return ""
	}
	var err error
	b.ca, err = certs.NewAuthority("authority")
	must(b.t, err)
	pair, err := b.ca.Server("P-256")
	must(b.t, err)
	b.released = use == "release"
	f := certs.In(b.dir)
	must(b.t, f.Write(pair, gatehouse))
	return fmt.Sprintf("tls = [\"127.0.0.1:0\"]\n[tls]\ncert = %q\nkey = %q\nunlock_file = %q\nkey_use = %q\n",
		f.Cert, f.Sealed, f.Unlock, use)
}

func (b *broker) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: b.ca.Pool(), ServerName: "localhost"}
}

// dialTLS connects, reads INFO, and goes on in TLS.
func (b *broker) dialTLS(d *net.Dialer) (*client, error) {
	c, err := dialWith(d, b.tls)
	if err != nil {
		return nil, err
	}
	if err := b.secureClient(c); err != nil {
		c.reset()
		return nil, err
	}
	return c, nil
}

// secureClient has a client go on in TLS, where it shows a certificate if it is asked.
func (b *broker) secureClient(c *client, show ...tls.Certificate) error {
	config := b.clientTLS()
	config.Certificates = show
	s := tls.Client(c.conn, config)
	c.conn.SetDeadline(time.Now().Add(patience))
	if err := s.Handshake(); err != nil {
		return err
	}
	c.conn, c.in = s, bufio.NewReaderSize(s, 4<<10)
	return nil
}

// tlsClient is client in TLS.
func (b *broker) tlsClient(first string) *client {
	b.t.Helper()
	return b.tlsClientBy(&net.Dialer{Timeout: patience}, first)
}

func (b *broker) tlsClientBy(d *net.Dialer, first string) *client {
	b.t.Helper()
	c, err := b.dialTLS(d)
	must(b.t, err)
	return b.login(c, first)
}

// tlsClientOn connects until a connection lands on that cm.
func (b *broker) tlsClientOn(role string) *client {
	b.t.Helper()
	for range 20 {
		if c := b.tlsClient(""); b.homeOf(c) == role {
			return c
		}
	}
	b.t.Fatalf("none of many connections is on %s", role)
	return nil
}

// uses are the places of the private key.
var uses = []string{"sign", "release"}

// Bodies cross from one connection manager to the other, into TLS and out of
// it, as they are.
func TestTLSAcrossCMs(t *testing.T) {
	for _, use := range uses {
		t.Run(use, func(t *testing.T) {
			b := startBroker(t, settings{cms: 2, tls: use})
			clients := map[string]*client{}
			for _, role := range []string{"cm/0", "cm/1"} {
				clients["TLS "+role], clients["plain "+role] = b.tlsClientOn(role), b.clientOn(role)
			}
			for _, c := range clients {
				must(t, c.send("SUB all 1\r\n"))
				must(t, c.sync())
			}
			for _, size := range []int{1, 16 << 10, 1 << 20} {
				for from, sender := range clients {
					body := make([]byte, size)
					rand.Read(body)
					go sender.send(pub("all", string(body)))
					for to, c := range clients {
						if f, err := c.next(); err != nil || !bytes.Equal(f.body, body) {
							t.Fatalf("%d bytes from %s to %s: %q with %d others, %v", size, from, to, f.line, len(f.body), err)
						}
					}
				}
			}
		})
	}
}

// A subscriber in TLS that stops reading is cut off at max_pending; the others
// go on.
func TestTLSStoppedReader(t *testing.T) {
	const stopped, n, size = 2, 20_000, 1024
	b := startBroker(t, settings{cms: 2, tls: "sign", limits: `max_pending = "1MiB"`})
	for range stopped {
		b.tlsClientBy(smallWindow(4<<10), "SUB flood 1\r\n")
	}
	reader, publisher := b.tlsClient("SUB flood 1\r\n"), b.tlsClient("")
	calm := startCalm(t, b.tlsClient(""), b.client(""), 0)
	read, published := make(chan error, 1), make(chan error, 1)
	go func() { read <- reader.readNumbered(n, size) }()
	go func() { published <- publisher.publishNumbered("flood", n, size) }()
	if err := errors.Join(within(t, "the publisher", published), within(t, "the reader", read)); err != nil {
		t.Error(err)
	}
	await(t, "the end of those who read nothing", patience, func() bool {
		return len(b.log.All("connection ended", "reason", "slow_consumer")) >= stopped
	})
	calm.end(t)
	must(t, publisher.sync())
	st := b.status()
	if slow := st.Sum(func(p tree.Process) uint64 { return p.SlowConsumers }); slow != stopped {
		t.Errorf("status counts %d slow consumers, want %d", slow, stopped)
	}
	await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
}

// A reader in TLS that is only slow slows its publisher and loses nothing.
func TestTLSSlowReader(t *testing.T) {
	t.Parallel()
	const size, total = 16 << 10, 60 << 20
	b := startBroker(t, settings{cms: 2, tls: "sign", limits: "max_pending = \"8MiB\"\nwrite_deadline = \"400ms\""})
	reader, publisher := b.tlsClientBy(smallWindow(64<<10), "SUB flood 1\r\n"), b.tlsClient("")
	tick := time.NewTicker(pace)
	defer tick.Stop()
	reader.in.Reset(&paced{from: reader.conn, rate: 20 << 20, fast: make(chan struct{}), tick: tick})
	read, published := make(chan error, 1), make(chan error, 1)
	go func() { read <- reader.readNumbered(total/size, size) }()
	go func() { published <- publisher.publishNumbered("flood", total/size, size) }()
	if err := errors.Join(within(t, "the publisher", published), within(t, "the reader", read)); err != nil {
		t.Error(err)
	}
}

// SIGTERM drains connections in TLS as it does others, and each ends with a
// farewell: what came before it is all there was.
func TestTLSStopUnderTraffic(t *testing.T) {
	b := startBroker(t, settings{cms: 2, tls: "sign"})
	b.stopUnderTraffic(b.tlsClient)
}

func TestTLSFarewell(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{tls: "sign"})
	c := b.tlsClient("SUB a 1\r\n")
	b.cmd.Process.Signal(syscall.SIGTERM)
	for {
		// Without a close_notify this is io.ErrUnexpectedEOF.
		if f, err := c.next(); err != nil {
			if err != io.EOF {
				t.Errorf("%q, then %v, want the end of TLS", f.line, err)
			}
			break
		}
	}
	b.checkEnd(0, soon)
	b.checkLog()
}

// Clients in TLS of a dead cm come back by themselves, to a cm that has the
// certificate again; those of the other one notice nothing.
func TestTLSKillCM(t *testing.T) {
	for _, use := range uses {
		t.Run(use, func(t *testing.T) {
			b := startBroker(t, settings{cms: 2, tls: use})
			var clients []*nats.Conn
			for range 4 {
				clients = append(clients, b.natsClientAt("tls://"+b.tls, nats.Secure(b.clientTLS())))
			}
			calm := startCalm(t, b.tlsClientOn("cm/1"), b.tlsClientOn("cm/1"), 0)
			others, open := b.processes(), b.openEverywhere()
			for range kills {
				b.killAndServe("cm/0", others)
				for _, nc := range clients {
					awaitAnswer(t, nc)
				}
				b.servesTLS(4)
			}
			calm.end(t)
			back := uint64(0)
			for _, nc := range clients {
				back += nc.Stats().Reconnects
			}
			if back == 0 { // those who came back may all be on the other cm
				t.Error("no client was on the cm that died")
			}
			await(t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
			b.awaitOpen(open)
		})
	}
}

// servesTLS opens n connections, enough to meet every cm.
func (b *broker) servesTLS(n int) {
	b.t.Helper()
	for range n {
		c, err := b.dialTLS(&net.Dialer{Timeout: patience})
		if err == nil {
			err = c.send(quiet)
		}
		if err == nil {
			err = c.sync()
		}
		if err != nil {
			b.t.Fatalf("a new client in TLS: %v", err)
		}
		c.reset()
	}
}

// Roles die amid handshakes. Some of these fail; the broker is whole afterwards.
func TestTLSKillAmidHandshakes(t *testing.T) {
	b := startBroker(t, settings{cms: 2, tls: "sign"})
	var stop atomic.Bool
	var done atomic.Int64
	var storm sync.WaitGroup
	for i := range 8 {
		storm.Go(func() {
			for !stop.Load() {
				if c, err := b.dialTLS(from(i)); err == nil {
					c.send(quiet)
					if c.sync() == nil {
						done.Add(1)
					}
					c.reset()
				}
			}
		})
	}
	for _, role := range []string{"cm/0", "dispatcher", "cm/1", "router", "cm/0", "cm/1"} {
		n := done.Load()
		await(t, "handshakes", patience, func() bool { return done.Load() > n+50 })
		mark := b.log.Mark()
		b.kill(role)
		if b.log.Find(mark, "role ready", patience, "role", role) == nil {
			t.Fatalf("%s did not come back", role)
		}
	}
	stop.Store(true)
	storm.Wait()
	t.Logf("%d clients served", done.Load())
	b.servesTLS(8)
	await(t, "no connection left", patience, func() bool {
		st := b.status()
		return st.Sum(func(p tree.Process) uint64 { return p.Connections }) == 0 && st.Role("dispatcher").Connections == 0
	})
}

// renew replaces certificate and key.
func (b *broker) renew() {
	b.t.Helper()
	pair, err := b.ca.Server("P-256")
	must(b.t, err)
	must(b.t, certs.In(b.dir).Write(pair, gatehouse))
}
