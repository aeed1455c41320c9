package custody

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gatehouse/privsep/erase"
	"gatehouse/privsep/keyfile"
)

// Options name a key and what opens it.
type Options struct {
	KeyFile    string // encrypted PKCS#8, PEM
	UnlockFile string // its first line is the secret, as in `openssl -passin file:`
	UnlockUser string // who reads it: name or number; "", or without root: who we are
}

// Bounds on the unlocking secret. OpenSSL would cut a longer one silently.
const (
	maxSecretFile = 4096
	maxSecret     = 1023
)

// Open reads the secret, decrypts the key straight into Memory and checks that
// it is RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519. Errors name file
// and reason in one line. After ErrIdentity the process must end.
func Open(o Options) (*Key, error) {
	k, err := open(o)
	if err != nil {
		return nil, err
	}
	return k, nil
}

func open(o Options) (*Key, error) {
	file, err := readKeyFile(o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", o.KeyFile, err)
	}
	mem, err := NewMemory(file.Size())
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", o.KeyFile, err)
	}
	size, err := decrypt(file, mem, o)
	if err != nil {
		mem.Close()
		return nil, err
	}
	k, err := newKey(mem, size)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", o.KeyFile, err)
	}
	return k, nil
}

func decrypt(file *keyfile.File, mem *Memory, o Options) (int, error) {
	secret, err := readSecret(o)
	if err != nil {
		return 0, fmt.Errorf("unlock file %s: %w", o.UnlockFile, err)
	}
	defer secret.Close()
	size, err := file.Decrypt(mem.Bytes(), secret.line)
	if errors.Is(err, keyfile.ErrSecret) {
		return 0, fmt.Errorf("key %s: %w (secret of %s)", o.KeyFile, err, o.UnlockFile)
	}
	if err != nil {
		return 0, fmt.Errorf("key %s: %w", o.KeyFile, err)
	}
	return size, nil
}

// readKeyFile reads what may be public: it is encrypted.
func readKeyFile(path string) (*keyfile.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(f.fd)
	text := make([]byte, keyfile.MaxFile+1)
	n, err := readFull(f.fd, text)
	if err != nil {
		return nil, err
	}
	return keyfile.Parse(text[:n])
}

// Secret is an unlocking secret in locked memory, which its owner closes.
type Secret struct {
	mem  *Memory
	line []byte
}

// ReadSecret reads a secret file as Open does, as who we are. Its errors name
// the file.
func ReadSecret(path string) (*Secret, error) { return ReadSecretAs(path, "") }

// ReadSecretAs reads it as a user, as Open does. After ErrIdentity the process must end.
func ReadSecretAs(path, user string) (*Secret, error) {
	s, err := readSecret(Options{UnlockFile: path, UnlockUser: user})
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	return s, nil
}

// Bytes is the secret; it must not be used after Close.
func (s *Secret) Bytes() []byte { return s.line }

// Close erases it.
func (s *Secret) Close() error {
	s.line = nil
	return s.mem.Close()
}

// readSecret reads the unlocking secret as the user who may.
func readSecret(o Options) (*Secret, error) {
	mem, err := NewMemory(maxSecretFile + 1)
	if err != nil {
		return nil, err
	}
	s := &Secret{mem: mem}
	if err := s.readAs(o); err != nil {
		mem.Close()
		return nil, err
	}
	return s, nil
}

func (s *Secret) readAs(o Options) error {
	if o.UnlockUser == "" || os.Geteuid() != 0 {
		return s.read(o.UnlockFile, os.Geteuid())
	}
	id, err := lookup(o.UnlockUser)
	if err != nil {
		return err
	}
	return id.as(func() error { return s.read(o.UnlockFile, id.uid) })
}

// read reads the file straight into locked memory. owner or root must own it.
func (s *Secret) read(path string, owner int) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	defer unix.Close(f.fd)
	if mode := f.st.Mode & 0o777; mode&0o077 != 0 {
		return fmt.Errorf("mode %04o: group or others may use it, chmod 0400", mode)
	}
	if uid := int(f.st.Uid); uid != owner && uid != 0 {
		return fmt.Errorf("owned by uid %d, neither by uid %d nor by root", uid, owner)
	}
	b := s.mem.Bytes()
	n, err := readFull(f.fd, b[:maxSecretFile+1])
	if err != nil {
		return err
	}
	if n > maxSecretFile {
		return fmt.Errorf("larger than %d bytes", maxSecretFile)
	}
	erase.Do(func() { s.line, err = firstLine(b[:n]) })
	return err
}

// firstLine is what OpenSSL would take for the secret.
func firstLine(b []byte) ([]byte, error) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	switch {
	case len(line) == 0:
		return nil, errors.New("the first line is empty")
	case len(line) > maxSecret:
		return nil, fmt.Errorf("the first line is longer than %d bytes", maxSecret)
	case bytes.IndexByte(line, 0) >= 0:
		return nil, errors.New("a zero byte in the first line")
	}
	return line, nil
}

type openFile struct {
	fd int
	st unix.Stat_t
}

// openRegular opens a regular file for reading; the caller closes the fd. It
// does not wait for whoever feeds a pipe.
func openRegular(path string) (*openFile, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := &openFile{fd: fd}
	if err := unix.Fstat(fd, &f.st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, errors.New("not a regular file")
	}
	return f, nil
}

// readFull fills b as far as the file goes.
func readFull(fd int, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}
