package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nkeys"
	"github.com/urfave/cli/v2"

	"gatehouse/privsep/custody"
	"gatehouse/privsep/passhash"
)

func (p *program) passwdCommand() *cli.Command {
	return &cli.Command{
		Name:      "passwd",
		Category:  groupBroker,
		Usage:     "make the hash of a password for the configuration, or an nkey",
		UsageText: "gatehouse passwd [--stdin] [--bcrypt]\ngatehouse passwd --nkey",
		Description: "Asks for a password on the terminal, twice, and prints its hash, as password of a\n" +
			"[[user]] or token of [auth]: argon2id with 64 MiB, 3 passes and 1 lane, or bcrypt as\n" +
			"nats-server reads it. With --nkey it prints a new pair: the public key for nkey of a\n" +
			"[[user]], and the seed, which the client keeps to itself. Nobody else should be able to\n" +
			"read a configuration with hashes in it: chmod 600, or 640.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "stdin", Usage: "the password is the first line of standard input"},
			&cli.BoolFlag{Name: "bcrypt", Usage: "hash by bcrypt, which looks at 72 bytes"},
			&cli.BoolFlag{Name: "nkey", Usage: "make an nkey instead"},
		},
		Action: p.passwd,
	}
}

func (p *program) passwd(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	if c.Bool("nkey") && (c.Bool("bcrypt") || c.Bool("stdin")) {
		return misuse(c, "--nkey needs no password")
	}
	if _, err := custody.Harden(); err != nil { // what is missing is missing everywhere
		return err
	}
	if c.Bool("nkey") {
		return p.newNKey()
	}
	password, err := p.password(c.Bool("stdin"))
	if err != nil {
		return err
	}
	defer clear(password)
	var h *passhash.Hash
	if c.Bool("bcrypt") {
		h, err = passhash.NewBcrypt(password)
	} else {
		h = passhash.New(password)
	}
	if errors.Is(err, passhash.ErrLong) {
		return fmt.Errorf("%w: leave out --bcrypt", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.env.Stdout, h.Text())
	return err
}

// maxPassword bounds a password on standard input, in bytes.
const maxPassword = 4096

// password gets a new one.
func (p *program) password(stdin bool) ([]byte, error) {
	if !stdin {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, errors.New("no terminal to ask for the password: --stdin")
		}
		defer tty.Close()
		return askNew(tty, "New password: ", "passwords")
	}
	if isTerminal(p.env.Stdin) {
		return nil, errors.New("standard input is a terminal, which would show the password: leave out --stdin")
	}
	b := make([]byte, maxPassword+2) // in one piece, so that it can be erased
	n, err := io.ReadFull(p.env.Stdin, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		clear(b)
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	line, _, _ := bytes.Cut(b[:n], []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(line) > maxPassword:
		clear(b)
		return nil, fmt.Errorf("the password is longer than %d bytes", maxPassword)
	case len(line) == 0:
		return nil, errors.New("the password is empty")
	}
	return line, nil
}

// newNKey prints a new pair of keys.
func (p *program) newNKey() error {
	key, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	defer key.Wipe()
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	seed, err := key.Seed()
	if err != nil {
		return err
	}
	defer clear(seed)
	_, err = fmt.Fprintf(p.env.Stdout, "nkey  %s\nseed  %s\n", public, seed)
	return err
}
