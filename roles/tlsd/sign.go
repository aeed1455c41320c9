package tlsd

import (
	"context"
	"crypto"
	"errors"
	"io"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// signer is the private key as one handshake sees it: the parent's. It gets the whole
// message to sign (crypto.MessageSigner), so that the parent can see what it is.
type signer struct {
	ctx    context.Context // the handshake's
	parent *asking
	key    uint32
	public crypto.PublicKey
}

var errDigest = errors.New("a bare digest is not signed")

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
	return s.parent.sign(s.ctx, privsep.TLSSign{Key: s.key, Scheme: uint16(scheme), Input: message})
}
