package parent

import (
	"encoding/json"
	"time"

	"gatehouse/privsep"
)

// console.go is what the console gets of this process: what `gatehouse status` shows, when
// it asks for it. All else it sees in shared memory.

// showing is a status that the console waits for.
type showing struct {
	to  *child
	id  uint64    // of its question
	ask uint64    // the round of counters that it rests on
	due time.Time // zero: it waits for none
}

// show begins to answer. An answer that is not out yet is not given.
func (p *parent) show(c *child, m *privsep.Message) error {
	var g privsep.StatusGet
	if err := g.Parse(m.Payload); err != nil {
		return err
	}
	p.showing = showing{to: c, id: g.ID, ask: p.askAll(), due: time.Now().Add(answerTime)}
	return nil
}

// showByTime answers when all counters are in, or time is up.
func (p *parent) showByTime(now time.Time) {
	s := p.showing
	if s.due.IsZero() || now.Before(s.due) && !p.allAnswered(s.ask) {
		return
	}
	p.showing = showing{}
	text, err := json.Marshal(p.status(s.ask))
	if err != nil || len(text) > privsep.MaxStatus {
		p.log.Error().Int("n", len(text)).Err(err).Msg("no status for the console")
		return
	}
	fd, err := privsep.Parcel("status", text)
	if err != nil {
		p.log.Error().Err(err).Msg("no status for the console")
		return
	}
	defer privsep.CloseFD(fd)
	answer := privsep.StatusText{ID: s.id, Size: uint32(len(text))}
	p.send(s.to, privsep.KindStatus, answer.Append(p.buf[:0]), fd)
}
