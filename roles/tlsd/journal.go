package tlsd

import (
	"sync"

	"gatehouse/privsep"
)

// journal is the log of all goroutines.
type journal struct {
	mu  sync.Mutex
	log *privsep.Logger
}

func (j *journal) setLevel(l privsep.Level) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.SetLevel(l)
}

func (j *journal) info(event string, fields ...privsep.Field) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Info(event, fields...)
}

func (j *journal) warn(event string, fields ...privsep.Field) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Warn(event, fields...)
}

func (j *journal) error(event string, fields ...privsep.Field) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Error(event, fields...)
}
