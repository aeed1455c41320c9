package directory

import (
	"crypto/tls"
	"time"

	"gatehouse/privsep"
)

// server is one of the directory's.
type server struct {
	name     string // as the configuration has it
	startTLS bool
	tls      *tls.Config

	failures int       // in a row
	until    time.Time // then it is asked again
}

const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	idleTime     = time.Minute
	mostNews     = 16
)

// Health is how a directory is.
type Health struct {
	State  privsep.DirectoryState
	Since  time.Time
	Reason privsep.Reason // of the last failure
	Asked  uint64
	Failed uint64 // of those
}

// News is what has become of a server.
type News struct {
	Server string
	Err    *Error // nil: it answers
}

// Health gives it.
func (d *Directory) Health() Health {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.health
}

// News gives what has not been given yet.
func (d *Directory) News() []News {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.news
	d.news = nil
	return n
}

// count counts a question, or one that has failed for the directory's sake.
func (d *Directory) count(err *Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.health.Asked++
		return
	}
	d.health.Failed++
}

// take gives a link that is free, or makes one to the first server that answers.
func (d *Directory) take(by time.Time) (*link, *Error) {
	if l := d.takeIdle(time.Now()); l != nil {
		return l, nil
	}
	return d.makeLink(by)
}

// makeLink makes one to the first server that answers.
func (d *Directory) makeLink(by time.Time) (*link, *Error) {
	var last *Error
	for i := range d.servers {
		if !d.mayAsk(i, time.Now()) {
			continue
		}
		if last != nil && !time.Now().Before(by) {
			return nil, last
		}
		l, err := d.connect(i, d.until(by))
		if err == nil {
			d.up(i)
			return l, nil
		}
		last = err
		d.down(i, err)
	}
	if last == nil {
		last = &Error{Reason: privsep.ReasonDirectoryDown}
	}
	return nil, last
}

// takeIdle gives the link that was used last. What the server has closed, or nobody has
// needed for long, is closed.
func (d *Directory) takeIdle(now time.Time) (found *link) {
	d.mu.Lock()
	var old []*link
	keep := d.idle[:0]
	for _, l := range d.idle {
		if l.conn.IsClosing() || now.Sub(l.free) > idleTime {
			old = append(old, l)
		} else {
			keep = append(keep, l)
		}
	}
	clear(d.idle[len(keep):])
	d.idle = keep
	if n := len(keep); n > 0 {
		found, d.idle[n-1], d.idle = keep[n-1], nil, keep[:n-1]
	}
	d.mu.Unlock()
	for _, l := range old {
		l.close()
	}
	return found
}

func (d *Directory) release(l *link) {
	l.used, l.free = true, time.Now()
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.idle = append(d.idle, l)
	}
	d.mu.Unlock()
	if closed {
		l.close()
	}
}

func (d *Directory) mayAsk(i int, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !now.Before(d.servers[i].until)
}

// up notes that a server answers.
func (d *Directory) up(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.servers[i]
	if s.failures > 0 || d.health.State != privsep.DirectoryUp {
		d.tell(News{Server: s.name})
	}
	s.failures, s.until = 0, time.Time{}
	d.state(privsep.DirectoryUp)
}

// down notes that it does not. Several may find that out at once.
func (d *Directory) down(i int, err *Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.health.Reason = err.Reason
	s := &d.servers[i]
	if now.Before(s.until) {
		return
	}
	s.until = now.Add(min(firstPause<<min(s.failures, 20), longestPause))
	s.failures++
	d.tell(News{s.name, err})
	for k := range d.servers {
		if d.servers[k].failures == 0 {
			return
		}
	}
	d.state(privsep.DirectoryDown)
}

func (d *Directory) state(s privsep.DirectoryState) {
	if d.health.State != s {
		d.health.State, d.health.Since = s, time.Now()
	}
}

func (d *Directory) tell(n News) {
	if len(d.news) < mostNews {
		d.news = append(d.news, n)
	}
}

// NextProbe is when a probe is due, zero: none is, since the directory is up or there is
// one already.
func (d *Directory) NextProbe() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.probing || d.closed || d.health.State == privsep.DirectoryUp {
		return time.Time{}
	}
	next := d.servers[0].until
	for i := range d.servers {
		if t := d.servers[i].until; t.Before(next) {
			next = t
		}
	}
	if next.IsZero() {
		next = d.health.Since
	}
	return next
}

// Retry forgets that servers did not answer: it may have been for want of a way to them.
func (d *Directory) Retry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.servers {
		d.servers[i].until = time.Time{}
	}
}

// BeginProbe makes it the caller's to call Probe.
func (d *Directory) BeginProbe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.probing = true
}

// Probe finds out whether a directory that is not up is so again, so that nobody has to
// log in for that. A link from before says nothing of it.
func (d *Directory) Probe() {
	if l, err := d.makeLink(time.Now().Add(time.Duration(len(d.servers)) * d.set.Timeout)); err == nil {
		if l.end() == nil {
			d.release(l)
		} else {
			l.close()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.probing = false
}
