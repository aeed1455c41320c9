package keyfile

import (
	"fmt"
	"strings"
)

// Names of Options.KDF.
const (
	KDFPBKDF2 = "pbkdf2"
	KDFScrypt = "scrypt"
)

// What Encrypt does unless it is told otherwise. scrypt's parameters are those
// that OpenSSL still reads, which gives 32 MiB to it; p makes up for it.
const (
	DefaultKDF        = KDFPBKDF2
	DefaultPRF        = "sha256"
	DefaultIterations = 600_000
	DefaultCipher     = "aes-256-cbc"

	defaultN, defaultR, defaultP = 1 << 14, 8, 5
	saltSize                     = 16
)

// Options say how to encrypt; zero values are the defaults.
type Options struct {
	KDF        string // pbkdf2 or scrypt
	PRF        string // of PBKDF2: sha1, sha224, sha256, sha384, sha512
	Iterations int    // of PBKDF2
	N, R, P    int    // of scrypt
	Cipher     string // aes-128-cbc, aes-192-cbc, aes-256-cbc
}

// Check says what Encrypt would not do.
func (o Options) Check() error {
	_, err := o.file()
	return err
}

// file is an empty File with a new salt and initialization vector.
func (o Options) file() (*File, error) {
	c, err := named(ciphers, or(o.Cipher, DefaultCipher), "cipher", func(c aesCBC) string { return c.name })
	if err != nil {
		return nil, err
	}
	k, err := o.kdf()
	if err != nil {
		return nil, err
	}
	return &File{kdf: k, cipher: c, iv: random(blockSize)}, nil
}

func (o Options) kdf() (kdf, error) {
	switch or(o.KDF, DefaultKDF) {
	case KDFPBKDF2:
		p, err := named(prfs, or(o.PRF, DefaultPRF), "prf", func(p prf) string { return p.name })
		if err != nil {
			return nil, err
		}
		n := or(o.Iterations, DefaultIterations)
		if n < 1 || n > MaxIterations {
			return nil, fmt.Errorf("%d iterations, 1 to %d are supported", n, int(MaxIterations))
		}
		return &pbkdf2KDF{salt: random(saltSize), iterations: n, prf: p}, nil
	case KDFScrypt:
		k := &scryptKDF{salt: random(saltSize), n: or(o.N, defaultN), r: or(o.R, defaultR), p: or(o.P, defaultP)}
		if k.r < 1 || k.p < 1 {
			return nil, fmt.Errorf("scrypt with r %d and p %d", k.r, k.p)
		}
		return k, k.check()
	}
	return nil, fmt.Errorf("kdf %q is none of %s, %s", o.KDF, KDFPBKDF2, KDFScrypt)
}

// or is v, or the default where v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func named[T any](all []T, name, what string, nameOf func(T) string) (T, error) {
	var names []string
	for _, v := range all {
		if nameOf(v) == name {
			return v, nil
		}
		names = append(names, nameOf(v))
	}
	var zero T
	return zero, fmt.Errorf("%s %q is none of %s", what, name, strings.Join(names, ", "))
}

// Description is how a key is encrypted; nothing in it is secret.
type Description struct {
	KDF        string `json:"kdf"`
	PRF        string `json:"prf,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	N          int    `json:"n,omitempty"`
	R          int    `json:"r,omitempty"`
	P          int    `json:"p,omitempty"`
	Salt       int    `json:"salt_bytes"`
	Cipher     string `json:"cipher"`
}

// Describe tells how the key is encrypted.
func (f *File) Describe() Description {
	d := Description{Cipher: f.cipher.name}
	f.kdf.describe(&d)
	return d
}

// What Advice finds too little.
const (
	fewIterations = 100_000
	littleMemory  = 16 << 20
	shortSalt     = 8
)

// Advice says what is weak, a phrase each; nothing where nothing is.
func (d Description) Advice() []string {
	var a []string
	if d.KDF == KDFPBKDF2 && d.Iterations < fewIterations {
		a = append(a, fmt.Sprintf("%d iterations are few: %d", d.Iterations, DefaultIterations))
	}
	if d.PRF == "sha1" {
		a = append(a, "HMAC-SHA-1 is dated: "+DefaultPRF)
	}
	if d.KDF == KDFScrypt && 128*d.N*d.R < littleMemory {
		a = append(a, fmt.Sprintf("scrypt with %d KiB is little: %d MiB", 128*d.N*d.R>>10, littleMemory>>20))
	}
	if d.Salt < shortSalt {
		a = append(a, fmt.Sprintf("a salt of %d bytes is short: %d", d.Salt, saltSize))
	}
	return a
}
