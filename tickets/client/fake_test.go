package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// patience is how long anything may take that must happen.
const patience = 10 * time.Second

// fake is a broker of one client that does with each message what the test says.
type fake struct {
	t      *testing.T
	l      net.Listener
	handle func(*fake, *pub)

	mu   sync.Mutex
	conn net.Conn          // of the client
	subs map[string]string // subject by sid
	done sync.WaitGroup
}

// pub is a message that the client has sent.
type pub struct {
	subject, reply, headers, body string
}

// header gives the value of a header, "" if there is none.
func (p *pub) header(name string) string {
	for line := range strings.SplitSeq(p.headers, "\r\n") {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return value
		}
	}
	return ""
}

// startFake runs a fake broker and a client that is connected to it, both up to the
// test's end.
func startFake(t *testing.T, handle func(*fake, *pub), opts ...nats.Option) (*fake, *nats.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, l: l, handle: handle}
	f.done.Go(f.serve)
	t.Cleanup(func() {
		l.Close()
		f.hangUp()
		f.done.Wait()
	})
	nc, err := nats.Connect("nats://"+l.Addr().String(), append([]nats.Option{nats.ReconnectWait(time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return f, nc
}

func (f *fake) serve() {
	for {
		conn, err := f.l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conn, f.subs = conn, map[string]string{}
		f.mu.Unlock()
		f.write("INFO {\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n")
		f.read(bufio.NewReader(conn))
	}
}

func (f *fake) write(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	io.WriteString(f.conn, s)
}

// hangUp ends the connection.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		f.conn.Close()
	}
}

func (f *fake) read(in *bufio.Reader) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch words[0] {
		case "PING":
			f.write("PONG\r\n")
		case "SUB":
			f.mu.Lock()
			f.subs[words[len(words)-1]] = words[1]
			f.mu.Unlock()
		case "UNSUB":
			f.mu.Lock()
			delete(f.subs, words[1])
			f.mu.Unlock()
		case "PUB", "HPUB":
			p, err := message(words, in)
			if err != nil {
				return
			}
			f.handle(f, p)
		}
	}
}

// message reads what follows the line of a message.
func message(words []string, in io.Reader) (*pub, error) {
	p := &pub{subject: words[1]}
	size := func(i int) int { n, _ := strconv.Atoi(words[i]); return n }
	last, head := len(words)-1, 0
	if words[0] == "HPUB" {
		head = size(last - 1)
		words = slices.Delete(words, last-1, last)
		last--
	}
	if last == 3 {
		p.reply = words[2]
	}
	b := make([]byte, size(last)+2)
	_, err := io.ReadFull(in, b)
	p.headers, p.body = string(b[:head]), string(b[head:len(b)-2])
	return p, err
}

// open is how many subscriptions there are.
func (f *fake) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs)
}

// say sends a message to the client, headers with the line ends and the empty line.
func (f *fake) say(subject, headers, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sid, pattern := range f.subs {
		if prefix, wild := strings.CutSuffix(pattern, "*"); pattern == subject || wild && strings.HasPrefix(subject, prefix) {
			fmt.Fprintf(f.conn, "HMSG %s %s %d %d\r\n%s%s\r\n", subject, sid, len(headers), len(headers)+len(body), headers, body)
		}
	}
}

func (f *fake) answer(subject, body string) { f.say(subject, "NATS/1.0\r\n\r\n", body) }

// status sends one; text may hold further header lines.
func (f *fake) status(subject, text string) { f.say(subject, "NATS/1.0 "+text+"\r\n\r\n", "") }

// within is a context that ends when the test has waited long enough.
func within(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx
}

// await polls for what sends no event.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); !ok(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
