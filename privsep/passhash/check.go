package passhash

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"gatehouse/privsep/erase"
)

// What New makes: the memory is what one login may cost a broker, not a key.
const (
	newMemory  = 64 << 10 // KiB
	newTime    = 3
	newThreads = 1
	newSalt    = 16
	newSum     = 32
	newCost    = 11 // of bcrypt, as the nats command has it
)

// MaxBcrypt is how many bytes of a password bcrypt looks at.
const MaxBcrypt = 72

// ErrLong: bcrypt would not look at all of the password.
var ErrLong = errors.New("the password is longer than the 72 bytes that bcrypt looks at")

// New makes an argon2id hash.
func New(password []byte) *Hash {
	h := &Hash{memory: newMemory, time: newTime, threads: newThreads, salt: make([]byte, newSalt), sum: make([]byte, newSum)}
	rand.Read(h.salt)
	erase.Do(func() { copy(h.sum, h.key(password)) })
	return h
}

// NewBcrypt makes a bcrypt hash, for other programs that read it.
func NewBcrypt(password []byte) (*Hash, error) {
	if len(password) > MaxBcrypt {
		return nil, ErrLong
	}
	var text []byte
	var err error
	erase.Do(func() { text, err = bcrypt.GenerateFromPassword(password, newCost) })
	if err != nil {
		return nil, err
	}
	return Parse(string(text))
}

// Check tells whether password is the one. It takes as long for any other.
func (h *Hash) Check(password []byte) (ok bool) {
	erase.Do(func() {
		if h.text != "" {
			ok = bcrypt.CompareHashAndPassword([]byte(h.text), password) == nil
		} else {
			ok = subtle.ConstantTimeCompare(h.key(password), h.sum) == 1
		}
	})
	return ok
}

func (h *Hash) key(password []byte) []byte {
	return argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
}
