package tlsd

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"gatehouse/privsep"
)

// policy is what sessions of some names are, and who may do what with them.
type policy struct {
	privsep.TLSPolicyText
	addresses []netip.AddrPort
	roots     *x509.CertPool
	chain     [][]byte // DER, our own first; none: no certificate is shown
	leaf      *x509.Certificate

	byExecutable bool // a grant asks for one
}

var errCertificates = errors.New("no certificate can be read")

// newPolicy reads what the parent has read before, for what it is. Policies with the
// same roots share them: the first of each is in pools.
func newPolicy(t privsep.TLSPolicyText, pools map[string]*policy) (*policy, error) {
	p := &policy{TLSPolicyText: t}
	p.byExecutable = slices.ContainsFunc(p.rights(), func(g privsep.TLSGrant) bool { return g.Executable != "" })
	for _, a := range t.Addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil {
			return nil, err
		}
		p.addresses = append(p.addresses, netip.AddrPortFrom(ip, t.Port))
	}
	if first := pools[string(t.RootsPEM)]; first != nil {
		p.RootsPEM, p.roots = first.RootsPEM, first.roots
	} else {
		roots, err := certificates(t.RootsPEM)
		if err != nil {
			return nil, err
		}
		p.roots = x509.NewCertPool()
		for _, cert := range roots {
			p.roots.AddCert(cert)
		}
		pools[string(t.RootsPEM)] = p
	}
	if len(t.ChainPEM) == 0 {
		return p, nil
	}
	chain, err := certificates(t.ChainPEM)
	if err != nil {
		return nil, err
	}
	for _, cert := range chain {
		p.chain = append(p.chain, cert.Raw)
	}
	p.leaf = chain[0]
	return p, nil
}

func certificates(text []byte) (list []*x509.Certificate, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, errCertificates
	}
	return list, nil
}

// same tells whether nothing has changed from one set to the next.
func (p *policy) same(o *policy) bool {
	a, b := p.TLSPolicy, o.TLSPolicy
	a.Set, b.Set, a.Last, b.Last = 0, 0, false, false
	return reflect.DeepEqual(a, b) && bytes.Equal(p.RootsPEM, o.RootsPEM) && bytes.Equal(p.ChainPEM, o.ChainPEM)
}

// names tells whether the policy is that of sessions of a name.
func (p *policy) names(session string) bool {
	if beginning, all := strings.CutSuffix(p.Name, "*"); all {
		return strings.HasPrefix(session, beginning)
	}
	return p.Name == session
}

// protocols tells whether a caller may ask for those.
func (p *policy) protocols(alpn []string) bool {
	return len(p.ALPN) == 0 || !slices.ContainsFunc(alpn, func(a string) bool { return !slices.Contains(p.ALPN, a) })
}

// rights are what a caller may do with a session.
type rights struct{ read, write, admin bool }

// rightsOf gives those of somebody with a session that owner has opened. It is not every
// program's of his where rights are some programs' alone.
func (p *policy) rightsOf(who *identity, owner int) rights {
	own := who.UID == owner && (!p.byExecutable || grants(p.Open, who))
	return rights{
		read:  own || grants(p.Read, who),
		write: own || grants(p.Write, who),
		admin: own || who.UID == 0 || grants(p.Admin, who),
	}
}
