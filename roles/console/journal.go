package console

import (
	"strings"
	"sync"

	"gatehouse/privsep"
)

// journal is the log of all goroutines, and what net/http logs by.
type journal struct {
	mu  sync.Mutex
	log *privsep.Logger
}

func (j *journal) setLevel(l privsep.Level) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.SetLevel(l)
}

func (j *journal) error(event string, fields ...privsep.Field) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Error(event, fields...)
}

func (j *journal) warn(event string, fields ...privsep.Field) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Warn(event, fields...)
}

// Write takes a line of net/http's: a panic, or what no client can cause.
func (j *journal) Write(b []byte) (int, error) {
	text, _, _ := strings.Cut(string(b), "\n")
	j.error("http", privsep.Str(privsep.KeyErr, text))
	return len(b), nil
}
