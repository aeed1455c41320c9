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
		rows := 0
		for line := range strings.Lines(out.String()) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != w.name {
				continue
			}
			rows++
			if whole, resumed := f[len(f)-2], f[len(f)-1]; w.name == "tlsd" && whole+resumed != "10" || w.name == "crypto/tls" && whole != "20" || w.name == "plaintext" && whole+resumed != "00" {
				t.Errorf("%s", line)
			}
		}
		want := len(shortKinds)
		if !w.forks || strings.Contains(out.String(), "SKIP "+forkedCallers) {
			want--
		}
		if rows != want {
			t.Errorf("%s: %d rows, want %d", w.name, rows, want)
		}
	}
	t.Log(out.String())
}
