package transcript

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"testing"

	"gatehouse.test/interop/certs"
)

// Values of "config: tls".
const (
	tlsAfterInfo = "after-info"
	tlsFirst     = "first"
	tlsVerify    = "verify"
)

var tlsLine = regexp.MustCompile(`(?m)^tls = (\S+)\n`)

// secure takes the line about TLS out of limits, makes what it takes to follow
// it in dir, and returns the rest with the lines about the listener.
func (b *broker) secure(t *testing.T, limits, dir string) (rest, listen string) {
	t.Helper()
	m := tlsLine.FindStringSubmatch(limits)
	if m == nil {
		return limits, map[string]string{ours: "tcp = [\"127.0.0.1:0\"]\n"}[b.kind]
	}
	b.tls = m[1]
	var err error
	b.ca, err = certs.NewAuthority("authority")
	must(t, err)
	pair, err := b.ca.Server("P-256")
	must(t, err)
	f, sealer := certs.In(dir), ""
	if b.kind == ours {
		sealer = programs[ours]
	}
	must(t, f.Write(pair, sealer))
	ca := filepath.Join(dir, "ca.crt")
	must(t, b.ca.Write(ca))
	switch b.tls {
	case tlsAfterInfo, tlsFirst, tlsVerify:
	default:
		t.Fatalf("tls = %s", b.tls)
	}
	if b.kind == theirs {
		listen = fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, timeout: 2, min_version: \"1.3\", handshake_first: %v, verify: %v }\n",
			f.Cert, f.Key, ca, b.tls == tlsFirst, b.tls == tlsVerify)
	} else {
		auth := map[bool]string{true: "require", false: "none"}[b.tls == tlsVerify]
		listen = fmt.Sprintf("tcp = []\ntls = [\"127.0.0.1:0\"]\nhandshake_first = %v\n[tls]\ncert = %q\nkey = %q\nunlock_file = %q\nclient_auth = %q\nclient_ca = %q\n",
			b.tls == tlsFirst, f.Cert, f.Sealed, f.Unlock, auth, ca)
	}
	return tlsLine.ReplaceAllString(limits, ""), listen
}

// clientTLS trusts the broker, and has a certificate if that wants one.
func (b *broker) clientTLS() *tls.Config {
	if b.ca == nil {
		return &tls.Config{} // fails
	}
	config := &tls.Config{RootCAs: b.ca.Pool(), ServerName: "localhost"}
	if b.tls == tlsVerify {
		pair, err := b.ca.Client("client")
		if err != nil {
			panic(err)
		}
		config.Certificates = []tls.Certificate{pair.TLS()}
	}
	return config
}

// welcome takes a connection to where operations begin.
func (b *broker) welcome(c *conn) error {
	switch b.tls {
	case "":
		return c.greeting()
	case tlsFirst:
		return errors.Join(c.secure(b.clientTLS()), c.greeting())
	}
	return errors.Join(c.greeting(), c.secure(b.clientTLS()))
}
