package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatehouse.test/interop/torture/client"
	"gatehouse.test/interop/torture/ledger"
)

// proxy stands between clients and the broker and does one wrong thing.
type proxy struct {
	listener net.Listener
	to       string
	fault    string
	subject  string // prefix of those of which one message is wronged
	at       int64  // which one
	messages atomic.Int64
	conns    atomic.Int64
	done     atomic.Bool // the wrong was done
	work     sync.WaitGroup
}

func startProxy(t *testing.T, to client.Address, fault, subject string, at int64) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, to: to.Addr, fault: fault, subject: subject, at: at}
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); p.work.Wait() })
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	if p.fault == "refuse" && p.conns.Add(1) == p.at && p.once() {
		return
	}
	b, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer b.Close()
	p.work.Go(func() { io.Copy(b, c); b.Close() })
	p.back(c, bufio.NewReader(b))
}

// once says yes once.
func (p *proxy) once() bool { return p.done.CompareAndSwap(false, true) }

// back passes on what the broker sends.
func (p *proxy) back(c net.Conn, in *bufio.Reader) {
	var held []byte // a message that is to come after the next one of its stream
	var of uint32
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		verb, rest, _ := bytes.Cut(line, []byte(" "))
		if string(verb) == "PONG\r\n" && p.fault == "mute" && p.messages.Load() > p.at && p.once() {
			continue
		}
		if string(verb) != "MSG" && string(verb) != "HMSG" {
			c.Write(line)
			continue
		}
		fields := strings.Fields(string(rest))
		size, _ := strconv.Atoi(fields[len(fields)-1])
		body := make([]byte, size+2)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		head := 0
		if string(verb) == "HMSG" {
			head, _ = strconv.Atoi(fields[len(fields)-2])
		}
		mark, _ := ledger.Read(body[head:size])
		frame := append(line, body...)
		chosen := strings.HasPrefix(fields[0], p.subject) && p.messages.Add(1) == p.at
		if !chosen || p.fault == "none" || p.fault == "mute" || !p.once() {
			c.Write(frame)
			if held != nil && mark.Stream == of {
				c.Write(held)
				held = nil
			}
			continue
		}
		switch p.fault {
		case "lose":
		case "double":
			c.Write(append(frame, frame...))
		case "swap":
			held, of = frame, mark.Stream
		case "damage body":
			frame[len(frame)-10] ^= 1
			c.Write(frame)
		case "damage header":
			frame[len(line)+head+10] ^= 1
			c.Write(frame)
		case "rename":
			c.Write(bytes.Replace(frame, []byte(fields[0]), []byte(fields[0]+"x"), 1))
		case "close":
			return
		}
	}
}

// The tool must find what is wrong, and nothing else. Each run has one fault.
func TestFaultsAreFound(t *testing.T) {
	b, err := newBroker(builds, 2, "")
	must(t, err)
	t.Cleanup(b.remove)
	must(t, b.serve(patience))
	number := uint32(0) // of the load, whose subjects and streams must be its own
	for _, tt := range []struct {
		shape, fault, subject string
		want                  map[count]uint64
	}{
		{"fan", "none", "fan.", nil},
		{"fan", "lose", "fan.", map[count]uint64{lost: 1}},
		{"fan", "double", "fan.", map[count]uint64{doubled: 1}},
		{"fan", "swap", "fan.", map[count]uint64{reordered: 1}},
		{"fan", "damage body", "fan.", map[count]uint64{damaged: 1}},
		{"fan", "damage header", "fan.", map[count]uint64{damaged: 1, lost: 1}},
		{"fan", "rename", "fan.", map[count]uint64{misdelivered: 1, lost: 1}},
		{"fan", "close", "fan.", map[count]uint64{dropped: 1}},
		{"fan", "refuse", "fan.", map[count]uint64{unopened: 1}},
		{"fan", "mute", "fan.", map[count]uint64{broken: 1}},
		{"wild", "lose", "wild.", map[count]uint64{lost: 1}},
		{"wild", "double", "wild.", map[count]uint64{doubled: 1}},
		{"queue", "lose", "queue.", map[count]uint64{lost: 1}},
		{"queue", "double", "queue.", map[count]uint64{doubled: 1}},
		{"request", "lose", "request.", map[count]uint64{lost: 1, unanswered: 1}},
		{"request", "lose", "_INBOX.", map[count]uint64{unanswered: 1}},
		{"request", "double", "_INBOX.", map[count]uint64{doubled: 1}},
		{"churn", "lose", "churn.", map[count]uint64{lost: 1}},
		{"churn", "double", "churn.", map[count]uint64{doubled: 1}},
		{"natsgo", "lose", "natsgo.", map[count]uint64{lost: 1}},
		{"natsgo", "double", "natsgo.", map[count]uint64{doubled: 1}},
		{"natsgo", "close", "natsgo.", map[count]uint64{dropped: 1}},
	} {
		number++
		number := number
		t.Run(fmt.Sprint(tt.shape, " ", tt.fault, " ", tt.subject), func(t *testing.T) {
			t.Parallel()
			faultIsFound(t, b, number, tt.shape, tt.fault, tt.subject, tt.want)
		})
	}
}

func faultIsFound(t *testing.T, b *broker, number uint32, shape, fault, subject string, want map[count]uint64) {
	at := int64(20)
	if fault == "refuse" {
		at = 2
	}
	p := startProxy(t, b.listeners["tcp"], fault, subject, at)
	// What is to come through must not take long enough to be taken for lost.
	l := newLoad(map[string]client.Address{"tcp": {Network: "tcp", Addr: p.listener.Addr().String()}}, still, still)
	l.streams.Store(number << 16)
	l.cells.Store(int64(number) << 16)
	for _, s := range shapes {
		if s.name == shape {
			s.run(l, newRand(7), life)
			break
		}
	}
	if fault != "none" && !p.done.Load() {
		t.Fatalf("the proxy found nothing to do in %d messages", p.messages.Load())
	}
	for c := lost; c < counts; c++ {
		got := l.get(c)
		if c == undelivered && fault == "close" {
			continue // what was under way then
		}
		if got != want[c] {
			t.Errorf("%s: %d, want %d; %v", countNames[c], got, want[c], l.offenders[c])
		}
	}
	if l.failed() == (want == nil) {
		t.Errorf("the verdict is %v", l.failed())
	}
}
