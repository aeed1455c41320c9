package parent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// tlsd.go is what tlsd gets: which sessions there may be, and signatures by the key of
// the certificate that it shows to servers.

// tlsPolicy is one session of the configuration with the files that it names.
type tlsPolicy struct {
	privsep.TLSPolicy
	roots []byte // PEM
	shows bool   // our certificate
}

// tlsIdentity is who we are to servers.
type tlsIdentity struct {
	number uint32
	chain  []byte // PEM
	leaf   *x509.Certificate
	key    *custody.ClientKey
}

// sharing is all of it.
type sharing struct {
	set      uint32 // number of the policies; 0: there are none yet
	policies []tlsPolicy
	rules    []privsep.ProcessRule // what callers must be, where more than a uid or a gid is asked for
	identity *tlsIdentity          // nil: no certificate is shown
	last     uint32                // number of an identity
	signed   uint64
}

// sharingRead is what has been read for it, and can no longer fail.
type sharingRead struct {
	policies []tlsPolicy
	identity *tlsIdentity
}

// loadSharing reads the files that [tlsd] and the sessions name. Errors are as those
// of loadCredential; after one nothing is open.
func loadSharing(cfg *Config, cred *credential, transfer *custody.TicketKey) (*sharingRead, error) {
	r := new(sharingRead)
	if cfg.TLSD.Socket == "" {
		return r, nil
	}
	read := map[string][]byte{} // each file once
	for i := range cfg.TLSSessions {
		s := &cfg.TLSSessions[i]
		path, key := s.CA, tableName("tls_session", i)+".ca"
		if path == "" {
			path, key = cfg.TLSD.CA, "tlsd.ca"
		}
		if path == "" {
			path = systemCA
		}
		if read[path] == nil {
			roots, _, err := readCertificates(path)
			if err != nil {
				return nil, fileFault(key, err)
			}
			read[path] = roots
		}
		r.policies = append(r.policies, tlsPolicy{*s.policy(), read[path], s.Show})
	}
	if cfg.TLSD.Cert == "" {
		return r, nil
	}
	var err error
	r.identity, err = loadIdentity(cfg, cred, transfer)
	return r, err
}

// loadIdentity reads certificate and key. The key has this one purpose.
func loadIdentity(cfg *Config, cred *credential, transfer *custody.TicketKey) (*tlsIdentity, error) {
	t := &cfg.TLSD
	chain, certs, err := readCertificates(t.Cert)
	if err != nil {
		return nil, fileFault("tlsd.cert", err)
	}
	key, err := custody.OpenClientKey(custody.Options{KeyFile: t.Key, UnlockFile: t.UnlockFile, UnlockUser: t.UnlockUser})
	if errors.Is(err, custody.ErrIdentity) {
		return nil, fmt.Errorf("tlsd.key: %w", err)
	}
	if err != nil {
		return nil, fileFault("tlsd.key", err)
	}
	text, at := "", "tlsd.key"
	switch {
	case key.Match(certs[0]) != nil:
		text, at = fmt.Sprintf("certificate %s does not belong to key %s", t.Cert, t.Key), "tlsd.cert"
	case cred != nil && key.Match(cred.leaf) == nil:
		text = "is tls.key, too: a key has one purpose"
	case transfer != nil && transfer.Match(certs[0]) == nil:
		text = "is transfer.key, too: a key has one purpose"
	}
	if text != "" {
		key.Close()
		return nil, &ConfigError{Key: at, Text: text}
	}
	return &tlsIdentity{chain: chain, leaf: certs[0], key: key}, nil
}

// setSharing puts what was read in the place of what there is. Numbers are as those of
// profiles.
func (p *parent) setSharing(r *sharingRead) {
	s := &p.sharing
	if s.identity != nil {
		s.identity.key.Close()
		p.untidy = time.Now()
	}
	if s.last == 0 {
		s.set, s.last = uint32(p.began), uint32(p.began)
	}
	same := s.identity != nil && r.identity != nil && bytes.Equal(s.identity.chain, r.identity.chain)
	if s.identity = r.identity; s.identity != nil {
		if s.identity.number = s.last; !same {
			s.last = max(s.last+1, 1)
			s.identity.number = s.last
		}
	}
	s.set = max(s.set+1, 1)
	s.policies, s.rules = r.policies, nil
	for i := range s.policies {
		s.rules = append(s.rules, s.policies[i].callerRules()...)
	}
}

// callerRules are those of the grants that ask for an executable.
func (t *tlsPolicy) callerRules() (rules []privsep.ProcessRule) {
	for _, g := range slices.Concat(t.Open, t.Read, t.Write, t.Admin) {
		switch r := (privsep.ProcessRule{Executable: g.Executable}); {
		case g.Executable == "":
		case g.To == privsep.GrantUID:
			r.ByUID, r.UID = true, g.ID
			rules = append(rules, r)
		case g.To == privsep.GrantGID:
			r.ByGID, r.GID = true, g.ID
			rules = append(rules, r)
		}
	}
	return rules
}

// message gives the i-th policy as it travels, with its parcel to be closed.
func (s *sharing) message(i int) (payload []byte, fd int, err error) {
	if len(s.policies) == 0 {
		none := privsep.TLSPolicy{Set: s.set, Last: true}
		fd, err = privsep.Parcel("tls-policy", nil)
		return none.Append(nil), fd, err
	}
	t := s.policies[i]
	t.Set, t.Last, t.Roots = s.set, i == len(s.policies)-1, uint32(len(t.roots))
	var chain []byte
	if t.shows {
		chain = s.identity.chain
		t.Chain, t.Key = uint32(len(chain)), s.identity.number
	}
	fd, err = privsep.Parcel("tls-policy", slices.Concat(t.roots, chain))
	return t.Append(nil), fd, err
}

// eachPolicy says the messages of a set, until say wants no more.
func (s *sharing) eachPolicy(say func(payload []byte, fd int) error) error {
	for i := range max(len(s.policies), 1) {
		payload, fd, err := s.message(i)
		if err != nil {
			return err
		}
		err = say(payload, fd)
		privsep.CloseFD(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// handOutSharing gives a new tlsd all policies.
func (p *parent) handOutSharing(c *child) error {
	if c.id.Role != privsep.RoleTLSD {
		return nil
	}
	c.policies = p.sharing.set
	return p.sharing.eachPolicy(func(payload []byte, fd int) error {
		return c.ch.SendWait(handOutTime, privsep.KindTLSPolicy, payload, fd)
	})
}

// giveSharing gives a tlsd the policies that it does not have.
func (p *parent) giveSharing(c *child) {
	if c.id.Role != privsep.RoleTLSD || c.policies == p.sharing.set {
		return
	}
	c.policies = p.sharing.set
	end := time.Now().Add(setTime)
	err := p.sharing.eachPolicy(func(payload []byte, fd int) error {
		if !c.hears(privsep.KindTLSPolicy, len(payload), 1) {
			return nil
		}
		return c.ch.SendPaced(max(time.Until(end), 0), privsep.KindTLSPolicy, payload, fd)
	})
	p.heard(c, privsep.KindTLSPolicy, err)
}

// ways are those between several tlsds, by which they pass callers on: [i][j] is the end
// of i to j. They stay when a process begins, so that what is under way comes to it. When
// one has ended and there is another in its place, there are new ones: what it has shut it
// has shut for good. So there are with a new parent.
type ways [][]way

// way is an end of one, and the number of both.
type way struct {
	fd     int
	number uint64 // 0: none
}

// makeWays makes them, if there are several.
func (p *parent) makeWays() error {
	n := p.cfg.TLSD.Shards
	if p.cfg.TLSD.Socket == "" || n == 1 {
		return nil
	}
	p.ways = make(ways, n)
	for i := range p.ways {
		p.ways[i] = make([]way, n)
		for j := range i {
			if err := p.makeWay(i, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeWay makes the one between two, in the place of the one that there is.
func (p *parent) makeWay(i, j int) error {
	a, b, err := privsep.Socketpair()
	if err != nil {
		return err
	}
	p.lastWay++
	for _, end := range []struct {
		w  *way
		fd int
	}{{&p.ways[i][j], a}, {&p.ways[j][i], b}} {
		if end.w.number > 0 {
			privsep.CloseFD(end.w.fd)
		}
		*end.w = way{end.fd, p.lastWay}
	}
	return nil
}

// eachWay calls f with what belongs to each way of a tlsd that it does not have.
func (p *parent) eachWay(c *child, f func(payload []byte, fd int) error) error {
	if c.id.Role != privsep.RoleTLSD || p.ways == nil {
		return nil
	}
	if c.ways == nil {
		c.ways = make([]uint64, len(p.ways))
	}
	for j, w := range p.ways[c.id.Index] {
		if w.number == c.ways[j] {
			continue
		}
		c.ways[j] = w.number
		m := privsep.Shard{Number: j, Of: len(p.ways)}
		if err := f(m.Append(nil), w.fd); err != nil {
			return err
		}
	}
	return nil
}

// handOutWays gives a new tlsd its ways.
func (p *parent) handOutWays(c *child) error {
	c.ways = nil
	return p.eachWay(c, func(payload []byte, fd int) error {
		return c.ch.SendWait(handOutTime, privsep.KindShard, payload, fd)
	})
}

// giveWays gives a tlsd those that it is to use from now on.
func (p *parent) giveWays(c *child) {
	if c.state != running || c.leaves() {
		return
	}
	p.eachWay(c, func(payload []byte, fd int) error {
		p.send(c, privsep.KindShard, payload, fd)
		return nil
	})
}

// renewWays makes those of a tlsd anew that is there after another one. It has the old
// ones, too, and takes whoever is still under way there. Who has no process now has them
// made when there is one.
func (p *parent) renewWays(c *child) {
	if c.id.Role != privsep.RoleTLSD || p.ways == nil || !p.worn[c.id.Index] {
		return
	}
	p.worn[c.id.Index] = false
	for j := range p.ways {
		if j == c.id.Index || p.find(privsep.ID{Role: privsep.RoleTLSD, Index: j}) == nil {
			continue
		}
		if err := p.makeWay(c.id.Index, j); err != nil {
			p.log.Error().Str("role", c.id.String()).Err(err).Msg("socketpair")
			p.worn[c.id.Index] = true
		}
	}
	for _, o := range p.children {
		p.giveWays(o)
	}
}

// retireTLSD has the new process take the callers from now on, and the old one end
// when its own have gone, or their time is up: sessions cannot move.
func (p *parent) retireTLSD(ch *change) {
	ch.by = ch.turnedAt.Add(p.cfg.Limits.DrainTimeout)
	ch.old.wake = ch.by.Add(leaveTime)
	p.connect(ch.new)
	m := privsep.Shutdown{Drain: p.cfg.Limits.DrainTimeout}
	p.send(ch.old, privsep.KindShutdown, m.Append(nil))
	p.writeRegistry()
	p.finish(ch)
}

// signTLS serves one handshake of tlsd with a server. An error is an offence.
func (p *parent) signTLS(c *child, m *privsep.Message) error {
	var s privsep.TLSSign
	if err := s.Parse(m.Payload); err != nil {
		return err
	}
	scheme := tls.SignatureScheme(s.Scheme)
	if custody.CheckClientInput(scheme, s.Input) != nil {
		return &offence{m.Kind.String(), "purpose"}
	}
	answer := privsep.TLSSigned{ID: s.ID}
	if id := p.sharing.identity; id != nil && id.number == s.Key { // else it was replaced meanwhile
		p.untidy = time.Now()
		b, err := id.key.Sign(scheme, s.Input)
		if errors.Is(err, custody.ErrScheme) {
			return &offence{m.Kind.String(), "scheme"}
		}
		if err != nil {
			p.log.Error().Str("role", c.id.String()).Err(err).Msg("signature failed")
		} else {
			p.sharing.signed++
			c.signatures++
		}
		answer.Signature = b
	}
	p.usedKey(keyClient, c, len(answer.Signature) > 0)
	p.send(c, privsep.KindTLSSigned, answer.Append(p.buf[:0]))
	return nil
}

// sharingReport is what status says of tlsd's certificate.
func (p *parent) sharingReport() *Identity {
	id := p.sharing.identity
	if id == nil {
		return nil
	}
	return &Identity{Subject: id.leaf.Subject.String(), NotAfter: id.leaf.NotAfter, Memory: id.key.Memory(), Erased: custody.Erases(),
		Signed: p.sharing.signed}
}
