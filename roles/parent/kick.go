package parent

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gatehouse/privsep"
)

// kick.go closes one connection for the operator. Which cm has it the parent does not
// know: each is asked, and one at most says yes.

const (
	kickTime  = 2 * time.Second        // for the cms to answer
	kickAgain = 100 * time.Millisecond // until a connection on its way is asked for again
)

// Kicked is the answer to a kick: there is a Role or an Error.
type Kicked struct {
	CID   uint64 `json:"cid"`
	Role  string `json:"role,omitempty"` // that had it
	Error string `json:"error,omitempty"`
}

// kick is one that has been asked for.
type kick struct {
	cid    uint64
	id     uint64          // of the present round
	owe    map[*child]bool // who has not answered in it
	moving bool            // one of them said that it is on its way
	rounds int
	sure   bool      // if nobody has it in this one, nobody has it
	again  time.Time // the next round, zero: this one is not over
}

// kick begins what an operator asks for.
func (s *controlSocket) kick(p *parent, i int, cid uint64) {
	c := s.conns[i]
	c.kick, c.due = &kick{cid: cid}, time.Now().Add(kickTime)
	switch {
	case p.stopping:
		s.kicked(i, &Kicked{Error: "the broker is stopping"})
	case p.alone:
		s.kicked(i, &Kicked{Error: "nobody can connect to this broker: it is a tlsd and nothing else"})
	default:
		p.askKick(c.kick)
	}
}

// askKick asks every cm. While one retires a connection may be missed by both that it is
// moved between, but not twice.
func (p *parent) askKick(k *kick) {
	p.lastKick++
	k.rounds++
	k.id, k.owe, k.moving, k.sure, k.again = p.lastKick, map[*child]bool{}, false, k.rounds > 1, time.Time{}
	retiring := false
	m := privsep.Kick{ID: k.id, Connection: k.cid}
	for _, c := range p.children {
		if c.id.Role != privsep.RoleCM || c.state != running {
			continue
		}
		retiring = retiring || c.leaves()
		k.owe[c], c.kickAsked = true, k.id
		p.send(c, privsep.KindKick, m.Append(nil))
	}
	k.sure = k.sure || !retiring
}

// kickedBy takes the answer of a cm.
func (p *parent) kickedBy(c *child, m *privsep.Message) error {
	var r privsep.Kicked
	if err := r.Parse(m.Payload); err != nil {
		return err
	}
	if r.ID <= c.kickDone || r.ID > c.kickAsked {
		return &offence{m.Kind.String(), "unasked"}
	}
	c.kickDone = r.ID
	for i, conn := range p.control.conns {
		if conn == nil || conn.kick == nil || conn.kick.id != r.ID {
			continue
		}
		k := conn.kick
		delete(k.owe, c)
		k.moving = k.moving || r.Outcome == privsep.KickMoving
		if r.Outcome == privsep.KickClosed {
			p.log.Info().Uint64("cid", k.cid).Str("role", c.id.String()).Msg("connection kicked")
			p.record(&auditKick{CID: k.cid, Role: c.id.String()})
			p.control.kicked(i, &Kicked{Role: c.id.String()})
		}
	}
	return nil
}

// kickByTime goes on with a kick: to the next round, or to its end.
func (s *controlSocket) kickByTime(p *parent, i int, now time.Time) {
	k := s.conns[i].kick
	for c := range k.owe {
		if c.state != running {
			delete(k.owe, c) // and with it its connections
		}
	}
	switch {
	case now.After(s.conns[i].due):
		s.kicked(i, &Kicked{Error: k.late()})
	case !k.again.IsZero():
		if !now.Before(k.again) {
			p.askKick(k)
		}
	case len(k.owe) > 0:
	case k.moving || !k.sure:
		k.again = now.Add(kickAgain)
	default:
		s.kicked(i, &Kicked{Error: fmt.Sprintf("there is no connection %d: conns lists those there are", k.cid)})
	}
}

// late says why there is no answer in time.
func (k *kick) late() string {
	if len(k.owe) == 0 {
		return fmt.Sprintf("connection %d is on its way from one connection manager to another: try again", k.cid)
	}
	var names []string
	for c := range k.owe {
		names = append(names, c.id.String())
	}
	return fmt.Sprintf("no answer from %s, and no other has connection %d: status shows how they are", strings.Join(names, ", "), k.cid)
}

// kicked answers the operator.
func (s *controlSocket) kicked(i int, r *Kicked) {
	c := s.conns[i]
	r.CID = c.kick.cid
	if b, err := json.Marshal(r); err == nil {
		privsep.RawWrite(c.fd, append(b, '\n'))
	}
	s.drop(i)
}
