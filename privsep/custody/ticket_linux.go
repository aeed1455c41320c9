package custody

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"gatehouse/tickets"
)

// TicketKey is a private key that signs transfer tickets. What it signs it makes
// itself of what a ticket is to say: there is no other method that uses it.
type TicketKey struct {
	key       *Key
	algorithm string
}

// OpenTicketKey is Open for a key of Ed25519 or P-256 that signs transfer tickets.
func OpenTicketKey(o Options) (*TicketKey, error) {
	k, err := Open(o)
	if err != nil {
		return nil, err
	}
	public, err := tickets.NewTransferKey(k.public)
	if err != nil {
		k.Close()
		return nil, fmt.Errorf("key %s: %w", o.KeyFile, err)
	}
	return &TicketKey{k, public.String()}, nil
}

// Public is the public half, which those who take its tickets have.
func (k *TicketKey) Public() crypto.PublicKey { return k.key.Public() }

// Algorithm is how it signs, as a JWS says it.
func (k *TicketKey) Algorithm() string { return k.algorithm }

// Match reports, as Key.Match does, whether leaf certifies this key.
func (k *TicketKey) Match(leaf *x509.Certificate) error { return k.key.Match(leaf) }

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
