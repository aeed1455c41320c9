package cli

import (
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/term"

	"gatehouse/privsep/custody"
	"gatehouse/privsep/keyfile"
)

// plainKey turns a private key that is not encrypted, in whatever PEM, into
// the DER of PKCS#8.
func plainKey(text []byte) ([]byte, error) {
	_, notEncrypted := keyfile.Parse(text)
	if !errors.Is(notEncrypted, keyfile.ErrNotEncrypted) {
		return nil, notEncrypted // which knows what else it is
	}
	block, rest := pem.Decode(text)
	if block.Type == "EC PARAMETERS" {
		block, _ = pem.Decode(rest)
	}
	defer clear(block.Bytes)
	key, err := parseKey(block)
	if err != nil {
		return nil, fmt.Errorf("damaged: not the DER of a %s", block.Type)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return der, supported(der)
}

func parseKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

// supported says why serve would not take a key.
func supported(der []byte) error {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return errors.New("damaged: not a PKCS#8 private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return errors.New("a key that cannot sign is not supported")
	}
	_, err = custody.SchemesOf(signer.Public())
	return err
}

// secret is what opens or closes a key.
type secret interface {
	Bytes() []byte
	Close() error
}

// secret reads a secret from its file or, without one, asks for it: twice, if
// it is new.
func (p *program) secret(file string, isNew bool) (secret, error) {
	if file != "" {
		return custody.ReadSecret(file)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		flag := "--old-secret-file"
		if isNew {
			flag = "--secret-file"
		}
		return nil, fmt.Errorf("no terminal to ask for the secret: %s", flag)
	}
	defer tty.Close()
	if !isNew {
		return askSecret(tty, "Secret of the key as it is: ")
	}
	return askNew(tty, "New secret: ", "secrets")
}

// askNew asks for something new, twice.
func askNew(tty *os.File, prompt, plural string) (typed, error) {
	s, err := askSecret(tty, prompt)
	if err != nil {
		return nil, err
	}
	again, err := askSecret(tty, "The same again: ")
	if err != nil {
		s.Close()
		return nil, err
	}
	defer again.Close()
	if subtle.ConstantTimeCompare(s, again) != 1 {
		s.Close()
		return nil, fmt.Errorf("the two %s differ", plural)
	}
	return s, nil
}

// typed is a secret from a terminal.
type typed []byte

func (t typed) Bytes() []byte { return t }

func (t typed) Close() error {
	clear(t)
	return nil
}

// askSecret reads a line without echo. A signal meanwhile leaves the terminal as it
// was.
func askSecret(tty *os.File, prompt string) (typed, error) {
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-done:
		case s := <-signals:
			term.Restore(fd, state)
			signal.Reset()
			syscall.Kill(os.Getpid(), s.(syscall.Signal))
		}
	}()
	defer close(done)
	defer signal.Stop(signals)
	fmt.Fprint(tty, prompt)
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(tty)
	if err != nil {
		return nil, fmt.Errorf("read what is typed: %w", err)
	}
	if len(line) == 0 {
		return nil, errors.New("nothing was typed")
	}
	return typed(line), nil
}

// free says early that a file is in the way.
func free(name string, force bool) error {
	if name == "-" || force {
		return nil
	}
	_, err := os.Lstat(name)
	switch {
	case err == nil:
		return fmt.Errorf("%s exists: --force replaces it", name)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// writeNew writes a file, mode 0600, that is there whole or not at all, and
// replaces none unless it may.
func writeNew(name string, text []byte, force bool) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if force {
		return os.Rename(f.Name(), name)
	}
	if err := os.Link(f.Name(), name); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: --force replaces it", name)
	} else if err != nil {
		return err
	}
	return nil
}
