package parent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// ConfigError is one mistake in a configuration. It prints as one line,
// "FILE:LINE: KEY: TEXT", without the parts that are not known.
type ConfigError struct {
	File string // empty for a configuration that no file gave
	Line int    // 0: the key is not in the file, its default is at fault
	Key  string // "limits.max_payload"; empty when the line is no TOML
	Text string

	cause error // nil: the text is all
}

// Unwrap gives what reading a file has said.
func (e *ConfigError) Unwrap() error { return e.cause }

// Error is that line.
func (e *ConfigError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(shown(e.Key) + ": ")
	}
	b.WriteString(e.Text)
	return strings.Map(printable, b.String())
}

// Load reads and checks the configuration at path. A mistake in it is a
// *ConfigError; the first one in the file is reported.
func Load(path string) (*Config, error) {
	cfg, _, err := loadConfig(path)
	return cfg, err
}

// loadConfig is Load with where each key stands.
func loadConfig(path string) (*Config, *written, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxConfig {
		return nil, nil, fmt.Errorf("%s: larger than %s", path, Size(maxConfig))
	}
	return parseLines(path, string(text))
}

// parseConfig is Load without the file system.
func parseConfig(file, text string) (*Config, error) {
	cfg, _, err := parseLines(file, text)
	return cfg, err
}

func parseLines(file, text string) (*Config, *written, error) {
	cfg := Defaults()
	keys, err := decodeConfig(text, cfg)
	if err == nil {
		cfg.leaveAlone(keys)
		err = cfg.check(keys)
	}
	var bad *ConfigError
	if errors.As(err, &bad) {
		bad.File = file
	}
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Dir(file)
	paths := []*string{&cfg.TLS.Cert, &cfg.TLS.Key, &cfg.TLS.UnlockFile, &cfg.TLS.ClientCA, &cfg.Transfer.Key, &cfg.Transfer.UnlockFile,
		&cfg.LDAP.CA, &cfg.LDAP.BindPasswordFile}
	for _, path := range slices.Concat(paths, cfg.keyPaths(), cfg.approvalPaths(), cfg.sharingPaths()) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = absolute(filepath.Join(dir, *path))
		}
	}
	return cfg, keys, nil
}

// decodeConfig puts the options of text into cfg and returns where each stands. It
// goes in the order of the file so that the first mistake is reported.
func decodeConfig(text string, cfg *Config) (*written, error) {
	var sections map[string]toml.Primitive
	md, err := toml.Decode(text, &sections)
	if err != nil {
		return nil, syntaxError(err, text)
	}
	text, options := numberTables(text, cfg)
	if err := checkTables(&md, sections, cfg); err != nil {
		return nil, err
	}
	sections = nil
	if md, err = toml.Decode(text, &sections); err != nil {
		return nil, syntaxError(err, text)
	}
	w := &written{md: &md, sections: sections, keys: map[string]toml.Key{}}
	for _, key := range md.Keys() {
		w.keys[strings.Join(key, ".")] = key
		if err := setKey(&md, sections, options, key); err != nil {
			err.Line = line(&md, sections, key)
			return nil, err
		}
	}
	return w, nil
}

// setKey puts the value of one key where it belongs.
func setKey(md *toml.MetaData, sections map[string]toml.Primitive, options map[string]map[string]reflect.Value, key toml.Key) *ConfigError {
	name := shown(key[0])
	if len(key) > 1 {
		name += "." + key[1:].String()
	}
	bad := func(text string) *ConfigError { return &ConfigError{Key: name, Text: text} }
	section, known := options[key[0]]
	if len(key) > 2 || !known {
		return bad("unknown key")
	}
	if _, list := section[""]; list {
		return notList(0, key[0])
	}
	values := table(md, sections[key[0]])
	if values == nil {
		return bad(fmt.Sprintf("is a table: write [%s]", key[0]))
	}
	if len(key) == 1 {
		return nil
	}
	option, known := section[key[1]]
	if !known {
		return bad("unknown key")
	}
	var raw any
	err := md.PrimitiveDecode(values[key[1]], &raw)
	if err == nil {
		err = setOption(option, raw)
	}
	if err != nil {
		return bad(err.Error())
	}
	return nil
}

// table gives the keys of a table; nil when the value is something else.
func table(md *toml.MetaData, value toml.Primitive) map[string]toml.Primitive {
	var values map[string]toml.Primitive
	if md.PrimitiveDecode(value, &values) != nil {
		return nil
	}
	return values
}

// options maps section and key to the field that holds the value. A list of tables
// is one option, without a key.
func (c *Config) options() map[string]map[string]reflect.Value {
	all := map[string]map[string]reflect.Value{}
	sections := reflect.ValueOf(c).Elem()
	for i := range sections.NumField() {
		if name, section := tag(sections.Type().Field(i)), sections.Field(i); section.Kind() == reflect.Struct {
			all[name] = fields(section)
		} else {
			all[name] = map[string]reflect.Value{"": section}
		}
	}
	return all
}

// setOption stores a TOML value in a field of one of the types that options
// can have.
func setOption(field reflect.Value, raw any) (err error) {
	switch p := field.Addr().Interface().(type) {
	case *string:
		err = assign(p, raw, "a string")
	case *bool:
		err = assign(p, raw, "true or false")
	case *int:
		var n int64
		err = assign(&n, raw, "a whole number")
		*p = int(n)
	case *[]string:
		err = setStrings(p, raw)
	case *[]int:
		err = setNumbers(p, raw)
	case *Size:
		*p, err = sizeOf(raw)
	case *Responses:
		*p, err = responsesOf(raw)
	case *Account:
		*p, err = accountOf(raw)
	case *Secret:
		*p, err = secretOf(raw)
	case *time.Duration:
		*p, err = durationOf(raw)
	default:
		err = fmt.Errorf("has a type %s that no file can give", field.Type())
	}
	return err
}

func assign[T any](p *T, raw any, what string) error {
	v, ok := raw.(T)
	if !ok {
		return fmt.Errorf("%s is not %s", show(raw), what)
	}
	*p = v
	return nil
}

func setStrings(p *[]string, raw any) error {
	list, ok := raw.([]any)
	if !ok {
		return fmt.Errorf("%s is not a list of strings", show(raw))
	}
	out := make([]string, len(list))
	for i, item := range list {
		if err := assign(&out[i], item, "a string"); err != nil {
			return err
		}
	}
	*p = out
	return nil
}

func setNumbers(p *[]int, raw any) error {
	list, ok := raw.([]any)
	if !ok {
		return fmt.Errorf("%s is not a list of numbers", show(raw))
	}
	out := make([]int, len(list))
	for i, item := range list {
		var n int64
		if err := assign(&n, item, "a whole number"); err != nil {
			return err
		}
		out[i] = int(n)
	}
	*p = out
	return nil
}

func sizeOf(raw any) (Size, error) {
	switch v := raw.(type) {
	case int64:
		if v >= 0 {
			return Size(v), nil
		}
	case string:
		return ParseSize(v)
	}
	return 0, fmt.Errorf(`%s is not a size (write "64KiB", "1MiB", "2GiB" or a number of bytes)`, show(raw))
}

func durationOf(raw any) (time.Duration, error) {
	if s, ok := raw.(string); ok {
		if d, err := time.ParseDuration(s); err == nil {
			return d, nil
		}
	}
	return 0, fmt.Errorf(`%s is not a duration (write "500ms", "10s", "2m" or "1h30m")`, show(raw))
}

// show prints a TOML value for an error, bounded.
func show(raw any) string {
	switch v := raw.(type) {
	case string:
		if len(v) > 60 {
			return fmt.Sprintf("%q...", v[:60])
		}
		return fmt.Sprintf("%q", v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case map[string]any, []map[string]any:
		return "a table"
	case []any:
		return "a list"
	default:
		return "a date or time"
	}
}

// printable keeps an error on its line whatever the file holds.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}
