package parent

import (
	"errors"
	"maps"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// written is where the keys of a file stand in it, by place: "limits.max_payload",
// "profile 1.name". The nil written is that of no file.
type written struct {
	md       *toml.MetaData
	sections map[string]toml.Primitive
	keys     map[string]toml.Key
}

// line gives the line of a key, 0 if it is not in the file. To find it takes as long
// as to read the file.
func (w *written) line(place string) int {
	if w == nil || w.keys[place] == nil {
		return 0
	}
	return line(w.md, w.sections, w.keys[place])
}

// mentions tells whether the file has a section.
func (w *written) mentions(section string) bool {
	for place := range w.keys {
		if name, _, _ := strings.Cut(place, "."); name == section {
			return true
		}
	}
	return false
}

// without leaves out some keys.
func (w *written) without(places ...string) *written {
	if w == nil {
		return nil
	}
	rest := *w
	rest.keys = maps.Clone(w.keys)
	for _, place := range places {
		delete(rest.keys, place)
	}
	return &rest
}

// place is a decoding target that fails: the library then says where the value
// stands, which it tells in no other way.
type place struct{}

var errPlace = errors.New("place")

func (*place) UnmarshalTOML(any) error { return errPlace }

// line finds the line of a key; 0 when the parser kept none.
func line(md *toml.MetaData, sections map[string]toml.Primitive, key toml.Key) int {
	value := sections[key[0]]
	for _, part := range key[1:] {
		inner := table(md, value)
		if inner == nil {
			break
		}
		value = inner[part]
	}
	var pe toml.ParseError
	if errors.As(md.PrimitiveDecode(value, &place{}), &pe) {
		return pe.Position.Line
	}
	return 0
}

var keyOnLine = regexp.MustCompile(`^\s*([A-Za-z0-9_.-]+)\s*=`)

// syntaxError turns the library's error into ours. The library names the last
// key that it could read; on a line that it could not, the key is ours to find.
func syntaxError(err error, text string) error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return &ConfigError{Text: err.Error()}
	}
	e := &ConfigError{Line: pe.Position.Line, Text: pe.Message}
	lines := strings.Split(text, "\n")
	if e.Line < 1 || e.Line > len(lines) {
		return e
	}
	if m := keyOnLine.FindStringSubmatch(lines[e.Line-1]); m != nil {
		e.Key = m[1]
		if pe.LastKey != "" && !strings.HasSuffix(pe.LastKey, m[1]) {
			e.Key = pe.LastKey + "." + m[1]
		} else if pe.LastKey != "" {
			e.Key = pe.LastKey
		}
	}
	return e
}
