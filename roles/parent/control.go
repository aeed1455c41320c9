package parent

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"gatehouse/privsep"
)

// A request on the control socket is one frame of controlFrame bytes: the magic,
// a verb, and what it is about (both u32, little endian): of a restart the role, of
// an upgrade the length of the path that follows, of a kick that of a connection UID
// (u64), which is 8. The answer is JSON up to the end:
// one object, or one on each line as things go on.
const (
	controlMagic = "GHCTL1\x00\x00"
	controlFrame = 16
	verbStatus   = 1
	verbRestart  = 2 // role in the low byte, which of several in the upper half
	verbUpgrade  = 3
	verbKick     = 4

	kickSize = 8

	controlConns = 16
	answerTime   = 500 * time.Millisecond // for the roles to give their counters
	requestTime  = 2 * time.Second        // for the operator to send the frame
)

// controlSocket serves the operator, who is root or whoever runs the broker.
type controlSocket struct {
	fd    int
	path  string
	conns [controlConns]*controlConn
}

type controlConn struct {
	fd  int
	buf []byte
	due time.Time // of the request, then of the answer; zero: none
	ask uint64    // the STATS_GET that it waits for, 0: none

	change *change // that it waits for, nil: none
	said   time.Time
	kick   *kick // that it waits for, nil: none

	who privsep.Caller
}

func openControl(path string, poll *privsep.Poller) (*controlSocket, error) {
	fd, err := privsep.ListenUnix(path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return &controlSocket{fd: fd, path: path}, poll.Add(fd, tokenControl, privsep.In)
}

func (s *controlSocket) close() {
	for i := range s.conns {
		s.drop(i)
	}
	privsep.CloseFD(s.fd)
}

func (s *controlSocket) accept(p *parent) {
	fd, _, errno := privsep.Accept(s.fd)
	if errno != 0 {
		return
	}
	for i, c := range s.conns {
		if c != nil || !privsep.PeerIsOwner(fd) {
			continue
		}
		who, err := privsep.CallerOf(fd)
		if err != nil {
			break
		}
		if err := p.poll.Add(fd, tokenStatus+uint64(i), privsep.In); err != nil {
			break
		}
		s.conns[i] = &controlConn{fd: fd, due: time.Now().Add(requestTime), who: *who}
		return
	}
	privsep.CloseFD(fd)
}

func (s *controlSocket) drop(i int) {
	if c := s.conns[i]; c != nil {
		privsep.CloseFD(c.fd)
		s.conns[i] = nil
	}
}

// event reads a request.
func (s *controlSocket) event(p *parent, e privsep.Ready) {
	i := int(e.Token - tokenStatus)
	c := s.conns[i]
	if c == nil {
		return
	}
	b := make([]byte, controlFrame+1)
	n, errno := privsep.RawRead(c.fd, b)
	if errno != 0 || n == 0 || c.ask != 0 || c.change != nil || c.kick != nil {
		s.drop(i)
		return
	}
	c.buf = append(c.buf, b[:n]...)
	if len(c.buf) < controlFrame {
		return
	}
	verb, about := binary.LittleEndian.Uint32(c.buf[8:]), binary.LittleEndian.Uint32(c.buf[12:])
	whole := controlFrame + followedBy(verb, about)
	if string(c.buf[:8]) != controlMagic || len(c.buf) > whole {
		s.drop(i)
		return
	}
	if len(c.buf) == whole {
		s.request(p, i, verb, about, c.buf[controlFrame:])
	}
}

// followedBy is how long what follows a frame is; of what is no frame so short that it
// ends there.
func followedBy(verb, about uint32) int {
	switch {
	case verb == verbStatus, verb == verbRestart:
		return 0
	case verb == verbUpgrade && about <= maxPath, verb == verbKick && about == kickSize:
		return int(about)
	}
	return -1
}

// request does what a whole request asks for.
func (s *controlSocket) request(p *parent, i int, verb, about uint32, rest []byte) {
	c := s.conns[i]
	asked := func(command, about string) {
		p.record(&auditCommand{Command: command, About: about, UID: c.who.UID, PID: c.who.PID})
	}
	switch verb {
	case verbUpgrade:
		asked("upgrade", string(rest))
		s.conns[i] = nil
		p.poll.Del(c.fd)
		p.beginUpgrade(c.fd, string(rest))
	case verbKick:
		uid := binary.LittleEndian.Uint64(rest)
		asked("kick", strconv.FormatUint(uid, 10))
		s.kick(p, i, uid)
	case verbRestart:
		id := privsep.ID{Role: privsep.Role(about & 0xff), Index: int(about >> 16)}
		asked("restart", id.String())
		s.restart(p, i, id)
	default:
		c.ask, c.due = p.askAll(), time.Now().Add(answerTime)
	}
}

// next is when something is due here, zero if nothing is.
func (s *controlSocket) next() time.Time {
	var t time.Time
	for _, c := range s.conns {
		if c == nil {
			continue
		}
		due := c.due
		if c.change != nil {
			due = c.said.Add(stillTime)
		}
		if c.kick != nil && !c.kick.again.IsZero() {
			due = c.kick.again
		}
		if !due.IsZero() && (t.IsZero() || due.Before(t)) {
			t = due
		}
	}
	return t
}

// byTime answers those for whom all counters are in, or time is up.
func (s *controlSocket) byTime(p *parent, now time.Time) {
	for i, c := range s.conns {
		switch {
		case c == nil:
		case c.change != nil:
			if now.Sub(c.said) >= stillTime {
				s.say(i, c.change.report())
			}
		case c.kick != nil:
			s.kickByTime(p, i, now)
		case c.ask == 0 && !c.due.IsZero() && now.After(c.due):
			s.drop(i)
		case c.ask != 0 && (now.After(c.due) || p.allAnswered(c.ask)):
			b, err := json.Marshal(p.status(c.ask))
			if err == nil {
				privsep.WriteAll(c.fd, append(b, '\n'), time.Second)
			}
			s.drop(i)
		}
	}
}

func (p *parent) allAnswered(ask uint64) bool {
	for _, c := range p.children {
		if c.state == running && c.statsID < ask {
			return false
		}
	}
	return true
}

func (p *parent) statsFrom(c *child, m *privsep.Message) error {
	id, s, err := privsep.ParseRoleStats(m.Payload)
	if err != nil {
		return err
	}
	if id <= c.statsID || id > p.lastAsk {
		return &offence{m.Kind.String(), "unasked"}
	}
	c.statsID, c.stats = id, s
	return nil
}
