package client

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestSession(t *testing.T) {
	asked := make(chan *pub, 100)
	f, nc := startFake(t, func(f *fake, p *pub) {
		asked <- p
		f.answer(p.reply, "re: "+p.body)
		if p.body == "three" {
			f.answer(p.reply, "second")
			f.answer(p.reply, "third")
		}
	})
	s := NewSession(nc)
	if s.ID == "" || s.ID == NewSession(nc).ID {
		t.Errorf("id %q", s.ID)
	}
	ctx := within(t)
	for _, body := range []string{"one", "two"} {
		m, err := s.Request(ctx, &nats.Msg{Subject: "in." + body, Data: []byte(body)})
		if err != nil || string(m.Data) != "re: "+body {
			t.Fatalf("%v, %v", m, err)
		}
		if p := <-asked; p.header(HeaderMode) != "session" || p.header(HeaderSession) != s.ID || p.header(HeaderSessionEnd) != "" {
			t.Errorf("sent %q", p.headers)
		}
	}
	var several []string
	for m, err := range s.Requests(ctx, &nats.Msg{Subject: "in.one", Data: []byte("three")}) {
		if err != nil {
			t.Fatal(err)
		}
		if several = append(several, string(m.Data)); len(several) == 3 {
			break
		}
	}
	if !slices.Equal(several, []string{"re: three", "second", "third"}) {
		t.Errorf("answers %q", several)
	}
	<-asked
	end := &nats.Msg{Subject: "in.two", Header: nats.Header{HeaderSessionEnd: {"yes"}}}
	if _, err := s.Request(ctx, end); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if p := <-asked; p.subject != "in.one" || p.reply != "" || p.header(HeaderSession) != s.ID || p.header(HeaderSessionEnd) == "" || p.body != "" {
		t.Errorf("the end is %+v", p)
	}
	if f.open() != 0 || len(asked) > 0 {
		t.Errorf("%d subscriptions, %d messages more", f.open(), len(asked))
	}
	if err := errors.Join(s.Close(ctx), NewSession(nc).Close(ctx)); err != nil {
		t.Errorf("closing what is closed, or never was open: %v", err)
	}
}

func TestSessionErrors(t *testing.T) {
	for status, want := range map[string]error{
		"410 Session Gone": ErrSessionGone, "503 Responder Lost": ErrResponderLost, "503\r\nNats-Subject: in": nats.ErrNoResponders,
	} {
		sent := 1
		if want == ErrResponderLost {
			sent = 2 // the broker has still to be told that the session is over
		}
		pubs := make(chan *pub, 10)
		_, nc := startFake(t, func(f *fake, p *pub) {
			pubs <- p
			f.status(p.reply, status)
		})
		s := NewSession(nc)
		if _, err := s.Request(within(t), &nats.Msg{Subject: "in"}); !errors.Is(err, want) {
			t.Errorf("%s: %v", status, err)
		}
		if err := s.Close(within(t)); err != nil || len(pubs) != sent {
			t.Errorf("%s: %d messages, %v, want %d", status, len(pubs), err, sent)
		}
	}
}

// The broker keeps sessions by connection: on another one the session is gone, whether it
// was lost between requests or in one.
func TestSessionOfLostConnection(t *testing.T) {
	f, nc := startFake(t, func(f *fake, p *pub) {
		if p.body == "bye" {
			f.hangUp()
			return
		}
		f.answer(p.reply, "here")
	})
	s := NewSession(nc)
	ask := func(body string) error {
		_, err := s.Request(within(t), &nats.Msg{Subject: "in", Data: []byte(body)})
		return err
	}
	back := func(n uint64) {
		await(t, "the connection", func() bool { return nc.IsConnected() && nc.Stats().Reconnects == n })
	}
	if err := ask("x"); err != nil {
		t.Fatal(err)
	}
	f.hangUp()
	back(1)
	if err := ask("x"); err != ErrSessionGone {
		t.Errorf("after it was lost: %v", err)
	}
	if err := ask("x"); err != nil {
		t.Errorf("anew: %v", err)
	}
	if err := ask("bye"); !errors.Is(err, ErrSessionGone) || !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("while it is lost: %v", err)
	}
	back(2)
	if err := ask("x"); err != nil {
		t.Errorf("anew: %v", err)
	}
}

// While there is no connection a session that had one is gone, and one that begins waits
// for it.
func TestSessionWithoutConnection(t *testing.T) {
	again := make(chan struct{})
	f, nc := startFake(t, func(f *fake, p *pub) { f.answer(p.reply, "here") },
		nats.CustomReconnectDelay(func(int) time.Duration { <-again; return 0 }), nats.ReconnectBufSize(1000))
	s := NewSession(nc)
	if _, err := s.Request(within(t), nats.NewMsg("in")); err != nil {
		t.Fatal(err)
	}
	f.hangUp()
	await(t, "the loss", func() bool { return !nc.IsConnected() })
	if _, err := s.Request(within(t), nats.NewMsg("in")); err != ErrSessionGone {
		t.Errorf("without a connection: %v", err)
	}
	outcome := make(chan error, 1)
	go func() {
		_, err := s.Request(within(t), nats.NewMsg("in"))
		outcome <- err
	}()
	await(t, "the request", func() bool { n, err := nc.Buffered(); return err == nil && n > 0 })
	close(again)
	if err := <-outcome; err != nil {
		t.Errorf("begun without a connection: %v", err)
	}
	if _, err := s.Request(within(t), nats.NewMsg("in")); err != nil {
		t.Errorf("gone on with: %v", err)
	}
}

// Each of many requests at once has its own answer.
func TestSessionAtOnce(t *testing.T) {
	_, nc := startFake(t, func(f *fake, p *pub) { f.answer(p.reply, p.body) })
	s := NewSession(nc)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				body := fmt.Sprint(i, n)
				if m, err := s.Request(within(t), &nats.Msg{Subject: "in", Data: []byte(body)}); err != nil || string(m.Data) != body {
					t.Errorf("%s: %v, %v", body, m, err)
				}
			}
		})
	}
	wg.Wait()
	if len(s.calls) > 0 {
		t.Errorf("%d requests left", len(s.calls))
	}
}

func TestRequest(t *testing.T) {
	f, nc := startFake(t, func(f *fake, p *pub) {
		if p.body != "" {
			f.answer(p.reply, p.header(HeaderMode)+p.body)
		} else {
			f.status(p.reply, "503 Responder Lost")
		}
	})
	m, err := Request(within(t), nc, &nats.Msg{Subject: "in", Data: []byte("x")}, ToType("pricer"))
	if err != nil || string(m.Data) != "x" {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := Request(within(t), nc, nats.NewMsg("in")); !errors.Is(err, ErrResponderLost) {
		t.Errorf("error %v", err)
	}
	await(t, "the end of the subscriptions", func() bool { return f.open() == 0 })
}
