package parent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"gatehouse/privsep"
)

// notify.go speaks to a service manager by sd_notify(3): datagrams of lines
// "NAME=value". Without NOTIFY_SOCKET all of it does nothing.

// notifier is the way to the service manager.
type notifier struct {
	on    bool // there is one
	fd    int
	every time.Duration
	due   time.Time // of the next question for the next sign of life, where they are wanted
	asked uint64    // the first round of counters that it may rest on; 0: not asked for yet
	since time.Time // it was
	mute  bool      // the roles did not answer in time, which was logged
	until time.Time // of a stop that takes longer than the manager allows by itself
	again time.Time // when it is told so next
	shown string    // the line for people
	fixed bool      // which stays until the next reload
}

const (
	// A stop asks for extension and asks again every extendEvery, for as long as
	// there is something to wait for.
	extension   = 10 * time.Second
	extendEvery = 3 * time.Second
)

// openNotify reads what the service manager has put into the environment. Of a
// watchdog that is meant for another process nothing is taken.
func openNotify() (n notifier, err error) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return n, nil
	}
	if n.fd, err = privsep.OpenNotify(address); err != nil {
		return n, err
	}
	n.on = true
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n, nil
	}
	if us, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 63); err == nil && us > 0 && us < 1<<50 {
		n.every = time.Duration(us) * time.Microsecond / 2
	}
	return n, nil
}

// say sends one datagram. A manager that does not listen is not waited for:
// what it misses it will hold against us.
func (n *notifier) say(lines ...string) {
	if n.on {
		_ = privsep.Notify(n.fd, strings.Join(lines, "\n"))
	}
}

// status is a line for people.
func status(text string) string {
	return "STATUS=" + strings.Map(printable, text)
}

// ready says that all is up, at the start and after a reload; before the end of
// the start there is nothing to say.
func (n *notifier) ready(up bool, text string) {
	if !up {
		return
	}
	n.say("READY=1", fmt.Sprintf("MAINPID=%d", os.Getpid()), status(text))
	n.shown, n.fixed = text, false
	if n.every > 0 && n.due.IsZero() {
		n.due = time.Now()
	}
}

// failed says that all is up as before a reload that came to nothing, and why.
func (n *notifier) failed(up bool, err error) {
	n.ready(up, "reload failed: "+err.Error())
	n.fixed = true
}

// alive is a sign of life. The line for people goes with it when it has changed.
func (n *notifier) alive(text string) {
	lines := []string{"WATCHDOG=1"}
	if !n.fixed && text != n.shown {
		lines = append(lines, status(text))
		n.shown = text
	}
	n.say(lines...)
}

func (n *notifier) reloading() {
	n.say("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", privsep.Monotonic()/time.Microsecond), status("reading the configuration"))
}

// stopping says that the end has begun and may take until then.
func (n *notifier) stopping(until time.Time) {
	n.say("STOPPING=1", status(fmt.Sprintf("stopping, messages have %v to be delivered", time.Until(until).Round(time.Second))))
	n.until, n.again = until, time.Now()
}

// next is when there is something to say, zero if there is nothing.
func (n *notifier) next() (t time.Time) {
	switch {
	case !n.on:
		return t
	case !n.again.IsZero():
		return n.again
	}
	return n.due
}

// notifyByTime gives signs of life, and asks for time. A sign of life follows
// when every role that is at work has answered a question asked for it: a parent
// that goes round over roles that do not is not alive.
func (p *parent) notifyByTime(now time.Time) {
	n := &p.notify
	switch {
	case !n.on:
	case !n.again.IsZero():
		if now.After(n.again) && now.Before(n.until) {
			n.say("WATCHDOG=1", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extension/time.Microsecond))
			n.again = now.Add(extendEvery)
		}
	case n.every == 0 || n.due.IsZero():
	case n.asked != 0:
		p.signOfLife(now)
	case !now.Before(n.due):
		n.asked, n.since, n.due = p.askAll(), now, now.Add(n.every/4)
	}
}

func (p *parent) signOfLife(now time.Time) {
	n := &p.notify
	if p.allAnswered(n.asked) {
		n.alive(p.stateText())
		n.asked, n.mute, n.due = 0, false, n.since.Add(n.every)
		return
	}
	if now.Before(n.due) {
		return
	}
	// An answer for which there was no room at that moment does not come.
	p.askAll()
	n.due = now.Add(n.every / 4)
	if n.mute || now.Before(n.since.Add(n.every)) {
		return
	}
	n.mute = true
	for _, c := range p.children {
		if c.state == running && c.statsID < n.asked {
			p.log.Error().Str("role", c.id.String()).Int("pid", c.proc.PID).Msg("role does not answer: no sign of life to the service manager")
		}
	}
}

// stateText is what the service manager shows of a broker that is well. Connections
// are counted when each cm has told how many it has.
func (p *parent) stateText() string {
	var parts []string
	var cms, connections, sessions uint64
	all := true
	for _, c := range p.children {
		if c.state != running {
			continue
		}
		if c.id.Role == privsep.RoleCM {
			if !c.leaves() {
				cms++
			}
			connections += c.stats.Connections
			all = all && c.statsID > 0
		}
		sessions += c.stats.Sessions
	}
	if !p.alone {
		parts = append(parts, counted(cms, "cm"))
	}
	if !p.alone && all {
		parts = append(parts, counted(connections, "connection"))
	}
	if p.cfg.TLSD.Socket != "" {
		parts = append(parts, counted(sessions, "TLS session"))
	}
	if as := p.addresses(); len(as) > 0 {
		parts = append(parts, "listening on "+strings.Join(as, ", "))
	}
	text := strings.Join(parts, ", ")
	for i, h := range p.held {
		text += [...]string{"; for the next start: ", ", "}[min(i, 1)] + h.Key
	}
	return text
}

func counted(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
