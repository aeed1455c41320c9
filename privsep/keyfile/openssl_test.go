package keyfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openssl runs it with input and returns what it writes.
func openssl(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("SKIP needs openssl: ", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, errs.Bytes())
	}
	return out.Bytes()
}

// What OpenSSL encrypts we read, in each of its variants.
func TestOpenSSLWrites(t *testing.T) {
	openssl(t, nil, "version")
	var variants [][]string
	for _, cipher := range []string{"aes-128-cbc", "aes-192-cbc", "aes-256-cbc"} {
		for _, prf := range []string{"hmacWithSHA1", "hmacWithSHA224", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"} {
			variants = append(variants, []string{"-v2", cipher, "-v2prf", prf})
		}
		variants = append(variants, []string{"-v2", cipher, "-scrypt"})
	}
	for _, name := range list(t, "*.plain", 4) {
		for _, v := range variants {
			args := append([]string{"pkcs8", "-topk8", "-passout", "pass:two words"}, v...)
			der, err := open(openssl(t, read(t, name), args...), []byte("two words"))
			if err != nil || !bytes.Equal(der, plain(t, name)) {
				t.Errorf("%s, %v: %v", name, v, err)
			}
		}
	}
}

// What we encrypt OpenSSL reads, our defaults too.
func TestOpenSSLReads(t *testing.T) {
	openssl(t, nil, "version")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("two words\nand more\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	options := []Options{{}, {KDF: KDFScrypt}, {KDF: KDFScrypt, N: 1024, R: 4, P: 2, Cipher: "aes-128-cbc"}}
	for _, p := range prfs {
		for _, c := range ciphers {
			options = append(options, Options{PRF: p.name, Cipher: c.name, Iterations: 1000})
		}
	}
	for _, name := range list(t, "*.plain", 4) {
		der := plain(t, name)
		for _, o := range options {
			text, err := Encrypt(der, []byte("two words"), o)
			if err != nil {
				t.Fatal(err)
			}
			got := openssl(t, text, "pkcs8", "-topk8", "-nocrypt", "-passin", "file:"+secret, "-outform", "DER")
			if !bytes.Equal(got, der) {
				t.Errorf("%s, %+v: another key", name, o)
			}
		}
	}
}
