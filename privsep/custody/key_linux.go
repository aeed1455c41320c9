package custody

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of schemes
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"

	"gatehouse/privsep/erase"
)

// Key is a private key in Memory. Its methods may be called from any
// goroutine.
type Key struct {
	public  crypto.PublicKey
	schemes []tls.SignatureScheme
	adopted bool // another process has released it to this one

	mu   sync.RWMutex // Close waits for signatures
	mem  *Memory
	size int // of the DER

	// parsed outlives one garbage collection no more than what each signature
	// leaves in the heap anyway does; it spares parsing between two of them.
	parsed atomic.Pointer[weak.Pointer[parsedKey]]
}

type parsedKey struct{ crypto.Signer }

// newKey takes over mem, which has a PrivateKeyInfo of size bytes; after an
// error it is closed.
func newKey(mem *Memory, size int) (*Key, error) {
	k := &Key{mem: mem, size: size}
	if err := k.inspect(); err != nil {
		mem.Close()
		return nil, err
	}
	return k, nil
}

// inspect parses the key, checks that it is of a supported kind, and finds its
// public half. Only the latter leaves the function erased.
func (k *Key) inspect() error {
	var spki [2048]byte // RSA of 8192 bits takes 1062 bytes
	var n int
	var err error
	erase.Do(func() {
		var p *parsedKey
		if p, err = parseKey(k.mem.Bytes()[:k.size]); err != nil {
			return
		}
		var b []byte
		if b, err = x509.MarshalPKIXPublicKey(p.Public()); err == nil {
			n = copy(spki[:], b)
		}
	})
	if err != nil {
		return err
	}
	if k.public, err = x509.ParsePKIXPublicKey(spki[:n]); err != nil {
		return err
	}
	k.schemes, err = SchemesOf(k.public)
	return err
}

var errDamaged = errors.New("custody: not a PKCS#8 private key")

// parseKey parses and checks a PrivateKeyInfo. What it returns and leaves is
// secret. An error tells nothing of the contents.
func parseKey(der []byte) (*parsedKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errDamaged
	}
	if r, ok := key.(*rsa.PrivateKey); ok && len(r.Primes) != 2 {
		return nil, fmt.Errorf("an RSA key of %d primes is not supported", len(r.Primes))
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that cannot sign is not supported")
	}
	if _, err := SchemesOf(signer.Public()); err != nil {
		return nil, err
	}
	return &parsedKey{signer}, nil
}

// Bounds on RSA keys, in bits: less is weak, more would stall everybody.
const (
	minRSA = 2048
	maxRSA = 8192
)

// SchemesOf lists what the private half of public signs in TLS 1.3, the
// preferred first. An error says why such a key is not supported.
func SchemesOf(public crypto.PublicKey) ([]tls.SignatureScheme, error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("an RSA key of %d bits is not supported: %d to %d", n, minRSA, maxRSA)
		}
		return []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}, nil
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, nil
		case elliptic.P384():
			return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}, nil
		}
		return nil, fmt.Errorf("an ECDSA key on %s is not supported: P-256, P-384", p.Curve.Params().Name)
	case ed25519.PublicKey:
		return []tls.SignatureScheme{tls.Ed25519}, nil
	}
	return nil, errors.New("neither RSA, ECDSA nor Ed25519")
}

// SchemeOf gives the one of SchemesOf(public) that opts stand for when
// crypto/tls calls a crypto.MessageSigner. ErrScheme: none.
func SchemeOf(public crypto.PublicKey, opts crypto.SignerOpts) (tls.SignatureScheme, error) {
	_, pss := opts.(*rsa.PSSOptions)
	if _, is := public.(*rsa.PublicKey); is != pss {
		return 0, ErrScheme
	}
	all, err := SchemesOf(public)
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		if schemes[s] == opts.HashFunc() {
			return s, nil
		}
	}
	return 0, ErrScheme
}

// Public is the public half.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Schemes lists what the key may sign in TLS 1.3.
func (k *Key) Schemes() []tls.SignatureScheme { return slices.Clone(k.schemes) }

// Memory is the kind of memory that the key lies in; it stays after Close.
func (k *Key) Memory() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.mem.Kind()
}

// ErrMatch is Match's for a certificate of another key.
var ErrMatch = errors.New("custody: the certificate is another key's")

// Match reports whether leaf certifies this key.
func (k *Key) Match(leaf *x509.Certificate) error {
	public, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return ErrMatch
	}
	return nil
}

// Sign signs the CertificateVerify input of a TLS 1.3 server (CheckServerInput)
// by one of Schemes; an adopted key, which this process has anyway, also what a
// TLS 1.2 server signs (CheckKeyExchange). Errors: ErrScheme, ErrInput, those of
// a closed key.
func (k *Key) Sign(scheme tls.SignatureScheme, message []byte) ([]byte, error) {
	err := CheckServerInput(scheme, message)
	if err == ErrInput && k.adopted {
		err = CheckKeyExchange(message)
	}
	if err != nil {
		return nil, err
	}
	if !may(k.schemes, scheme) {
		return nil, ErrScheme
	}
	return k.signed(scheme, message)
}

// signed is Sign for a message that has been found to be of the key's purpose.
func (k *Key) signed(scheme tls.SignatureScheme, message []byte) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	der := k.mem.Bytes()
	if der == nil {
		return nil, errClosed
	}
	hash := schemes[scheme]
	if hash != 0 { // no secret, and what is allocated in Do costs more
		h := hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	signature := make([]byte, k.signatureRoom()) // outside Do, or it would be erased
	var n int
	var err error
	erase.Do(func() {
		var s []byte
		if s, err = k.sign(der[:k.size], hash, message); err == nil {
			n = copy(signature, s)
		}
	})
	if err != nil {
		return nil, err
	}
	return signature[:n:n], nil
}

// signatureRoom is at least as long as any signature.
func (k *Key) signatureRoom() int {
	if p, ok := k.public.(*rsa.PublicKey); ok {
		return p.Size()
	}
	return 104 // DER of two P-384 scalars; Ed25519 takes 64
}

// sign signs a digest; without a hash, a message. It runs inside erase.Do.
func (k *Key) sign(der []byte, hash crypto.Hash, digest []byte) ([]byte, error) {
	p, err := k.parse(der)
	if err != nil {
		return nil, err
	}
	var opts crypto.SignerOpts = hash
	if _, ok := p.Signer.(*rsa.PrivateKey); ok {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return p.Sign(rand.Reader, digest, opts)
}

// parse returns the parsed key, if no garbage collection has taken it since.
func (k *Key) parse(der []byte) (*parsedKey, error) {
	if w := k.parsed.Load(); w != nil {
		if p := w.Value(); p != nil {
			return p, nil
		}
	}
	p, err := parseKey(der)
	if err != nil {
		return nil, err
	}
	w := weak.Make(p)
	k.parsed.Store(&w)
	return p, nil
}

// Release copies the key to memory of its own for another process, which
// adopts fd and size. The caller sends fd and closes it; here nothing of that
// copy stays, and nothing that is done to it reaches this Key.
func (k *Key) Release() (fd, size int, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	der := k.mem.Bytes()
	if der == nil {
		return -1, 0, errClosed
	}
	m, fd, err := newMemory(k.size)
	if err != nil {
		return -1, 0, err
	}
	erase.Do(func() { copy(m.b, der[:k.size]) }) // by way of registers, which a signal lays down on a stack
	m.ours = false                               // unmap it, do not erase it
	if err := m.Close(); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, k.size, nil
}

// Adopt maps a key that another process has released, for reading, and checks
// it. fd is closed in any case. It opens nothing: a sandbox need allow no more
// than fstat, mmap, madvise, mlock, munmap, close and getrandom.
func Adopt(fd, size int) (*Key, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("adopt key: %w", os.NewSyscallError("fstat", err))
	}
	if size <= 0 || size > maxMemory || st.Size != int64(pages(size)) {
		return nil, fmt.Errorf("adopt key: %d bytes in memory of %d", size, st.Size)
	}
	mem, err := adoptMemory(fd, pages(size))
	if err != nil {
		return nil, fmt.Errorf("adopt key: %w", err)
	}
	k, err := newKey(mem, size)
	if err != nil {
		return nil, fmt.Errorf("adopt key: %w", err)
	}
	k.adopted = true
	return k, nil
}

// Close erases the key. Tidy erases what parsing and signing have left of it.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.parsed.Store(nil)
	return k.mem.Close()
}
