package keyfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"gatehouse/privsep/erase"
)

const blockSize = aes.BlockSize

// ErrSecret is Decrypt's one error for whatever the secret does not open.
var ErrSecret = errors.New("wrong secret, or the key file is damaged")

// Size is how many bytes Decrypt needs: the ciphertext's.
func (f *File) Size() int { return len(f.data) }

// Decrypt writes the DER of the PrivateKeyInfo to dst, which has room for Size
// bytes, and returns its length. After an error dst is zero. The plaintext is
// in dst alone; the derived key is erased (package erase).
func (f *File) Decrypt(dst, secret []byte) (n int, err error) {
	if len(dst) < len(f.data) {
		return 0, fmt.Errorf("keyfile: room for %d bytes, %d are needed", len(dst), len(f.data))
	}
	dst = dst[:len(f.data)]
	erase.Do(func() {
		err = f.decrypt(dst, secret)
		if err != nil {
			return
		}
		n = unpad(dst)
		if n == 0 || !isPrivateKeyInfo(dst[:n]) {
			n, err = 0, ErrSecret
		}
	})
	if err != nil {
		clear(dst)
		return 0, err
	}
	clear(dst[n:])
	return n, nil
}

// block derives the key from secret.
func (f *File) block(secret []byte) (cipher.Block, error) {
	key, err := f.kdf.key(secret, f.cipher.keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	defer clear(key)
	return aes.NewCipher(key)
}

func (f *File) decrypt(dst, secret []byte) error {
	block, err := f.block(secret)
	if err != nil {
		return err
	}
	cipher.NewCBCDecrypter(block, f.iv).CryptBlocks(dst, f.data)
	return nil
}

// unpad returns how much of b is not PKCS#7 padding; 0 if that is wrong. The
// time does not tell what is wrong.
func unpad(b []byte) int {
	pad := int(b[len(b)-1])
	good := subtle.ConstantTimeLessOrEq(1, pad) & subtle.ConstantTimeLessOrEq(pad, blockSize)
	for i := 1; i <= blockSize; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, pad)
		same := subtle.ConstantTimeByteEq(b[len(b)-i], byte(pad))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	return subtle.ConstantTimeSelect(good, len(b)-pad, 0)
}

// isPrivateKeyInfo checks the outer shape (RFC 5958, 2): version, algorithm,
// key, then attributes and public key that may be missing.
func isPrivateKeyInfo(der []byte) bool {
	in := cryptobyte.String(der)
	var info, algorithm, key cryptobyte.String
	var version int
	return in.ReadASN1(&info, tag.SEQUENCE) && in.Empty() &&
		info.ReadASN1Integer(&version) && (version == 0 || version == 1) &&
		info.ReadASN1(&algorithm, tag.SEQUENCE) &&
		info.ReadASN1(&key, tag.OCTET_STRING) && len(key) > 0 &&
		info.SkipOptionalASN1(tag.Tag(0).ContextSpecific().Constructed()) &&
		info.SkipOptionalASN1(tag.Tag(1).ContextSpecific()) &&
		info.Empty()
}

// Encrypt returns a PEM file with der, a PrivateKeyInfo, encrypted under
// secret.
func Encrypt(der, secret []byte, o Options) ([]byte, error) {
	if !isPrivateKeyInfo(der) {
		return nil, errors.New("not a PKCS#8 private key")
	}
	f, err := o.file()
	if err != nil {
		return nil, err
	}
	pad := blockSize - len(der)%blockSize
	f.data = make([]byte, len(der)+pad)
	erase.Do(func() { err = f.encrypt(der, secret) })
	if err != nil {
		return nil, err
	}
	text, err := f.encode()
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxFile)
	}
	return text, nil
}

// encrypt fills data, which is der with its padding only until it is the
// ciphertext.
func (f *File) encrypt(der, secret []byte) error {
	block, err := f.block(secret)
	if err != nil {
		return err
	}
	for i := copy(f.data, der); i < len(f.data); i++ {
		f.data[i] = byte(len(f.data) - len(der))
	}
	cipher.NewCBCEncrypter(block, f.iv).CryptBlocks(f.data, f.data)
	return nil
}

func (f *File) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPBES2)
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				f.kdf.add(b)
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(f.cipher.oid)
					b.AddASN1OctetString(f.iv)
				})
			})
		})
		b.AddASN1OctetString(f.data)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// random returns n random bytes; it never fails (crypto/rand.Read).
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
