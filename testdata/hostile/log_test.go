package hostile

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"time"
)

// logBook collects what a broker and its roles write to standard error.
type logBook struct {
	mu   sync.Mutex
	book []line
	more chan struct{} // closed and replaced with every line
	end  chan struct{} // the last process that could write is gone
}

// line is one line; fields is nil when it is not JSON.
type line struct {
	text   string
	fields map[string]any
}

func (l *line) str(key string) string { s, _ := l.fields[key].(string); return s }

func (l *line) pid() int { n, _ := l.fields["pid"].(float64); return int(n) }

func (l *line) security() bool { return l.fields["security"] == true }

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
	n := line{text: text}
	if json.Unmarshal([]byte(text), &n.fields) != nil {
		n.fields = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book = append(l.book, n)
	close(l.more)
	l.more = make(chan struct{})
}

// all are the lines that ok likes, so far.
func (l *logBook) all(ok func(*line) bool) (found []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.book {
		if ok(&l.book[i]) {
			found = append(found, l.book[i])
		}
	}
	return found
}

// find waits for the first line that ok likes; nil when none comes.
func (l *logBook) find(in time.Duration, ok func(*line) bool) *line {
	timer := time.NewTimer(in)
	defer timer.Stop()
	for at := 0; ; {
		l.mu.Lock()
		more, now := l.more, l.book[at:]
		l.mu.Unlock()
		for i := range now {
			if ok(&now[i]) {
				return &now[i]
			}
		}
		at += len(now)
		select {
		case <-more:
		case <-l.end:
			return nil
		case <-timer.C:
			return nil
		}
	}
}

func (l *logBook) text() string {
	var b strings.Builder
	for _, n := range l.all(func(*line) bool { return true }) {
		b.WriteString(n.text + "\n")
	}
	return b.String()
}
