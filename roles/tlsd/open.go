package tlsd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"time"

	"gatehouse/privsep"
)

// openTime is how long the way to a server may take, the handshake included.
const openTime = 10 * time.Second

// open makes the session, for all who wait for it.
func (s *session) open() {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	err := s.connectInTurn(ctx)
	fields := []privsep.Field{privsep.Str(privsep.KeySession, s.name), privsep.Str(privsep.KeyAddr, s.remote()), privsep.Int(privsep.KeyUID, int64(s.owner.uid))}
	if err != nil {
		s.hub.failed.Add(1)
		s.hub.log.Warn("session not opened", append(fields, privsep.Err(err))...)
		s.failure = newFailure(err)
		s.mu.Lock()
		was := s.over
		s.over, s.why = true, "failed"
		s.mu.Unlock()
		if !was {
			close(s.ended)
			s.hub.forget(s, s.failure)
			close(s.closed)
		}
		close(s.opened)
		return
	}
	s.hub.shaken.Add(1)
	s.hub.log.Info("session opened", fields...)
	close(s.opened)
	if s.isOver() { // it was ended meanwhile
		s.conn.Close()
		return
	}
	s.revalidateLater()
	s.receive()
}

// connectInTurn waits for its turn among those of one uid, who have their own servers
// to wait for, and then among all.
func (s *session) connectInTurn(ctx context.Context) error {
	for _, room := range []chan struct{}{s.owner.handshakes, s.hub.handshakes} {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.connect(ctx)
}

// connect makes the connection and the handshake.
func (s *session) connect(ctx context.Context) error {
	file, remote, err := dialAny(ctx, s.policy.addresses)
	if err != nil {
		return err
	}
	s.wire = &transport{file: file, remote: remote}
	s.conn = tls.Client(s.wire, s.config(ctx))
	if err := s.conn.HandshakeContext(ctx); err != nil {
		s.conn.Close()
		return err
	}
	s.state = s.conn.ConnectionState()
	s.about = s.facts()
	return nil
}

// config has no session tickets: what a session was is gone with it.
func (s *session) config(ctx context.Context) *tls.Config {
	p := s.policy
	cfg := &tls.Config{
		ServerName: s.sni, RootCAs: p.roots, NextProtos: s.alpn, MinVersion: max(p.MinTLS, tls.VersionTLS12),
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
		Time: utc, // the local zone is in a file
	}
	if len(p.chain) > 0 {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: p.chain, Leaf: p.leaf,
				PrivateKey: &signer{ctx: ctx, parent: s.hub.parent, key: p.Key, public: p.leaf.PublicKey}}, nil
		}
	}
	return cfg
}

func utc() time.Time { return time.Now().UTC() }

// dialAny tries one address after the other. Each has its share of the time that is
// left.
func dialAny(ctx context.Context, addresses []netip.AddrPort) (file *os.File, remote netip.AddrPort, err error) {
	end, _ := ctx.Deadline()
	for i, addr := range addresses {
		share := time.Until(end) / time.Duration(len(addresses)-i)
		if file, err = dial(addr, time.Now().Add(share)); err == nil {
			return file, addr, nil
		}
	}
	return nil, remote, err
}

// dial connects to one address.
func dial(addr netip.AddrPort, deadline time.Time) (*os.File, error) {
	fd, err := privsep.ConnectTCP(addr)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), addr.String())
	err = file.SetWriteDeadline(deadline)
	if err == nil {
		err = awaitConnected(file, addr)
	}
	if err == nil {
		err = file.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func awaitConnected(file *os.File, addr netip.AddrPort) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		var done bool
		done, failed = privsep.Connected(int(fd), addr)
		return done || failed != nil
	})
	if failed != nil {
		err = failed
	}
	return err
}

// revalidateLater looks at the server's certificate again when its time has come.
func (s *session) revalidateLater() {
	if s.policy.Revalidate == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.again = time.AfterFunc(s.policy.Revalidate, s.revalidate)
	}
}

func (s *session) revalidate() {
	chain := s.state.PeerCertificates
	o := x509.VerifyOptions{Roots: s.policy.roots, DNSName: s.sni, CurrentTime: utc(), Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		s.end("certificate: "+err.Error(), false)
		return
	}
	s.revalidateLater()
}
