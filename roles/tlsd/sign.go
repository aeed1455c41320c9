package tlsd

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"sync"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// signatures asks the parent for signatures, and has those wait who want them.
type signatures struct {
	parent *privsep.Channel

	mu   sync.Mutex
	sent map[uint64]*signature // by id
	last uint64
}

type signature struct {
	ask    privsep.TLSSign
	asked  uint64      // which parent, by adoptions before it
	unsent bool        // there was no parent, or no room
	answer chan []byte // has room for one
}

func newSignatures(parent *privsep.Channel) *signatures {
	return &signatures{parent: parent, sent: map[uint64]*signature{}}
}

var (
	errDigest = errors.New("a bare digest is not signed")
	errRefuse = errors.New("the key is not to be had")
)

// get asks for one and waits for it, or for the end of ctx.
func (s *signatures) get(ctx context.Context, key uint32, scheme tls.SignatureScheme, input []byte) ([]byte, error) {
	if len(input) > privsep.MaxSignInput {
		return nil, privsep.ErrShape
	}
	one := &signature{answer: make(chan []byte, 1)}
	s.mu.Lock()
	s.last++
	id := s.last
	one.ask = privsep.TLSSign{ID: id, Key: key, Scheme: uint16(scheme), Input: input}
	s.sent[id] = one
	s.send(one)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sent, id)
	}()
	select {
	case b := <-one.answer:
		if len(b) == 0 {
			return nil, errRefuse
		}
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send asks the parent. What it cannot be asked now the next one is.
func (s *signatures) send(one *signature) {
	parent, err := s.parent.SendTo(privsep.KindTLSSign, one.ask.Append(nil))
	one.asked, one.unsent = parent, err != nil
}

// again asks the new parent for what those before have not answered.
func (s *signatures) again() {
	parent := s.parent.Adoptions()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sent {
		if one.unsent || one.asked < parent {
			s.send(one)
		}
	}
}

// take takes an answer. Nobody may be waiting for it any more.
func (s *signatures) take(m *privsep.Message) error {
	var p privsep.TLSSigned
	if err := p.Parse(m.Payload); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.sent[p.ID]; one != nil {
		delete(s.sent, p.ID)
		one.answer <- append([]byte(nil), p.Signature...)
	}
	return nil
}

// signer is the private key as one handshake sees it: the parent's. It gets the whole
// message to sign (crypto.MessageSigner), so that the parent can see what it is.
type signer struct {
	ctx        context.Context // the handshake's
	signatures *signatures
	key        uint32
	public     crypto.PublicKey
}

// Public gives the certificate's key.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign refuses.
func (s *signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errDigest }

// SignMessage has the parent sign, in the scheme that opts means for the key.
func (s *signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := custody.SchemeOf(s.public, opts)
	if err != nil {
		return nil, err
	}
	return s.signatures.get(s.ctx, s.key, scheme, message)
}
