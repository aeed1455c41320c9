package parent

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// credential is a certificate with its key, as the TLS listeners show it.
type credential struct {
	number      uint32
	chain       []byte // PEM
	authorities []byte // PEM, of the clients; nil: they are not asked
	leaf        *x509.Certificate
	settings    privsep.TLSSettings // that it is used with
	key         *custody.Key
	until       time.Time // an earlier one signs what is under way; zero: the present one
}

// loadCredential reads certificate, key and authorities of cfg. Errors name the
// file, and the option as a *ConfigError, but for custody.ErrIdentity.
func loadCredential(cfg *Config) (*credential, error) {
	t := &cfg.TLS
	chain, certs, err := readCertificates(t.Cert)
	if err != nil {
		return nil, fileFault("tls.cert", err)
	}
	c := &credential{chain: chain, leaf: certs[0], settings: tlsSettings(cfg)}
	c.settings.SignRate, c.settings.HandshakeFirst = 0, false // not the certificate's affair
	if t.ClientAuth != "none" {
		if c.authorities, _, err = readCertificates(t.ClientCA); err != nil {
			return nil, fileFault("tls.client_ca", err)
		}
	}
	c.key, err = custody.Open(custody.Options{KeyFile: t.Key, UnlockFile: t.UnlockFile, UnlockUser: t.UnlockUser})
	if errors.Is(err, custody.ErrIdentity) {
		return nil, fmt.Errorf("tls.key: %w", err)
	}
	if err != nil {
		return nil, fileFault("tls.key", err)
	}
	if err := c.key.Match(c.leaf); err != nil {
		c.key.Close()
		return nil, &ConfigError{Key: "tls.cert", Text: fmt.Sprintf("certificate %s does not belong to key %s", t.Cert, t.Key)}
	}
	return c, nil
}

// readCertificates reads a PEM file of certificates, the text as it is and what
// it means. Anything else in it is an error: a private key in that file would
// be sent to the processes that face the network.
func readCertificates(path string) ([]byte, []*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, privsep.MaxCertificates+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > privsep.MaxCertificates {
		return nil, nil, fmt.Errorf("%s: larger than %s", path, Size(privsep.MaxCertificates))
	}
	var certs []*x509.Certificate
	var out bytes.Buffer
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, nil, fmt.Errorf("%s: a PEM block %s among the certificates", path, show(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: certificate %d: %w", path, len(certs)+1, err)
		}
		certs = append(certs, cert)
		pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes})
	}
	if len(certs) == 0 {
		return nil, nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return out.Bytes(), certs, nil
}

// firstCredential makes the first one ready.
func (p *parent) firstCredential(c *credential) {
	c.number = p.past.number(c)
	p.credNumber = c.number
	p.credentials = []*credential{c}
	p.warnOf(c)
}

// develop gives a configuration without a file the certificate that its TLS
// listener shows.
func develop(cfg *Config) error {
	if len(cfg.Listen.TLS) == 0 || cfg.TLS.Cert != "" {
		return nil
	}
	cert, key, unlock, err := custody.Development(cfg.Privsep.RuntimeDir)
	if err != nil {
		return fmt.Errorf("development certificate: %w", err)
	}
	cfg.TLS.Cert, cfg.TLS.Key, cfg.TLS.UnlockFile = cert, key, unlock
	return nil
}

// digest tells one certificate, and what else a cm makes of it, from another.
func (c *credential) digest() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %+v", c.chain, c.authorities, c.settings))
}

// warnOf says what is weak about a credential.
func (p *parent) warnOf(c *credential) {
	if c.key.Memory() != custody.KindSecret {
		p.warn("private key in memory of kind " + c.key.Memory() + ": this kernel has no memfd_secret (boot option secretmem.enable=1)")
	}
	if !custody.Erases() {
		p.warn("what signing leaves in memory is not erased: built without GOEXPERIMENT=runtimesecret")
	}
	switch now := time.Now(); {
	case now.After(c.leaf.NotAfter):
		p.warn(fmt.Sprintf("certificate %s has expired on %s", p.cfg.TLS.Cert, c.leaf.NotAfter.Format(time.DateOnly)))
	case now.Before(c.leaf.NotBefore):
		p.warn(fmt.Sprintf("certificate %s is not valid before %s", p.cfg.TLS.Cert, c.leaf.NotBefore.Format(time.DateOnly)))
	}
}

// warn adds to what status shows, once.
func (p *parent) warn(text string) {
	if !slices.Contains(p.warnings, text) {
		p.warnings = append(p.warnings, text)
	}
}

// warnInstead shows and logs a warning in the place of another one; either may be
// none.
func (p *parent) warnInstead(before, now string) {
	i := slices.Index(p.warnings, before)
	switch {
	case now == before:
		return
	case now == "":
		p.warnings = slices.Delete(p.warnings, i, i+1)
		return
	case before == "":
		p.warnings = append(p.warnings, now)
	default:
		p.warnings[i] = now
	}
	p.log.Warn().Msg(now)
}

// credential gives the present one, nil without TLS.
func (p *parent) credential() *credential {
	if n := len(p.credentials); n > 0 {
		return p.credentials[n-1]
	}
	return nil
}

// byNumber finds the credential of a handshake that is under way.
func (p *parent) byNumber(n uint32) *credential {
	for _, c := range p.credentials {
		if c.number == n {
			return c
		}
	}
	return nil
}

// setCredential makes c the one for new handshakes; what is under way ends with
// the one before. nil: there are no TLS listeners any more.
func (p *parent) setCredential(c *credential) {
	if old := p.credential(); old != nil && old.until.IsZero() {
		old.until = time.Now().Add(p.longestLife())
	}
	if c == nil {
		return
	}
	p.credNumber++
	c.number = p.credNumber
	p.credentials = append(p.credentials, c)
	before := len(p.warnings)
	p.warnOf(c)
	for _, w := range p.warnings[before:] {
		p.log.Warn().Msg(w)
	}
}

// retire closes the keys that no handshake can ask for any more.
func (p *parent) retire(now time.Time) {
	p.credentials = slices.DeleteFunc(p.credentials, func(c *credential) bool {
		gone := !c.until.IsZero() && now.After(c.until)
		if gone {
			c.key.Close()
			p.untidy = now
		}
		return gone
	})
}

// keyTimes are the moments at which there is something to do about keys.
func (p *parent) keyTimes() []time.Time {
	var ts []time.Time
	if !p.untidy.IsZero() {
		ts = append(ts, p.untidy.Add(tidyAfter))
	}
	for _, c := range p.credentials {
		if !c.until.IsZero() {
			ts = append(ts, c.until)
		}
	}
	return ts
}

// sendCredential gives a cm the certificate, and where keys are released, the
// key. Its identity and its posture have been proved.
func (p *parent) sendCredential(c *child) {
	cred := p.credential()
	if cred == nil || c.id.Role != privsep.RoleCM {
		return
	}
	fd, err := privsep.Parcel("certificates", slices.Concat(cred.chain, cred.authorities))
	if err != nil {
		p.log.Error().Err(err).Msg("certificate not handed out")
		return
	}
	m := privsep.Certificate{Number: cred.number, Chain: uint32(len(cred.chain)), Authorities: uint32(len(cred.authorities))}
	p.send(c, privsep.KindCertificate, m.Append(nil), fd)
	privsep.CloseFD(fd)
	if p.cfg.TLS.KeyUse != KeyUseRelease {
		return
	}
	fd, size, err := cred.key.Release()
	if err != nil {
		p.log.Error().Err(err).Msg("key not released")
		return
	}
	k := privsep.ReleasedKey{Number: cred.number, Size: uint32(size)}
	p.send(c, privsep.KindKey, k.Append(nil), fd)
	privsep.CloseFD(fd)
	p.log.Warn().Bool("security", true).Str("role", c.id.String()).Int("pid", c.proc.PID).Uint32("number", cred.number).Msg("private key released")
	p.record(&auditKeyReleased{Role: c.id.String(), PID: c.proc.PID, Number: cred.number})
}

// tlsSettings is what of [tls] the cms need.
func tlsSettings(cfg *Config) privsep.TLSSettings {
	t := &cfg.TLS
	s := privsep.TLSSettings{HandshakeFirst: cfg.Listen.HandshakeFirst, Min: 0x0304, SignRate: t.SignRate}
	if t.MinVersion == "1.2" {
		s.Min = 0x0303
	}
	switch t.ClientAuth {
	case "request":
		s.Client = privsep.ClientAuthRequest
	case "require":
		s.Client = privsep.ClientAuthRequire
	}
	return s
}

// keyReport is what status says of the key.
func (p *parent) keyReport() *Key {
	c := p.credential()
	if c == nil {
		return nil
	}
	return &Key{
		Use: p.cfg.TLS.KeyUse, Memory: c.key.Memory(), Erased: custody.Erases(), Number: c.number,
		Algorithm: strings.ToLower(c.leaf.PublicKeyAlgorithm.String()), Subject: c.leaf.Subject.String(),
		NotAfter: c.leaf.NotAfter, Signatures: p.signatures, Refused: p.unsigned,
	}
}
