package wire

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCodes freezes numbers, texts and decisions: codes travel between
// processes and texts to clients that know them by heart.
func TestCodes(t *testing.T) {
	var b strings.Builder
	for c := range numCodes {
		closes := "stays"
		if c.Closes() {
			closes = "closes"
		}
		fmt.Fprintf(&b, "%d %s %s\n", c, closes, c.Text())
	}
	golden(t, "codes.ok", b.String())
}

func TestCodesTotal(t *testing.T) {
	seen := map[string]Code{}
	for c := range 256 {
		code := Code(c)
		silent := code == CodeBareClose || code == CodeClientError || code >= numCodes
		if silent != (code.Text() == "") || silent != (len(AppendErr(nil, code, []byte("x"))) == 0) || silent && !code.Closes() {
			t.Errorf("code %d: %q, closes %v", c, code.Text(), code.Closes())
		}
		if other, ok := seen[code.Text()]; ok && !silent {
			t.Errorf("codes %d and %d have one text", c, other)
		}
		seen[code.Text()] = code
		if (&Error{Code: code, Detail: "x"}).Error() == "" {
			t.Errorf("code %d: no error text", c)
		}
	}
}

func TestAppendErr(t *testing.T) {
	for _, tt := range []struct {
		code Code
		args []string
		want string
	}{
		{CodeBareClose, nil, ""},
		{CodeClientError, []string{"x"}, ""},
		{CodeUnknownOp, nil, "-ERR 'Unknown Protocol Operation'\r\n"},
		{CodePubPermission, []string{"a.b"}, "-ERR 'Permissions Violation for Publish to \"a.b\"'\r\n"},
		{CodePubPermission, []string{"y\x01é\\\"'"}, "-ERR 'Permissions Violation for Publish to \"y\\x01é\\\\\\\"'\"'\r\n"},
		{CodePubPermission, []string{"\xff\u2028"}, "-ERR 'Permissions Violation for Publish to \"\\xff\\u2028\"'\r\n"},
		{CodePubPermission, []string{"a%qb"}, "-ERR 'Permissions Violation for Publish to \"a%qb\"'\r\n"},
		{CodePubPermission, nil, "-ERR 'Permissions Violation for Publish to \"\"'\r\n"},
		{CodeSubPermission, []string{"a", "more"}, "-ERR 'Permissions Violation for Subscription to \"a\"'\r\n"},
		{CodeSubQueuePermission, []string{"a", "q"}, "-ERR 'Permissions Violation for Subscription to \"a\" using queue \"q\"'\r\n"},
		{CodeSubTokens, []string{"a"}, "-ERR 'Permissions Violation for Subscription to \"a\", too many tokens'\r\n"},
		{CodeReplyPermission, []string{"_R_.x"}, "-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n"},
	} {
		var args [][]byte
		for _, arg := range tt.args {
			args = append(args, []byte(arg))
		}
		if got := AppendErr([]byte("+"), tt.code, args...); string(got) != "+"+tt.want {
			t.Errorf("code %d %q: %q", tt.code, tt.args, got)
		}
	}
}

// FuzzAppendErr: whatever a client chose, the answer is one line.
func FuzzAppendErr(f *testing.F) {
	mustSeed(f, 1)
	f.Add(uint8(CodeSubQueuePermission), []byte("a\r\n"), []byte("'\r\nPING\r\n"))
	f.Fuzz(func(t *testing.T, c uint8, a, b []byte) {
		got := AppendErr(nil, Code(c), a, b)
		if len(got) == 0 && Code(c).Text() == "" {
			return
		}
		line, ok := bytes.CutSuffix(got, []byte("'\r\n"))
		if !ok || !bytes.HasPrefix(line, []byte("-ERR '")) || bytes.ContainsAny(line, "\r\n") {
			t.Errorf("%q", got)
		}
	})
}

// TestOnlyPlace finds error texts in string literals outside this package's
// table.
func TestOnlyPlace(t *testing.T) {
	var texts []string
	for c := range numCodes {
		if text, _, _ := strings.Cut(c.Text(), "%q"); text != "" {
			texts = append(texts, strings.TrimSpace(text))
		}
	}
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || path == "../wire/errors.go" {
			return nil
		}
		files++
		for _, literal := range literals(t, path) {
			for _, text := range texts {
				if strings.Contains(literal, text) {
					t.Errorf("%s: %s", path, literal)
				}
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("saw %d files: %v", files, err)
	}
}

// literals returns the string literals of a Go file.
func literals(t *testing.T, path string) (found []string) {
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var s scanner.Scanner
	s.Init(set.AddFile(path, -1, len(src)), src, func(token.Position, string) {}, 0)
	for {
		_, tok, literal := s.Scan()
		if tok == token.EOF {
			return found
		}
		if tok == token.STRING {
			found = append(found, literal)
		}
	}
}
