package keyfile

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

// kdf derives a key of size bytes from a secret, and is its own parameters.
type kdf interface {
	// read decodes the parameters and returns the key length if they have one.
	read(params cryptobyte.String) (size int, err error)
	// add appends the AlgorithmIdentifier.
	add(b *cryptobyte.Builder)
	key(secret []byte, size int) ([]byte, error)
	describe(d *Description)
}

// pbkdf2KDF is RFC 8018, 5.2.
type pbkdf2KDF struct {
	salt       []byte
	iterations int
	prf        prf
}

func (k *pbkdf2KDF) read(in cryptobyte.String) (size int, err error) {
	if k.salt, err = readSalt(&in); err != nil {
		return 0, err
	}
	if k.iterations, err = readNumber(&in); err != nil {
		return 0, err
	}
	if k.iterations > MaxIterations {
		return 0, fmt.Errorf("PBKDF2 with %d iterations, at most %d are supported", k.iterations, int(MaxIterations))
	}
	if size, err = readKeyLength(&in); err != nil {
		return 0, err
	}
	k.prf = prfs[0] // the default of RFC 8018, A.2
	if in.Empty() {
		return size, nil
	}
	return size, k.readPRF(in)
}

func (k *pbkdf2KDF) readPRF(in cryptobyte.String) error {
	var id cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&id, tag.SEQUENCE) || !in.Empty() || !id.ReadASN1ObjectIdentifier(&oid) {
		return errDER
	}
	var ok bool
	if k.prf, ok = prfOf(oid); !ok {
		return notSupported(oid)
	}
	var null cryptobyte.String
	if !id.Empty() && (!id.ReadASN1(&null, tag.NULL) || !null.Empty() || !id.Empty()) {
		return errDER
	}
	return nil
}

func (k *pbkdf2KDF) add(b *cryptobyte.Builder) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPBKDF2)
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(k.salt)
			b.AddASN1Int64(int64(k.iterations))
			if k.prf.oid.Equal(prfs[0].oid) {
				return // DER leaves a default out
			}
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(k.prf.oid)
				b.AddASN1NULL()
			})
		})
	})
}

func (k *pbkdf2KDF) key(secret []byte, size int) ([]byte, error) {
	return pbkdf2.Key(k.prf.hash, string(secret), k.salt, k.iterations, size)
}

func (k *pbkdf2KDF) describe(d *Description) {
	d.KDF, d.PRF, d.Iterations, d.Salt = KDFPBKDF2, k.prf.name, k.iterations, len(k.salt)
}

// scryptKDF is RFC 7914, 7.
type scryptKDF struct {
	salt    []byte
	n, r, p int
}

func (k *scryptKDF) read(in cryptobyte.String) (size int, err error) {
	if k.salt, err = readSalt(&in); err != nil {
		return 0, err
	}
	for _, v := range []*int{&k.n, &k.r, &k.p} {
		if *v, err = readNumber(&in); err != nil {
			return 0, err
		}
	}
	if size, err = readKeyLength(&in); err != nil {
		return 0, err
	}
	if !in.Empty() {
		return 0, errDER
	}
	return size, k.check()
}

// check bounds what scrypt may take, without overflow.
func (k *scryptKDF) check() error {
	if k.n < 2 || k.n&(k.n-1) != 0 {
		return fmt.Errorf("scrypt with N %d, which is no power of two", k.n)
	}
	const most = MaxMemory / 128
	if k.n > most || k.r > most || k.n*k.r > most {
		return fmt.Errorf("scrypt with N %d and r %d takes more than %d MiB", k.n, k.r, MaxMemory>>20)
	}
	if k.p > MaxParallel || k.r*k.p > most/16 { // p blocks of 128*r stand beside the N
		return fmt.Errorf("scrypt with r %d and p %d, at most p %d is supported", k.r, k.p, MaxParallel)
	}
	return nil
}

func (k *scryptKDF) add(b *cryptobyte.Builder) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidScrypt)
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(k.salt)
			b.AddASN1Int64(int64(k.n))
			b.AddASN1Int64(int64(k.r))
			b.AddASN1Int64(int64(k.p))
		})
	})
}

func (k *scryptKDF) key(secret []byte, size int) ([]byte, error) {
	return scrypt.Key(secret, k.salt, k.n, k.r, k.p, size)
}

func (k *scryptKDF) describe(d *Description) {
	d.KDF, d.N, d.R, d.P, d.Salt = KDFScrypt, k.n, k.r, k.p, len(k.salt)
}

// prf is HMAC with a hash.
type prf struct {
	name string
	oid  asn1.ObjectIdentifier
	hash func() hash.Hash
}

// prfs has RFC 8018's default first.
var prfs = []prf{
	{"sha1", asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}, sha1.New},
	{"sha224", asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}, sha256.New224},
	{"sha256", asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, sha256.New},
	{"sha384", asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}, sha512.New384},
	{"sha512", asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}, sha512.New},
}

func prfOf(oid asn1.ObjectIdentifier) (prf, bool) {
	for _, p := range prfs {
		if p.oid.Equal(oid) {
			return p, true
		}
	}
	return prf{}, false
}

// aesCBC is AES in CBC mode with PKCS#7 padding (RFC 8018, B.2.5).
type aesCBC struct {
	name    string
	oid     asn1.ObjectIdentifier
	keySize int // bytes
}

var ciphers = []aesCBC{
	{"aes-128-cbc", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16},
	{"aes-192-cbc", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24},
	{"aes-256-cbc", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32},
}

func cipherOf(oid asn1.ObjectIdentifier) (aesCBC, bool) {
	for _, c := range ciphers {
		if c.oid.Equal(oid) {
			return c, true
		}
	}
	return aesCBC{}, false
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// refused are schemes that people have, so that the error can name them.
var refused = map[string]string{
	"1.2.840.113549.1.5.1":    "PBES1 (pbeWithMD2AndDES-CBC)",
	"1.2.840.113549.1.5.3":    "PBES1 (pbeWithMD5AndDES-CBC)",
	"1.2.840.113549.1.5.4":    "PBES1 (pbeWithMD2AndRC2-CBC)",
	"1.2.840.113549.1.5.6":    "PBES1 (pbeWithMD5AndRC2-CBC)",
	"1.2.840.113549.1.5.10":   "PBES1 (pbeWithSHA1AndDES-CBC)",
	"1.2.840.113549.1.5.11":   "PBES1 (pbeWithSHA1AndRC2-CBC)",
	"1.2.840.113549.1.12.1.1": "PBES1 (PKCS#12 SHA-1 and 128 bit RC4)",
	"1.2.840.113549.1.12.1.2": "PBES1 (PKCS#12 SHA-1 and 40 bit RC4)",
	"1.2.840.113549.1.12.1.3": "PBES1 (PKCS#12 SHA-1 and 3-key triple DES)",
	"1.2.840.113549.1.12.1.4": "PBES1 (PKCS#12 SHA-1 and 2-key triple DES)",
	"1.2.840.113549.1.12.1.5": "PBES1 (PKCS#12 SHA-1 and 128 bit RC2)",
	"1.2.840.113549.1.12.1.6": "PBES1 (PKCS#12 SHA-1 and 40 bit RC2)",
	"1.2.840.113549.3.7":      "triple DES",
	"1.2.840.113549.3.2":      "RC2",
	"1.3.14.3.2.7":            "DES",
}

func notSupported(oid asn1.ObjectIdentifier) error {
	name, ok := refused[oid.String()]
	if !ok {
		name = fmt.Sprintf("encryption by %.80s", oid)
	}
	return fmt.Errorf("%s is not supported: %s", name, convert)
}
