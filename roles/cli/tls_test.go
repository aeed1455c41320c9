package cli

import (
	"strings"
	"testing"
)

// A list is whole with its empty line, also where there are no sessions.
func TestSessionsOf(t *testing.T) {
	const one = `{"name":"a"}` + "\n"
	for text, n := range map[string]int{"\n": 0, one + "\n": 1, strings.Repeat(one, 3) + "\n": 3} {
		if all, err := sessionsOf([]byte(text)); err != nil || len(all) != n || all == nil {
			t.Errorf("%q: %v, %v", text, all, err)
		}
	}
	for _, text := range []string{"", one, one[:5], one + one[:5] + "\n", one + "\n\n", "\n\n"} {
		if all, err := sessionsOf([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, all)
		}
	}
}
