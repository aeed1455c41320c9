package parent

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes that is written "64MiB" or as a plain number.
type Size int64

// units from large to small: String takes the first that divides without rest.
var units = [...]struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
}

// ParseSize reads "64MiB", "4KiB", "2GiB", "512B" or "512". Fractions, signs,
// decimal units and anything above 1 EiB are refused.
func ParseSize(s string) (Size, error) {
	digits, factor := s, int64(1)
	for _, u := range units {
		if d, ok := strings.CutSuffix(s, u.name); ok {
			digits, factor = d, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 60)
	if err != nil || int64(n) > (1<<60)/factor {
		return 0, fmt.Errorf(`%s is not a size (write "64KiB", "1MiB", "2GiB" or a number of bytes)`, show(s))
	}
	return Size(int64(n) * factor), nil
}

// String gives the size in the largest unit that holds it exactly: "64MiB".
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range units {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes the size as ParseSize reads it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// powerOfTwo rounds up to a power of two; rings and arenas need one.
func (s Size) powerOfTwo() Size {
	p := Size(1)
	for p < s {
		p <<= 1
	}
	return p
}
