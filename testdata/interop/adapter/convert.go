package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.test/interop/certs"
)

// config is the broker's configuration as far as a spec can ask for it.
type config struct {
	dir, pidFile string
	host         string
	port         int
	values       map[string]any // "section.key": string, bool, int64 or []string
	tables       []table

	single      user // who is alone, if there is one
	users       []user
	permissions json.RawMessage // of those who have none of their own

	secure      bool
	key         string        // of the certificate, not encrypted
	authTimeout time.Duration // from the handshake's end to CONNECT
	tlsTimeout  time.Duration // of the handshake
}

// unmappedError names a wish that the broker has no option for.
type unmappedError struct{ key string }

func (e *unmappedError) Error() string { return "no counterpart for " + e.key }

// keys says what each key of a spec becomes. A key that is not here has no
// counterpart; the fields of a spec are left out where nothing was asked for.
var keys = map[string]func(*config, json.RawMessage) error{
	"dir":      func(c *config, v json.RawMessage) error { return json.Unmarshal(v, &c.dir) },
	"pid_file": func(c *config, v json.RawMessage) error { return json.Unmarshal(v, &c.pidFile) },
	"host":     func(c *config, v json.RawMessage) error { return json.Unmarshal(v, &c.host) },
	"port":     func(c *config, v json.RawMessage) error { return json.Unmarshal(v, &c.port) },
	"name":     text("environment.broker"),

	"max_payload":       maxPayload,
	"max_control_line":  size("limits.max_control_line"),
	"max_pending":       size("limits.max_pending"),
	"max_connections":   number("limits.max_connections"),
	"max_subscriptions": number("limits.max_subscriptions"),
	"ping_max":          number("limits.ping_max"),
	"ping_interval_s":   seconds("limits.ping_interval"),
	"write_deadline_s":  seconds("limits.write_deadline"),
	"auth_timeout":      authTimeout,
	"tls":               tls,

	"user":                single(func(u *user) *string { return &u.User }),
	"pass":                single(func(u *user) *string { return &u.Pass }),
	"token":               token,
	"users":               users,
	"default_permissions": defaultPermissions,

	// The same wishes in nats-server's own form, and a list of them.
	"nats_conf": ignore,
	"raw":       ignore,
	"requires":  ignore,
	"unmapped":  noneLeft,
}

func convert(spec map[string]json.RawMessage) (*config, error) {
	c := &config{values: map[string]any{}}
	for key, v := range spec {
		set, ok := keys[key]
		if !ok {
			return nil, &unmappedError{key}
		}
		if err := set(c, v); err != nil {
			var unmapped *unmappedError
			if errors.As(err, &unmapped) {
				return nil, err
			}
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if c.dir == "" || c.port == 0 {
		return nil, errors.New("spec has no dir or no port")
	}
	c.listen()
	c.limitLogin()
	return c, c.logins()
}

// listen opens the port to everybody only where the spec says so: other than
// on loopback, clients without credentials must be allowed in so many words.
func (c *config) listen() {
	addr := net.JoinHostPort(c.host, strconv.Itoa(c.port))
	if c.secure {
		c.values["listen.tcp"], c.values["listen.tls"] = []string{}, []string{addr}
		f := certs.In(c.dir)
		c.values["tls.key"], c.values["tls.unlock_file"] = f.Sealed, f.Unlock
	} else {
		c.values["listen.tcp"] = []string{addr}
	}
	if ip := net.ParseIP(c.host); c.host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		c.values["listen.anonymous"] = "any"
	}
	c.values["privsep.runtime_dir"] = filepath.Join(c.dir, "run")
}

// limitLogin sums up: our limit is for handshake and CONNECT together.
func (c *config) limitLogin() {
	if c.authTimeout == 0 && c.tlsTimeout == 0 {
		return
	}
	const usual = 2 * time.Second
	sum := c.authTimeout
	if sum == 0 {
		sum = usual
	}
	c.values["limits.auth_timeout"] = (sum + c.tlsTimeout).String()
}

func authTimeout(c *config, v json.RawMessage) (err error) {
	c.authTimeout, err = duration(v)
	return err
}

// tls takes the keys of a spec's tls, of which each other one is refused.
func tls(c *config, v json.RawMessage) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(v, &keys); err != nil {
		return err
	}
	c.secure = true
	var authority string
	var verify bool
	for key, v := range keys {
		var err error
		switch key {
		case "cert_file":
			err = text("tls.cert")(c, v)
		case "key_file":
			err = json.Unmarshal(v, &c.key)
		case "ca_file":
			err = json.Unmarshal(v, &authority)
		case "verify":
			err = json.Unmarshal(v, &verify)
		case "timeout_s":
			c.tlsTimeout, err = duration(v)
		case "handshake_first":
			var first bool
			if json.Unmarshal(v, &first) != nil { // "auto", or for how long
				return &unmappedError{"tls.handshake_first " + string(v)}
			}
			c.values["listen.handshake_first"] = first
		default:
			return &unmappedError{"tls." + key}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if verify {
		c.values["tls.client_auth"], c.values["tls.client_ca"] = "require", authority
	}
	return nil
}

func ignore(*config, json.RawMessage) error { return nil }

func noneLeft(_ *config, v json.RawMessage) error {
	var names []string
	if err := json.Unmarshal(v, &names); err != nil || len(names) == 0 {
		return err
	}
	return &unmappedError{strings.Join(names, ", ")}
}

func text(key string) func(*config, json.RawMessage) error {
	return func(c *config, v json.RawMessage) error {
		var s string
		err := json.Unmarshal(v, &s)
		c.values[key] = s
		return err
	}
}

func number(key string) func(*config, json.RawMessage) error {
	return func(c *config, v json.RawMessage) error {
		var n int64
		err := json.Unmarshal(v, &n)
		c.values[key] = n
		return err
	}
}

func size(key string) func(*config, json.RawMessage) error {
	return func(c *config, v json.RawMessage) error {
		var n int64
		err := json.Unmarshal(v, &n)
		c.values[key] = strconv.FormatInt(n, 10) + "B"
		return err
	}
}

func seconds(key string) func(*config, json.RawMessage) error {
	return func(c *config, v json.RawMessage) error {
		d, err := duration(v)
		c.values[key] = d.String()
		return err
	}
}

// duration reads a number of seconds.
func duration(v json.RawMessage) (time.Duration, error) {
	var s float64
	err := json.Unmarshal(v, &s)
	return time.Duration(s * float64(time.Second)), err
}

// maxPayload makes the arena large enough for it: four times at least.
func maxPayload(c *config, v json.RawMessage) error {
	var n int64
	if err := json.Unmarshal(v, &n); err != nil {
		return err
	}
	if n > 16<<20 {
		c.values["store.arena"] = strconv.FormatInt(4*n, 10) + "B"
	}
	return size("limits.max_payload")(c, v)
}

// toml writes the values by section, both in order of their names, then the tables.
func (c *config) toml() []byte {
	var b []byte
	section := ""
	for _, name := range slices.Sorted(maps.Keys(c.values)) {
		s, key, _ := strings.Cut(name, ".")
		if s != section {
			section = s
			b = fmt.Appendf(b, "[%s]\n", s)
		}
		b = appendValue(b, key, c.values[name])
	}
	for _, t := range c.tables {
		b = fmt.Appendf(b, "[[%s]]\n", t.list)
		for _, key := range slices.Sorted(maps.Keys(t.values)) {
			b = appendValue(b, key, t.values[key])
		}
	}
	return b
}

// appendValue relies on strings, numbers and lists of strings to be written alike in
// JSON and TOML.
func appendValue(b []byte, key string, value any) []byte {
	v, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(b, "%s = %s\n", key, v)
}
