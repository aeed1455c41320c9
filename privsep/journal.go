package privsep

import "sync"

// Journal is the Logger of a role with several goroutines. The zero one says nothing.
type Journal struct {
	mu  sync.Mutex
	log *Logger
}

// NewJournal returns a journal that writes to the parent.
func NewJournal(parent *Channel) *Journal { return &Journal{log: NewLogger(parent)} }

// SetLevel is Logger.SetLevel.
func (j *Journal) SetLevel(l Level) { j.with(func(log *Logger) { log.SetLevel(l) }) }

// Info is Logger.Info, and so on.
func (j *Journal) Info(event string, fields ...Field) {
	j.with(func(log *Logger) { log.Info(event, fields...) })
}

// Warn logs a warning.
func (j *Journal) Warn(event string, fields ...Field) {
	j.with(func(log *Logger) { log.Warn(event, fields...) })
}

// Error logs an error.
func (j *Journal) Error(event string, fields ...Field) {
	j.with(func(log *Logger) { log.Error(event, fields...) })
}

func (j *Journal) with(do func(*Logger)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	do(j.log)
}
