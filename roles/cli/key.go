package cli

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"gatehouse/privsep/custody"
	"gatehouse/privsep/keyfile"
)

func (p *program) keyCommand() *cli.Command {
	return &cli.Command{
		Name:      "key",
		Category:  groupBroker,
		Usage:     "encrypt private keys and explain encrypted ones",
		UsageText: "gatehouse key COMMAND [options]",
		Description: "The private keys of TLS listeners and of transfer tickets are encrypted on disk, in\n" +
			"PKCS#8; serve opens them with a secret that lies elsewhere.",
		Subcommands: []*cli.Command{p.keyEncryptCommand(), p.keyInspectCommand(), p.keyDevelopmentCommand()},
		Action:      noCommand,
	}
}

func (p *program) keyEncryptCommand() *cli.Command {
	return &cli.Command{
		Name:      "encrypt",
		Usage:     "encrypt a private key, or give an encrypted one a new secret",
		UsageText: "gatehouse key encrypt [--in FILE] [--out FILE] [--secret-file FILE] [options]",
		Description: "Reads a private key in PEM: PKCS#8, PKCS#1 or SEC1, or an encrypted PKCS#8 one. Writes\n" +
			"encrypted PKCS#8, as serve reads it and openssl does. The secret is the first line of\n" +
			"a file that nobody else may read, or it is asked on the terminal, twice. RSA of 2048\n" +
			"bits or more, P-256, P-384 and Ed25519 are supported.\n\n" +
			"   gatehouse key encrypt --in server.key --out server.key.enc\n" +
			"   openssl genpkey -algorithm ed25519 | gatehouse key encrypt --secret-file unlock > key.enc",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "in", TakesFile: true, Value: "-", Usage: "read the key from `FILE`, - is standard input"},
			&cli.StringFlag{Name: "out", TakesFile: true, Value: "-", Usage: "write it to `FILE`, mode 0600, - is standard output"},
			&cli.StringFlag{Name: "secret-file", TakesFile: true, Usage: "the secret is the first line of `FILE`"},
			&cli.StringFlag{Name: "old-secret-file", TakesFile: true, Usage: "the first line of `FILE` opens the key that is read, where it is encrypted"},
			&cli.StringFlag{Name: "kdf", Value: keyfile.DefaultKDF, Usage: "derive the key by `NAME`: pbkdf2, scrypt"},
			&cli.StringFlag{Name: "prf", Value: keyfile.DefaultPRF, Usage: "pbkdf2 with HMAC of `NAME`: sha1, sha224, sha256, sha384, sha512"},
			&cli.IntFlag{Name: "iterations", Value: keyfile.DefaultIterations, Usage: "pbkdf2 with `N` iterations"},
			&cli.StringFlag{Name: "cipher", Value: keyfile.DefaultCipher, Usage: "encrypt by `NAME`: aes-128-cbc, aes-192-cbc, aes-256-cbc"},
			&cli.BoolFlag{Name: "force", Usage: "replace the file that is written to"},
		},
		Action: p.keyEncrypt,
	}
}

func (p *program) keyInspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "explain how a private key is encrypted, and what key it is",
		UsageText: "gatehouse key inspect FILE [--secret-file FILE] [--json]",
		Description: "Tells how FILE is encrypted and what is weak about it. With the secret it also tells\n" +
			"the kind of key and the fingerprint of its public half: the SHA-256 of what\n" +
			"openssl pkey -pubout -outform DER writes. Never prints what is secret.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "secret-file", TakesFile: true, Usage: "open the key with the first line of `FILE`"},
			&cli.BoolFlag{Name: "json", Usage: "print it as JSON"},
		},
		Action: p.keyInspect,
	}
}

func (p *program) keyDevelopmentCommand() *cli.Command {
	return &cli.Command{
		Name:      "development",
		Usage:     "make a certificate to begin with, signed by itself",
		UsageText: "gatehouse key development DIRECTORY",
		Description: "Makes a P-256 key, encrypted, the secret that opens it and a certificate for localhost\n" +
			"and this host's name in DIRECTORY, unless they are there. Prints what [tls] of the\n" +
			"configuration says to use them. Clients trust it by its file, development.crt.",
		Action: p.keyDevelopment,
	}
}

func (p *program) keyDevelopment(c *cli.Context) error {
	if err := arguments(c, 1, 1, "DIRECTORY"); err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Args().First())
	if err != nil {
		return err
	}
	cert, key, unlock, err := custody.Development(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.env.Stdout, "cert = %q\nkey = %q\nunlock_file = %q\n", cert, key, unlock)
	return nil
}

func (p *program) keyEncrypt(c *cli.Context) error {
	if err := cmp.Or(arguments(c, 0, 0), atLeast(c, 1, "iterations")); err != nil {
		return err
	}
	if c.String("kdf") != keyfile.KDFPBKDF2 && (c.IsSet("prf") || c.IsSet("iterations")) {
		return misuse(c, "--prf and --iterations are for --kdf %s", keyfile.KDFPBKDF2)
	}
	how := keyfile.Options{
		KDF: c.String("kdf"), PRF: c.String("prf"), Iterations: c.Int("iterations"), Cipher: c.String("cipher"),
	}
	if err := how.Check(); err != nil {
		return misuse(c, "%v", err)
	}
	if _, err := custody.Harden(); err != nil { // what is missing is missing everywhere
		return err
	}
	out := c.String("out")
	if err := free(out, c.Bool("force")); err != nil {
		return err
	}
	der, err := p.readKey(c)
	if err != nil {
		return err
	}
	defer clear(der)
	secret, err := p.secret(c.String("secret-file"), true)
	if err != nil {
		return err
	}
	defer secret.Close()
	text, err := keyfile.Encrypt(der, secret.Bytes(), how)
	if err != nil {
		return err
	}
	if err := p.advise(text); err != nil {
		return err
	}
	if out == "-" {
		_, err := p.env.Stdout.Write(text)
		return err
	}
	return writeNew(out, text, c.Bool("force"))
}

// advise says on standard error what is weak about a new file.
func (p *program) advise(text []byte) error {
	f, err := keyfile.Parse(text)
	if err != nil {
		return err
	}
	for _, a := range f.Describe().Advice() {
		fmt.Fprintf(p.env.Stderr, "gatehouse: advice: %s\n", a)
	}
	return nil
}

// readKey reads the key to encrypt, as the DER of PKCS#8, which is secret.
func (p *program) readKey(c *cli.Context) ([]byte, error) {
	name := c.String("in")
	text, err := p.readSmall(name)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if name == "-" {
		name = "standard input"
	}
	if file, err := keyfile.Parse(text); err == nil {
		return p.reopen(c, name, file)
	}
	if c.IsSet("old-secret-file") {
		return nil, fmt.Errorf("%s: not an encrypted PKCS#8 key, --old-secret-file is for one", name)
	}
	der, err := plainKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return der, nil
}

// reopen decrypts a key that is to get a new secret.
func (p *program) reopen(c *cli.Context, name string, file *keyfile.File) ([]byte, error) {
	old := c.String("old-secret-file")
	secret, err := p.secret(old, false)
	if err != nil {
		return nil, err
	}
	defer secret.Close()
	der := make([]byte, file.Size())
	n, err := file.Decrypt(der, secret.Bytes())
	if err == nil {
		err = supported(der[:n])
	}
	if err != nil {
		clear(der)
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return der[:n], nil
}

// readSmall reads a file of at most keyfile.MaxFile bytes.
func (p *program) readSmall(name string) ([]byte, error) {
	in := p.env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else if isTerminal(in) {
		return nil, fmt.Errorf("standard input is a terminal: --in FILE")
	}
	b := make([]byte, keyfile.MaxFile+1) // in one piece, so that it can be erased
	n, err := io.ReadFull(in, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if n > keyfile.MaxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, keyfile.MaxFile)
	}
	return b[:n], nil
}

// inspection is what key inspect prints.
type inspection struct {
	File       string              `json:"file"`
	Encryption keyfile.Description `json:"encryption"`
	Advice     []string            `json:"advice,omitempty"`
	Key        *publicHalf         `json:"key,omitempty"`
}

type publicHalf struct {
	Kind        string `json:"kind"`
	Bits        int    `json:"bits"`
	Fingerprint string `json:"spki_sha256"`
}

func (p *program) keyInspect(c *cli.Context) error {
	if err := arguments(c, 1, 1, "FILE"); err != nil {
		return err
	}
	name := c.Args().First()
	text, err := p.readSmall(name)
	if err != nil {
		return err
	}
	f, err := keyfile.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	i := inspection{File: name, Encryption: f.Describe(), Advice: f.Describe().Advice()}
	if unlock := c.String("secret-file"); unlock != "" {
		if i.Key, err = openPublic(name, unlock); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		e := json.NewEncoder(p.env.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(i)
	}
	_, err = io.WriteString(p.env.Stdout, i.text())
	return err
}

// openPublic opens the key as serve would and tells of its public half.
func openPublic(name, unlock string) (*publicHalf, error) {
	if _, err := custody.Harden(); err != nil {
		return nil, err
	}
	k, err := custody.Open(custody.Options{KeyFile: name, UnlockFile: unlock})
	if err != nil {
		return nil, err
	}
	defer k.Close()
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	h := &publicHalf{Fingerprint: hex.EncodeToString(sum[:])}
	switch pub := k.Public().(type) {
	case *rsa.PublicKey:
		h.Kind, h.Bits = "RSA", pub.N.BitLen()
	case *ecdsa.PublicKey:
		h.Kind, h.Bits = "ECDSA "+pub.Curve.Params().Name, pub.Curve.Params().BitSize
	case ed25519.PublicKey:
		h.Kind, h.Bits = "Ed25519", 8*ed25519.PublicKeySize
	}
	return h, nil
}

func (i *inspection) text() string {
	var b bytes.Buffer
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s%s\n", name, fmt.Sprintf(format, args...))
	}
	e := i.Encryption
	row("file", "%s", oneLine(i.File))
	if e.KDF == keyfile.KDFScrypt {
		row("derivation", "scrypt, N %d, r %d, p %d (%d KiB), salt of %d bytes", e.N, e.R, e.P, 128*e.N*e.R>>10, e.Salt)
	} else {
		row("derivation", "PBKDF2 with HMAC-%s, %d iterations, salt of %d bytes", strings.ToUpper(e.PRF), e.Iterations, e.Salt)
	}
	row("cipher", "%s", strings.ToUpper(e.Cipher))
	for _, a := range i.Advice {
		row("advice", "%s", a)
	}
	if i.Key != nil {
		row("key", "%s, %d bits", i.Key.Kind, i.Key.Bits)
		row("public key", "SHA-256 %s", i.Key.Fingerprint)
	}
	return b.String()
}
