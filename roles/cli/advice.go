package cli

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"syscall"

	"github.com/nats-io/nats.go"
)

// advice says what can be done about an error of a client that does not connect, "" where
// the error says it itself.
func advice(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return ": nobody listens there; gatehouse serve starts a broker, --server names another"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return ": the broker's log has the reason, and gatehouse login --explain says it of a configuration"
	case errors.As(err, &unknown):
		return ": --ca FILE says whom to believe"
	case errors.As(err, &host):
		return ": --server must have a name of the certificate"
	case errors.Is(err, nats.ErrSecureConnRequired):
		return ": --server tls://HOST:PORT"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return ": --server nats://HOST:PORT, or the port of a TLS listener"
	}
	return ""
}
