package roles

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// coder is one JSON object of the debug format, on its way in or out. Each
// field function does both, so that a kind's shape is written once. The first
// error sticks; after it fields keep what they had.
//
// The format: an object per line, its kind under "kind". What is 0, false or
// empty is left out, but for the numbers that name something. Bytes are a
// string under their key where they are UTF-8, else base64 (RFC 4648, padded)
// under the key with "_base64" behind it; never both.
type coder struct {
	kind string
	keys map[string]json.RawMessage // still to be read; nil on the way out
	out  []byte
	err  error
}

const base64Suffix = "_base64"

// newLine begins an object to be written.
func newLine(kind string) *coder {
	c := &coder{kind: kind, out: []byte{'{'}}
	c.put("kind", quote(kind))
	return c
}

// parseLine begins to read an object.
func parseLine(b []byte) (*coder, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	c, err := newReader(b)
	if err != nil {
		return nil, err
	}
	var kind []byte
	c.text("kind", &kind)
	c.kind = string(kind)
	if c.err == nil && c.kind == "" {
		c.err = errors.New("kind is missing")
	}
	return c, c.err
}

func newReader(b []byte) (*coder, error) {
	c := new(coder)
	if err := json.Unmarshal(b, &c.keys); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if c.keys == nil {
		return nil, errors.New("not a JSON object: null")
	}
	return c, nil
}

// end finishes reading: a key that nothing asked for is an error.
func (c *coder) end() error {
	if c.err == nil && len(c.keys) > 0 {
		c.err = fmt.Errorf("unknown key %q", slices.Min(slices.Collect(maps.Keys(c.keys))))
	}
	return c.err
}

// line finishes writing.
func (c *coder) line() []byte { return append(c.out, '}', '\n') }

func (c *coder) reading() bool { return c.keys != nil }

// take gives the value of a key and marks it as known.
func (c *coder) take(key string) (json.RawMessage, bool) {
	raw, ok := c.keys[key]
	delete(c.keys, key)
	return raw, ok && c.err == nil
}

func (c *coder) put(key string, value []byte) {
	if len(c.out) > 1 {
		c.out = append(c.out, ',')
	}
	c.out = append(c.out, '"')
	c.out = append(c.out, key...)
	c.out = append(c.out, '"', ':')
	c.out = append(c.out, value...)
}

func (c *coder) wrong(key, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%s: "+format, append([]any{key}, args...)...)
	}
}

// quote gives a JSON string; what is not UTF-8 in it is replaced.
func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // subjects have > in them
	_ = e.Encode(s)        // no string fails
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

type unsigned interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64
}

// ident is a number that names something and always shows.
func ident[T unsigned](c *coder, key string, p *T) {
	if !c.reading() {
		c.put(key, strconv.AppendUint(nil, uint64(*p), 10))
		return
	}
	number(c, key, p)
}

// number is a number without sign.
func number[T unsigned](c *coder, key string, p *T) {
	if !c.reading() {
		if *p != 0 {
			ident(c, key, p)
		}
		return
	}
	if raw, ok := c.take(key); ok {
		v, err := strconv.ParseUint(string(raw), 10, 64)
		if err != nil || uint64(T(v)) != v {
			c.wrong(key, "%s is no number from 0 to %d", raw, ^T(0))
			return
		}
		*p = T(v)
	}
}

// peek reads a number that stays to be read.
func peek[T unsigned](c *coder, key string, p *T) {
	if raw, ok := c.keys[key]; ok {
		number(c, key, p)
		c.keys[key] = raw
	}
}

// signed is a number whose value none does not show.
func (c *coder) signed(key string, p *int32, none int32) {
	if !c.reading() {
		if *p != none {
			c.put(key, strconv.AppendInt(nil, int64(*p), 10))
		}
		return
	}
	if raw, ok := c.take(key); ok {
		v, err := strconv.ParseInt(string(raw), 10, 32)
		if err != nil {
			c.wrong(key, "%s is no number from %d to %d", raw, math.MinInt32, math.MaxInt32)
			return
		}
		*p = int32(v)
	}
}

func (c *coder) flag(key string, p *bool) {
	if !c.reading() {
		if *p {
			c.put(key, []byte("true"))
		}
		return
	}
	if raw, ok := c.take(key); ok {
		if *p = string(raw) == "true"; !*p && string(raw) != "false" {
			c.wrong(key, "%s is neither true nor false", raw)
		}
	}
}

// bit is one bit of flags.
func bit[T unsigned](c *coder, key string, flags *T, mask T) {
	on := *flags&mask != 0
	if c.flag(key, &on); on {
		*flags |= mask
	} else {
		*flags &^= mask
	}
}

// text is any bytes.
func (c *coder) text(key string, p *[]byte) {
	if !c.reading() {
		switch {
		case len(*p) == 0:
		case utf8.Valid(*p):
			c.put(key, quote(string(*p)))
		default:
			c.put(key+base64Suffix, quote(base64.StdEncoding.EncodeToString(*p)))
		}
		return
	}
	raw, plain := c.take(key)
	coded, encoded := c.take(key + base64Suffix)
	switch {
	case plain && encoded:
		c.wrong(key, "given twice, also as %s%s", key, base64Suffix)
	case plain:
		*p = []byte(c.str(key, raw))
	case encoded:
		b, err := base64.StdEncoding.Strict().DecodeString(c.str(key+base64Suffix, coded))
		if err != nil {
			c.wrong(key+base64Suffix, "%v", err)
			return
		}
		*p = b
	}
}

func (c *coder) str(key string, raw json.RawMessage) (s string) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		c.wrong(key, "%s is no string", raw)
	}
	return s
}

// texts is a list of strings, which have to be UTF-8.
func (c *coder) texts(key string, p *[]string) {
	if !c.reading() {
		if len(*p) == 0 {
			return
		}
		var items []string
		for _, s := range *p {
			items = append(items, string(quote(s)))
		}
		c.put(key, []byte("["+strings.Join(items, ",")+"]"))
		return
	}
	if raw, ok := c.take(key); ok {
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil || items == nil {
			c.wrong(key, "no array of strings")
			return
		}
		*p = nil
		for _, item := range items {
			*p = append(*p, c.str(key, item))
		}
	}
}

// addr is an IP address, zero for none.
func (c *coder) addr(key string, p *[16]byte) {
	if !c.reading() {
		if *p != [16]byte{} {
			c.put(key, quote(netip.AddrFrom16(*p).Unmap().String()))
		}
		return
	}
	if raw, ok := c.take(key); ok {
		a, err := netip.ParseAddr(c.str(key, raw))
		if err != nil || a.Zone() != "" {
			c.wrong(key, "%s is no IP address", raw)
			return
		}
		*p = a.As16()
	}
}

// object is an object under a key, whose fields a function writes or reads.
func (c *coder) object(key string, fields func(*coder)) {
	if !c.reading() {
		item := &coder{out: []byte{'{'}}
		fields(item)
		c.put(key, append(item.out, '}'))
		return
	}
	if raw, ok := c.take(key); ok {
		item, err := newReader(raw)
		if err == nil {
			fields(item)
			err = item.end()
		}
		if err != nil {
			c.wrong(key, "%v", err)
		}
	}
}

// list is an array of objects. On the way out next gives one at a time until
// it says false, on the way in it is called for each.
func (c *coder) list(key string, next func(*coder) bool) {
	if !c.reading() {
		var items []string
		for {
			item := &coder{out: []byte{'{'}}
			if !next(item) {
				break
			}
			items = append(items, string(item.out)+"}")
		}
		if len(items) > 0 {
			c.put(key, []byte("["+strings.Join(items, ",")+"]"))
		}
		return
	}
	raw, ok := c.take(key)
	if !ok {
		return
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil || items == nil {
		c.wrong(key, "no array of objects")
		return
	}
	for i, raw := range items {
		item, err := newReader(raw)
		if err == nil {
			next(item)
			err = item.end()
		}
		if err != nil {
			c.wrong(fmt.Sprintf("%s[%d]", key, i), "%v", err)
			return
		}
	}
}
