package tickets

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

func TestTransferRequest(t *testing.T) {
	nonce := Challenge()
	b, err := json.Marshal(TransferRequest{nonce, "orgb"})
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{string(b), ` { "environment" : "\u006frgb", "nonce":"` + nonce + `" } ` + "\n"} {
		n, env, ok := ParseTransferRequest([]byte(good))
		if !ok || env != "orgb" || base64.RawURLEncoding.EncodeToString(n[:]) != nonce {
			t.Errorf("%s: %x, %q, %v", good, n, env, ok)
		}
	}
	for name, bad := range map[string]string{
		"nothing":        "",
		"no JSON":        "orgb",
		"a list":         `["` + nonce + `","orgb"]`,
		"null":           "null",
		"no nonce":       `{"environment":"orgb"}`,
		"no environment": `{"nonce":"` + nonce + `"}`,
		"no name":        `{"nonce":"` + nonce + `","environment":""}`,
		"long name":      `{"nonce":"` + nonce + `","environment":"` + strings.Repeat("x", MaxTransferText+1) + `"}`,
		"line end":       `{"nonce":"` + nonce + `","environment":"a\nb"}`,
		"short nonce":    `{"nonce":"` + nonce[4:] + `","environment":"orgb"}`,
		"line in nonce":  `{"nonce":"` + nonce[1:] + `\n","environment":"orgb"}`,
		"other alphabet": `{"nonce":"` + nonce[1:] + `+","environment":"orgb"}`,
		"a number":       `{"nonce":7,"environment":"orgb"}`,
		"more":           `{"nonce":"` + nonce + `","environment":"orgb","user":"root"}`,
		"twice":          string(b) + string(b),
		"rest":           string(b) + "]",
		"too long":       string(b) + strings.Repeat(" ", MaxTransferRequest),
	} {
		if n, env, ok := ParseTransferRequest([]byte(bad)); ok || env != "" || n != [24]byte{} {
			t.Errorf("%s: taken", name)
		}
	}
}

// The law: what is read can be asked again, and means the same.
func FuzzTransferRequest(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX","environment":"orgb"}`))
	f.Add([]byte(`{"environment":"org\u0062","nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"} `))
	f.Add([]byte(`{"nonce":"","environment":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, env, ok := ParseTransferRequest(b)
		if !ok {
			if env != "" || n != [24]byte{} {
				t.Fatal("refused and not zero")
			}
			return
		}
		again, err := json.Marshal(TransferRequest{base64.RawURLEncoding.EncodeToString(n[:]), env})
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > MaxTransferRequest {
			return // JSON escapes that a client need not write
		}
		if m, same, ok := ParseTransferRequest(again); !ok || m != n || same != env {
			t.Fatalf("%q became %q", env, same)
		}
	})
}
