package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// pageFiles are the parts of the status page. The scripts are one text in the order of
// pageScripts, as a file of 1,000 lines would be, and easier to read.
//
//go:embed page
var pageFiles embed.FS

var pageScripts = []string{"format.js", "table.js", "chart.js", "overview.js", "processes.js", "connections.js", "subjects.js", "refusals.js", "keys.js", "poll.js"}

// page is the status page: one document with its style and its script in it, and the
// policy by which a browser runs those and nothing else. It is the same for everybody:
// what the broker knows is fetched by the script, which puts it in as text.
type page struct {
	text   []byte
	policy string
}

func newPage() (*page, error) {
	document, err := pageFiles.ReadFile("page/page.html")
	if err != nil {
		return nil, err
	}
	style, err := pageFiles.ReadFile("page/page.css")
	if err != nil {
		return nil, err
	}
	var script bytes.Buffer
	for _, name := range pageScripts {
		part, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			return nil, err
		}
		script.Write(part)
	}
	text := string(document)
	for _, p := range []struct{ tag, with string }{{"style", string(style)}, {"script", script.String()}} {
		end := "</" + p.tag
		if strings.Count(text, end) != 1 || strings.Contains(strings.ToLower(p.with), end) {
			return nil, fmt.Errorf("page.html: not one %s", p.tag)
		}
		text = strings.Replace(text, end, p.with+end, 1)
	}
	return &page{text: []byte(text), policy: pagePolicy(style, script.Bytes())}, nil
}

// pagePolicy allows this style, this script, questions to the console and the icon in
// the document. Trusted types without a policy make the script's every attempt to put in
// markup an error.
func pagePolicy(style, script []byte) string {
	return strings.Join([]string{
		"default-src 'none'",
		"style-src " + sourceHash(style),
		"script-src " + sourceHash(script),
		"connect-src 'self'",
		"img-src data:",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
}

func sourceHash(text []byte) string {
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// ServeHTTP answers GET and HEAD; the headers of every answer are the guard's.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(p.text)))
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	if r.Method != http.MethodHead {
		w.Write(p.text)
	}
}
