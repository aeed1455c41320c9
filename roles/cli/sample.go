package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"gatehouse/roles/parent"
)

// sample is one look at a broker: what of /statusz and /connz top shows.
type sample struct {
	Now    time.Time      `json:"now"`
	Status *parent.Status `json:"status"` // nil: the parent has not said anything yet
	Stale  bool           `json:"stale"`
	Varz   struct {
		Connections   uint64 `json:"connections"`
		Total         uint64 `json:"total_connections"`
		Subscriptions uint64 `json:"subscriptions"`
		InMsgs        uint64 `json:"in_msgs"`
		OutMsgs       uint64 `json:"out_msgs"`
		InBytes       uint64 `json:"in_bytes"`
		OutBytes      uint64 `json:"out_bytes"`
		SlowConsumers uint64 `json:"slow_consumers"`
	} `json:"varz"`

	total int // connections there are
	conns []connection
}

func takeSample(ctx context.Context, w *watcher, sort string, limit int) (*sample, error) {
	s := new(sample)
	if err := w.get(ctx, "/statusz", nil, s); err != nil {
		return nil, err
	}
	page, list, err := w.connections(ctx, sort, "", limit)
	if err != nil {
		return nil, err
	}
	s.total, s.conns = page.Total, list
	return s, nil
}

// perSecond is how fast a counter grows; one that was begun anew counts from there.
type perSecond float64 // seconds between two samples, 0: there is one only

func (s perSecond) of(now, before uint64) string {
	if s <= 0 || now < before {
		return "-"
	}
	return rate(float64(now-before) / float64(s))
}

func (s perSecond) bytes(now, before uint64) string {
	if s <= 0 || now < before {
		return "-"
	}
	return size(uint64(float64(now-before) / float64(s)))
}

// page is what top shows, in lines.
func (t *top) page(p paint) []string {
	s, b := t.last, cmp.Or(t.before, t.last)
	apart := perSecond(s.Now.Sub(b.Now).Seconds())
	lines := t.head(p, s)
	v, w := &s.Varz, &b.Varz
	lines = append(lines,
		fmt.Sprintf("%s connections, %s ever, %s subscriptions, %s slow consumers", count(v.Connections), count(v.Total), count(v.Subscriptions), count(v.SlowConsumers)),
		fmt.Sprintf("in %s messages/s, %s/s   out %s messages/s, %s/s", apart.of(v.InMsgs, w.InMsgs), apart.bytes(v.InBytes, w.InBytes),
			apart.of(v.OutMsgs, w.OutMsgs), apart.bytes(v.OutBytes, w.OutBytes)), "")
	if s.Status != nil {
		lines = append(lines, processLines(p, s, b, apart)...)
	}
	return append(lines, connectionLines(p, s, b, apart, t.sort)...)
}

// head says which broker it is, and what is wrong with what is shown of it.
func (t *top) head(p paint, s *sample) (lines []string) {
	if st := s.Status; st != nil {
		lines = append(lines, fmt.Sprintf("broker %s in environment %s, version %s, up %s", st.Broker, st.Environment, st.Version, age(s.Now.Sub(st.Started))))
	} else {
		lines = append(lines, "broker")
	}
	switch {
	case t.lost != nil:
		lines = append(lines, p.bad(fmt.Sprintf("as of %s: %s", s.Now.Local().Format(time.TimeOnly), oneLine(t.lost.Error()))))
	case s.Stale:
		lines = append(lines, p.bad("the parent does not answer: processes are as they were"))
	case t.paused:
		lines = append(lines, p.odd("stopped at "+s.Now.Local().Format(time.TimeOnly)+", space goes on"))
	}
	return lines
}

func processLines(p paint, s, b *sample, apart perSecond) []string {
	before := map[string]*parent.Process{}
	if b.Status != nil {
		for i := range b.Status.Processes {
			pr := &b.Status.Processes[i]
			before[fmt.Sprint(pr.Role, pr.PID)] = pr
		}
	}
	t := newTable("ROLE", "PID", "STATE", "UP", "RESTARTS", "CONNS", "IN/S", "OUT/S", "BYTES IN/S", "BYTES OUT/S", "MEMORY")
	t.left(0, 2)
	for i := range s.Status.Processes {
		pr := &s.Status.Processes[i]
		was := cmp.Or(before[fmt.Sprint(pr.Role, pr.PID)], pr)
		t.row(pr.Role, pr.PID, pr.State, age(s.Now.Sub(pr.Started)), pr.Restarts, count(pr.Connections), apart.of(pr.InMsgs, was.InMsgs),
			apart.of(pr.OutMsgs, was.OutMsgs), apart.bytes(pr.InBytes, was.InBytes), apart.bytes(pr.OutBytes, was.OutBytes), size(pr.Memory))
		t.style(2, p.state(pr.State))
	}
	return append(t.lines(), "")
}

func connectionLines(p paint, s, b *sample, apart perSecond, sort string) []string {
	before := map[uint64]*connection{}
	for i := range b.conns {
		before[b.conns[i].CID] = &b.conns[i]
	}
	t := newTable("CID", "ADDRESS", "USER", "NAME", "SUBS", "MSGS IN", "IN/S", "MSGS OUT", "OUT/S", "BYTES IN/S", "BYTES OUT/S", "PENDING", "IDLE", "UP")
	t.left(1, 2, 3)
	for i := range s.conns {
		c := &s.conns[i]
		rates := apart
		was := before[c.CID]
		if was == nil { // it was not among the first ones then
			was, rates = c, 0
		}
		t.row(c.CID, c.address(), shown(c.User, 16), shown(c.Name, 20), count(c.Subscriptions), count(c.InMsgs), rates.of(c.InMsgs, was.InMsgs),
			count(c.OutMsgs), rates.of(c.OutMsgs, was.OutMsgs), rates.bytes(c.InBytes, was.InBytes), rates.bytes(c.OutBytes, was.OutBytes),
			size(c.Pending), age(s.Now.Sub(c.LastActivity)), age(s.Now.Sub(c.Start)))
	}
	lines := t.lines()
	lines[0] += "   by " + sort
	if more := s.total - len(s.conns); more > 0 {
		lines = append(lines, fmt.Sprintf("and %s more", count(uint64(more))))
	}
	return lines
}

// lines gives the table without line ends.
func (t *table) lines() []string { return strings.Split(strings.TrimSuffix(t.String(), "\n"), "\n") }
