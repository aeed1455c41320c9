package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gatehouse.test/interop/certs"
	"github.com/nats-io/nats.go"
)

// ways are the two in which TLS begins.
var ways = map[string]bool{"after INFO": false, "before INFO": true}

// What works in plaintext works in TLS: requests, groups, large bodies.
func TestTLS(t *testing.T) {
	for way, first := range ways {
		t.Run(way, func(t *testing.T) {
			b := startBroker(t, settings{cms: 2, tls: &tlsSettings{first: first}})
			nc := b.connect()
			state, err := nc.TLSConnectionState()
			if err != nil || state.Version != tls.VersionTLS13 {
				t.Errorf("version %x, %v, want TLS 1.3", state.Version, err)
			}
			if !nc.TLSRequired() {
				t.Error("INFO doesn't say tls_required")
			}
			requests(t, b.connect(), nc)
			group(t, nc, b.connect(), b.connect(), b.connect())
			large(t, b.connect(), b.connect())
		})
	}
}

// requests has client's answered by server.
func requests(t *testing.T, server, client *nats.Conn) {
	t.Helper()
	sub, err := server.Subscribe("double", func(m *nats.Msg) { m.Respond(append(m.Data, m.Data...)) })
	must(t, err)
	must(t, server.Flush())
	for i := range 200 {
		body := fmt.Sprint(i)
		m, err := client.Request("double", []byte(body), patience)
		if err != nil || string(m.Data) != body+body {
			t.Fatalf("request %s: %v, %v", body, m, err)
		}
	}
	must(t, sub.Unsubscribe())
	must(t, server.Flush())
}

// group has each message of pub got by one member, in order.
func group(t *testing.T, pub *nats.Conn, members ...*nats.Conn) {
	t.Helper()
	var channels []chan *nats.Msg
	for _, nc := range members {
		channels = append(channels, subscribe(t, nc, "group", "group.work", end))
	}
	const n = 900
	for i := range n {
		must(t, pub.Publish("group.work", fmt.Appendf(nil, "%04d", i)))
	}
	must(t, pub.Publish(end, nil))
	got := map[string]int{}
	for i, c := range channels {
		last := ""
		for _, body := range collect(t, c) {
			if body <= last {
				t.Errorf("member %d: %s after %s", i, body, last)
			}
			last = body
			got[body]++
		}
		if last == "" {
			t.Errorf("member %d has nothing", i)
		}
	}
	for body, times := range got {
		if times != 1 {
			t.Errorf("message %s came %d times", body, times)
		}
	}
	if len(got) != n {
		t.Errorf("%d of %d messages", len(got), n)
	}
}

// large has bodies of the greatest size go both ways at once.
func large(t *testing.T, x, y *nats.Conn) {
	t.Helper()
	const n = 8
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = make([]byte, 1<<20-i)
		rand.Read(bodies[i])
	}
	toX, toY := subscribe(t, x, "", "large.x"), subscribe(t, y, "", "large.y")
	for _, body := range bodies {
		must(t, x.Publish("large.y", body))
		must(t, y.Publish("large.x", body))
	}
	for i, body := range bodies {
		for name, c := range map[string]chan *nats.Msg{"x": toX, "y": toY} {
			if m := within(t, "a large message", c); !bytes.Equal(m.Data, body) {
				t.Errorf("message %d to %s: %d bytes, not those that were sent", i, name, len(m.Data))
			}
		}
	}
}

// Clients of every kind of listener are clients of one broker.
func TestTLSBesidePlaintext(t *testing.T) {
	if standIn() != "" {
		t.Skip("SKIP TLS beside plaintext: a stand-in has one listener")
	}
	b := startBroker(t, settings{cms: 2, tls: &tlsSettings{}})
	secure, plain, unix := b.connect(), b.connectPlain(), b.connectUnix()
	if _, err := plain.TLSConnectionState(); plain.TLSRequired() || !errors.Is(err, nats.ErrConnectionNotTLS) {
		t.Errorf("the listener in plaintext asks for TLS: %v", err)
	}
	all := map[string]*nats.Conn{"TLS": secure, "plaintext": plain, "Unix": unix}
	for from, pub := range all {
		for to, sub := range all {
			t.Run(from+" to "+to, func(t *testing.T) {
				requests(t, pub, sub)
				large(t, pub, sub)
			})
		}
	}
	group(t, unix, secure, plain, unix, b.connect())
}

// A client that is not served says so, and the broker serves the next.
func TestTLSRefusals(t *testing.T) {
	for way, first := range ways {
		t.Run(way, func(t *testing.T) {
			b := startBroker(t, settings{tls: &tlsSettings{first: first}})
			good := b.clientTLS()

			wrongName := good.Clone()
			wrongName.ServerName = "elsewhere.test"
			var name x509.HostnameError
			if err := b.try(wrongName); !errors.As(err, &name) {
				t.Errorf("wrong name: %v", err)
			}
			var unknown x509.UnknownAuthorityError
			if err := b.try(&tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool()}); !errors.As(err, &unknown) {
				t.Errorf("unknown authority: %v", err)
			}
			old := good.Clone()
			old.MaxVersion = tls.VersionTLS12
			if err := b.try(old); err == nil || !strings.Contains(err.Error(), "protocol version") {
				t.Errorf("TLS 1.2: %v", err)
			}
			if first {
				// A client that waits for INFO waits in vain.
				if nc, err := nats.Connect("tls://"+b.addr, nats.Secure(good), nats.Timeout(300*time.Millisecond)); err == nil {
					nc.Close()
					t.Error("INFO came before the handshake")
				}
			}
			must(t, b.try(good))
		})
	}
}

func TestTLS12WhereAllowed(t *testing.T) {
	b := startBroker(t, settings{tls: &tlsSettings{oldest: "1.2", use: "release"}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := b.clientTLS()
		config.MaxVersion = version
		nc := b.connect(nats.Secure(config))
		state, err := nc.TLSConnectionState()
		if err != nil || state.Version != version {
			t.Errorf("version %x, %v, want %x", state.Version, err, version)
		}
		requests(t, b.connect(), nc)
		large(t, b.connect(), nc)
	}
	ancient := b.clientTLS()
	ancient.MinVersion, ancient.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if err := b.try(ancient); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// With client_auth = "require" a certificate of the right authority is let in,
// one of another or none is not; with "request" none will do.
func TestTLSClientCertificates(t *testing.T) {
	for _, auth := range []string{"require", "request"} {
		for way, first := range ways {
			t.Run(auth+" "+way, func(t *testing.T) {
				if standIn() != "" && auth == "request" {
					t.Skip("SKIP certificates on request: a stand-in has no such option")
				}
				b := startBroker(t, settings{tls: &tlsSettings{first: first, clientAuth: auth}})
				stranger, err := certs.NewAuthority("stranger")
				must(t, err)
				wrong, err := stranger.Client("client")
				must(t, err)
				right, err := b.ca.Client("client")
				must(t, err)
				server, err := b.ca.Server("P-256")
				must(t, err)
				config := &tls.Config{RootCAs: b.ca.Pool(), ServerName: "localhost"}
				present := func(pair *certs.Pair) *tls.Config {
					c := config.Clone()
					// Not Certificates: the client would keep one to itself that the
					// broker's list of authorities leaves out.
					c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						show := pair.TLS()
						return &show, nil
					}
					return c
				}
				must(t, b.try(present(right)))
				if err := b.try(config); (err == nil) != (auth == "request") {
					t.Errorf("no certificate: %v", err)
				}
				for name, pair := range map[string]*certs.Pair{"another authority's": wrong, "a server's": server} {
					// The alert is lost where the client still writes.
					if err := b.try(present(pair)); err == nil || !strings.Contains(err.Error(), "tls") {
						t.Errorf("%s certificate: %v", name, err)
					}
				}
				must(t, b.try(present(right)))
			})
		}
	}
}

// Clients that never get as far as TLS come to a clean end, soon.
func TestTLSNotSpoken(t *testing.T) {
	for way, first := range ways {
		for what, text := range map[string]string{
			"plaintext": "CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n",
			"nothing":   "",
			"half":      "\x16\x03\x01\x02\x00\x01",
			"oversized": "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70000),
		} {
			t.Run(what+" "+way, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, settings{tls: &tlsSettings{first: first, patience: 500 * time.Millisecond}})
				c, err := net.Dial("tcp", b.addr)
				must(t, err)
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				in := bufio.NewReader(c)
				if !first {
					if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, `"tls_required":true`) {
						t.Fatalf("greeted with %q, %v", line, err)
					}
				}
				began := time.Now()
				io.WriteString(c, text)
				rest, err := io.ReadAll(in)
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					t.Error("the connection stays")
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("the end came after %v", took)
				}
				if bytes.Contains(rest, []byte("PONG")) || bytes.Contains(rest, []byte("INFO")) {
					t.Errorf("was served in plaintext: %q", rest)
				}
				must(t, b.try(b.clientTLS()))
			})
		}
	}
}

// A restart of the broker is no more to a client in TLS than to another.
func TestTLSReconnect(t *testing.T) {
	for way, first := range ways {
		t.Run(way, func(t *testing.T) {
			b := startBroker(t, settings{tls: &tlsSettings{first: first}})
			down, up := make(chan error, 10), make(chan struct{}, 10)
			nc := b.connect(nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1),
				nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { down <- err }),
				nats.ReconnectHandler(func(*nats.Conn) { up <- struct{}{} }))
			c := subscribe(t, nc, "", "r.*")
			b.stop()
			within(t, "the disconnect", down)
			must(t, nc.Publish("r.x", []byte("while down")))
			b.start()
			within(t, "the reconnect", up)
			must(t, nc.Publish("r.x", []byte("when up")))
			for _, want := range []string{"while down", "when up"} {
				if m := within(t, want, c); string(m.Data) != want {
					t.Errorf("%q, want %s", m.Data, want)
				}
			}
		})
	}
}

// openssl shows INFO where TLS comes first, and takes the certificate for good.
func TestTLSOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skipf("SKIP openssl s_client: %v", err)
	}
	b := startBroker(t, settings{tls: &tlsSettings{first: true}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// -ign_eof: a line that begins with a Q is nothing to it.
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", b.addr, "-CAfile", b.caFile(),
		"-verify_return_error", "-verify_hostname", "localhost", "-ign_eof")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	must(t, cmd.Start())
	var seen []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "INFO {"):
			seen = append(seen, "INFO")
			io.WriteString(in, "PING\r\n")
		case strings.HasPrefix(line, "Verify return code:"):
			seen = append(seen, line)
		case line == "PONG":
			seen = append(seen, line)
			cancel()
		}
	}
	cmd.Wait()
	got := strings.Join(seen, ", ")
	if !strings.Contains(got, "Verify return code: 0 (ok)") || !strings.HasSuffix(got, "INFO, PONG") {
		t.Errorf("saw %s\n%s", got, complaints.Bytes())
	}
}
