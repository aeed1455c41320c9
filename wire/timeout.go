package wire

import "bytes"

// units of a duration, in nanoseconds. A longer name stands before one that it
// begins with.
var units = []struct {
	name string
	ns   uint64
}{
	{"ns", 1}, {"us", 1e3}, {"\u00b5s", 1e3}, {"\u03bcs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9},
}

const (
	mostTimeout = 1<<32 - 1 // ms
	// mostTime is above that, and ten times as much is still a number.
	mostTime = 1 << 60 // ns
)

// parseTimeout reads whole milliseconds or a duration in Go's notation, which
// must come to 1 ms or more.
func parseTimeout(b []byte) (ms uint32, ok bool) {
	if n, rest, some := digits(b); some && len(rest) == 0 {
		return uint32(min(n, mostTimeout)), n > 0
	}
	b = bytes.TrimPrefix(b, []byte{'+'})
	sum := uint64(0)
	for first := true; first || len(b) > 0; first = false {
		ns, rest, ok := parseTime(b)
		if !ok {
			return 0, false
		}
		sum, b = min(sum+ns, mostTime), rest
	}
	sum /= 1e6
	return uint32(min(sum, mostTimeout)), sum > 0
}

// parseTime reads a number with a unit off b.
func parseTime(b []byte) (ns uint64, rest []byte, ok bool) {
	whole, b, some := digits(b)
	fraction, scale := uint64(0), uint64(1)
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		for ; len(b) > 0 && b[0]-'0' <= 9; b = b[1:] {
			if some = true; scale < 1e15 {
				fraction, scale = fraction*10+uint64(b[0]-'0'), scale*10
			}
		}
	}
	for _, u := range units {
		if some && bytes.HasPrefix(b, []byte(u.name)) {
			ns = mostTime
			if whole < mostTime/u.ns {
				ns = min(whole*u.ns+uint64(float64(fraction)*(float64(u.ns)/float64(scale))), mostTime)
			}
			return ns, b[len(u.name):], true
		}
	}
	return 0, nil, false
}

// digits reads a number off b, not above mostTime. some is false if there is none.
func digits(b []byte) (n uint64, rest []byte, some bool) {
	for ; len(b) > 0 && b[0]-'0' <= 9; b = b[1:] {
		n, some = min(n*10+uint64(b[0]-'0'), mostTime), true
	}
	return n, b, some
}
