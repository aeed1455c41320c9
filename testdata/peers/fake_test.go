package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// fakeBroker delivers what is published to every subscriber of the subject, and to
// the members of a queue group in turn, its own faults aside: drop and repeat name
// messages by number.
type fakeBroker struct {
	drop, repeat int
	id           *identity // TLS after INFO

	mu   sync.Mutex
	n    int
	subs map[string][]fakeSub // by subject; a last token * is one that matches any
}

// fakeSub is one subscription.
type fakeSub struct {
	queue, sid string
	w          *bufio.Writer
}

// start listens on a free port; its connections end with the test.
func (f *fakeBroker) start(t *testing.T) *broker {
	t.Helper()
	f.subs = map[string][]fakeSub{}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{addr: l.Addr().String(), cmd: &exec.Cmd{Process: self}}
	if f.id != nil {
		b.tls = f.id.client()
	}
	return b
}

func (f *fakeBroker) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "INFO {\"version\":\"0\"} \r\n")
	if f.id != nil {
		cert, err := tls.LoadX509KeyPair(f.id.cert, f.id.key)
		if err != nil {
			return
		}
		c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
	for {
		if r.Buffered() == 0 {
			f.flush(w)
		}
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		word := bytes.Fields(line)
		switch string(word[0]) {
		case "PING":
			// An INFO in between, as brokers send one after the first PONG.
			f.write(w, "PONG\r\nINFO {} \r\n")
		case "SUB":
			f.mu.Lock()
			s := fakeSub{sid: string(word[len(word)-1]), w: w}
			if len(word) == 4 {
				s.queue = string(word[2])
			}
			f.subs[string(word[1])] = append(f.subs[string(word[1])], s)
			f.mu.Unlock()
		case "PUB", "HPUB":
			var size int
			fmt.Sscan(string(word[len(word)-1]), &size)
			body := make([]byte, size+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			verb := "MSG"
			if word[0][0] == 'H' {
				verb = "HMSG"
			}
			f.deliver(verb, string(word[1]), word[2:], body)
		}
	}
}

func (f *fakeBroker) write(w *bufio.Writer, s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.WriteString(s)
}

// flush sends what this connection and all subscribers are owed.
func (f *fakeBroker) flush(w *bufio.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Flush()
	for _, subs := range f.subs {
		for _, s := range subs {
			s.w.Flush()
		}
	}
}

// deliver writes MSG subject sid [reply] size, and keeps to its faults.
func (f *fakeBroker) deliver(verb, subject string, rest [][]byte, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	times := 1
	switch f.n {
	case f.drop:
		times = 0
	case f.repeat:
		times = 2
	}
	subs := f.subs[subject]
	if i := strings.LastIndexByte(subject, '.'); i >= 0 {
		subs = append(subs[:len(subs):len(subs)], f.subs[subject[:i]+".*"]...)
	}
	if len(subs) > 0 && subs[0].queue != "" {
		i := f.n % len(subs)
		subs = subs[i : i+1]
	}
	for range times {
		for _, s := range subs {
			fmt.Fprintf(s.w, "%s %s %s %s\r\n%s", verb, subject, s.sid, bytes.Join(rest, []byte(" ")), body)
		}
	}
}
