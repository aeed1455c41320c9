package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"time"

	"gatehouse/roles/tlsd/protocol"
)

// DefaultSocket is where tlsd is when Options do not say.
const DefaultSocket = "/run/gatehouse/tlsd.sock"

// Options say what session is wanted.
type Options struct {
	// Session is the name of a shared session, "": one of one's own. Whoever names the
	// same gets the same, if tlsd's policy lets it.
	Session string
	Socket  string // tlsd's; "": DefaultSocket

	// Of a shared session; the zero values are exclusive mode.
	Mode  protocol.Mode
	Frame protocol.Frame
	Read  protocol.Read

	ServerName string   // "": the host of the address
	ALPN       []string // protocols to offer
	// Timeout is how long to wait for the session or for one's turn, 0: up to the
	// context's deadline, or protocol.DefaultTimeout.
	Timeout time.Duration

	// TLS is for a session of one's own; nil: crypto/tls's defaults. ServerName and
	// ALPN are taken from above. A shared one has what tlsd's configuration says.
	TLS *tls.Config
}

// Error is tlsd's answer where there is no session.
type Error struct {
	Code   protocol.Code
	Verify string // what is wrong with the server's certificate, "": nothing, or not known
	Reason string
}

// Error says it.
func (e *Error) Error() string {
	text := "tlsd: " + e.Code.String()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Dial gives a session with the server at addr, HOST:PORT. ctx bounds the call and
// nothing after it. The error of a shared one is an *Error where tlsd has answered.
func Dial(ctx context.Context, addr string, o Options) (net.Conn, error) {
	if o.Session == "" {
		return dialOwn(ctx, addr, o)
	}
	r := protocol.Request{Verb: protocol.Connect, Target: addr, Session: o.Session, Shared: true, Mode: o.Mode, Frame: o.Frame, Read: o.Read,
		SNI: o.ServerName, ALPN: o.ALPN, Timeout: timeout(ctx, o), Chunks: true, Chain: true}
	return request(ctx, o, &r)
}

// Attach gives the session of a name, or an id, if there is one. Of the Options Socket,
// Read and Timeout count.
func Attach(ctx context.Context, session string, o Options) (*Conn, error) {
	r := protocol.Request{Verb: protocol.Attach, Target: session, Shared: true, Read: o.Read, Timeout: timeout(ctx, o), Chunks: true, Chain: true}
	return request(ctx, o, &r)
}

func dialOwn(ctx context.Context, addr string, o Options) (net.Conn, error) {
	cfg := o.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.ServerName != "" {
		cfg.ServerName = o.ServerName
	}
	if len(o.ALPN) > 0 {
		cfg.NextProtos = o.ALPN
	}
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", addr)
}

func timeout(ctx context.Context, o Options) time.Duration {
	d := o.Timeout
	if end, ok := ctx.Deadline(); ok && d == 0 {
		d = time.Until(end)
	}
	if d <= 0 {
		d = protocol.DefaultTimeout
	}
	return min(d.Round(time.Millisecond)+time.Millisecond, protocol.MaxTimeout)
}

// request connects, asks, and takes the answer.
func request(ctx context.Context, o Options, r *protocol.Request) (*Conn, error) {
	head := r.Append(nil)
	if _, err := protocol.Parse(head); err != nil {
		return nil, fmt.Errorf("tlsd: %w", err)
	}
	conn, err := dialSocket(ctx, o.Socket)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	a, rest, err := ask(conn, head)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && a.Code != protocol.OK {
		err = &Error{Code: a.Code, Verify: a.Get("Verify"), Reason: a.Get("Reason")}
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return newConn(conn, r, a, rest), nil
}

func dialSocket(ctx context.Context, path string) (*net.UnixConn, error) {
	if path == "" {
		path = DefaultSocket
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.ErrUnsupported
	}
	return u, nil
}

// ask sends a head and reads that of the answer; rest came behind it.
func ask(conn net.Conn, head []byte) (a *protocol.Answer, rest []byte, err error) {
	if _, err := conn.Write(head); err != nil {
		return nil, nil, err
	}
	var b []byte
	for {
		if end := protocol.AnswerEnd(b); end > 0 {
			a, err := protocol.ParseAnswer(b[:end])
			return a, b[end:], err
		}
		if len(b) > protocol.MaxAnswer {
			return nil, nil, protocol.ErrMalformed
		}
		part := make([]byte, 4096)
		n, err := conn.Read(part)
		if n == 0 && err != nil {
			return nil, nil, fmt.Errorf("tlsd: no answer: %w", err)
		}
		b = append(b, part[:n]...)
	}
}

// certificates reads those of an answer, all or none.
func certificates(a *protocol.Answer) (chain []*x509.Certificate) {
	for _, f := range a.Fields {
		if f.Name != "Certificate" {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(f.Value)
		if err != nil {
			return nil
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		chain = append(chain, cert)
	}
	return chain
}
