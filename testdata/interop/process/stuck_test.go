package process

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// stream is numbered messages from one client of cm/1 to two readers, one on
// each cm, as fast as they go.
type stream struct {
	b    *broker
	far  *client      // the reader on cm/0, read from by the test
	n    atomic.Int64 // that the reader on cm/1 has got, in order
	stop chan struct{}
	done sync.WaitGroup
	errs [2]error
}

func (b *broker) startStream(size int) *stream {
	b.t.Helper()
	s := &stream{b: b, far: b.clientOn("cm/0"), stop: make(chan struct{})}
	from, to := b.clientOn("cm/1"), b.clientOn("cm/1")
	for _, c := range []*client{s.far, to} {
		must(b.t, c.send("SUB stream 1\r\n"))
		must(b.t, c.sync())
	}
	s.done.Go(func() { s.errs[0] = s.write(from, size) })
	s.done.Go(func() { s.errs[1] = s.read(to) })
	return s
}

// lastWord is the body of the last message.
const lastWord = "end"

func (s *stream) write(from *client, size int) error {
	for n := 0; ; n++ {
		select {
		case <-s.stop:
			return from.send(pub("stream", lastWord))
		default:
		}
		if err := from.send(pub("stream", fmt.Sprintf("%*d", size, n))); err != nil {
			return err
		}
	}
}

func (s *stream) read(to *client) error {
	for n := 0; ; n++ {
		f, err := to.next()
		if err != nil {
			return err
		}
		switch body := strings.TrimLeft(string(f.body), " "); {
		case f.verb() == "MSG" && body == lastWord:
			return nil
		case f.verb() != "MSG" || body != fmt.Sprint(n):
			return fmt.Errorf("message %d: %q with %.40q", n, f.line, body)
		}
		s.n.Add(1)
	}
}

// goesOn waits until as many messages more have arrived.
func (s *stream) goesOn(n int64) {
	s.b.t.Helper()
	n += s.n.Load()
	await(s.b.t, "the stream", patience, func() bool { return s.n.Load() >= n })
}

func (s *stream) end() {
	s.b.t.Helper()
	close(s.stop)
	s.done.Wait()
	for _, err := range s.errs {
		if err != nil {
			s.b.t.Errorf("a client on the other cm: %v", err)
		}
	}
}

// ended waits until cm/0 is killed for stalling and replaced, and returns when
// that was.
func (b *broker) ended(mark int) time.Time {
	b.t.Helper()
	killed := b.log.Find(mark, "role killed at another's word", patience, "role", "cm/0", "reason", "stalled")
	if killed == nil {
		b.t.Fatal("cm/0 was not ended")
	}
	b.deaths++
	if b.log.Find(mark, "role ready", patience, "role", "cm/0") == nil {
		b.t.Fatal("cm/0 did not come back")
	}
	return killed.At
}

// whole wants a broker that works, in which all but cm/0 are as before and
// nothing is left of the stream.
func (b *broker) whole(before map[string]int) {
	b.t.Helper()
	must(b.t, b.serves())
	now := b.processes()
	if now["cm/0"] == before["cm/0"] {
		b.t.Error("cm/0 is the same process")
	}
	before["cm/0"] = now["cm/0"]
	b.unchanged(before)
	await(b.t, "empty arenas", patience, func() bool { st := b.status(); return st.Empty() })
}

// A cm that goes on in every way, but reports no body as finished, is ended in
// time; a slow one is not. Whoever sent to it from the other cm goes on and loses
// nothing.
func TestSilentCM(t *testing.T) {
	t.Parallel()
	const stall = time.Second
	b := startBroker(t, settings{cms: 2, limits: "max_payload = \"16KiB\"\nstall_timeout = \"1s\"", store: `arena = "1MiB"`})
	b.attacked = true
	before := b.processes()
	s := b.startStream(1024)
	// One that reads slowly holds the sender up, and no body.
	slow := &paced{from: s.far.conn, rate: 2 << 20, fast: make(chan struct{}), tick: time.NewTicker(pace)}
	defer slow.tick.Stop()
	s.done.Go(func() {
		s.far.conn.SetReadDeadline(time.Time{})
		io.Copy(io.Discard, slow)
	})
	slowly := time.NewTimer(3 * stall)
	<-slowly.C
	b.unchanged(before)
	s.goesOn(100)
	close(slow.fast)
	s.goesOn(2000) // more than the arena holds

	mark, muted := b.log.Mark(), time.Now()
	b.mute("cm/0")
	took := b.ended(mark).Sub(muted)
	if t.Logf("ended after %v", took); took > stall+2*time.Second {
		t.Errorf("ended after %v, want at most stall_timeout and two seconds", took)
	}
	s.goesOn(2000)
	s.end()
	b.whole(before)
}

// A cm that is stopped for a while goes on as if nothing had been, though others
// wait for it; one that stays so is ended, though its ring has room.
func TestStoppedCM(t *testing.T) {
	const stall = 2 * time.Second
	b := startBroker(t, settings{cms: 2, limits: "max_payload = \"64KiB\"\nstall_timeout = \"2s\"", store: `arena = "1MiB"`})
	b.attacked = true
	before := b.processes()
	s := b.startStream(32 << 10)
	s.done.Go(func() {
		s.far.conn.SetReadDeadline(time.Time{})
		io.Copy(io.Discard, s.far.conn)
	})
	s.goesOn(100)
	b.signal("cm/0", syscall.SIGSTOP)
	stopped := time.NewTimer(stall * 4 / 5)
	<-stopped.C
	b.signal("cm/0", syscall.SIGCONT)
	s.goesOn(1000)
	b.unchanged(before)

	mark, began := b.log.Mark(), time.Now()
	b.signal("cm/0", syscall.SIGSTOP)
	took := b.ended(mark).Sub(began)
	if t.Logf("ended after %v", took); took < stall {
		t.Errorf("ended after %v, stall_timeout is %v", took, stall)
	}
	s.goesOn(1000)
	s.end()
	b.whole(before)
}
