package parent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gatehouse/privsep"
)

// AuditStderr is the value of log.audit for standard error, which is the journal's under
// systemd. Any other one but "" is a path.
const AuditStderr = "stderr"

const (
	mostUnwritten = 4096        // lines that may wait to be written
	flushTime     = time.Second // for them at the end, and before another binary goes on
	auditKnock    = 253         // no signal, digest, trial or inspection
)

// auditLog writes the audit log. Lines wait in memory for a goroutine of its own, so that
// a disk is waited for by nobody else; those for which there is no room, and those that
// could not be written, are lost and counted.
type auditLog struct {
	broker string
	knock  func() // follows a change of failure, on that goroutine
	wake   chan struct{}

	mu      sync.Mutex
	to      string
	waiting []auditItem
	lines   int // in waiting
	written uint64
	lost    uint64
	untold  uint64 // of those, that no line has told of yet
	failure string // why the last line was not written, "": it was

	file *os.File // the writer's alone, as is torn
	torn bool     // its last line has no end
}

// auditItem is a line, or news for the writer in their order.
type auditItem struct {
	line []byte
	file *os.File // to go on with
	done chan struct{}
	end  bool
}

// openAudit opens the file that to names, at its end. What others could write is no
// audit log.
func openAudit(to string) (*os.File, error) {
	if to == AuditStderr {
		return os.Stderr, nil
	}
	f, err := os.OpenFile(to, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: is a symbolic link", to)
	}
	if err != nil {
		return nil, err
	}
	if fault, err := auditFault(f); err != nil || fault != "" {
		f.Close()
		if err == nil {
			err = fmt.Errorf("%s: %s", to, fault)
		}
		return nil, err
	}
	return f, nil
}

func auditFault(f *os.File) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	return auditFaultOf(st, os.Geteuid()), nil
}

// CheckAudit tells whether the audit log of a configuration could be opened, and makes
// nothing. The broker may be another's, root's: what only he can see is no fault. An error
// is as those of Find.
func CheckAudit(c *Config, source string) error {
	to := c.Log.Audit
	if to == "" || to == AuditStderr {
		return nil
	}
	text := ""
	st, err := os.Lstat(to)
	switch {
	case errors.Is(err, os.ErrNotExist):
		st, err = os.Stat(filepath.Dir(to))
		if err == nil && !st.IsDir() {
			text = fmt.Sprintf("%s: not a directory", filepath.Dir(to))
		}
	case err == nil && st.Mode()&os.ModeSymlink != 0:
		text = fmt.Sprintf("%s: is a symbolic link", to)
	case err == nil:
		owner := os.Geteuid()
		if privsep.OwnerUID(st) == 0 {
			owner = 0
		}
		if text = auditFaultOf(st, owner); text != "" {
			text = to + ": " + text
		}
	}
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		text = err.Error()
	}
	if text == "" {
		return nil
	}
	return located(&ConfigError{Key: "log.audit", Text: text}, source)
}

// auditFaultOf says why a file is no audit log of owner's.
func auditFaultOf(st os.FileInfo, owner int) string {
	switch uid, mode := privsep.OwnerUID(st), st.Mode(); {
	case !mode.IsRegular():
		return "not a regular file"
	case uid != owner:
		return fmt.Sprintf("belongs to uid %d", uid)
	case mode.Perm()&0o022 != 0:
		return fmt.Sprintf("mode %#o lets others write", mode.Perm())
	}
	return ""
}

// newAuditLog begins to write to file, which is that of to and ours from now on.
func newAuditLog(to, broker string, file *os.File, knock func()) *auditLog {
	a := &auditLog{to: to, broker: broker, knock: knock, wake: make(chan struct{}, 1)}
	go a.run()
	a.put(auditItem{file: file})
	return a
}

// add takes an event. It waits for nothing.
func (a *auditLog) add(e auditEvent) { a.put(auditItem{line: a.text(e)}) }

func (a *auditLog) text(e auditEvent) []byte {
	a.mu.Lock()
	to := a.to
	a.mu.Unlock()
	return auditText(to, a.broker, e)
}

// reopen goes on with another file.
func (a *auditLog) reopen(to string, file *os.File) {
	a.mu.Lock()
	a.to = to
	a.mu.Unlock()
	a.put(auditItem{file: file})
}

func (a *auditLog) put(i auditItem) {
	a.mu.Lock()
	switch {
	case i.line == nil:
		a.waiting = append(a.waiting, i)
	case a.lines == mostUnwritten:
		a.lost++
		a.untold++
	default:
		a.waiting = append(a.waiting, i)
		a.lines++
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// missed counts lines that did not come so far.
func (a *auditLog) missed(n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost += n
}

// flush waits until what has been added is written, for at most flushTime.
func (a *auditLog) flush() { a.settle(auditItem{done: make(chan struct{})}) }

// close is flush, and the end.
func (a *auditLog) close() { a.settle(auditItem{done: make(chan struct{}), end: true}) }

func (a *auditLog) settle(i auditItem) {
	a.put(i)
	late := time.NewTimer(flushTime)
	defer late.Stop()
	select {
	case <-i.done:
	case <-late.C:
	}
}

// run is the writer.
func (a *auditLog) run() {
	for range a.wake {
		a.mu.Lock()
		items := a.waiting
		a.waiting, a.lines = nil, 0
		a.mu.Unlock()
		for _, i := range items {
			switch {
			case i.line != nil:
				a.write(i.line)
			case i.file != nil || i.end:
				a.use(i.file)
			}
			if i.done != nil {
				close(i.done)
			}
			if i.end {
				return
			}
		}
	}
}

// use goes on with file; nil: with none.
func (a *auditLog) use(file *os.File) {
	if a.file != nil && a.file != os.Stderr {
		a.file.Close()
	}
	a.file, a.torn = file, false
	if file == nil || file == os.Stderr {
		return
	}
	// What was cut off in the middle of a line must not take the next one with it.
	var last [1]byte
	if st, err := file.Stat(); err == nil && st.Size() > 0 {
		_, err = file.ReadAt(last[:], st.Size()-1)
		a.torn = err == nil && last[0] != '\n'
	}
}

// write writes one line, and before it how many were lost since the last one.
func (a *auditLog) write(line []byte) {
	a.mu.Lock()
	untold, before := a.untold, a.failure
	a.mu.Unlock()
	var err error
	if untold > 0 {
		if err = a.append(a.text(&auditLost{N: untold})); err != nil {
			untold = 0
		}
	}
	if err == nil {
		err = a.append(line)
	}
	a.mu.Lock()
	a.untold -= untold
	if a.failure = ""; err != nil {
		a.failure = err.Error()
		a.lost++
		a.untold++
	} else {
		a.written++
	}
	changed := (a.failure == "") != (before == "")
	a.mu.Unlock()
	if changed {
		a.knock()
	}
}

// append writes a line or, on a disk that is full, a part of it.
func (a *auditLog) append(line []byte) error {
	if a.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := a.file.Write(line)
	if n > 0 {
		a.torn = n < len(line)
	}
	return err
}

// report is what status says of it.
func (a *auditLog) report() *Audit {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return &Audit{To: a.to, Written: a.written, Lost: a.lost, Error: a.failure}
}
