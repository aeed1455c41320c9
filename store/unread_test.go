package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// Unread gives exactly the records that the consumer would still get, whatever
// came and went before; a head that lies makes it stop, not fail.
func TestUnread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRing(t, 4096)
		p, c := r.p, r.c
		var want [][]byte
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				n := rapid.IntRange(1, 700).Draw(t, "n")
				if rec := bytes.Repeat([]byte{byte(n)}, n); r.write(rec) {
					want = append(want, rec)
				}
			} else if p.Publish(); len(want) > 0 {
				if _, err := c.Next(); err != nil {
					t.Fatal(err)
				}
				c.Release()
				want = want[1:]
			}
			i := 0
			p.Unread(func(rec []byte) {
				if i >= len(want) || !bytes.Equal(rec, want[i]) {
					t.Fatalf("record %d has %d bytes", i, len(rec))
				}
				i++
			})
			if i != len(want) {
				t.Fatalf("%d records, want %d", i, len(want))
			}
		}
		word(r.head, ringHead).Store(rapid.Uint64().Draw(t, "lie"))
		p.Unread(func([]byte) {})
	})
}
