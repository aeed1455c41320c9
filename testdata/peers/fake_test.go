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
	"sync"
	"testing"
)

// fakeBroker delivers what is published to every subscriber of the same
// subject, its own faults aside: drop and repeat name messages by number.
type fakeBroker struct {
	drop, repeat int
	id           *identity // TLS after INFO

	mu   sync.Mutex
	n    int
	subs map[string][]*bufio.Writer // by subject
}

// start listens on a free port; its connections end with the test.
func (f *fakeBroker) start(t *testing.T) *broker {
	t.Helper()
	f.subs = map[string][]*bufio.Writer{}
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
			f.subs[string(word[1])] = append(f.subs[string(word[1])], w)
			f.mu.Unlock()
		case "PUB":
			var size int
			fmt.Sscan(string(word[len(word)-1]), &size)
			body := make([]byte, size+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return
			}
			f.deliver(word[1], word[2:], body)
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
			s.Flush()
		}
	}
}

// deliver writes MSG subject 1 [reply] size, and keeps to its faults.
func (f *fakeBroker) deliver(subject []byte, rest [][]byte, body []byte) {
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
	msg := fmt.Appendf(nil, "MSG %s 1 %s\r\n%s", subject, bytes.Join(rest, []byte(" ")), body)
	for range times {
		for _, w := range f.subs[string(subject)] {
			w.Write(msg)
		}
	}
}
