package keyfile

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds on what a file may ask for.
const (
	MaxFile       = 64 << 10  // bytes of PEM
	MaxSalt       = 64        // bytes
	MaxIterations = 10e6      // PBKDF2: some seconds
	MaxMemory     = 256 << 20 // scrypt's 128*N*r, in bytes
	MaxParallel   = 16        // scrypt's p
)

// ErrNotEncrypted is Parse's for a private key that lies there in the open.
var ErrNotEncrypted = errors.New("the key is not encrypted: gatehouse key encrypt")

const convert = "convert with openssl pkcs8 -topk8 -v2 aes-256-cbc"

// pemType is RFC 7468's name of an EncryptedPrivateKeyInfo.
const pemType = "ENCRYPTED PRIVATE KEY"

// File is an encrypted private key and how it is encrypted.
type File struct {
	kdf    kdf
	cipher aesCBC
	iv     []byte
	data   []byte // whole blocks, at least one
}

// Parse reads a PEM file with one encrypted private key. Its errors name
// neither file nor key. The result does not share memory with text.
func Parse(text []byte) (*File, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxFile)
	}
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
	}
	if err := wanted(block); err != nil {
		return nil, err
	}
	return parseDER(block.Bytes)
}

// onlyBlock returns the PEM block of a file that has one.
func onlyBlock(text []byte) (*pem.Block, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if block.Type == "EC PARAMETERS" { // openssl ecparam -genkey puts them first
		if next, more := pem.Decode(rest); next != nil {
			block, rest = next, more
		}
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("several PEM blocks (%.40q, %.40q): one key in a file", block.Type, next.Type)
	}
	return block, nil
}

// wanted refuses what is not an encrypted key, by its name.
func wanted(block *pem.Block) error {
	switch block.Type {
	case pemType:
		if len(block.Headers) > 0 {
			return errors.New("PEM headers where there are none")
		}
		return nil
	case "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return fmt.Errorf("%s with OpenSSL's old encryption is not supported: %s", block.Type, convert)
		}
		return ErrNotEncrypted
	case "PRIVATE KEY":
		return ErrNotEncrypted
	case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE":
		return errors.New("a certificate, not a private key")
	}
	return fmt.Errorf("%.40q is not supported: %s", block.Type, convert)
}

var errDER = errors.New("damaged: not the DER of an EncryptedPrivateKeyInfo")

// parseDER reads an EncryptedPrivateKeyInfo.
func parseDER(der []byte) (*File, error) {
	in := cryptobyte.String(slices.Clone(der))
	var info, scheme, data cryptobyte.String
	if !in.ReadASN1(&info, tag.SEQUENCE) || !in.Empty() ||
		!info.ReadASN1(&scheme, tag.SEQUENCE) ||
		!info.ReadASN1(&data, tag.OCTET_STRING) || !info.Empty() {
		return nil, errDER
	}
	f := &File{data: data}
	if err := f.readScheme(scheme); err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data)%blockSize != 0 {
		return nil, fmt.Errorf("damaged: %d bytes of ciphertext are not whole blocks", len(data))
	}
	return f, nil
}

// readScheme reads PBES2 and its two parameters.
func (f *File) readScheme(scheme cryptobyte.String) error {
	var oid asn1.ObjectIdentifier
	var params, kdfID, cipherID cryptobyte.String
	if !scheme.ReadASN1ObjectIdentifier(&oid) {
		return errDER
	}
	if !oid.Equal(oidPBES2) {
		return notSupported(oid)
	}
	if !scheme.ReadASN1(&params, tag.SEQUENCE) || !scheme.Empty() ||
		!params.ReadASN1(&kdfID, tag.SEQUENCE) ||
		!params.ReadASN1(&cipherID, tag.SEQUENCE) || !params.Empty() {
		return errDER
	}
	if err := f.readCipher(cipherID); err != nil {
		return err
	}
	return f.readKDF(kdfID)
}

func (f *File) readCipher(id cryptobyte.String) error {
	var oid asn1.ObjectIdentifier
	if !id.ReadASN1ObjectIdentifier(&oid) {
		return errDER
	}
	c, ok := cipherOf(oid)
	if !ok {
		return notSupported(oid)
	}
	var iv cryptobyte.String
	if !id.ReadASN1(&iv, tag.OCTET_STRING) || !id.Empty() || len(iv) != blockSize {
		return errDER
	}
	f.cipher, f.iv = c, iv
	return nil
}

func (f *File) readKDF(id cryptobyte.String) error {
	var oid asn1.ObjectIdentifier
	var params cryptobyte.String
	if !id.ReadASN1ObjectIdentifier(&oid) {
		return errDER
	}
	var k kdf
	switch {
	case oid.Equal(oidPBKDF2):
		k = new(pbkdf2KDF)
	case oid.Equal(oidScrypt):
		k = new(scryptKDF)
	default:
		return notSupported(oid)
	}
	if !id.ReadASN1(&params, tag.SEQUENCE) || !id.Empty() {
		return errDER
	}
	size, err := k.read(params)
	if err != nil {
		return err
	}
	if size != 0 && size != f.cipher.keySize {
		return fmt.Errorf("damaged: a key of %d bytes for %s", size, f.cipher.name)
	}
	f.kdf = k
	return nil
}

// readSalt reads the salt, which both derivations have first.
func readSalt(in *cryptobyte.String) ([]byte, error) {
	var salt cryptobyte.String
	if !in.ReadASN1(&salt, tag.OCTET_STRING) {
		return nil, errDER
	}
	if len(salt) == 0 || len(salt) > MaxSalt {
		return nil, fmt.Errorf("salt of %d bytes, 1 to %d are supported", len(salt), MaxSalt)
	}
	return salt, nil
}

// readNumber reads a positive INTEGER that fits an int.
func readNumber(in *cryptobyte.String) (int, error) {
	var n int
	if !in.ReadASN1Integer(&n) || n <= 0 {
		return 0, errDER
	}
	return n, nil
}

// readKeyLength reads the optional key length; 0 if there is none.
func readKeyLength(in *cryptobyte.String) (int, error) {
	if !in.PeekASN1Tag(tag.INTEGER) {
		return 0, nil
	}
	return readNumber(in)
}
