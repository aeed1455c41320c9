package custody

import (
	"crypto"
	"fmt"

	"gatehouse/tickets"
)

// TicketKey is a private key that signs transfer tickets. What it signs it makes
// itself of what a ticket is to say: there is no other method that uses it.
type TicketKey struct{ key *Key }

// OpenTicketKey is Open for a key of Ed25519 or P-256 that signs transfer tickets.
func OpenTicketKey(o Options) (*TicketKey, error) {
	k, err := Open(o)
	if err != nil {
		return nil, err
	}
	if _, err := tickets.NewTransferKey(k.public); err != nil {
		k.Close()
		return nil, fmt.Errorf("key %s: %w", o.KeyFile, err)
	}
	return &TicketKey{k}, nil
}

// Public is the public half, which those who take its tickets have.
func (k *TicketKey) Public() crypto.PublicKey { return k.key.Public() }

// Memory is the kind of memory that the key lies in.
func (k *TicketKey) Memory() string { return k.key.Memory() }

// Sign makes the ticket that says t. An error is tickets.ErrTransfer, where there is
// no such ticket, or that of a closed key.
func (k *TicketKey) Sign(t *tickets.Transfer) (string, error) {
	return t.Sign(k.key.public, func(input []byte) ([]byte, error) {
		return k.key.signed(k.key.schemes[0], input) // both kinds have one
	})
}

// Close erases the key, as Key.Close does.
func (k *TicketKey) Close() error { return k.key.Close() }
