package passhash

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Made by other programs: the reference implementation of argon2 (its test.c) and
// crypt(3) of libxcrypt.
var foreign = []struct{ text, password string }{
	{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
	{"$2a$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO", "correct horse"},
	{"$2b$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO", "correct horse"},
	{"$2y$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO", "correct horse"},
}

func TestForeign(t *testing.T) {
	for _, f := range foreign {
		h, err := Parse(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.text, err)
			continue
		}
		if h.Text() != f.text {
			t.Errorf("%s became %s", f.text, h.Text())
		}
		for _, try := range []string{f.password, f.password + "x", f.password[1:], ""} {
			if got := h.Check([]byte(try)); got != (try == f.password) {
				t.Errorf("%s: %q is right: %v", f.text, try, got)
			}
		}
	}
}

func TestNew(t *testing.T) {
	password := []byte("a password \x00 of any bytes \xff")
	a, b := New(password), New(password)
	if a.Text() == b.Text() || !a.Check(password) || !b.Check(password) || a.Check(password[1:]) || a.Memory() != 64<<20 {
		t.Errorf("%s, %s", a.Text(), b.Text())
	}
	if string(password) != "a password \x00 of any bytes \xff" {
		t.Error("the password was changed")
	}
	c, err := NewBcrypt(password)
	if err != nil || !c.Check(password) || c.Check(password[1:]) || !strings.HasPrefix(c.Text(), "$2a$11$") {
		t.Errorf("%s, %v", c.Text(), err)
	}
	if _, err := NewBcrypt(make([]byte, MaxBcrypt+1)); err != ErrLong {
		t.Errorf("too long for bcrypt: %v", err)
	}
	for _, h := range []*Hash{a, c} {
		if again, err := Parse(h.Text()); err != nil || again.Text() != h.Text() {
			t.Errorf("%s became %v, %v", h.Text(), again, err)
		}
		if s := fmt.Sprintf("%v %+v %#v %s", h, h, h, h); strings.Trim(s, "* ") != "" {
			t.Errorf("printed as %s", s)
		}
	}
}

// What is wrong is said without the text, which may be a password.
func TestRefused(t *testing.T) {
	const salt, sum = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	argon := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + sum }
	for text, want := range map[string]string{
		"":                                  "gatehouse passwd",
		"secret":                            "is not a hash of a password",
		"$1$salt$secret":                    "is not a hash of a password",
		"$2$04$" + sum:                      "is not a hash of a password",
		"$argon2i$v=19$secret":              "another argon2",
		"$argon2id$secret":                  "damaged",
		argon("m=1024,t=1"):                 "damaged",
		argon("t=1,m=1024,p=1"):             "damaged",
		argon("m=01024,t=1,p=1"):            "damaged",
		argon("m=+1024,t=1,p=1"):            "damaged",
		argon("m=1023,t=1,p=1"):             "m=1023 is not between 1024 and 1048576 KiB",
		argon("m=1048577,t=1,p=1"):          "m=1048577 is not between",
		argon("m=4294967296,t=1,p=1"):       "damaged",
		argon("m=1024,t=0,p=1"):             "t=0 is not between 1 and 16",
		argon("m=1024,t=17,p=1"):            "t=17 is not between 1 and 16",
		argon("m=1024,t=1,p=17"):            "p=17 is not between 1 and 16",
		argon("m=1048576,t=2,p=1"):          "m=1048576 times t=2 is more than 1048576",
		argon("m=1024,t=1,p=1,data=secret"): "damaged",
		strings.Replace(argon("m=1024,t=1,p=1"), "v=19", "v=16", 1):     "damaged",
		argon("m=1024,t=1,p=1") + "=":                                   "damaged",
		argon("m=1024,t=1,p=1") + "$":                                   "damaged",
		"$argon2id$v=19$m=1024,t=1,p=1$c2FsdA$" + sum:                   "damaged",
		"$argon2id$v=19$m=1024,t=1,p=1$" + salt + "$c2FsdA":             "damaged",
		"$argon2id$v=19$m=1024,t=1,p=1$c29t\nZXNhbHQ$" + sum:            "damaged",
		"$2a$03$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO":  "cost 3 is not between 4 and 14",
		"$2a$31$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO":  "cost 31 is not between 4 and 14",
		"$2a$4$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO":   "damaged",
		"$2a$+4$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO":  "damaged",
		"$2x$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO":  "is not a hash",
		"$2a$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0g":   "damaged",
		"$2a$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZVxLMBOBRjYjrlRwQDZ0gO1": "damaged",
		"$2a$04$cWZiR5Mk5O6IP1rTw4AYCeIEn2ak6sqZ_xLMBOBRjYjrlRwQDZ0gO":  "damaged",
	} {
		h, err := Parse(text)
		if err == nil || h != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("x"); !errors.Is(err, ErrPlain) {
		t.Error(err)
	}
}

// Law: what Parse takes it gives back to the byte, and it costs no more than the
// bounds say; what it does not take it does not repeat.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	for _, h := range foreign {
		f.Add(h.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := Parse(text)
		if err != nil {
			if h != nil || len(err.Error()) > 100 {
				t.Fatalf("%v, %v", h, err)
			}
			return
		}
		if h.Text() != text {
			t.Fatalf("%q became %q", text, h.Text())
		}
		if h.Memory() > maxMemory<<10 || h.Memory() < bcryptMemory || h.cost > maxCost || h.memory*h.time > maxWork {
			t.Fatalf("%q costs too much", text)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	password := []byte("correct horse")
	bcrypt, err := NewBcrypt(password)
	if err != nil {
		b.Fatal(err)
	}
	for name, h := range map[string]*Hash{"argon2id": New(password), "bcrypt": bcrypt} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h.Check(password)
			}
		})
	}
}
