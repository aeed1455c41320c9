package console

import (
	"errors"
	"io"
	"sync"
	"time"

	"gatehouse/privsep"
)

// subs is who has subscribed to what: the router's word, which comes a page at a time.
type subs struct {
	walking sync.Mutex // one asks at a time; it guards last
	last    *listing

	mu      sync.Mutex
	router  *privsep.Channel // nil while it is away
	id      uint64
	answers chan privsep.Subs // to id, has room for one
	gone    chan struct{}     // closed with the channel
}

// listing is all that was said.
type listing struct {
	at   time.Time
	cut  bool // there are more
	list []privsep.Sub
	of   map[uint64][]privsep.Sub // by connection
}

// Bounds of a listing.
const (
	mostPages = 64
	pageTime  = 12 * time.Millisecond // between two questions: the rules allow 100 a second
	listTime  = time.Second           // how long a listing is good

)

var errRouter = errors.New("the router does not answer")

// connect takes the channel to a router, in the place of the one before.
func (s *subs) connect(m *privsep.Message) (*privsep.Channel, error) {
	var p privsep.Peer
	if err := p.Parse(m.Payload); err != nil {
		return nil, err
	}
	if p.ID.Role != privsep.RoleRouter {
		return nil, privsep.ErrShape
	}
	ch := privsep.NewChannel(m.FDs[0], privsep.RoleConsole, privsep.RoleRouter, p.Key)
	ch.SetPhase(privsep.PhaseRun)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.router, s.gone, s.answers = ch, make(chan struct{}), make(chan privsep.Subs, 1)
	return ch, nil
}

// disconnect ends it.
func (s *subs) disconnect() *privsep.Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.router
	if ch != nil {
		close(s.gone)
		s.router = nil
	}
	return ch
}

// heard reads what the router says. An error is the end of the channel.
func (s *subs) heard(m *privsep.Message) error {
	for {
		if err := s.router.Recv(m); err == privsep.ErrAgain {
			return nil
		} else if err != nil {
			return err
		}
		var p privsep.Subs
		if err := p.Parse(m.Payload); err != nil {
			return err
		}
		s.mu.Lock()
		if p.ID == s.id { // else somebody has given up waiting for it
			select {
			case s.answers <- p:
			default:
				s.mu.Unlock()
				return privsep.ErrShape
			}
		}
		s.mu.Unlock()
	}
}

// page asks for the subscriptions of the connections from a slot on.
func (s *subs) page(from uint32, give <-chan struct{}) (privsep.Subs, error) {
	s.mu.Lock()
	router, answers, gone := s.router, s.answers, s.gone
	if router == nil {
		s.mu.Unlock()
		return privsep.Subs{}, errRouter
	}
	select {
	case <-answers: // to a question before
	default:
	}
	s.id++
	get := privsep.SubsGet{ID: s.id, From: from}
	err := router.Send(privsep.KindSubsGet, get.Append(nil))
	s.mu.Unlock()
	if err != nil {
		return privsep.Subs{}, errRouter
	}
	t := time.NewTimer(patient)
	defer t.Stop()
	select {
	case p := <-answers:
		return p, nil
	case <-t.C:
	case <-gone:
	case <-give:
	}
	return privsep.Subs{}, errRouter
}

// all gives every subscription there is, or as many as may be.
func (s *subs) all(give <-chan struct{}) (*listing, error) {
	s.walking.Lock()
	defer s.walking.Unlock()
	if s.last != nil && time.Since(s.last.at) < listTime {
		return s.last, nil
	}
	l := &listing{of: map[uint64][]privsep.Sub{}}
	from := uint32(0)
	for n := 0; ; n++ {
		p, err := s.page(from, give)
		if err != nil {
			return nil, err
		}
		l.list = append(l.list, p.List...)
		l.cut = l.cut || p.Cut
		if p.Next == 0 {
			break
		}
		if p.Next <= from { // no sound router goes back
			return nil, errRouter
		}
		if from = p.Next; n == mostPages {
			l.cut = true
			break
		}
		if err := rest(pageTime, give); err != nil {
			return nil, err
		}
	}
	for _, t := range l.list {
		l.of[t.UID] = append(l.of[t.UID], t)
	}
	l.at = time.Now()
	s.last = l
	return l, nil
}

// rest waits between two questions.
func rest(d time.Duration, give <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-give:
		return io.ErrClosedPipe
	}
}

// into adds to each connection what it has subscribed to.
func (l *listing) into(cs []connInfo, detail bool) {
	for i := range cs {
		for _, t := range l.of[cs[i].CID] {
			if detail {
				cs[i].Details = append(cs[i].Details, detailOf(&t))
			} else {
				cs[i].Subs = append(cs[i].Subs, t.Subject)
			}
		}
	}
}

// subDetail has the names of nats-server's.
type subDetail struct {
	Account string `json:"account"`
	Subject string `json:"subject"`
	Queue   string `json:"qgroup,omitempty"`
	SID     string `json:"sid"`
	Msgs    uint64 `json:"msgs"`
	Max     uint64 `json:"max,omitempty"`
	CID     uint64 `json:"cid"`
}

func detailOf(t *privsep.Sub) subDetail {
	return subDetail{account, t.Subject, t.Queue, t.SID, t.Delivered, t.Max, t.UID}
}
