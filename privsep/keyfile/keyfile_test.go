package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// The vectors are OpenSSL's, KEY.CIPHER.PRF.enc beside KEY.plain, under this
// secret.
var vectorSecret = []byte("gatehouse")

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func list(t testing.TB, pattern string, least int) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) < least {
		t.Fatalf("%s: %d files, at least %d are wanted, %v", pattern, len(names), least, err)
	}
	for i, n := range names {
		names[i], _ = filepath.Rel("testdata", n)
	}
	return names
}

// plain is the DER of a key that is not encrypted.
func plain(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(read(t, name))
	if block == nil {
		t.Fatalf("%s: no PEM", name)
	}
	return block.Bytes
}

func open(text, secret []byte) ([]byte, error) {
	f, err := Parse(text)
	if err != nil {
		return nil, err
	}
	dst := make([]byte, f.Size())
	n, err := f.Decrypt(dst, secret)
	return dst[:n], err
}

func TestVectors(t *testing.T) {
	for _, name := range list(t, "*.enc", 11) {
		t.Run(name, func(t *testing.T) {
			part := strings.Split(name, ".")
			der, err := open(read(t, name), vectorSecret)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(der, plain(t, part[0]+".plain")) {
				t.Error("another plaintext than OpenSSL's")
			}
			f, _ := Parse(read(t, name))
			d := f.Describe()
			if d.Cipher != part[1] || d.PRF != part[2] && d.KDF != part[2] {
				t.Errorf("described as %+v", d)
			}
			if _, err := open(read(t, name), []byte("Gatehouse")); err != ErrSecret {
				t.Errorf("wrong secret: %v", err)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	for name, want := range map[string]Description{
		"p256.aes-128-cbc.sha512.enc":    {KDF: "pbkdf2", PRF: "sha512", Iterations: 4096, Salt: 8, Cipher: "aes-128-cbc"},
		"rsa2048.aes-128-cbc.scrypt.enc": {KDF: "scrypt", N: 1024, R: 4, P: 2, Salt: 8, Cipher: "aes-128-cbc"},
	} {
		f, err := Parse(read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if d := f.Describe(); d != want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		d    Description
		want []string // a word of each piece of advice
	}{
		{Description{KDF: "pbkdf2", PRF: "sha256", Iterations: 600_000, Salt: 16}, nil},
		{Description{KDF: "pbkdf2", PRF: "sha1", Iterations: 2048, Salt: 4}, []string{"2048 iterations", "SHA-1", "4 bytes"}},
		{Description{KDF: "scrypt", N: 1 << 14, R: 8, P: 1, Salt: 8}, nil},
		{Description{KDF: "scrypt", N: 1024, R: 4, P: 2, Salt: 8}, []string{"512 KiB"}},
	} {
		got := c.d.Advice()
		if len(got) != len(c.want) {
			t.Errorf("%+v: %q", c.d, got)
			continue
		}
		for i, w := range c.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%q has no %q", got[i], w)
			}
		}
	}
}

// What is no encrypted key of ours is refused by its name.
func TestRefused(t *testing.T) {
	want := map[string]string{
		"certificate.pem":         "a certificate, not a private key",
		"des3.pem":                "triple DES is not supported: convert with openssl pkcs8 -topk8 -v2 aes-256-cbc",
		"pbes1-3des.pem":          "PBES1 (PKCS#12 SHA-1 and 3-key triple DES) is not supported: convert with openssl",
		"key-and-certificate.pem": "several PEM blocks",
		"two.pem":                 "several PEM blocks",
		"pkcs1.pem":               "the key is not encrypted: gatehouse key encrypt",
		"pkcs8.pem":               "the key is not encrypted: gatehouse key encrypt",
		"sec1.pem":                "the key is not encrypted: gatehouse key encrypt",
		"sec1-parameters.pem":     "the key is not encrypted: gatehouse key encrypt",
		"traditional.pem":         "OpenSSL's old encryption is not supported",
	}
	for _, name := range list(t, "refused/*.pem", len(want)) {
		f, err := Parse(read(t, name))
		why := want[filepath.Base(name)]
		if f != nil || err == nil || why == "" || !strings.HasPrefix(err.Error(), why) && !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, wanted %q", name, err, why)
		}
	}
	large := append(read(t, "p256.aes-256-cbc.sha256.enc"), make([]byte, MaxFile)...)
	for text, why := range map[string]string{
		"":                                 "no PEM block",
		"nothing":                          "no PEM block",
		string(large):                      "larger than 65536 bytes",
		armour("", nil):                    "not supported",
		armour("OPENSSH PRIVATE KEY", nil): "not supported",
		armour(pemType, nil):               "damaged",
		"-----BEGIN " + strings.Repeat("X", 4000) + "---": "no PEM block",
	} {
		if f, err := Parse([]byte(text)); f != nil || err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func armour(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// hostile is a File whose parameters are a test's.
func hostile(t *testing.T, k kdf, c aesCBC, iv, data []byte) []byte {
	t.Helper()
	text, err := (&File{kdf: k, cipher: c, iv: iv, data: data}).encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// No file makes us work longer or take more memory than the bounds say.
func TestBounds(t *testing.T) {
	iv, data, salt := make([]byte, 16), make([]byte, 32), make([]byte, 8)
	aes := ciphers[2]
	pb := func(salt []byte, n int) kdf { return &pbkdf2KDF{salt, n, prfs[2]} }
	sc := func(n, r, p int) kdf { return &scryptKDF{salt, n, r, p} }
	for name, c := range map[string]struct {
		k        kdf
		iv, data []byte
		good     bool
	}{
		"most iterations":     {pb(salt, MaxIterations), iv, data, true},
		"too many iterations": {pb(salt, MaxIterations+1), iv, data, false},
		"2^62 iterations":     {pb(salt, 1<<62), iv, data, false},
		"no iterations":       {pb(salt, 0), iv, data, false},
		"-1 iterations":       {pb(salt, -1), iv, data, false},
		"longest salt":        {pb(make([]byte, 64), 1), iv, data, true},
		"too long salt":       {pb(make([]byte, 65), 1), iv, data, false},
		"no salt":             {pb(nil, 1), iv, data, false},
		"short iv":            {pb(salt, 1), iv[1:], data, false},
		"half a block":        {pb(salt, 1), iv, data[:24], false},
		"no data":             {pb(salt, 1), iv, nil, false},
		"256 MiB":             {sc(1<<18, 8, 1), iv, data, true},
		"512 MiB":             {sc(1<<19, 8, 1), iv, data, false},
		"overflow":            {sc(1<<62, 1<<62, 1), iv, data, false},
		"overflow to zero":    {sc(1<<32, 1<<32, 1), iv, data, false},
		"N 3":                 {sc(3, 8, 1), iv, data, false},
		"N 1":                 {sc(1, 8, 1), iv, data, false},
		"r 0":                 {sc(1024, 0, 1), iv, data, false},
		"most p":              {sc(1024, 8, MaxParallel), iv, data, true},
		"p 17":                {sc(1024, 8, MaxParallel+1), iv, data, false},
		"r and p":             {sc(2, 1<<17, 16), iv, data, false},
	} {
		f, err := Parse(hostile(t, c.k, aes, c.iv, c.data))
		if (err == nil) != c.good || (f == nil) == c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bound on scrypt's memory is what it takes.
func TestScryptMemory(t *testing.T) {
	k := &scryptKDF{[]byte("salt"), 1 << 14, 8, 1}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := k.key(vectorSecret, 32); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 128*uint64(k.n)*uint64(k.r)*5/4 {
		t.Errorf("%d bytes, reckoned %d", took, 128*k.n*k.r)
	}
}

// One byte changed, added or missing anywhere in the parameters or behind them
// is no good file that is the same.
func TestDamage(t *testing.T) {
	der := plainDER(t, "ed25519.aes-256-cbc.sha256.enc")
	want := plain(t, "ed25519.plain")
	for i := range der {
		for _, damaged := range [][]byte{
			slices.Concat(der[:i], []byte{der[i] ^ 1}, der[i+1:]),
			slices.Concat(der[:i], der[i+1:]),
			slices.Concat(der[:i], []byte{0}, der[i:]),
			der[:i],
		} {
			// A changed byte of the iterations only costs time: the bound is TestBounds'.
			got, err := open([]byte(armour(pemType, damaged)), vectorSecret)
			if err == nil && bytes.Equal(got, want) {
				t.Errorf("byte %d: as if nothing had happened", i)
			}
		}
	}
	if _, err := Parse([]byte(armour(pemType, append(slices.Clone(der), 0)))); err == nil {
		t.Error("a trailing byte")
	}
}

func plainDER(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(read(t, name))
	return block.Bytes
}

// Each kind of parameter written comes back, and the key with it.
func TestEncrypt(t *testing.T) {
	der := plain(t, "p384.plain")
	for _, o := range []Options{
		{},
		{PRF: "sha1", Iterations: 1, Cipher: "aes-128-cbc"},
		{PRF: "sha224", Iterations: 2, Cipher: "aes-192-cbc"},
		{PRF: "sha384", Iterations: 3},
		{PRF: "sha512", Iterations: 4},
		{KDF: "scrypt"},
		{KDF: "scrypt", N: 16, R: 1, P: 1, Cipher: "aes-128-cbc"},
	} {
		text, err := Encrypt(der, vectorSecret, o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		got, err := open(text, vectorSecret)
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%+v: %v", o, err)
		}
		f, _ := Parse(text)
		d := f.Describe()
		if d.KDF != or(o.KDF, DefaultKDF) || d.Cipher != or(o.Cipher, DefaultCipher) || d.Salt != saltSize {
			t.Errorf("%+v is %+v", o, d)
		}
		if d.KDF == KDFPBKDF2 && (d.PRF != or(o.PRF, DefaultPRF) || d.Iterations != or(o.Iterations, DefaultIterations)) {
			t.Errorf("%+v is %+v", o, d)
		}
		if bytes.Contains(text, der) {
			t.Errorf("%+v: plaintext", o)
		}
	}
	if len((&File{kdf: mustKDF(t, Options{})}).Describe().Advice()) != 0 {
		t.Error("advice against our own defaults")
	}
}

func mustKDF(t *testing.T, o Options) kdf {
	t.Helper()
	k, err := o.kdf()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEncryptRefuses(t *testing.T) {
	der := plain(t, "ed25519.plain")
	for _, o := range []Options{
		{KDF: "argon2"}, {PRF: "md5"}, {Cipher: "des3"}, {Iterations: -1}, {Iterations: MaxIterations + 1},
		{KDF: "scrypt", N: 3}, {KDF: "scrypt", N: 1 << 30}, {KDF: "scrypt", R: -1}, {KDF: "scrypt", P: 17},
	} {
		if _, err := Encrypt(der, vectorSecret, o); err == nil || o.Check() == nil {
			t.Errorf("%+v", o)
		}
	}
	for _, der := range [][]byte{nil, []byte("key"), der[1:], append(slices.Clone(der), 0), plain(t, "refused/sec1.pem")} {
		if _, err := Encrypt(der, vectorSecret, Options{Iterations: 1}); err == nil {
			t.Errorf("%x was encrypted", der)
		}
	}
}

// The room must be there; what is left of it is zero, all of it after an error.
func TestDecryptRoom(t *testing.T) {
	f, err := Parse(read(t, "p256.aes-256-cbc.sha256.enc"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decrypt(make([]byte, f.Size()-1), vectorSecret); err == nil || errors.Is(err, ErrSecret) {
		t.Errorf("no room: %v", err)
	}
	dst := bytes.Repeat([]byte{1}, f.Size()+1)
	n, err := f.Decrypt(dst, vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst[n:f.Size()], make([]byte, f.Size()-n)) || dst[f.Size()] != 1 {
		t.Errorf("behind the key: %x", dst[n:])
	}
	if _, err := f.Decrypt(dst, []byte("no")); err != ErrSecret || !bytes.Equal(dst[:f.Size()], make([]byte, f.Size())) {
		t.Errorf("wrong secret: %v, left %x", err, dst)
	}
}

func TestUnpad(t *testing.T) {
	for text, want := range map[string]int{
		strings.Repeat("10", 16):                            0, // nothing but padding: no key either
		strings.Repeat("61", 16) + strings.Repeat("10", 16): 16,
		strings.Repeat("61", 15) + "01":                     15,
		strings.Repeat("61", 14) + "0202":                   14,
		strings.Repeat("61", 14) + "0102":                   0,
		strings.Repeat("61", 15) + "00":                     0,
		strings.Repeat("61", 15) + "11":                     0,
		strings.Repeat("11", 32):                            0,
	} {
		b, _ := hex.DecodeString(text)
		if n := unpad(b); n != want {
			t.Errorf("%s: %d, wanted %d", text, n, want)
		}
	}
}

// FuzzParse: an error leaves no File; a File is within the bounds and its
// encoding parses to the same.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"*.enc", "refused/*.pem"} {
		for _, name := range list(f, pattern, 10) {
			f.Add(read(f, name), false)
			f.Add(plainDER(f, name), true)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, der bool) {
		if der { // base64 would hide the structure from the fuzzer
			text = []byte(armour(pemType, text))
		}
		file, err := Parse(text)
		if (file == nil) != (err != nil) {
			t.Fatalf("%v and %v", file, err)
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 300 {
				t.Errorf("error %q", err)
			}
			return
		}
		d := file.Describe()
		if len(text) > MaxFile || file.Size() > len(text) || d.Salt > MaxSalt || d.Salt < 1 ||
			d.Iterations > MaxIterations || 128*d.N*d.R > MaxMemory || d.P > MaxParallel {
			t.Errorf("out of bounds: %d bytes, %+v", file.Size(), d)
		}
		again, err := file.encode()
		if err != nil {
			t.Fatal(err)
		}
		twin, err := Parse(again)
		if err != nil || twin.Describe() != d || !bytes.Equal(twin.data, file.data) || !bytes.Equal(twin.iv, file.iv) {
			t.Errorf("%v: %+v of %+v", err, twin, file)
		}
	})
}

// FuzzEncrypt: what Encrypt writes Decrypt gives back, and another secret does
// not open.
func FuzzEncrypt(f *testing.F) {
	f.Add([]byte("key"), []byte("secret"), []byte("wrong"), uint8(0))
	f.Add([]byte{0}, []byte{}, []byte{0}, uint8(13))
	f.Add(bytes.Repeat([]byte("k"), 1200), bytes.Repeat([]byte("s"), 200), []byte("x"), uint8(29))
	f.Fuzz(func(t *testing.T, key, secret, other []byte, choice uint8) {
		if len(key) == 0 || len(key) > 16<<10 {
			return
		}
		o := Options{
			KDF: []string{KDFPBKDF2, KDFScrypt}[choice&1], PRF: prfs[int(choice>>1)%len(prfs)].name,
			Cipher: ciphers[int(choice>>4)%len(ciphers)].name, Iterations: 1 + int(choice), N: 2, R: 1, P: 1,
		}
		der := privateKeyInfo(t, key)
		text, err := Encrypt(der, secret, o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := open(text, secret)
		if err != nil || !bytes.Equal(got, der) {
			t.Fatalf("%+v: %v", o, err)
		}
		// HMAC pads a short secret with zeros and hashes a long one.
		if bytes.Equal(bytes.TrimRight(secret, "\x00"), bytes.TrimRight(other, "\x00")) || len(secret) > 64 || len(other) > 64 {
			return
		}
		if _, err := open(text, other); err != ErrSecret {
			t.Errorf("%+v: %q for %q: %v", o, other, secret, err)
		}
	})
}

// privateKeyInfo wraps what need not be a key.
func privateKeyInfo(t testing.TB, key []byte) []byte {
	t.Helper()
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidPBES2) })
		b.AddASN1OctetString(key)
	})
	der, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The plain halves of the vectors are keys.
func TestPlainVectors(t *testing.T) {
	for i, name := range list(t, "*.plain", 4) {
		if _, err := x509.ParsePKCS8PrivateKey(plain(t, name)); err != nil {
			t.Error(strconv.Itoa(i), name, err)
		}
	}
}
