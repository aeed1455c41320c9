package client

import (
	"crypto/tls"
	"fmt"

	"github.com/nats-io/nats.go"

	"gatehouse/tickets"
)

// x509Credential is the jwt of a CONNECT whose sig is a signature by the key of a
// certificate.
const x509Credential = "x509"

// X509 logs in to an environment by a certificate with its private key, both PEM files:
// the client's own certificate comes first, those between it and an approved one
// follow. The key signs what a broker of that environment has to be shown, and is not
// sent. The files are read now, and again for each connection that is made, so that a
// certificate can be renewed while the program runs.
//
// The environment is the program's to know, not the broker's to tell: whoever passes
// as another broker cannot use what was signed for him.
func X509(environment, certFile, keyFile string) (nats.Option, error) {
	load := func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
		}
		return &cert, nil
	}
	return x509Option(environment, load)
}

// X509Certificate is X509 with a certificate that has been loaded. Its PrivateKey, a
// [crypto.Signer], may be on a card or in an agent.
func X509Certificate(environment string, cert tls.Certificate) (nats.Option, error) {
	return x509Option(environment, func() (*tls.Certificate, error) { return &cert, nil })
}

func x509Option(environment string, load func() (*tls.Certificate, error)) (nats.Option, error) {
	sign := func(challenge []byte) ([]byte, error) {
		cert, err := load()
		if err != nil {
			return nil, err
		}
		return SignX509(cert, tickets.AuthContent(environment, string(challenge)))
	}
	if _, err := sign([]byte(tickets.Challenge())); err != nil {
		return nil, err
	}
	return nats.UserJWT(func() (string, error) { return x509Credential, nil }, sign), nil
}
