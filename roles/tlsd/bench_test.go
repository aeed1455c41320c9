package tlsd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

// BenchmarkRequest is a caller's life, to one request and its answer, with a session
// that is shared and with one of its own. Server and tlsd are in this process.
func BenchmarkRequest(b *testing.B) {
	for _, mode := range []string{"own", "exclusive", "framed"} {
		b.Run(mode, func(b *testing.B) {
			r := newRig(b)
			to := r.serve(echoLines)
			r.policy("s", to, nil)
			pool := x509.NewCertPool()
			pool.AddCert(r.ca.cert)
			o := client.Options{Session: "s", Socket: r.socket}
			switch mode {
			case "own":
				o = client.Options{TLS: &tls.Config{RootCAs: pool}}
			case "framed":
				o.Mode, o.Frame = protocol.Framed, protocol.FrameLine
			}
			for b.Loop() {
				c, err := client.Dial(context.Background(), to.addr, o)
				must(b, err)
				must(b, ask(c, "request"))
				must(b, c.Close())
			}
		})
	}
}
