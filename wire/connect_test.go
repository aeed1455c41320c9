package wire

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseConnect(t *testing.T) {
	with := func(change func(c *Connect)) Connect {
		c := DefaultConnect()
		change(&c)
		return c
	}
	for in, want := range map[string]Connect{
		`{}`:                                  DefaultConnect(),
		`null`:                                DefaultConnect(),
		` {"unknown":[[{}]],"proxy_sig":"x"}`: DefaultConnect(),
		`{"verbose":null,"user":null}`:        DefaultConnect(),
		`{"verbose":false}`:                   with(func(c *Connect) { c.Verbose = false }),
		`{"VERBOSE":false}`:                   with(func(c *Connect) { c.Verbose = false }),
		`{"verbose":false,"verbose":true}`:    DefaultConnect(),
		"{\"verbose\":\rfalse} \t":            with(func(c *Connect) { c.Verbose = false }),
		`{"protocol":3000000000}`:             with(func(c *Connect) { c.Protocol = 3000000000 }),
		`{"protocol":-1}`:                     with(func(c *Connect) { c.Protocol = -1 }),
		`{"name":"\ud800"}`:                   with(func(c *Connect) { c.Name = "\ufffd" }),
		"{\"name\":\"\xff\"}":                 with(func(c *Connect) { c.Name = "\ufffd" }),
		`{"verbose":false,"pedantic":false,"echo":false,"tls_required":true,"user":"a","pass":"b","auth_token":"c","jwt":"d","nkey":"e",
		  "sig":"f","name":"g","lang":"h","version":"i","protocol":1,"headers":true,"no_responders":true,"account":"j","new_account":true}`: {
			TLSRequired: true, User: "a", Pass: "b", AuthToken: "c", JWT: "d", NKey: "e", Sig: "f", Name: "g", Lang: "h", Version: "i",
			Protocol: 1, Headers: true, NoResponders: true, Account: "j", NewAccount: true},
	} {
		got, err := ParseConnect([]byte(in))
		if err != nil || got != want {
			t.Errorf("%s: %#v, %v", in, struct{ Connect }{got}, err)
		}
	}
}

func TestParseConnectRefuses(t *testing.T) {
	for _, in := range []string{
		``, ` `, `x`, `[]`, `1`, `"x"`, `{`, `{} x`, `{}{}`, `{"verbose":false,}`, `{"verbose":1}`, `{"verbose":"true"}`, `{"user":1}`, `{"lang":5}`,
		`{"protocol":"1"}`, `{"protocol":1.0}`, `{"protocol":1e0}`, `{"protocol":30000000000000000000000}`, `{"user":["a"]}`, `{"verbose":false} ` + "\x00",
		"{\"name\":\"a\tb\"}", `{"user":"a","protocol":2,"x":`, `{"a":` + strings.Repeat("[", 60000), strings.Repeat("[", 65536), `{"a":` + strings.Repeat(`{"a":`, 13000),
	} {
		got, err := ParseConnect([]byte(in))
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBareClose || got != (Connect{}) {
			t.Errorf("%.60q: %v", in, err)
		}
	}
}

// TestMerge: a second CONNECT keeps what it doesn't name.
func TestMerge(t *testing.T) {
	c, err := ParseConnect([]byte(`{"verbose":false,"headers":true,"user":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	before := c
	if err := c.Merge([]byte(`{"verbose":true,"user":5}`)); err == nil || c != before {
		t.Errorf("%v, changed: %v", err, c != before)
	}
	if err := c.Merge([]byte(`{"name":"x"}`)); err != nil || c.Verbose || !c.Headers || c.User != "a" || c.Name != "x" {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	for in, want := range map[string]int{
		`{}`: -1, `{"protocol":1}`: -1, `{"headers":true,"no_responders":true}`: -1,
		`{"protocol":2}`: int(CodeInvalidProtocol), `{"protocol":-1}`: int(CodeInvalidProtocol),
		`{"protocol":7,"no_responders":true}`: int(CodeInvalidProtocol), `{"no_responders":true}`: int(CodeNoRespNeedsHeaders),
		`{"account":"A"}`: int(CodeAuthViolation), `{"new_account":true}`: int(CodeAuthViolation),
		`{"account":"A","protocol":7}`: int(CodeAuthViolation), `{"account":"A","no_responders":true}`: int(CodeAuthViolation),
	} {
		c, err := ParseConnect([]byte(in))
		code, refused := c.Check()
		if err != nil || refused != (want >= 0) || refused && int(code) != want {
			t.Errorf("%s: %d %v", in, code, err)
		}
	}
}

// TestSecretsHidden prints a CONNECT in every way.
func TestSecretsHidden(t *testing.T) {
	c := Connect{}
	for i := range reflect.TypeOf(c).NumField() {
		if f := reflect.ValueOf(&c).Elem().Field(i); f.Kind() == reflect.String {
			f.SetString("secret")
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, x := range []any{c, &c} {
			if got := fmt.Sprintf(verb, x); strings.Contains(got, "secret") || strings.Contains(got, "736563726574") {
				t.Errorf("%s: %s", verb, got)
			}
		}
	}
}

// FuzzConnect: an error goes with nothing, and what is accepted needs no more
// memory than the input has bytes.
func FuzzConnect(f *testing.F) {
	mustSeed(f, 2)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"verbose":false,"name":"\ud800\u0000"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConnect(b)
		if err != nil && c != (Connect{}) {
			t.Errorf("%q: error with content", b)
		}
		sum := 0
		for i := range reflect.TypeOf(c).NumField() {
			if v := reflect.ValueOf(c).Field(i); v.Kind() == reflect.String {
				sum += v.Len()
			}
		}
		if sum > 3*len(b) { // a bad byte becomes a three-byte character
			t.Errorf("%q: %d bytes of text", b, sum)
		}
	})
}
