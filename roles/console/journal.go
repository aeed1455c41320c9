package console

import (
	"strings"

	"gatehouse/privsep"
)

// journal is the log, and what net/http logs by.
type journal struct{ *privsep.Journal }

// Write takes a line of net/http's: a panic, or what no client can cause.
func (j journal) Write(b []byte) (int, error) {
	text, _, _ := strings.Cut(string(b), "\n")
	j.Error("http", privsep.Str(privsep.KeyErr, text))
	return len(b), nil
}
