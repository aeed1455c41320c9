package console

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gatehouse/roles/standin"
)

func getPage(t *testing.T, method string) *http.Response {
	t.Helper()
	p, err := newPage()
	if err != nil {
		t.Fatal(err)
	}
	cfg := standin.Settings(1)
	s := newServer(nil, nil, nil, journal{}, p, &cfg)
	local := &transport{at: &listener{local: true}}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "/", nil)
	s.http.Handler.ServeHTTP(w, r.WithContext(connContext(r.Context(), local)))
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A browser takes the hash of what stands between the tags; it must be that of the policy.
func TestPagePolicy(t *testing.T) {
	r := getPage(t, "GET")
	text, policy := body(t, r), r.Header.Get("Content-Security-Policy")
	for _, tag := range []string{"style", "script"} {
		m := regexp.MustCompile(`(?s)<`+tag+`(?: type="module")?>(.*?)</`+tag+`>`).FindAllStringSubmatch(text, -1)
		if len(m) != 1 || len(m[0][1]) < 1000 {
			t.Fatalf("%d of <%s>", len(m), tag)
		}
		if want := tag + "-src " + sourceHash([]byte(m[0][1])); !slices.Contains(strings.Split(policy, "; "), want) {
			t.Errorf("policy %q without %q", policy, want)
		}
	}
	for _, word := range []string{"unsafe", "*", "http:", "https:"} {
		if strings.Contains(policy, word) {
			t.Errorf("policy %q has %s", policy, word)
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none'; ") {
		t.Errorf("policy %q allows what it does not name", policy)
	}
}

func TestPageHeaders(t *testing.T) {
	get, head := getPage(t, "GET"), getPage(t, "HEAD")
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
	} {
		if got := get.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if get.Header.Get(name) != head.Header.Get(name) {
			t.Errorf("%s of HEAD differs", name)
		}
	}
	if n := len(body(t, get)); get.Header.Get("Content-Length") != strconv.Itoa(n) || head.Header.Get("Content-Length") != strconv.Itoa(n) {
		t.Errorf("length %s and %s, %d bytes", get.Header.Get("Content-Length"), head.Header.Get("Content-Length"), n)
	}
	if body(t, head) != "" {
		t.Error("HEAD has a body")
	}
}

// Nothing on the page is from elsewhere, and nothing that the broker says can become markup.
func TestPageContents(t *testing.T) {
	text := body(t, getPage(t, "GET"))
	for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc",
		" style=", "@import", "url(", " src=", "onclick", "<link rel=\"stylesheet"} {
		if strings.Contains(text, word) {
			t.Errorf("the page has %s", word)
		}
	}
	for _, m := range regexp.MustCompile(`https?://[^'" ]+`).FindAllString(text, -1) {
		if m != "http://www.w3.org/2000/svg" {
			t.Errorf("the page names %s", m)
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if ids[m[1]] {
			t.Errorf("two of id %s", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`\$\("([^"]+)"\)|href="#([^"]+)"|aria-labelledby="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if id := m[1] + m[2] + m[3]; !ids[id] {
			t.Errorf("nothing has id %s", id)
		}
	}
}

func TestPageFilesAreAllUsed(t *testing.T) {
	err := fs.WalkDir(pageFiles, "page", func(path string, d fs.DirEntry, err error) error {
		if name := d.Name(); err == nil && strings.HasSuffix(name, ".js") && !slices.Contains(pageScripts, name) {
			t.Errorf("%s is no part of the page", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
