package process

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"time"
)

// logBook collects what a tree of processes writes to standard error. Its end
// is an event of its own: the last process that held it is gone.
type logBook struct {
	mu   sync.Mutex
	book []logLine
	more chan struct{} // closed and replaced with every line
	end  chan struct{}
}

// logLine is a line; fields is nil when it is not JSON.
type logLine struct {
	text   string
	fields map[string]any
	at     time.Time
}

func follow(r *os.File) *logBook {
	l := &logBook{more: make(chan struct{}), end: make(chan struct{})}
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

func (l *logBook) add(text string) {
	line := logLine{text: text, at: time.Now()}
	if json.Unmarshal([]byte(text), &line.fields) != nil {
		line.fields = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book = append(l.book, line)
	close(l.more)
	l.more = make(chan struct{})
}

// lines are those from number from on.
func (l *logBook) lines(from int) []logLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book[min(from, len(l.book)):]
}

// mark is the number of the next line.
func (l *logBook) mark() int { return len(l.lines(0)) }

// all are the lines of an event so far; with are keys and values that they have.
func (l *logBook) all(event string, with ...string) (found []logLine) {
	for _, line := range l.lines(0) {
		if line.is(event, with) {
			found = append(found, line)
		}
	}
	return found
}

func (l *logLine) is(event string, with []string) bool {
	if l.fields["message"] != event {
		return false
	}
	for i := 0; i < len(with); i += 2 {
		if l.fields[with[i]] != with[i+1] {
			return false
		}
	}
	return true
}

// find waits for a line of an event from line from on; nil when none comes.
func (l *logBook) find(from int, event string, in time.Duration, with ...string) *logLine {
	timer := time.NewTimer(in)
	defer timer.Stop()
	for {
		l.mu.Lock()
		more, now := l.more, l.book[min(from, len(l.book)):]
		l.mu.Unlock()
		for i := range now {
			if now[i].is(event, with) {
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

// ended waits for the end of the last process.
func (l *logBook) ended(in time.Duration) bool {
	timer := time.NewTimer(in)
	defer timer.Stop()
	select {
	case <-l.end:
		return true
	case <-timer.C:
		return false
	}
}

func (l *logBook) text() string {
	var b strings.Builder
	for _, line := range l.lines(0) {
		b.WriteString(line.text + "\n")
	}
	return b.String()
}
