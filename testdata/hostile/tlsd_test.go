package hostile

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatehouse/privsep"
	"gatehouse/testdata/tree"
)

// sharing is the part of a configuration that has a tlsd, which shows a certificate to
// a server that is not there.
func sharing(t testing.TB, dir string) string {
	t.Helper()
	files := newIdentity(t, "P-256", "").write(t, dir, "client")
	return fmt.Sprintf("[tlsd]\nsocket = %q\nports = [443]\nca = \"client.pem\"\n%s[[tls_session]]\nname = \"*\"\nremote = \"127.0.0.1:443\"\n"+
		"open = [\"*\"]\nclient_certificate = true\nmin_version = \"1.3\"\n", filepath.Join(dir, "tlsd"), files)
}

// tlsSignCase spoils a TLS_SIGN that would be served.
type tlsSignCase struct {
	reason string // "": it is answered
	answer string // "signature" or "none"
	spoil  func(*privsep.TLSSign)
}

func asked(b []byte) func(*privsep.TLSSign) { return func(s *privsep.TLSSign) { s.Input = b } }

func askedBy(n tls.SignatureScheme) func(*privsep.TLSSign) {
	return func(s *privsep.TLSSign) { s.Scheme = uint16(n) }
}

var tlsSignCases = map[string]tlsSignCase{
	"sound":     {"", "signature", func(*privsep.TLSSign) {}},
	"sound 384": {"", "signature", asked(verifyInput(clientContext, 48))},

	// What is to be signed.
	"server":         {"purpose", "", asked(verifyInput(serverContext, 32))},
	"server 384":     {"purpose", "", asked(verifyInput(serverContext, 48))},
	"digest 32":      {"purpose", "", asked(make([]byte, 32))},
	"digest 48":      {"purpose", "", asked(make([]byte, 48))},
	"nothing":        {"purpose", "", asked(nil)},
	"one byte more":  {"purpose", "", asked(verifyInput(clientContext, 33))},
	"one byte less":  {"purpose", "", asked(verifyInput(clientContext, 31))},
	"hash of 64":     {"malformed", "", asked(verifyInput(clientContext, 64))},
	"other padding":  {"purpose", "", asked(append([]byte{0}, verifyInput(clientContext, 32)[1:]...))},
	"padding of 63":  {"purpose", "", asked(verifyInput(clientContext, 33)[1:])},
	"no zero byte":   {"purpose", "", asked(verifyInput(strings.Replace(clientContext, "\x00", " ", 1), 32))},
	"TLS 1.2 P-256":  {"purpose", "", asked(keyExchange(23, 65))},
	"TLS 1.2 X25519": {"purpose", "", asked(keyExchange(29, 32))},
	"CMS":            {"purpose", "", asked([]byte("\x31\x50\x30\x18\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03" + strings.Repeat("x", 115)))},

	// By which scheme.
	"Ed25519 with P-256": {"scheme", "", askedBy(tls.Ed25519)},
	"RSA with P-256":     {"scheme", "", askedBy(tls.PSSWithSHA256)},
	"P-384 with P-256":   {"scheme", "", askedBy(tls.ECDSAWithP384AndSHA384)},
	"PKCS1":              {"purpose", "", askedBy(tls.PKCS1WithSHA256)},
	"ECDSA with SHA-1":   {"purpose", "", askedBy(tls.ECDSAWithSHA1)},
	"scheme 0":           {"purpose", "", askedBy(0)},

	// By which key: one that is not there may have been replaced.
	"key 0":            {"", "none", func(s *privsep.TLSSign) { s.Key = 0 }},
	"the next key":     {"", "none", func(s *privsep.TLSSign) { s.Key++ }},
	"the key before":   {"", "none", func(s *privsep.TLSSign) { s.Key-- }},
	"a cm's key":       {"", "none", func(s *privsep.TLSSign) { s.Key = 1 }},
	"server, no key":   {"purpose", "", func(s *privsep.TLSSign) { s.Key, s.Input = 0, verifyInput(serverContext, 32) }},
	"a scheme, no key": {"", "none", func(s *privsep.TLSSign) { s.Key, s.Scheme = 0, uint16(tls.PSSWithSHA512) }},
}

// soundTLS is a TLS_SIGN that a sound tlsd would send.
func (v *villain) soundTLS() privsep.TLSSign {
	return privsep.TLSSign{ID: 1, Key: v.set.Policies[0].Key, Scheme: uint16(tls.ECDSAWithP256AndSHA256), Input: verifyInput(clientContext, 32)}
}

// tlsSignCase sends tlsSignCases[S], and says what is answered.
func (v *villain) tlsSignCase() error {
	s := v.soundTLS()
	tlsSignCases[v.plan.S].spoil(&s)
	return v.askSigned(privsep.KindTLSSign, s.Append(nil), privsep.KindTLSSigned, func(payload []byte) ([]byte, error) {
		var answer privsep.TLSSigned
		err := answer.Parse(payload)
		return answer.Signature, err
	})
}

// floodTLSSigns asks for one after the other, by a key that is not there, and hears no
// answer.
func (v *villain) floodTLSSigns() error {
	s := v.soundTLS()
	s.Key = 0
	for range 20_000 {
		s.ID++
		if v.pen.send(privsep.KindTLSSign, s.Append(nil)) != nil {
			return nil
		}
	}
	return v.finish()
}

// outwards are where a tlsd tries to connect to, and what the kernel says.
var outwards = map[string]string{
	"127.0.0.1:443": "ECONNREFUSED", // or somebody is there
	"[::1]:443":     "ECONNREFUSED",
	"127.0.0.1:22":  "EACCES",
	"127.0.0.1:444": "EACCES",
	"[::1]:80":      "EACCES",
}

func (v *villain) outwards() error {
	for to := range outwards {
		_, err := privsep.ConnectTCP(netip.MustParseAddrPort(to))
		v.say(attempt, to, err)
	}
	return v.finish()
}

// TestTLSD asks for every signature that a sound tlsd does not ask for, and tries to
// connect where it must not.
func TestTLSD(t *testing.T) {
	t.Parallel()
	jobs := []job{
		{role: "tlsd", plan: plan{Stage: stageRun, Do: "flood of tls signs"}, death: "signal killed"}, // it does not read its channel
		{role: "tlsd", plan: plan{Stage: stageRun, Do: "outwards"}, check: func(t *testing.T, b *broker, pid int) {
			said := b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == attempt })
			for _, l := range said {
				got, want := l.Str("err"), outwards[l.Str("reason")]
				if (got == "EACCES" || got == "EPERM") != (want == "EACCES") {
					t.Errorf("%s: %s, want %s", l.Str("reason"), got, want)
				}
			}
			if len(said) != len(outwards) {
				t.Errorf("%d attempts", len(said))
			}
		}},
	}
	for name, c := range tlsSignCases {
		j := job{role: "tlsd", plan: plan{Stage: stageRun, Do: "tls sign", S: name}}
		if c.reason != "" {
			j.kind, j.reason = "TLS_SIGN", c.reason
		} else {
			j.check = said(c.answer)
		}
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b job) int { return strings.Compare(a.plan.S, b.plan.S) })
	campaign(t, jobs)
}
