package tlsd

import (
	"context"
	"slices"
	"sync"
)

// line is a queue of those who want one thing in turn, first come first served.
type line struct {
	mu      sync.Mutex
	taken   bool
	waiting []chan struct{} // each is closed when its turn has come
}

// takeFree takes what nobody has.
func (l *line) takeFree() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := !l.taken
	l.taken = true
	return free
}

// take waits for its turn; false: ctx has ended before, or off was closed.
func (l *line) take(ctx context.Context, off <-chan struct{}) bool {
	l.mu.Lock()
	if !l.taken {
		l.taken = true
		l.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	case <-off:
	}
	l.mu.Lock()
	i := slices.Index(l.waiting, turn)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.mu.Unlock()
	if i < 0 { // it had come at the same moment
		l.give()
	}
	return false
}

// wanted tells whether somebody waits.
func (l *line) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}

// give lets the next one have it.
func (l *line) give() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.taken = false
		return
	}
	close(l.waiting[0])
	l.waiting = slices.Delete(l.waiting, 0, 1)
}
