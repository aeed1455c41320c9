package tree

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"time"
)

// Log collects what a tree of processes writes to standard error. Its end
// is an event of its own: the last process that held it is gone.
type Log struct {
	mu   sync.Mutex
	book []Line
	more chan struct{} // closed and replaced with every line
	end  chan struct{}
}

// Line is a line; Fields is nil when it is not JSON.
type Line struct {
	Text   string
	Fields map[string]any
	At     time.Time
}

// Follow reads r to its end.
func Follow(r *os.File) *Log {
	l := &Log{more: make(chan struct{}), end: make(chan struct{})}
	go func() {
		defer r.Close()
		in := bufio.NewReader(r)
		for {
			text, err := in.ReadString('\n')
			if text != "" {
				l.add(strings.TrimSuffix(text, "\n"))
			}
			if err != nil {
				close(l.end)
				return
			}
		}
	}()
	return l
}

func (l *Log) add(text string) {
	line := Line{Text: text, At: time.Now()}
	if json.Unmarshal([]byte(text), &line.Fields) != nil {
		line.Fields = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book = append(l.book, line)
	close(l.more)
	l.more = make(chan struct{})
}

// Lines are those from number from on.
func (l *Log) Lines(from int) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book[min(from, len(l.book)):]
}

// Mark is the number of the next line.
func (l *Log) Mark() int { return len(l.Lines(0)) }

// All are the lines of an event so far; with are keys and values that they have.
func (l *Log) All(event string, with ...string) []Line {
	return l.Where(func(line *Line) bool { return line.Is(event, with) })
}

// Where are the lines that ok likes, so far.
func (l *Log) Where(ok func(*Line) bool) (found []Line) {
	for _, line := range l.Lines(0) {
		if ok(&line) {
			found = append(found, line)
		}
	}
	return found
}

// Is tells whether a line is of an event and has these keys and values.
func (l *Line) Is(event string, with []string) bool {
	if l.Fields["message"] != event {
		return false
	}
	for i := 0; i < len(with); i += 2 {
		if l.Fields[with[i]] != with[i+1] {
			return false
		}
	}
	return true
}

// Str is the text of a field, "" if it has none.
func (l *Line) Str(key string) string { s, _ := l.Fields[key].(string); return s }

// PID is the process that a line is about.
func (l *Line) PID() int { n, _ := l.Fields["pid"].(float64); return int(n) }

// Security tells whether a line is a security event.
func (l *Line) Security() bool { return l.Fields["security"] == true }

// Find waits for a line of an event from line from on; nil when none comes.
func (l *Log) Find(from int, event string, in time.Duration, with ...string) *Line {
	return l.Await(from, in, func(line *Line) bool { return line.Is(event, with) })
}

// Await waits for a line that ok likes, from line from on; nil when none comes.
func (l *Log) Await(from int, in time.Duration, ok func(*Line) bool) *Line {
	timer := time.NewTimer(in)
	defer timer.Stop()
	for {
		l.mu.Lock()
		more, now := l.more, l.book[min(from, len(l.book)):]
		l.mu.Unlock()
		for i := range now {
			if ok(&now[i]) {
				return &now[i]
			}
		}
		from += len(now)
		select {
		case <-more:
		case <-l.end:
			return nil
		case <-timer.C:
			return nil
		}
	}
}

// Ended waits for the end of the last process.
func (l *Log) Ended(in time.Duration) bool {
	timer := time.NewTimer(in)
	defer timer.Stop()
	select {
	case <-l.end:
		return true
	case <-timer.C:
		return false
	}
}

// Text is all of it.
func (l *Log) Text() string {
	var b strings.Builder
	for _, line := range l.Lines(0) {
		b.WriteString(line.Text + "\n")
	}
	return b.String()
}
