package transcript

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// replay is one run of one transcript against one broker.
type replay struct {
	broker *broker
	split  bool
	conns  map[string]*conn
}

// run does the steps that are for the broker, then looks at every connection
// whose end was not seen.
func (r *replay) run(tr *transcript) error {
	steps := slices.DeleteFunc(slices.Clone(tr.steps), func(s step) bool { return s.broker != "" && s.broker != r.broker.kind })
	for len(steps) > 0 {
		n := together(steps)
		if err := r.steps(steps[:n]); err != nil {
			return fmt.Errorf("%v\n%w", &steps[0], err)
		}
		steps = steps[n:]
	}
	for name, c := range r.conns {
		if c.ended {
			continue
		}
		if err := c.open(); err != nil {
			return fmt.Errorf("%s at the end: %w", name, err)
		}
	}
	return nil
}

// together returns how many of the first steps are one: a burst or a set.
func together(steps []step) int {
	s, n := &steps[0], 1
	if !slices.Contains([]string{">", "<?", "<1"}, s.op) || s.bytes == nil {
		return n
	}
	for n < len(steps) && steps[n].op == s.op && steps[n].bytes != nil && steps[n].conns[0] == s.conns[0] {
		n++
	}
	return n
}

func (r *replay) steps(steps []step) error {
	s := &steps[0]
	switch {
	case s.op == "wait":
		<-time.After(s.wait)
		return nil
	case s.op == "settle":
		return r.broker.settle(crowd)
	case s.op == "leave":
		return r.broker.leave()
	case s.arg == "refused":
		return r.refused()
	}
	for _, name := range s.conns {
		if err := r.connect(name, s.isInfo()); err != nil {
			return err
		}
	}
	c := r.conns[s.conns[0]]
	switch s.op {
	case ">":
		if s.bytes == nil {
			return c.closeWrite()
		}
		return c.send(texts(steps))
	case "=":
		return c.open()
	case "~":
		return c.secure(r.broker.clientTLS())
	case "<":
		return r.receive(c, s)
	case "<1":
		return r.segment(c, texts(steps))
	case "<?":
		return c.anyOrder(steps)
	case "<~":
		return c.lineLike(s.arg)
	case "<*":
		return c.prefix(s.bytes)
	case "<+":
		return c.atLeastOnce(s.bytes)
	}
	return r.tally(s)
}

func texts(steps []step) (b []byte) {
	for i := range steps {
		b = append(b, steps[i].bytes...)
	}
	return b
}

// connect opens a connection at its first mention. INFO is left to a step that
// is about it.
func (r *replay) connect(name string, isInfo bool) error {
	if r.conns[name] != nil {
		return nil
	}
	c, err := dial(r.broker.addr, r.split, r.broker.kind == theirs)
	if err != nil {
		return err
	}
	r.conns[name] = c
	if isInfo || r.broker.tls == tlsFirst {
		return nil
	}
	return c.greeting()
}

func (r *replay) refused() error {
	c, err := dial(r.broker.addr, false, false)
	if err == nil {
		c.tcp.Close()
		return fmt.Errorf("connected")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return nil
}

func (r *replay) receive(c *conn, s *step) error {
	switch {
	case s.arg == "EOF":
		return c.end()
	case !s.isInfo():
		return c.expect(s.bytes)
	}
	if err := c.greeting(); err != nil {
		return err
	}
	for _, check := range strings.Fields(s.arg)[1:] {
		if err := r.check(c, check); err != nil {
			return fmt.Errorf("%s: %w in %v", check, err, c.info)
		}
	}
	return nil
}

var infoCheck = regexp.MustCompile(`^(!?)([a-z_]+)(?:(==|!=|=|~)(.+))?$`)

// check looks at one key of the connection's last INFO.
func (r *replay) check(c *conn, check string) error {
	m := infoCheck.FindStringSubmatch(check)
	if m == nil {
		return fmt.Errorf("no check")
	}
	not, key, op, arg := m[1] != "", m[2], m[3], m[4]
	value, there := c.info[key]
	ok := there
	switch op {
	case "=":
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(arg)); err != nil {
			return err
		}
		ok = there && bytes.Equal(want.Bytes(), value)
	case "~":
		text := string(value)
		if plain, err := strconv.Unquote(text); err == nil {
			text = plain
		}
		ok = there && regexp.MustCompile(arg).MatchString(text)
	case "==", "!=":
		other := r.conns[arg]
		if other == nil || other.info == nil {
			return fmt.Errorf("no INFO of that connection")
		}
		ok = there && bytes.Equal(value, other.info[key]) == (op == "==")
	}
	if ok == not {
		return fmt.Errorf("is %q", value)
	}
	return nil
}

// segment expects what the broker says in one write. A client that sends byte
// by byte gets it in as many, and nats-server makes no promise.
func (r *replay) segment(c *conn, want []byte) error {
	if err := c.expect(want); err != nil {
		return err
	}
	if n := c.segments() - c.segs; n != 1 && !r.split && r.broker.kind == ours {
		return fmt.Errorf("came in %d segments", n)
	}
	return nil
}

// anyOrder expects the texts of all steps.
func (c *conn) anyOrder(steps []step) error {
	rest := slices.Clone(steps)
	for len(rest) > 0 {
		possible, found := false, -1
		for i := range rest {
			n := min(len(rest[i].bytes), len(c.have))
			if bytes.Equal(rest[i].bytes[:n], c.have[:n]) {
				possible = true
				if n == len(rest[i].bytes) {
					found = i
				}
			}
		}
		switch {
		case found >= 0:
			c.have = c.have[len(rest[found].bytes):]
			rest = slices.Delete(rest, found, found+1)
			continue
		case !possible:
			return c.surprise(nil)
		}
		if err := c.fill(patience); err != nil {
			return c.surprise(err)
		}
	}
	return nil
}

// atLeastOnce leaves alone what begins otherwise.
func (c *conn) atLeastOnce(text []byte) error {
	for first := true; first || c.have[0] == text[0]; first = false {
		if err := c.expect(text); err != nil {
			return err
		}
		for len(c.have) == 0 {
			if err := c.fill(patience); err != nil {
				return c.surprise(err)
			}
		}
	}
	return nil
}

func (c *conn) lineLike(expr string) error {
	line, err := c.line()
	if err == nil && !regexp.MustCompile(`^(?:`+expr+`)$`).MatchString(line) {
		err = fmt.Errorf("got %q", line)
	}
	return err
}

// tally counts the messages that several connections got. Each has them before
// its PONG.
func (r *replay) tally(s *step) error {
	var total, least, most int
	var expr string
	if _, err := fmt.Sscanf(s.arg, "%d %d %d %s", &total, &least, &most, &expr); err != nil {
		return err
	}
	expr = s.arg[strings.Index(s.arg, expr):]
	like := regexp.MustCompile(`^(?:` + expr + `)$`)
	counts, sum := map[string]int{}, 0
	for _, name := range s.conns {
		c := r.conns[name]
		if err := c.ping(); err != nil {
			return err
		}
		for {
			line, err := c.message()
			if err != nil {
				return err
			}
			if line == "PONG" {
				break
			}
			m := like.FindStringSubmatch(line)
			if m == nil {
				return fmt.Errorf("%s got %q", name, line)
			}
			sum++
			counts[strings.Join(append([]string{name}, m[1:]...), " ")]++
		}
	}
	for _, n := range counts {
		if n < least || n > most {
			return fmt.Errorf("counted %v", counts)
		}
	}
	if sum != total {
		return fmt.Errorf("counted %d: %v", sum, counts)
	}
	return nil
}
