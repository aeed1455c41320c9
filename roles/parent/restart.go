package parent

import (
	"encoding/json"
	"time"

	"gatehouse/privsep"
)

// stillTime is how long who waits for a restart or an upgrade hears nothing: then
// what it waits for is said again. Silence means that there is no broker any more.
const stillTime = 5 * time.Second

// Progress is one line of the answer to a restart: the last has Done or Error.
type Progress struct {
	Role   string `json:"role"`            // as it was asked for: "cm/0"
	Place  string `json:"place,omitempty"` // of the new process: "cm/1"
	Stage  string `json:"stage,omitempty"` // "starting", "moving"
	Moved  uint64 `json:"moved,omitempty"` // connections
	Left   uint32 `json:"left,omitempty"`  // that will move
	Stay   uint32 `json:"stay,omitempty"`  // by TLS, that stay with the old process
	Until  string `json:"until,omitempty"` // for as long as that, RFC 3339
	TookMS int64  `json:"took_ms"`
	// PauseMS is how long there was no router or dispatcher.
	PauseMS float64 `json:"pause_ms,omitempty"`
	Done    bool    `json:"done,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func (ch *change) report() *Progress {
	r := &Progress{Role: ch.old.id.String(), Place: ch.new.id.String(), Moved: ch.progress.Moved, Left: ch.progress.Left,
		Stay: ch.progress.Stay, TookMS: time.Since(ch.began).Milliseconds(), Error: ch.failed}
	switch {
	case ch.over:
		r.Done = ch.failed == ""
		r.PauseMS = float64(ch.pause.Microseconds()) / 1000
	case ch.turned:
		r.Stage = "moving"
	default:
		r.Stage = "starting"
	}
	if r.Stay > 0 {
		r.Until = ch.by.Format(time.RFC3339)
	}
	return r
}

// restart begins what an operator asks for. arg names the role and, in its upper
// half, which of several.
func (s *controlSocket) restart(p *parent, i int, id privsep.ID) {
	c := s.conns[i]
	c.due = time.Time{}
	old := p.find(id)
	if old == nil {
		s.say(i, &Progress{Role: id.String(), Error: p.noSuch(id)})
		s.drop(i)
		return
	}
	ch, err := p.replace(old)
	if err != nil {
		s.say(i, &Progress{Role: id.String(), Error: err.Error()})
		s.drop(i)
		return
	}
	c.change = ch
	s.say(i, ch.report())
}

// noSuch says why there is no process to be replaced.
func (p *parent) noSuch(id privsep.ID) string {
	for _, c := range p.children {
		switch {
		case c.id != id || c.state == vacant || c.standsBy():
		case c.leaves():
			return id.String() + " has been replaced by " + c.change.new.id.String() + ", and " + c.change.waits()
		default:
			return id.String() + " is not running (" + c.state.String() + ")"
		}
	}
	return "there is no " + id.String() + " now"
}

// tell says how far a change is to those who asked for it.
func (s *controlSocket) tell(ch *change) {
	for i, c := range s.conns {
		if c == nil || c.change != ch {
			continue
		}
		s.say(i, ch.report())
		if ch.over {
			s.drop(i)
		}
	}
}

// say writes a line. An operator who does not read misses the rest.
func (s *controlSocket) say(i int, r *Progress) {
	b, err := json.Marshal(r)
	if err != nil || s.conns[i] == nil {
		return
	}
	b = append(b, '\n')
	s.conns[i].said = time.Now()
	if n, errno := privsep.RawWrite(s.conns[i].fd, b); errno != 0 || n < len(b) {
		s.drop(i)
	}
}
