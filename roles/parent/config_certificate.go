package parent

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gatehouse/privsep"
	"gatehouse/privsep/certname"
	"gatehouse/roles/auth/chain"
)

// certificateNames are the texts that stand for what a user's certificate must have.
type certificateNames struct{ subject, san, key string }

// certificateNames reads what somebody has written. In faults there is an error for
// each option that is wrong.
func (u *UserConfig) certificateNames() (n certificateNames, faults map[string]error) {
	faults = map[string]error{}
	for _, o := range []struct {
		option, written string
		text            *string
		read            func(string) (string, error)
	}{
		{"certificate", u.Certificate, &n.subject, certname.Subject},
		{"certificate_san", u.CertificateSAN, &n.san, certname.SAN},
		{"certificate_key", u.CertificateKey, &n.key, certname.Key},
	} {
		if o.written == "" {
			continue
		}
		var err error
		if *o.text, err = o.read(o.written); err != nil {
			faults[o.option] = err
		}
	}
	return n, faults
}

// certified tells whether the user can log in by a certificate.
func (u *UserConfig) certified() bool {
	return u.Certificate+u.CertificateSAN+u.CertificateKey != ""
}

// checkCertificate says what is wrong with a user's certificate, by option.
func (c *Config) checkCertificate(u *UserConfig, seen map[string]bool, add func(key, text string)) {
	if !u.certified() {
		return
	}
	n, faults := u.certificateNames()
	first := ""
	for _, o := range []struct{ option, written string }{
		{"certificate", u.Certificate}, {"certificate_san", u.CertificateSAN}, {"certificate_key", u.CertificateKey},
	} {
		if err := faults[o.option]; err != nil {
			add(o.option, show(o.written)+" "+err.Error())
		}
		if first == "" && o.written != "" {
			first = o.option
		}
	}
	switch id := fmt.Sprintf("certificate %q", n); {
	case len(faults) > 0:
	case seen[id]:
		add(first, "is another user's, too")
	default:
		seen[id] = true
	}
	if len(c.Auth.X509Approved) == 0 {
		add(first, "needs auth.x509_approved, who may vouch for certificates")
	}
}

func (c *Config) checkApproval() (faults []fault) {
	a := &c.Auth
	for _, o := range []struct {
		key   string
		paths []string
	}{{"auth.x509_approved", a.X509Approved}, {"auth.x509_crl", a.X509CRL}} {
		if text := checkList(o.paths, func(path string) string {
			if path == "" {
				return "is empty"
			}
			return ""
		}); text != "" {
			faults = append(faults, fault{text, []string{o.key}})
		}
	}
	if len(a.X509CRL) > 0 && len(a.X509Approved) == 0 {
		faults = append(faults, fault{"means nothing without auth.x509_approved", []string{"auth.x509_crl"}})
	}
	return faults
}

// approvalPaths are the paths of files, to be made independent of where this one lies.
func (c *Config) approvalPaths() (paths []*string) {
	for _, list := range [][]string{c.Auth.X509Approved, c.Auth.X509CRL} {
		for i := range list {
			paths = append(paths, &list[i])
		}
	}
	return paths
}

// loadApproval reads who may vouch for certificates, and what has been revoked. An
// error is a *ConfigError.
func loadApproval(c *Config) (*approval, error) {
	a := new(approval)
	for _, path := range c.Auth.X509Approved {
		text, err := readApproved(path)
		if err != nil {
			return nil, fileFault("auth.x509_approved", err)
		}
		a.approved = append(a.approved, text...)
	}
	if len(a.approved) > privsep.MaxApproved {
		return nil, &ConfigError{Key: "auth.x509_approved", Text: fmt.Sprintf("are larger than %v together", Size(privsep.MaxApproved))}
	}
	if _, err := chain.New(a.approved, chain.Lists{}); err != nil {
		return nil, &ConfigError{Key: "auth.x509_approved", Text: "all together: " + err.Error()}
	}
	for _, path := range c.Auth.X509CRL {
		l := &listFile{path: path}
		if err := l.read(); err != nil {
			return nil, fileFault("auth.x509_crl", err)
		}
		a.lists = append(a.lists, l)
	}
	if n := a.listSize(); n > privsep.MaxLists {
		return nil, &ConfigError{Key: "auth.x509_crl", Text: fmt.Sprintf("take %v together, more than %v", Size(n), Size(privsep.MaxLists))}
	}
	return a, nil
}

// readApproved reads a PEM file of certificates and public keys.
func readApproved(path string) ([]byte, error) {
	text, err := readBounded(path, privsep.MaxApproved)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes})
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("%s: no certificate and no public key in it", path)
	}
	if _, err := chain.New(out.Bytes(), chain.Lists{}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out.Bytes(), nil
}

// listType is what PEM calls a revocation list.
const listType = "X509 CRL"

// readLists reads a file of revocation lists, PEM or DER, and gives PEM. What they say
// is auth's to read: they are made by others.
func readLists(path string) ([]byte, error) {
	text, err := readBounded(path, privsep.MaxLists)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("%s: is empty", path)
	}
	if !strings.Contains(string(text), "-----BEGIN ") {
		return pem.EncodeToMemory(&pem.Block{Type: listType, Bytes: text}), nil
	}
	var out bytes.Buffer
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != listType {
			return nil, fmt.Errorf("%s: a PEM block %s among the revocation lists", path, show(block.Type))
		}
		pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes})
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("%s: no revocation list in it", path)
	}
	return out.Bytes(), nil
}

func readBounded(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(text) > most {
		err = errors.New(path + ": larger than " + Size(most).String())
	}
	return text, err
}
