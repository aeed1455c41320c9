package passhash

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Hash is a parsed one.
type Hash struct {
	text string // of bcrypt, whole

	// Of argon2id.
	memory  uint32 // KiB
	time    uint32
	threads uint8
	salt    []byte
	sum     []byte

	cost int // of bcrypt
}

// Bounds of what a hash may cost.
const (
	minMemory = 1 << 10 // KiB, as the next two
	maxMemory = 1 << 20
	maxWork   = 1 << 20 // memory times passes
	maxTime   = 16
	maxLanes  = 16
	minCost   = 4
	maxCost   = 14

	minSalt, maxSalt = 8, 64
	minSum, maxSum   = 16, 64
)

// ErrPlain: the text is no hash at all.
var ErrPlain = errors.New("is not a hash of a password: gatehouse passwd makes one")

var errDamaged = errors.New("is a damaged hash: gatehouse passwd makes one")

// Parse reads the text of a hash. There is one text for each hash.
func Parse(text string) (*Hash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2(text)
	case strings.HasPrefix(text, "$argon2"):
		return nil, errors.New("is a hash by another argon2 than argon2id: gatehouse passwd makes one")
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	}
	return nil, ErrPlain
}

func parseArgon2(text string) (*Hash, error) {
	parts := strings.Split(text, "$") // "", argon2id, version, parameters, salt, sum
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errDamaged
	}
	params := strings.Split(parts[3], ",")
	if len(params) != 3 {
		return nil, errDamaged
	}
	var n [3]uint32
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(params[i], name)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(v, 10) != digits {
			return nil, errDamaged
		}
		n[i] = uint32(v)
	}
	if err := boundArgon2(n[0], n[1], n[2]); err != nil {
		return nil, err
	}
	h := &Hash{memory: n[0], time: n[1], threads: uint8(n[2])}
	var err error
	if h.salt, err = decode(parts[4], minSalt, maxSalt); err != nil {
		return nil, err
	}
	h.sum, err = decode(parts[5], minSum, maxSum)
	if err != nil {
		return nil, err
	}
	return h, nil
}

func boundArgon2(memory, time, threads uint32) error {
	switch {
	case memory < minMemory || memory > maxMemory:
		return fmt.Errorf("m=%d is not between %d and %d KiB", memory, minMemory, maxMemory)
	case time < 1 || time > maxTime:
		return fmt.Errorf("t=%d is not between 1 and %d", time, maxTime)
	case threads < 1 || threads > maxLanes:
		return fmt.Errorf("p=%d is not between 1 and %d", threads, maxLanes)
	case memory*time > maxWork:
		return fmt.Errorf("m=%d times t=%d is more than %d", memory, time, maxWork)
	}
	return nil
}

// decode reads base 64 without padding.
func decode(text string, least, most int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < least || len(b) > most || strings.ContainsAny(text, "\r\n") {
		return nil, errDamaged
	}
	return b, nil
}

const (
	bcryptLen      = 60
	bcryptHead     = len("$2b$11$")
	bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

func parseBcrypt(text string) (*Hash, error) {
	if len(text) != bcryptLen || text[bcryptHead-1] != '$' || strings.Trim(text[bcryptHead:], bcryptAlphabet) != "" {
		return nil, errDamaged
	}
	cost, err := strconv.ParseUint(text[bcryptHead-3:bcryptHead-1], 10, 8)
	if err != nil {
		return nil, errDamaged
	}
	if cost < minCost || cost > maxCost {
		return nil, fmt.Errorf("cost %d is not between %d and %d", cost, minCost, maxCost)
	}
	return &Hash{text: text, cost: int(cost)}, nil
}

// Text gives the hash as Parse reads it, which is as much of a secret as any hash.
func (h *Hash) Text() string {
	if h.text != "" {
		return h.text
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.memory, h.time, h.threads, b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

// String hides the hash.
func (*Hash) String() string { return "********" }

// GoString hides it, too.
func (h *Hash) GoString() string { return h.String() }

// Memory is how much a check takes, in bytes.
func (h *Hash) Memory() int {
	if h.text != "" {
		return bcryptMemory
	}
	return int(h.memory) << 10
}

// bcryptMemory is a Blowfish state and some.
const bcryptMemory = 8 << 10
