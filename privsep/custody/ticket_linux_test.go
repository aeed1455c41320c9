package custody

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"gatehouse/tickets"
)

func TestTicketKey(t *testing.T) {
	for i, kind := range kinds {
		k, err := OpenTicketKey(newFiles(t, i))
		if kind.name != "P-256" && kind.name != "Ed25519" {
			if !errors.Is(err, tickets.ErrTransferKey) || !strings.HasPrefix(err.Error(), "key /") || k != nil {
				t.Errorf("%s: %v", kind.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		says := tickets.Transfer{Issuer: "orga", User: "alice", Audience: "orgb", Issued: 100, Expires: 160}
		ticket, err := k.Sign(&says)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tickets.ParseTransfer(ticket)
		if err != nil {
			t.Fatal(err)
		}
		public, err := tickets.NewTransferKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if !got.SignedBy(public) || got.Transfer != says {
			t.Errorf("%s: %+v", kind.name, got.Transfer)
		}
		says.Expires += int64(time.Hour / time.Second)
		if _, err := k.Sign(&says); err != tickets.ErrTransfer {
			t.Errorf("%s: a ticket for an hour: %v", kind.name, err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		says.Expires = 160
		if _, err := k.Sign(&says); err != errClosed {
			t.Errorf("%s: closed: %v", kind.name, err)
		}
	}
}

// A ticket's signing input is none that a Key signs.
func TestTicketIsNoHandshake(t *testing.T) {
	input := []byte("eyJhbGciOiJFZERTQSIsInR5cCI6ImdhdGVob3VzZS10cmFuc2ZlcitqbXQifQ." + strings.Repeat("e", 100))
	for _, n := range []int{len(input), len(serverContext) + 32, len(serverContext) + 48} {
		if err := CheckServerInput(tls.Ed25519, input[:n]); err != ErrInput {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
