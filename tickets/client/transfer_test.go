package client

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"gatehouse/tickets"
)

// optionsOf are those that Transfer sets.
func optionsOf(t *testing.T, home *nats.Conn) *nats.Options {
	t.Helper()
	var o nats.Options
	if err := Transfer(home, "orgb")(&o); err != nil {
		t.Fatal(err)
	}
	if jwt, err := o.UserJWT(); err != nil || jwt != "transfer" {
		t.Fatalf("jwt %q, %v", jwt, err)
	}
	return &o
}

// The challenge goes home and comes back as a ticket.
func TestTransfer(t *testing.T) {
	nonce := tickets.Challenge()
	var asked atomic.Pointer[pub]
	_, home := startFake(t, func(f *fake, p *pub) {
		asked.Store(p)
		f.answer(p.reply, "a.b.c")
	}, nats.UserInfo("alice", "secret"))
	o := optionsOf(t, home)
	ticket, err := o.SignatureCB([]byte(nonce))
	if err != nil || string(ticket) != "a.b.c" || o.User != "alice" || o.Password != "" {
		t.Fatalf("%q, %v as %q, %q", ticket, err, o.User, o.Password)
	}
	p := asked.Load()
	if got, environment, ok := tickets.ParseTransferRequest([]byte(p.body)); p.subject != "$GATE.ticket" || !ok || environment != "orgb" || got == [24]byte{} {
		t.Errorf("asked %q on %s", p.body, p.subject)
	}
}

// Another try helps where nobody has answered, or too many have asked.
func TestTransferAgain(t *testing.T) {
	tries := atomic.Int32{}
	_, home := startFake(t, func(f *fake, p *pub) {
		switch tries.Add(1) {
		case 1: // nothing
		case 2:
			f.status(p.reply, "429 Too Many Requests")
		default:
			f.answer(p.reply, "a.b.c")
		}
	})
	if ticket, err := optionsOf(t, home).SignatureCB([]byte(tickets.Challenge())); err != nil || string(ticket) != "a.b.c" || tries.Load() != 3 {
		t.Errorf("%q, %v after %d tries", ticket, err, tries.Load())
	}
}

// A no is a no, with its reason.
func TestTransferRefused(t *testing.T) {
	tries := atomic.Int32{}
	_, home := startFake(t, func(f *fake, p *pub) {
		tries.Add(1)
		f.status(p.reply, "403 Transfer Not Permitted")
	})
	_, err := optionsOf(t, home).SignatureCB([]byte(tickets.Challenge()))
	var s *StatusError
	if !errors.As(err, &s) || s.Code != 403 || tries.Load() != 1 || !strings.Contains(err.Error(), "no ticket for orgb: gatehouse: 403 Transfer Not Permitted") {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
	home.Close()
	if _, err := optionsOf(t, home).SignatureCB([]byte(tickets.Challenge())); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("closed: %v", err)
	}
}

// The user is the one that home has named, wherever it has.
func TestTransferUser(t *testing.T) {
	f, first := startFake(t, func(*fake, *pub) {})
	first.Close()
	addr := f.l.Addr().String()
	for url, want := range map[string]string{"nats://bob:secret@" + addr: "bob", "nats://token@" + addr: "", "nats://" + addr: ""} {
		home, err := nats.Connect(url)
		if err != nil {
			t.Fatal(err)
		}
		o := optionsOf(t, home)
		if o.User != want {
			t.Errorf("%s: %q, want %q", url, o.User, want)
		}
		home.Close()
	}
	own := nats.Options{User: "carol"}
	_, home := startFake(t, func(*fake, *pub) {}, nats.UserInfo("alice", "secret"))
	if err := Transfer(home, "orgb")(&own); err != nil || own.User != "carol" {
		t.Errorf("%q, %v", own.User, err)
	}
}
