package chain

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Lists are the revocation lists. If there are any, each certificate needs one.
type Lists struct {
	all    []*list
	wanted bool
}

// list is one revocation list (RFC 5280, 5).
type list struct {
	crl     *x509.RevocationList // what is signed and by what; without entries
	issuer  string
	revoked map[string]struct{} // by serial number

	mu       sync.Mutex
	signedBy map[[sha256.Size]byte]bool // keys that it has been held against
}

// ReadLists reads PEM blocks of revocation lists. What it cannot read is left out and
// said in errs; the lists before it then go on beside the new ones for issuers of whom
// there is none among these, so that a file which is damaged takes away nothing that
// was known.
func ReadLists(text []byte, before *Approved) (l Lists, errs []error) {
	for n := 1; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		l.wanted = true
		one, err := readList(block)
		if err != nil {
			errs = append(errs, fmt.Errorf("revocation list %d: %w", n, err))
			continue
		}
		l.all = append(l.all, one)
	}
	if len(errs) > 0 && before != nil {
		for _, old := range before.lists.all {
			if !slices.ContainsFunc(l.all, func(o *list) bool { return o.issuer == old.issuer }) {
				l.all = append(l.all, old)
			}
		}
	}
	return l, errs
}

func readList(block *pem.Block) (*list, error) {
	if block.Type != "X509 CRL" {
		return nil, fmt.Errorf("%.40q is not X509 CRL", block.Type)
	}
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, err
	}
	switch {
	case len(crl.Raw) != len(block.Bytes):
		return nil, errors.New("bytes after the end")
	case crl.NextUpdate.IsZero():
		return nil, errors.New("it does not say until when it is valid")
	}
	if !strong[crl.SignatureAlgorithm] {
		return nil, fmt.Errorf("it is signed by %v", crl.SignatureAlgorithm)
	}
	// One that speaks for a part of the certificates, for other issuers or of changes
	// only says so by a critical extension.
	for _, e := range crl.Extensions {
		if e.Critical {
			return nil, fmt.Errorf("it is not complete: extension %v", e.Id)
		}
	}
	l := &list{
		crl: &x509.RevocationList{RawTBSRevocationList: crl.RawTBSRevocationList, Signature: crl.Signature,
			SignatureAlgorithm: crl.SignatureAlgorithm, ThisUpdate: crl.ThisUpdate, NextUpdate: crl.NextUpdate},
		issuer: string(crl.RawIssuer), revoked: make(map[string]struct{}, len(crl.RevokedCertificateEntries)),
		signedBy: map[[sha256.Size]byte]bool{},
	}
	for _, e := range crl.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, fmt.Errorf("an entry is not this issuer's: extension %v", x.Id)
			}
		}
		l.revoked[e.SerialNumber.String()] = struct{}{}
	}
	return l, nil
}

// strong are the signatures that a list may have: crypto/x509 takes SHA-1 there.
var strong = map[x509.SignatureAlgorithm]bool{
	x509.SHA256WithRSA: true, x509.SHA384WithRSA: true, x509.SHA512WithRSA: true,
	x509.SHA256WithRSAPSS: true, x509.SHA384WithRSAPSS: true, x509.SHA512WithRSAPSS: true,
	x509.ECDSAWithSHA256: true, x509.ECDSAWithSHA384: true, x509.ECDSAWithSHA512: true, x509.PureEd25519: true,
}

// check holds a certificate against all lists of its issuer that are valid now.
func (l *Lists) check(c, issuer *x509.Certificate, now time.Time) error {
	if !l.wanted {
		return nil
	}
	err := error(NoList)
	for _, one := range l.all {
		if one.issuer != string(c.RawIssuer) || now.Before(one.crl.ThisUpdate) || now.After(one.crl.NextUpdate) || !one.isBy(issuer) {
			continue
		}
		if _, revoked := one.revoked[c.SerialNumber.String()]; revoked {
			return Revoked
		}
		err = nil
	}
	return err
}

// isBy tells whether issuer has signed the list. That is found out once: a list may be
// large. Only those who are approved are asked about, so there are few.
func (l *list) isBy(issuer *x509.Certificate) bool {
	key := sha256.Sum256(append([]byte{byte(issuer.KeyUsage), byte(issuer.KeyUsage >> 8)}, issuer.RawSubjectPublicKeyInfo...))
	l.mu.Lock()
	defer l.mu.Unlock()
	ok, known := l.signedBy[key]
	if !known {
		ok = l.crl.CheckSignatureFrom(issuer) == nil
		l.signedBy[key] = ok
	}
	return ok
}
