package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"
)

// shorthere.go has the same callers as package caller in this process: one connection
// each, one request.

func (s *shortRun) tlsdHere(b *broker) (func() error, error) {
	text := []byte("CONNECT 127.0.0.1:" + s.port + " GATEHOUSE-TLS/1\nSession: short\nMode: framed\nFrame: line\n\n" + request)
	return func() error { return askOnce("unix", b.addr, text, "GATEHOUSE-TLS/1 200 ", "\r\n\r\n") }, nil
}

func (s *shortRun) stunnelHere(b *broker) (func() error, error) { return plainly(b.addr), nil }
func (s *shortRun) plainlyHere(*broker) (func() error, error)   { return plainly(s.port), nil }

// plainly is a caller that has no TLS to a port of this machine.
func plainly(port string) func() error {
	return func() error { return askOnce("tcp", "127.0.0.1:"+port, []byte(request), "", "") }
}

// serverHere makes a session for each request, as processes of their own would: what one
// has learned the next one does not know.
func (s *shortRun) serverHere(*broker) (func() error, error) {
	text, err := os.ReadFile(s.id.cert)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	cfg.RootCAs.AppendCertsFromPEM(text)
	return func() error {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: callTime}, "tcp", "127.0.0.1:"+s.port, cfg)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _, err = ask(conn)
		return err
	}, nil
}

// askOnce connects, says something, and reads a head that begins and ends so, and a
// line.
func askOnce(network, addr string, text []byte, begin, end string) error {
	conn, err := net.DialTimeout(network, addr, callTime)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(callTime))
	if _, err := conn.Write(text); err != nil {
		return err
	}
	got := make([]byte, 0, 4096)
	for {
		n, err := conn.Read(got[len(got):cap(got)])
		if err != nil {
			return fmt.Errorf("%q: %w", got, err)
		}
		got = got[:len(got)+n]
		if !bytes.HasPrefix(got, []byte(begin)[:min(len(got), len(begin))]) {
			return fmt.Errorf("%q", got)
		}
		if _, line, ok := bytes.Cut(got, []byte(end)); ok && bytes.IndexByte(line, '\n') > 0 {
			return nil
		}
	}
}
