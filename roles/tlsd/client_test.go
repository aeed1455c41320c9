package tlsd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// A session that is there can be had by its name or its id, and no other.
func TestAttach(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	o := client.Options{Socket: r.socket}
	if _, err := client.Attach(t.Context(), "s", o); code(err) != protocol.NoSession {
		t.Errorf("before there is one: %v", err)
	}
	c := r.mustDial(to, client.Options{Session: "s"})
	must(t, ask(c, "one"))
	name, id := c.Session()
	must(t, c.Close())
	for _, by := range []string{name, id} {
		c, err := client.Attach(t.Context(), by, o)
		must(t, err)
		must(t, ask(c, "two"))
		if _, same := c.Session(); same != id {
			t.Errorf("%s gives %s", by, same)
		}
		must(t, c.Detach())
	}
	if n := to.shakes.Load(); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

// Who gives up waiting has not been there, and the session goes on.
func TestGivesUp(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	holder := r.mustDial(to, client.Options{Session: "s"})
	s := r.sessions()[0]
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := client.Dial(ctx, to.addr, client.Options{Socket: r.socket, Session: "s"})
		failed <- err
	}()
	r.await("waits", s.lease.wanted)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	r.await("waits no more", func() bool { return !s.lease.wanted() })
	must(t, ask(holder, "one"))
	must(t, holder.Close())
}

// Deadlines are the Conn's own: what was under way goes on, and nobody else notices.
func TestDeadline(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s"})
	must(t, c.SetReadDeadline(time.Now().Add(-time.Second)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	must(t, c.SetReadDeadline(time.Time{}))
	must(t, ask(c, "one"))
	must(t, c.Close())
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	c = r.mustDial(to, client.Options{Session: "s"})
	must(t, ask(c, "two"))
	must(t, c.Close())
}

// Detach says if something was left unread in this Conn, and nobody goes on behind it.
func TestDetachUnread(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s"})
	_, err := c.Write([]byte("one"))
	must(t, err)
	one := make([]byte, 1)
	if _, err := c.Read(one); err != nil || one[0] != 'o' {
		t.Fatalf("%q %v", one, err)
	}
	if err := c.Detach(); !errors.Is(err, client.ErrUnread) {
		t.Errorf("%v", err)
	}
	r.await("no session", func() bool { return len(r.sessions()) == 0 })
	c = r.mustDial(to, client.Options{Session: "s"}) // what is unread lies in the socket
	_, err = c.Write([]byte("two"))
	must(t, err)
	s := r.sessions()[0]
	r.await("on its way", func() bool { return s.inBytes.Load() == 3 })
	if err := c.Detach(); err != nil && !errors.Is(err, client.ErrUnread) {
		t.Errorf("%v", err)
	} else if ends := err != nil; ends {
		r.await("no session", func() bool { return len(r.sessions()) == 0 })
	}
}

// Turns come in the order in which they were asked for, and one that is given up is
// passed over.
func TestLine(t *testing.T) {
	var l line
	if !l.take(t.Context(), nil) {
		t.Fatal("taken by nobody")
	}
	order := make(chan int, 3)
	ctx, cancel := context.WithCancel(t.Context())
	waits := func(n int) bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.waiting) == n }
	r := &rig{t: t}
	for i, ctx := range []context.Context{t.Context(), ctx, t.Context()} {
		go func() {
			if l.take(ctx, nil) {
				order <- i
			} else {
				order <- -1
			}
		}()
		r.await("in line", func() bool { return waits(i + 1) })
	}
	cancel()
	if got := <-order; got != -1 {
		t.Errorf("%d had its turn", got)
	}
	for _, want := range []int{0, 2} {
		l.give()
		if got := <-order; got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	l.give()
	if l.wanted() || !l.take(t.Context(), nil) {
		t.Error("not free")
	}
}

// As long a wait as anybody likes is asked for, up to the longest.
func TestLongTimeout(t *testing.T) {
	r := newRig(t)
	to := r.serve(echo)
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s", Timeout: 2 * protocol.MaxTimeout})
	must(t, ask(c, "one"))
	must(t, c.Close())
}

// Close does not wait for a write that the server does not take.
func TestCloseAmidWrite(t *testing.T) {
	r := newRig(t)
	end := make(chan struct{})
	defer close(end)
	to := r.serve(func(*tls.Conn) { <-end })
	r.policy("s", to, nil)
	c := r.mustDial(to, client.Options{Session: "s"})
	failed := make(chan error, 1)
	go func() {
		for b := make([]byte, protocol.MaxChunk); ; {
			if _, err := c.Write(b); err != nil {
				failed <- err
				return
			}
		}
	}()
	s := r.sessions()[0]
	var last uint64
	r.await("stuck", func() bool { // nothing for a while
		before := last
		<-time.After(50 * time.Millisecond)
		last = s.outBytes.Load()
		return last == before
	})
	began := time.Now()
	if err := c.Close(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	<-failed
}
