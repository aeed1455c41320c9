package custody

import (
	"crypto/tls"
	"crypto/x509"
)

// ClientKey is a private key by which we show others who we are: it signs what a client
// signs in the handshakes that it makes, and nothing else.
type ClientKey struct{ key *Key }

// OpenClientKey is Open for such a key.
func OpenClientKey(o Options) (*ClientKey, error) {
	k, err := Open(o)
	if err != nil {
		return nil, err
	}
	return &ClientKey{k}, nil
}

// Match reports, as Key.Match does, whether leaf certifies this key.
func (k *ClientKey) Match(leaf *x509.Certificate) error { return k.key.Match(leaf) }

// Memory is the kind of memory that the key lies in.
func (k *ClientKey) Memory() string { return k.key.Memory() }

// Sign signs the CertificateVerify input of a TLS 1.3 client (CheckClientInput). Errors
// are as those of Key.Sign.
func (k *ClientKey) Sign(scheme tls.SignatureScheme, message []byte) ([]byte, error) {
	if err := CheckClientInput(scheme, message); err != nil {
		return nil, err
	}
	if !may(k.key.schemes, scheme) {
		return nil, ErrScheme
	}
	return k.key.signed(scheme, message)
}

// Close erases the key, as Key.Close does.
func (k *ClientKey) Close() error { return k.key.Close() }
