package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"gatehouse.test/interop/certs"
	"github.com/nats-io/nats.go"
)

// tlsSettings is the part of a configuration that is about TLS; zero is the
// default.
type tlsSettings struct {
	first      bool   // handshake before INFO
	clientAuth string // "request" or "require"
	oldest     string // min_version
	use        string // key_use
	patience   time.Duration
}

// secure makes the broker's certificate and returns the configuration of its
// listeners, for gatehouse and for a stand-in, which has but the one with TLS.
func (b *broker) secure() (listen, natsTLS string) {
	b.t.Helper()
	var err error
	b.ca, err = certs.NewAuthority("authority")
	must(b.t, err)
	b.write(b.caFile(), string(b.ca.PEM))
	b.renew("P-256")
	s, f := b.tls, certs.In(b.dir)
	use, oldest, auth, ca := or(s.use, "sign"), or(s.oldest, "1.3"), or(s.clientAuth, "none"), ""
	if s.clientAuth != "" {
		ca = b.caFile()
	}
	listen = fmt.Sprintf("[console]\nunix = \"\"\n[listen]\ntcp = [%q]\ntls = [%q]\nunix = [%q]\nhandshake_first = %v\n"+
		"[tls]\ncert = %q\nkey = %q\nunlock_file = %q\nkey_use = %q\nmin_version = %q\nclient_auth = %q\nclient_ca = %q\n",
		b.plain, b.addr, b.unixPath(), s.first, f.Cert, f.Sealed, f.Unlock, use, oldest, auth, ca)
	natsTLS = fmt.Sprintf("tls {\n cert_file: %q\n key_file: %q\n timeout: %g\n handshake_first: %v\n min_version: %q\n verify: %v\n",
		f.Cert, f.Key, b.authTimeout().Seconds(), s.first, oldest, s.clientAuth == "require")
	if ca != "" {
		natsTLS += fmt.Sprintf(" ca_file: %q\n", ca)
	}
	return listen, natsTLS + "}\n"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// authTimeout is how long a client may take from connecting to its first CONNECT.
func (b *broker) authTimeout() time.Duration {
	if b.tls != nil && b.tls.patience > 0 {
		return b.tls.patience
	}
	return 2 * time.Second
}

func (b *broker) caFile() string   { return filepath.Join(b.dir, "ca.crt") }
func (b *broker) unixPath() string { return filepath.Join(b.dir, "client") }

// renew puts a new certificate and key of that kind in place of the broker's,
// which has to be told.
func (b *broker) renew(kind string) *certs.Pair {
	b.t.Helper()
	pair, err := b.ca.Server(kind)
	must(b.t, err)
	must(b.t, certs.In(b.dir).Write(pair, b.sealer()))
	return pair
}

// sealer is the program that encrypts keys; a stand-in wants them as they are.
func (b *broker) sealer() string {
	if standIn() != "" {
		return ""
	}
	return gatehouse(b.t)
}

// clientTLS is the configuration of a client that trusts the broker, and that
// has a certificate where it needs one.
func (b *broker) clientTLS() *tls.Config {
	c := &tls.Config{RootCAs: b.ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if b.tls.clientAuth == "require" {
		pair, err := b.ca.Client("client")
		must(b.t, err)
		c.Certificates = []tls.Certificate{pair.TLS()}
	}
	return c
}

// tlsOptions are those of a nats.go client.
func (b *broker) tlsOptions() []nats.Option {
	if b.tls == nil {
		return nil
	}
	opts := []nats.Option{nats.Secure(b.clientTLS())}
	if b.tls.first {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	return opts
}

// try connects a nats.go client with this configuration of TLS, and takes its
// first answer: in TLS 1.3 a server may refuse after the client's handshake.
func (b *broker) try(config *tls.Config) error {
	b.t.Helper()
	opts := []nats.Option{nats.Secure(config), nats.Timeout(patience)}
	if b.tls.first {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	nc, err := nats.Connect("tls://"+b.addr, opts...)
	if err != nil {
		return err
	}
	defer nc.Close()
	return nc.FlushTimeout(patience)
}

// shown is the serial number of the certificate that a new handshake sees.
func (b *broker) shown() string {
	b.t.Helper()
	nc := b.connect()
	defer nc.Close()
	state, err := nc.TLSConnectionState()
	must(b.t, err)
	return state.PeerCertificates[0].SerialNumber.String()
}

// connectPlain and connectUnix open connections without TLS beside those of connect.
func (b *broker) connectPlain() *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect("nats://" + b.plain)
	must(b.t, err)
	b.t.Cleanup(nc.Close)
	return nc
}

func (b *broker) connectUnix(opts ...nats.Option) *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect("nats://unix.test:1", append(opts, nats.SetCustomDialer(unixDialer(b.unixPath())))...)
	must(b.t, err)
	b.t.Cleanup(nc.Close)
	return nc
}

// unixDialer dials its path whatever it is asked for.
type unixDialer string

func (d unixDialer) Dial(string, string) (net.Conn, error) {
	return new(net.Dialer).DialContext(context.Background(), "unix", string(d))
}

func (unixDialer) SkipTLSHandshake() bool { return true }
