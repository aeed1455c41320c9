package cms

import (
	"bytes"
	"crypto"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"gatehouse/roles/auth/chain"
	"gatehouse/roles/auth/cms"
	. "gatehouse/roles/auth/cms/cmstest"
	"gatehouse/tickets"
)

var (
	executions = flag.Int64("tries", 20_000, "messages that are tried")
	seed       = flag.Uint64("seed", 0, "of the changes that are made; 0: another one each time")
)

var content = tickets.AuthContent("orga", "mO9qYk1zXkqzJjTjJ8m0w3a2bRrQeX4T")

// ours, smallsteps and openssls are the three readers. Ours is asked for its last word,
// since it leaves the certificates to crypto/x509, which reads them with less care than
// the others: what it overlooks breaks their signatures.
func (a *approved) ours(der []byte) error {
	m, err := cms.Parse(der)
	if err != nil {
		return err
	}
	if err := m.Verify(content); err != nil {
		return err
	}
	// What it says of the same certificates is the same.
	chain := string(m.Signer.Raw)
	for _, c := range m.Others {
		chain += string(c.Raw)
	}
	err, known := a.said[chain]
	if !known {
		_, err = a.Check(m.Signer, m.Others, time.Now())
		a.said[chain] = err
	}
	return err
}

type approved struct {
	*chain.Approved
	said map[string]error
}

func smallsteps(der []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	p, err := pkcs7.Parse(der)
	if err != nil {
		return err
	}
	p.Content = content
	return p.Verify()
}

func openssls(t testing.TB, dir string, der []byte) error {
	f, err := os.CreateTemp(dir, "message")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(der); err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", f.Name(), "-binary", "-noverify",
		"-content", filepath.Join(dir, "content"), "-out", os.DevNull).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// maker makes messages that are a little wrong, and some that are right. All of their
// certificates are needed.
type maker struct {
	r      *rand.Rand
	a      *approved
	makers []func() *Message
	whole  [][]byte // right messages
	stock  [][]byte // pieces of them
}

// newMaker has signers by all keys that the other two readers know: neither reads
// Ed25519 in CMS.
func newMaker(t testing.TB, r *rand.Rand) *maker {
	root := Root("root", Key("p256"))
	middle := root.Authority("middle", NewKey("p256"))
	m := &maker{r: r}
	a, err := chain.New(root.PEM(), chain.Lists{})
	if err != nil {
		t.Fatal(err)
	}
	m.a = &approved{a, map[string]error{}}
	for n := range 200 {
		// What signs fast signs most.
		kind := "p256"
		if few := []string{"p384", "p521", "rsa2048"}; n < len(few) {
			kind = few[n]
		}
		by := middle.Client("alice", Key(kind))
		m.makers = append(m.makers, func() *Message {
			msg := Unsigned(content, by, middle)
			if m.r.IntN(200) == 0 { // smallstep does not know it
				msg.Version, msg.Signers[0].Version, msg.Signers[0].ID = 3, 3, ByKeyID(by)
			}
			return msg
		})
		m.whole = append(m.whole, New(content, by, middle).DER())
	}
	for _, oid := range [][]byte{Data, SignedData, ContentType, MessageDigest, SigningTime, SHA1, SHA224, SHA256, SHA384, SHA512, RSA, RSAPSS} {
		m.stock = append(m.stock, oid, Sequence(oid), Sequence(oid, Null), Set(oid))
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		sum := Octets(Sum(hash, content))
		m.stock = append(m.stock, sum, Set(sum), Attribute(MessageDigest, sum), Attribute(MessageDigest, Octets(Sum(hash, nil))))
	}
	for n := range 5 {
		m.stock = append(m.stock, Sequence(OID(1, 2, 840, 10045, 4, 3, n)), Sequence(OID(1, 2, 840, 113549, 1, 1, 10+n), Null))
	}
	m.stock = append(m.stock, Null, Int(0), Int(1), Int(3), Set(), Sequence(), Octets(nil), Octets(content), root.Raw,
		Attribute(ContentType, Data), Attribute(ContentType, SignedData), Field(0, Octets(content)), Field(0), Field(1), []byte{0x80, 0})
	return m
}

// next makes one. Half of them are signed after they were changed, since a wrong
// signature hides everything else.
func (m *maker) next() []byte {
	r := m.r
	if r.IntN(2) == 0 {
		return change(r, m.whole[r.IntN(len(m.whole))], m.stock)
	}
	msg := m.makers[r.IntN(len(m.makers))]()
	s := msg.Signers[0]
	pieces := []*[]byte{&s.Attrs, &s.Attrs, &s.Attrs, &msg.Digests, &msg.Content, &msg.Certs, &msg.Lists, &s.ID, &s.Digest, &s.Scheme, &s.Unsigned}
	for range 1 + r.IntN(2) {
		p := pieces[r.IntN(len(pieces))]
		if *p == nil {
			*p = Field(1, m.stock[r.IntN(len(m.stock))])
		} else {
			*p = change(r, *p, m.stock)
		}
	}
	switch r.IntN(40) {
	case 0:
		msg.Version = int64(r.IntN(6))
	case 1:
		s.Version = int64(r.IntN(6))
	case 2:
		msg.Signers = append(msg.Signers, s)
	case 3:
		msg.Type = Data
	}
	if len(s.Attrs) > 0 {
		s.Sign()
	} else {
		s.Attrs = nil
		s.SignThis(content)
	}
	der := msg.DER()
	switch r.IntN(100) {
	case 0:
		der = append(der, byte(r.IntN(256)))
	case 1:
		der = der[:len(der)-1]
	}
	return der
}

// We accept nothing that both others refuse.
func TestDifferential(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	var tried, accepted, alone, asked, stricter atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			m := newMaker(t, rand.New(rand.NewPCG(*seed, uint64(w))))
			for n := tried.Add(1); n <= *executions && !t.Failed(); n = tried.Add(1) {
				der := m.next()
				if m.a.ours(der) != nil {
					if n%64 == 0 && smallsteps(bytes.Clone(der)) == nil {
						stricter.Add(64)
					}
					continue
				}
				k := accepted.Add(1)
				err := smallsteps(bytes.Clone(der))
				if err == nil && k%500 != 0 {
					continue
				}
				asked.Add(1)
				second := openssls(t, dir, der)
				if err != nil && second != nil {
					t.Errorf("accepted here alone:\n%x\nsmallstep: %v\nopenssl: %v", der, err, second)
				}
				if err != nil || second != nil {
					alone.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d tried in %v, %d accepted; openssl asked about %d; one of the others refused %d; smallstep alone would have taken some %d",
		min(tried.Load(), *executions), time.Since(began).Round(time.Second), accepted.Load(), asked.Load(), alone.Load(), stricter.Load())
	if accepted.Load() < *executions/1000 {
		t.Error("hardly any is accepted: the test looks at nothing")
	}
}
