package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// The ways that there are here answer every caller, and tlsd does it with one
// handshake.
func TestShort(t *testing.T) {
	o := quick()
	o.gatehouse, o.rounds, o.short = os.Getenv("GATEHOUSE"), 1, 20
	if o.gatehouse == "" {
		t.Skip("SKIP needs GATEHOUSE, the path of a binary")
	}
	if stunnel() == "" {
		t.Log("SKIP needs stunnel (Debian's stunnel4): the other ways are run")
	}
	var out bytes.Buffer
	if err := compareShort(context.Background(), o, &out); err != nil {
		t.Fatal(err)
	}
	for _, w := range shortWays {
		if w.name == "stunnel" && stunnel() == "" {
			continue
		}
		row := ""
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(strings.TrimSpace(line), w.name) {
				row = line
			}
		}
		f := strings.Fields(row)
		if len(f) == 0 || w.name == "tlsd" && (f[len(f)-2] != "1" || f[len(f)-1] != "0") || w.name == "crypto/tls" && f[len(f)-2] != "20" {
			t.Errorf("%s: %q", w.name, row)
		}
	}
	t.Log(out.String())
}
